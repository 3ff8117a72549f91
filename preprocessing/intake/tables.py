"""ADNI's tables under their old and new names: the collection CSV, DXSUM, and the optional GROUPS.csv."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from preprocessing.intake.labels import Visit

# What each of our columns is called in the exports we know; compared without case, spaces and underscores.
COLLECTION = {
    "image_id": ("Image Data ID", "image_id", "Image ID"),
    "ptid": ("Subject", "subject_id", "PTID"),
    "sex": ("Sex", "subject_sex", "PTGENDER"),
    "age": ("Age", "subject_age", "image_age"),
    "visit": ("Visit", "image_visit", "VISCODE"),
    "modality": ("Modality", "image_modality"),
    "description": ("Description", "image_description", "series_description"),
    "date": ("Acq Date", "image_date", "acquisition_date"),
}
DIAGNOSIS = ("DIAGNOSIS", "DXCHANGE", "DXCURREN")
DIAGNOSIS_CODES = {
    "DIAGNOSIS": {1: "CN", 2: "MCI", 3: "AD"},
    "DXCURREN": {1: "CN", 2: "MCI", 3: "AD"},
    "DXCHANGE": {1: "CN", 7: "CN", 9: "CN", 2: "MCI", 4: "MCI", 8: "MCI", 3: "AD", 5: "AD", 6: "AD"},
}
VISIT_CODES = ("VISCODE2", "VISCODE")


def _plain(name: object) -> str:
    return re.sub(r"[\s_]+", "", str(name)).lower()


def _column(table: pd.DataFrame, path: Path, spellings: tuple[str, ...], required: bool = True) -> str | None:
    """The table's own name of a column that is known by several spellings."""
    known = {_plain(name): name for name in table.columns}
    found = next((known[_plain(spelling)] for spelling in spellings if _plain(spelling) in known), None)
    if found is None and required:
        raise ValueError(f"{path}: no column {spellings[0]!r}; known spellings: {', '.join(spellings)}")
    return found


def _csv_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.csv")) + sorted(folder.rglob("*.CSV"))


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
    description, date. A visit without a month of its own is dated from the person's baseline image.
    """
    parts = []
    for path in _csv_files(folder):
        try:
            head = {_plain(name) for name in pd.read_csv(path, nrows=0).columns}
        except pd.errors.EmptyDataError as error:
            raise ValueError(f"{path}: the table is empty; not even a header line") from error
        named = any(_plain(s) in head for s in COLLECTION["image_id"])
        if not named or not any(_plain(s) in head for s in COLLECTION["description"]):
            continue
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        parts.append(pd.DataFrame({ours: table[_column(table, path, theirs)] for ours, theirs in COLLECTION.items()}))
    if not parts:
        if required:
            names = ", ".join(spellings[0] for spellings in COLLECTION.values())
            raise FileNotFoundError(f"{folder}: no collection CSV; one with the columns {names} is needed")
        return pd.DataFrame(columns=[*COLLECTION, "month"])
    table = pd.concat(parts, ignore_index=True)
    table["image_id"] = table.image_id.str.strip().str.removeprefix("I")
    table = table.drop_duplicates("image_id", ignore_index=True)
    table["ptid"] = table.ptid.str.strip()
    table["sex"] = table.sex.str.strip().str[:1].str.upper()
    table["age"] = pd.to_numeric(table.age, errors="coerce")
    table["date"] = pd.to_datetime(table.date, errors="coerce", format="mixed")
    table["modality"] = (
        table.modality.str.strip().str.lower().map({"mri": "mri", "mr": "mri", "pet": "pet", "pt": "pet"})
    )
    table["modality"] = table.modality.fillna("other")
    table["month"] = pd.to_numeric(table.visit.map(visit_month))
    baseline = table[table.month == 0].groupby("ptid").date.min().reindex(table.ptid).to_numpy()
    by_date = ((table.date - baseline).dt.days / 30.44).round()
    table["month"] = table.month.fillna(by_date.where(by_date >= 0))
    return table


def read_histories(folder: Path, ptids: set[str]) -> dict[str, list[Visit]]:
    """Diagnostic history of each person from DXSUM*.csv, by month. Old tables know people by RID only.

    Raises FileNotFoundError without such a table, ValueError where a column is missing.
    """
    paths = [path for path in _csv_files(folder) if path.name.upper().startswith("DXSUM")]
    if not paths:
        raise FileNotFoundError(
            f"{folder}: no diagnostic table; known spellings: DXSUM*.csv, DXSUM_PDXCONV_ADNIALL*.csv"
        )
    by_rid = {int(ptid.split("_")[2]): ptid for ptid in ptids}
    visits: dict[str, dict[float, str]] = {}
    for path in paths:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        person = _column(table, path, ("PTID", "RID", "subject_id"))
        rids = _column(table, path, ("RID",), required=False)
        diagnosis = _diagnoses(table, path)
        months = _months(table, path, table[person])
        # Screening and baseline are both month 0: sorted so that baseline has the last word.
        for row in months.assign(diagnosis=diagnosis).sort_values("late").itertuples():
            name = table[person][row.Index].strip()
            if not re.fullmatch(r"\d{3}_S_\d{4,5}", name):
                rid = pd.to_numeric(table[rids or person][row.Index], errors="coerce")
                name = by_rid.get(int(rid), "") if pd.notna(rid) else ""
            if name in ptids and row.diagnosis and pd.notna(row.month):
                visits.setdefault(name, {})[row.month] = row.diagnosis
    return {name: [Visit(month, dx) for month, dx in sorted(found.items())] for name, found in visits.items()}


def _diagnoses(table: pd.DataFrame, path: Path) -> pd.Series:
    """CN, MCI, AD or "" per row, from the first of the three phases' columns that is filled."""
    _column(table, path, DIAGNOSIS)
    result = pd.Series("", index=table.index)
    for name in DIAGNOSIS:
        column = _column(table, path, (name,), required=False)
        if column:
            codes = pd.to_numeric(table[column], errors="coerce").map(DIAGNOSIS_CODES[name]).fillna("")
            result = result.where(result != "", codes)
    return result


def _months(table: pd.DataFrame, path: Path, person: pd.Series) -> pd.DataFrame:
    """Month of each row by its visit code, else by its date from baseline; `late` is False at screening."""
    _column(table, path, VISIT_CODES)
    month = pd.Series(float("nan"), index=table.index)
    screening = pd.Series(False, index=table.index)
    for name in VISIT_CODES:
        column = _column(table, path, (name,), required=False)
        if column:
            month = month.fillna(pd.to_numeric(table[column].map(visit_month)))
            screening |= table[column].str.strip().str.lower().isin(["sc", "4_sc", "scmri"])
    dates = _column(table, path, ("EXAMDATE", "exam_date"), required=False)
    if dates:
        date = pd.to_datetime(table[dates], errors="coerce", format="mixed")
        baseline = date.where(month == 0).groupby(person).transform("min")
        by_date = ((date - baseline).dt.days / 30.44).round()
        month = month.fillna(by_date.where(by_date >= 0))
    return pd.DataFrame({"month": month, "late": ~screening})


def read_groups(folder: Path) -> dict[str, str]:
    """PTID -> group of people who share something that must not straddle a split (GROUPS.csv, optional)."""
    path = next((path for path in _csv_files(folder) if path.name == "GROUPS.csv"), None)
    if path is None:
        return {}
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    people, groups = _column(table, path, ("PTID",)), _column(table, path, ("GROUP",))
    return dict(zip(table[people], table[groups], strict=True))
