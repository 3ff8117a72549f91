"""ADNI's tables under their old and new names: the collection CSV, DXSUM, ADNIMERGE, and our optional GROUPS.csv and
DEATHS.csv."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from preprocessing.intake.columns import csv_files, find_column, plain, read_text_table
from preprocessing.intake.labels import Visit, read_diagnosis
from preprocessing.intake.people import DAYS_A_MONTH, read_sex

# What each of our columns is called in the exports we know; compared without case, spaces and underscores.
COLLECTION = {
    "image_id": ("Image Data ID", "image_id", "Image ID"),
    "ptid": ("Subject", "subject_id", "PTID", "SubjectID"),
    "sex": ("Sex", "subject_sex", "PTGENDER"),
    "age": ("Age", "subject_age", "image_age"),
    "visit": ("Visit", "image_visit", "VISCODE2", "VISCODE"),
    "modality": ("Modality", "image_modality"),
    "description": ("Description", "image_description", "series_description"),
    "protocol": ("Imaging Protocol", "image_protocol", "protocol"),
    "date": ("Acq Date", "image_date", "acquisition_date", "Scan Date"),
}
OTHER_TABLES = ("DXSUM", "ADNIMERGE", "GROUPS", "DEATHS", "MRIQUALITY", "MAYOADIRL", "PETQC", "PETC3")
OPTIONAL = ("sex", "age", "protocol")
MODALITIES = {"mri": "mri", "mr": "mri", "pet": "pet", "pt": "pet"}
PTID = re.compile(r"\d{3}_S_\d{4,5}")
HISTORY_TABLES = ("DXSUM", "ADNIMERGE")
DIAGNOSIS = ("DIAGNOSIS", "DXCHANGE", "DXCURREN")
DIAGNOSIS_CODES = {
    "DIAGNOSIS": {1: "CN", 2: "MCI", 3: "AD"},
    "DXCURREN": {1: "CN", 2: "MCI", 3: "AD"},
    "DXCHANGE": {1: "CN", 7: "CN", 9: "CN", 2: "MCI", 4: "MCI", 8: "MCI", 3: "AD", 5: "AD", 6: "AD"},
    "DX": {},  # spelled out
}
VISIT_CODES = ("VISCODE2", "VISCODE")


def visit_month(code: object) -> float | None:
    """Months from baseline of a visit code: sc, bl, scmri, 4_bl -> 0; m12, 4_m12, "Month 12" -> 12; "Year 1" -> 12.

    None where the code names no month (nv, v04, uns1) or counts from a later phase of a continuing person.
    """
    text = str(code).strip().lower()
    if "cont" in text:
        return None
    if re.search(r"^(4_)?(sc|bl|scmri|init)$|screening|baseline|initial", text):
        return 0.0
    month = re.search(r"^(?:4_)?m(\d+)$|month\s*(\d+)", text)
    if month:
        return float(month[1] or month[2])
    year = re.search(r"^(?:4_)?y(\d+)$|year\s*(\d+)", text)
    return 12.0 * float(year[1] or year[2]) if year else None


def read_collection(folder: Path, required: bool = True) -> pd.DataFrame:
    """All collection CSVs under `folder` as one table, one row per image.

    Columns: image_id (without "I"), ptid, sex (F|M), age, visit, month (NaN where unknown), modality (mri|pet|other),
    description, protocol (text), date, archive (bool: the row stands in a list of the whole archive, not of what was
    downloaded). A visit without a month of its own is dated from the person's baseline image.
    """
    parts = [part for path in csv_files(folder) if (part := _collection_part(path)) is not None]
    if not parts:
        if required:
            names = ", ".join(spellings[0] for spellings in COLLECTION.values())
            raise FileNotFoundError(f"{folder}: no collection CSV; one with the columns {names} is needed")
        return pd.DataFrame(columns=[*COLLECTION, "archive", "month"])
    table = pd.concat(parts, ignore_index=True).sort_values("archive", kind="stable")
    table["image_id"] = table.image_id.str.strip().str.removeprefix("I")
    table["ptid"] = table.ptid.str.strip()
    _check_images(table, folder)
    table = table.drop_duplicates("image_id", ignore_index=True)
    table["sex"] = table.sex.map(read_sex)
    table["age"] = pd.to_numeric(table.age, errors="coerce")
    table["date"] = pd.to_datetime(table.date, errors="coerce", format="mixed")
    table["modality"] = table.modality.str.strip().str.lower().map(MODALITIES).fillna("other")
    table["month"] = pd.to_numeric(table.visit.map(visit_month))
    baseline = table[table.month == 0].groupby("ptid").date.min().reindex(table.ptid).to_numpy()
    by_date = ((table.date - baseline).dt.days / DAYS_A_MONTH).round()
    table["month"] = table.month.fillna(by_date.where(by_date >= 0))
    return table


def _collection_part(path: Path) -> pd.DataFrame | None:
    """One file's images under our column names, or None for a table of something else."""
    if path.name.upper().startswith(OTHER_TABLES):
        return None
    head = {plain(name) for name in read_text_table(path, rows=0).columns}
    listed = [any(plain(s) in head for s in COLLECTION[name]) for name in ("image_id", "description")]
    # A table with one of the two and a modality is a collection whose other column was renamed: the error names it.
    if not all(listed) and not (any(listed) and plain("modality") in head):
        return None
    table = read_text_table(path)
    columns = {ours: find_column(table, path, theirs, ours not in OPTIONAL) for ours, theirs in COLLECTION.items()}
    part = pd.DataFrame({ours: table[theirs] if theirs else "" for ours, theirs in columns.items()}, index=table.index)
    return part.assign(archive="_all_images_" in f"_{path.name.lower()}")


def _check_images(table: pd.DataFrame, folder: Path) -> None:
    """Raises ValueError for an image id that two people share: whose scan it is cannot be known."""
    owners = table.groupby("image_id").ptid.unique()
    shared = owners[owners.str.len() > 1]
    if len(shared):
        people = " and ".join(sorted(shared.iloc[0]))
        raise ValueError(f"{folder}: image id {shared.index[0]} belongs to {people}; an image is of one person")


def read_histories(folder: Path, ptids: set[str]) -> dict[str, list[Visit]]:
    """Diagnostic history of each person by month: from DXSUM*.csv, and for people it does not hold from ADNIMERGE*.csv.

    Old tables know people by RID only. Raises FileNotFoundError without such a table, ValueError where a column is
    missing.
    """
    tables = {kind: [p for p in csv_files(folder) if p.name.upper().startswith(kind)] for kind in HISTORY_TABLES}
    if not any(tables.values()):
        raise FileNotFoundError(
            f"{folder}: no diagnostic table; known spellings: DXSUM*.csv, DXSUM_PDXCONV_ADNIALL*.csv, ADNIMERGE*.csv"
        )
    found: dict[str, list[Visit]] = {}
    for paths in tables.values():
        visits: dict[str, dict[float, str]] = {}
        for path in paths:
            _add_visits(visits, path, ptids - set(found))
        found |= {name: [Visit(month, dx) for month, dx in sorted(by.items())] for name, by in visits.items()}
    return found


def _add_visits(visits: dict[str, dict[float, str]], path: Path, ptids: set[str]) -> None:
    table = read_text_table(path)
    names = match_people(table, path, ptids)
    diagnosis = _diagnoses(table, path)
    months = visit_months(table, path, names)
    # Screening and baseline are both month 0: sorted so that baseline has the last word.
    for row in months.assign(diagnosis=diagnosis, ptid=names).sort_values("late", kind="stable").itertuples():
        if row.ptid in ptids and row.diagnosis and pd.notna(row.month):
            visits.setdefault(row.ptid, {})[row.month] = row.diagnosis


def match_people(table: pd.DataFrame, path: Path, ptids: set[str]) -> pd.Series:
    """PTID of each row; where a table knows people by RID only, that of the one among `ptids` who carries it."""
    person = find_column(table, path, ("PTID", "RID", "subject_id", "SubjectID"))
    rids = find_column(table, path, ("RID",), required=False) or person
    by_rid = {int(ptid.split("_")[2]): ptid for ptid in ptids if PTID.fullmatch(ptid)}
    own = table[person].str.strip()
    return own.where(own.str.fullmatch(PTID.pattern), pd.to_numeric(table[rids], errors="coerce").map(by_rid)).fillna(
        ""
    )


def _diagnoses(table: pd.DataFrame, path: Path) -> pd.Series:
    """CN, MCI, AD or "" per row, from the first of the phases' columns that is filled, as a code or a word."""
    names = ("DX",) if path.name.upper().startswith("ADNIMERGE") else DIAGNOSIS
    find_column(table, path, names)
    result = pd.Series("", index=table.index)
    for name in names:
        column = find_column(table, path, (name,), required=False)
        if column:
            codes = pd.to_numeric(table[column], errors="coerce").map(DIAGNOSIS_CODES[name])
            result = result.where(result != "", codes.fillna(table[column].map(read_diagnosis)))
    return result


def visit_months(table: pd.DataFrame, path: Path, person: pd.Series) -> pd.DataFrame:
    """Month of each row by its visit code, else by its date from baseline; `late` is False at screening."""
    find_column(table, path, VISIT_CODES)
    month = pd.Series(float("nan"), index=table.index)
    screening = pd.Series(False, index=table.index)
    for name in VISIT_CODES:
        column = find_column(table, path, (name,), required=False)
        if column:
            month = month.fillna(pd.to_numeric(table[column].map(visit_month)))
            screening |= table[column].str.strip().str.lower().isin(["sc", "4_sc", "scmri"])
    dates = find_column(table, path, ("EXAMDATE", "exam_date"), required=False)
    if dates:
        date = pd.to_datetime(table[dates], errors="coerce", format="mixed")
        baseline = date.where(month == 0).groupby(person).transform("min")
        by_date = ((date - baseline).dt.days / DAYS_A_MONTH).round()
        month = month.fillna(by_date.where(by_date >= 0))
    return pd.DataFrame({"month": month, "late": ~screening})


def read_deaths(folder: Path, ptids: set[str], baselines: pd.Series) -> dict[str, float]:
    """PTID -> month of death from baseline, from DEATHS*.csv (PTID or RID, and MONTH or DATE; optional).

    `baselines`: PTID -> date of the baseline image, for rows that give a date.
    """
    deaths: dict[str, float] = {}
    for path in [path for path in csv_files(folder) if path.name.upper().startswith("DEATHS")]:
        table = read_text_table(path)
        names = match_people(table, path, ptids)
        month = find_column(table, path, ("MONTH", "death_month"), required=False)
        when = find_column(table, path, ("DATE", "death_date", "MONTH"), required=not month)
        if month:
            months = pd.to_numeric(table[month], errors="coerce")
        else:
            date = pd.to_datetime(table[when], errors="coerce", format="mixed")
            months = (date - pd.to_datetime(names.map(baselines))).dt.days / DAYS_A_MONTH
        deaths |= {name: float(m) for name, m in zip(names, months, strict=True) if name and pd.notna(m)}
    return deaths


def read_groups(folder: Path) -> dict[str, str]:
    """PTID -> group of people who share something that must not straddle a split (GROUPS.csv, optional)."""
    path = next((path for path in csv_files(folder) if path.name.upper() == "GROUPS.CSV"), None)
    if path is None:
        return {}
    table = read_text_table(path)
    people, groups = find_column(table, path, ("PTID",)), find_column(table, path, ("GROUP",))
    return dict(zip(table[people], table[groups], strict=True))
