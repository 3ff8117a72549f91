"""ADNI's tables as our own: lists of images, diagnostic histories, deaths and groups (the last two are ours)."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from preprocessing.intake.catalog import (
    DIAGNOSES,
    IMAGES,
    MODALITY_MARKS,
    OPTIONAL,
    PTID,
    Tables,
    match_people,
    read_tables,
)
from preprocessing.intake.columns import find_column, plain, read_ids, read_number, read_numbers
from preprocessing.intake.labels import Visit, read_diagnoses
from preprocessing.intake.people import DAYS_A_MONTH, read_sex
from preprocessing.intake.visits import Calendar, read_calendar

MODALITIES = {"mri": "mri", "mr": "mri", "pet": "pet", "pt": "pet"}
DIAGNOSIS_CODES = {
    "DIAGNOSIS": {1: "CN", 2: "MCI", 3: "AD"},
    "DXCURREN": {1: "CN", 2: "MCI", 3: "AD"},
    "DXCHANGE": {1: "CN", 7: "CN", 9: "CN", 2: "MCI", 4: "MCI", 8: "MCI", 3: "AD", 5: "AD", 6: "AD"},
}


def read_collection(where: Path | Tables, required: bool = True) -> pd.DataFrame:
    """All lists of images under a folder as one table, one row per image.

    Columns: image_id (digits), ptid, sex (F|M), age (years), visit (as written), modality (mri|pet|other), description,
    protocol (text), date, archive (bool: the row stands in a list of the archive, not of what was downloaded).
    """
    tables = read_tables(where)
    parts = [_collection_part(tables, path, table) for path, table in tables.of("images")]
    if not parts:
        if required:
            names = ", ".join(spellings[0] for spellings in IMAGES.values())
            raise tables.explain_missing(["images"], f"no collection CSV; one with the columns {names} is needed")
        return pd.DataFrame(columns=[*IMAGES, "archive"])
    lists = [path for (path, _), part in zip(tables.of("images"), parts, strict=True) if part.archive.any()]
    if len(lists) < len(parts):
        for path in lists:
            warnings.warn(
                f"{path}: a list of images beside a collection CSV; it only counts for images that the collection "
                "does not name",
                stacklevel=2,
            )
    table = pd.concat(parts, ignore_index=True).sort_values("archive", kind="stable")
    _check_images(table, tables.folder)
    table = table.drop_duplicates("image_id", ignore_index=True)
    table["sex"] = table.sex.map(read_sex)
    table["age"] = read_numbers(table.age)
    table["modality"] = table.modality.str.strip().str.lower().map(MODALITIES).fillna("other")
    return table


def _collection_part(tables: Tables, path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """One file's images under our column names, without rows that name nobody."""
    columns = {ours: find_column(table, path, theirs, ours not in OPTIONAL) for ours, theirs in IMAGES.items()}
    part = pd.DataFrame({ours: table[theirs] if theirs else "" for ours, theirs in columns.items()}, index=table.index)
    part["date"] = tables.dates(path, table, IMAGES["date"])
    part["ptid"] = part.ptid.str.strip().str.upper()
    part["image_id"] = read_ids(part.image_id)
    marks = {plain(name): modality for name, modality in MODALITY_MARKS.items()}
    part["modality"] = marks.get(plain(columns["modality"]), part.modality)
    # LONI's collection says what was downloaded; every other list says what there is.
    header = {plain(name) for name in table.columns}
    part["archive"] = not header & {plain("Image Data ID"), plain("Downloaded")}
    strange = part[~part.ptid.str.fullmatch(PTID.pattern)]
    if len(strange):
        warnings.warn(
            f"{path}: {len(strange)} rows are left out, the first in line {strange.index[0]}: subject "
            f"{strange.ptid.iloc[0]!r} is not like 011_S_4105",
            stacklevel=2,
        )
    return part.drop(strange.index)


def _check_images(table: pd.DataFrame, folder: Path) -> None:
    """Raises ValueError for an image id that two people share: whose scan it is cannot be known."""
    owners = table.groupby("image_id").ptid.unique()
    shared = owners[owners.str.len() > 1]
    if len(shared):
        people = " and ".join(sorted(shared.iloc[0]))
        raise ValueError(f"{folder}: image id {shared.index[0]} belongs to {people}; an image is of one person")


def read_histories(where: Path | Tables, ptids: set[str], calendar: Calendar | None = None) -> dict[str, list[Visit]]:
    """Diagnostic history of each person by month: from DXSUM, and for people it does not hold from ADNIMERGE.

    Old tables know people by RID only. Raises FileNotFoundError without such a table, ValueError where a column is
    missing.
    """
    tables = read_tables(where)
    calendar = calendar or read_calendar(tables, ptids)
    if not tables.of("diagnoses") and not tables.of("merged"):
        sentence = f"no diagnostic table; DXSUM (with {', '.join(DIAGNOSES)}) or ADNIMERGE (with DX) is needed"
        raise tables.explain_missing(["diagnoses", "merged"], sentence)
    found: dict[str, list[Visit]] = {}
    for kind in ("diagnoses", "merged"):
        rows = [_diagnosed(tables, calendar, path, table, ptids) for path, table in tables.of(kind)]
        visits: dict[str, dict[float, str]] = {}
        # Screening and baseline are both month 0: sorted so that baseline has the last word.
        for row in (
            pd.concat(rows).sort_values("screening", ascending=False, kind="stable").itertuples() if rows else ()
        ):
            if row.ptid in ptids - set(found):
                visits.setdefault(row.ptid, {})[row.month] = row.diagnosis
        found |= {name: [Visit(month, dx) for month, dx in sorted(by.items())] for name, by in visits.items()}
    return found


def _diagnosed(tables: Tables, calendar: Calendar, path: Path, table: pd.DataFrame, ptids: set[str]) -> pd.DataFrame:
    """ptid, month, diagnosis and screening of the rows that have a month and a diagnosis."""
    people = match_people(table, path, ptids)
    names = DIAGNOSES if any(find_column(table, path, (name,), False) for name in DIAGNOSES) else ("DX",)
    placed = calendar.place_rows(tables, path, table, people)
    rows = placed.assign(ptid=people, diagnosis=_diagnoses(table, path, names))
    return rows[rows.month.notna() & (rows.diagnosis != "")]


def _diagnoses(table: pd.DataFrame, path: Path, names: tuple[str, ...]) -> pd.Series:
    """CN, MCI, AD or "" per row, from the first of the phases' columns that is filled, as a code or a word."""
    result = pd.Series("", index=table.index)
    for name in names:
        column = find_column(table, path, (name,), required=False)
        if column:
            codes = table[column].map(read_number).map(DIAGNOSIS_CODES.get(name, {})).astype(object)
            words = read_diagnoses(table[column].mask(codes.notna(), ""), f"{path}: column {column!r}")
            result = result.where(result != "", codes.fillna(words))
    return result


def read_deaths(where: Path | Tables, ptids: set[str], calendar: Calendar | None = None) -> dict[str, float]:
    """PTID -> month of death from baseline, from DEATHS*.csv (PTID or RID, and MONTH or DATE; optional)."""
    tables = read_tables(where)
    calendar = calendar or read_calendar(tables, ptids)
    deaths: dict[str, float] = {}
    for path, table in tables.of("deaths"):
        names = match_people(table, path, ptids)
        month = find_column(table, path, ("MONTH", "death_month"), required=False)
        if month:
            months = read_numbers(table[month])
        else:
            find_column(table, path, ("DATE", "death_date", "MONTH"))
            baselines = pd.to_datetime(names.map(dict(calendar.baselines)))
            months = (tables.dates(path, table, ("DATE", "death_date")) - baselines).dt.days / DAYS_A_MONTH
        deaths |= {name: float(m) for name, m in zip(names, months, strict=True) if name and pd.notna(m)}
    return deaths


def read_groups(where: Path | Tables) -> dict[str, str]:
    """PTID -> group of people who share something that must not straddle a split (GROUPS.csv, optional)."""
    groups: dict[str, str] = {}
    for path, table in read_tables(where).of("groups"):
        people, names = find_column(table, path, ("PTID",)), find_column(table, path, ("GROUP",))
        groups |= dict(zip(table[people].str.strip(), table[names], strict=True))
    return groups
