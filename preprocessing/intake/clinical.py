"""Education, APOE ε4 and cognitive scores from ADNI's tables, for comparison only: no imaging classifier sees them.

ADNIMERGE has all of them in one table; the single tables are PTDEMOG, APOERES, MMSE, CDR and the ADAS-Cog ones. None is
needed. ADNI writes -1 and -4 for what is missing: whatever lies outside a score's range is taken as missing.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from preprocessing.intake.catalog import Tables, match_people, read_tables
from preprocessing.intake.columns import find_column, read_numbers
from preprocessing.intake.people import SCORE_COLUMNS, month_of
from preprocessing.intake.visits import Calendar, read_calendar

WINDOW_MONTHS = 6.0


@dataclass(frozen=True)
class Score:
    """Spellings of a score's column, its range, and whether it stays the same for life."""

    spellings: tuple[str, ...]
    lowest: float
    highest: float
    constant: bool = False


SCORES = {
    "education": Score(("PTEDUCAT",), 0, 30, constant=True),
    "apoe4": Score(("APOE4",), 0, 2, constant=True),
    "mmse": Score(("MMSCORE", "MMSE"), 0, 30),
    "cdrsb": Score(("CDRSB",), 0, 18),
    "adas13": Score(("ADAS13", "TOTAL13", "TOTALMOD"), 0, 85),
}
CDR_BOXES = ("CDMEMORY", "CDORIENT", "CDJUDGE", "CDCOMMUN", "CDHOME", "CDCARE")


def read_scores(where: Path | Tables, ptids: set[str], calendar: Calendar | None = None) -> pd.DataFrame:
    """Every score of these people under a folder, one row a person, score and visit; columns SCORE_COLUMNS, with the
    PTID as participant_id and `month` (from baseline) NaN for what stays the same for life."""
    tables = read_tables(where)
    calendar = calendar or read_calendar(tables, ptids)
    parts = [_read_table(tables, calendar, path, table, ptids) for path, table in tables.of("scores")]
    filled = [part for found in parts for part in found if len(part)]
    return pd.concat(filled or [pd.DataFrame(columns=list(SCORE_COLUMNS))], ignore_index=True)


def _read_table(
    tables: Tables, calendar: Calendar, path: Path, table: pd.DataFrame, ptids: set[str]
) -> list[pd.DataFrame]:
    people, parts = match_people(table, path, ptids), []
    values = {name: _values(table, path, name, score.spellings) for name, score in SCORES.items()}
    try:
        months = calendar.place_rows(tables, path, table, people)["month"]
    except ValueError as error:  # nothing but a comparison is made of scores: they stop nobody
        warnings.warn(f"{error}; scores that change with time are left out", stacklevel=2)
        months = pd.Series(float("nan"), table.index)
    for name, value in values.items():
        if value is None:
            continue
        score = SCORES[name]
        month = float("nan") if score.constant else months
        part = pd.DataFrame({"participant_id": people, "score": name, "month": month, "value": value})
        known = part["value"].between(score.lowest, score.highest) & people.isin(ptids)
        parts.append(part[known & (score.constant | part["month"].notna())])
    return parts


def _values(table: pd.DataFrame, path: Path, name: str, spellings: tuple[str, ...]) -> pd.Series | None:
    """The score of each row; where its column is missing, from what it is made of; None without that."""
    column = find_column(table, path, spellings, required=False)
    if column is not None:
        return read_numbers(table[column])
    if name == "apoe4":
        return _count_e4(table, path)
    boxes = [find_column(table, path, (box,), required=False) for box in CDR_BOXES] if name == "cdrsb" else [None]
    if None in boxes:
        return None
    numbers = table[boxes].apply(read_numbers)
    return numbers.where(numbers >= 0).sum(axis=1, skipna=False)


def _count_e4(table: pd.DataFrame, path: Path) -> pd.Series | None:
    """Number of ε4 alleles from APGEN1 and APGEN2 (each 2, 3 or 4) or from GENOTYPE ("3/4")."""
    genotype = find_column(table, path, ("GENOTYPE",), required=False)
    alleles = [find_column(table, path, (name,), required=False) for name in ("APGEN1", "APGEN2")]
    if genotype:
        written = table[genotype].str.strip()
    elif None not in alleles:
        written = table[alleles[0]].str.strip() + "/" + table[alleles[1]].str.strip()
    else:
        return None
    return written.str.count("4").where(written.str.fullmatch("[234]/[234]"))


def scores_at_scan(scores: pd.DataFrame, visits: pd.DataFrame) -> pd.DataFrame:
    """participant_id session_id and a column per score, for every visit: that of the nearest date within the window.

    visits: rows of the manifest. Empty where nobody has a score.
    """
    people = visits[["participant_id", "session_id"]]
    known = scores.merge(people, on="participant_id")
    if known.empty:
        return pd.DataFrame(columns=[*people.columns, *SCORES])
    distance = (known["month"].astype(float) - known["session_id"].map(month_of)).abs().fillna(0.0)
    known = known.assign(distance=distance)[distance <= WINDOW_MONTHS]
    nearest = known.sort_values(["distance", "month"], kind="stable").drop_duplicates(
        ["participant_id", "session_id", "score"]
    )
    wide = nearest.pivot(index=["participant_id", "session_id"], columns="score", values="value")
    wide = wide.reindex(columns=list(SCORES)).astype(float)
    return people.merge(wide.reset_index(), on=["participant_id", "session_id"], how="left")
