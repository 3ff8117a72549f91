"""Education, APOE ε4 and cognitive scores from ADNI's tables, for comparison only: no imaging classifier sees them.

ADNIMERGE has all of them in one table; the single tables are PTDEMOG, APOERES, MMSE, CDR and the ADAS-Cog ones. None is
needed. ADNI writes -1 and -4 for what is missing: whatever lies outside a score's range is taken as missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from preprocessing.intake.columns import csv_files, find_column, read_text_table
from preprocessing.intake.people import SCORE_COLUMNS, month_of
from preprocessing.intake.tables import match_people, visit_months

WINDOW_MONTHS = 6.0


@dataclass(frozen=True)
class Score:
    """Where a score stands: the beginning of the table's name -> spellings of its column; its range; whether it stays
    the same for life."""

    tables: dict[str, tuple[str, ...]]
    lowest: float
    highest: float
    constant: bool = False


SCORES = {
    "education": Score({"ADNIMERGE": ("PTEDUCAT",), "PTDEMOG": ("PTEDUCAT",)}, 0, 30, constant=True),
    "apoe4": Score({"ADNIMERGE": ("APOE4",), "APOERES": ("APOE4",)}, 0, 2, constant=True),
    "mmse": Score({"ADNIMERGE": ("MMSE",), "MMSE": ("MMSCORE", "MMSE")}, 0, 30),
    "cdrsb": Score({"ADNIMERGE": ("CDRSB",), "CDR": ("CDRSB",)}, 0, 18),
    "adas13": Score({"ADNIMERGE": ("ADAS13",), "ADAS": ("TOTAL13", "TOTALMOD")}, 0, 85),
}
CDR_BOXES = ("CDMEMORY", "CDORIENT", "CDJUDGE", "CDCOMMUN", "CDHOME", "CDCARE")


def read_scores(folder: Path, ptids: set[str]) -> pd.DataFrame:
    """Every score of these people under `folder`, one row a person, score and visit; columns SCORE_COLUMNS, with the
    PTID as participant_id and `month` (from baseline) NaN for what stays the same for life."""
    parts = [pd.DataFrame(columns=list(SCORE_COLUMNS))]
    for path in csv_files(folder):
        wanted = {
            name: spellings
            for name, score in SCORES.items()
            for kind, spellings in score.tables.items()
            if path.name.upper().startswith(kind)
        }
        if wanted:
            parts += _read_table(path, wanted, ptids)
    filled = [part for part in parts if len(part)] or parts[:1]
    return pd.concat(filled, ignore_index=True)


def _read_table(path: Path, wanted: dict[str, tuple[str, ...]], ptids: set[str]) -> list[pd.DataFrame]:
    table, parts = read_text_table(path), []
    if find_column(table, path, ("PTID", "RID", "subject_id", "SubjectID"), required=False) is None:
        return []
    people = match_people(table, path, ptids)
    for name, spellings in wanted.items():
        score, value = SCORES[name], _values(table, path, name, spellings)
        if value is None:
            continue
        month = float("nan") if score.constant else visit_months(table, path, people)["month"]
        part = pd.DataFrame({"participant_id": people, "score": name, "month": month, "value": value})
        known = part["value"].between(score.lowest, score.highest) & people.isin(ptids)
        parts.append(part[known & (score.constant | part["month"].notna())])
    return parts


def _values(table: pd.DataFrame, path: Path, name: str, spellings: tuple[str, ...]) -> pd.Series | None:
    """The score of each row; where its column is missing, from what it is made of; None without that."""
    column = find_column(table, path, spellings, required=False)
    if column is not None:
        return pd.to_numeric(table[column], errors="coerce")
    if name == "apoe4":
        return _count_e4(table, path)
    boxes = [find_column(table, path, (box,), required=False) for box in CDR_BOXES] if name == "cdrsb" else [None]
    if None in boxes:
        return None
    numbers = table[boxes].apply(pd.to_numeric, errors="coerce")
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
