"""A plain list of scans: a TSV or CSV with the columns subject, t1 and pet.

Optional columns: session, age, sex, site, group_id, and either `label` (a name of a class, or empty) or `history`
("0:MCI 12:MCI 24:AD": months from the scan and diagnoses), with `death_month`. Files are NIfTI, or DICOM folders; a
relative path counts from the list's own folder.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from preprocessing.intake.columns import find_column, is_filled, read_numbers, read_text_table, warn_unread
from preprocessing.intake.formats import locate_image
from preprocessing.intake.labels import (
    EXTRA_CLASSES,
    Label,
    LabelRule,
    derive_label,
    months_without_dementia,
    read_histories,
)
from preprocessing.intake.people import Choice, Intake, Person, read_ages, read_sexes, without_t1
from preprocessing.ledger import LedgerRow
from preprocessing.steps.orient import ScanError

COLUMNS = {
    "subject": ("subject", "participant_id", "subject_id", "id"),
    "t1": ("t1", "t1w", "mri", "t1_path"),
    "pet": ("pet", "fdg", "pet_path"),
}
OPTIONAL = ("session", "age", "sex", "site", "group_id", "label", "history", "death_month")
SESSION = "ses-M000"


def read_list(path: Path, rule: LabelRule | None = None) -> Intake:
    """Plan the work on a list. Every row ends as a person to process or as ledger rows.

    Raises FileNotFoundError, or ValueError for a missing column, a subject or a file that stands twice, a label that
    is no class. Ages, sexes and histories that cannot be read are empty, and counted in a warning.
    """
    rule = rule or LabelRule()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such list; a table with the columns subject, t1, pet is needed")
    table = _read_table(path)
    people, ledger = [], []
    for row in table.itertuples():
        person = _read_person(row, path.parent, rule, ledger)
        people += [person] if person else []
    histories = {row.participant: row.visits for row in table.itertuples()}
    return Intake(people, ledger, histories)


def _read_table(path: Path) -> pd.DataFrame:
    raw = read_text_table(path)
    columns = {name: find_column(raw, path, spellings) for name, spellings in COLUMNS.items()}
    columns |= {name: find_column(raw, path, (name,), required=False) for name in OPTIONAL}
    values = {name: raw[theirs].str.strip() if theirs else "" for name, theirs in columns.items()}
    table = pd.DataFrame(values, index=raw.index)
    for name in ("t1", "pet", *OPTIONAL):
        table[name] = table[name].where(is_filled(table[name]), "")
    places = {name: f"{path}: column {columns[name]!r}" for name in ("age", "sex", "history", "death_month")}
    table["age"] = read_ages(table.age, places["age"])
    table["sex"] = read_sexes(table.sex, places["sex"])
    deaths = read_numbers(table.death_month)
    warn_unread(table.death_month[deaths.isna() & is_filled(table.death_month)], places["death_month"], "months")
    table["death_month"] = deaths
    table["visits"] = pd.Series(read_histories(table.history, places["history"]), table.index, dtype=object)
    table["participant"] = [participant_id(name, path) for name in table.subject]
    _refuse_twice(table.participant, path, "subject")
    # A DICOM folder may hold the T1 and the PET of one person; no file and no folder may be of two.
    scans = pd.concat(
        [table[["participant", name]].set_axis(["participant", "scan"], axis=1) for name in ("t1", "pet")]
    )
    _refuse_twice(scans[scans.scan != ""].drop_duplicates().scan, path, "scan")
    same = table[(table.t1 != "") & (table.t1 == table.pet) & ~table.t1.map(lambda name: (path.parent / name).is_dir())]
    if len(same):
        raise ValueError(f"{path}: {same.subject.iloc[0]} has the same file as t1 and pet: {same.t1.iloc[0]}")
    if columns["label"] and columns["history"]:
        raise ValueError(f"{path}: columns 'label' and 'history'; give one of them")
    return table


def _refuse_twice(values: pd.Series, path: Path, what: str) -> None:
    twice = values[values.duplicated()]
    if len(twice):
        raise ValueError(f"{path}: {what} {twice.iloc[0]} stands twice; one row a person, and no scan of two people")


def participant_id(name: str, path: Path) -> str:
    """A BIDS name: "sub-" and the letters and digits of the subject. Raises ValueError where none are left."""
    letters = re.sub(r"[^A-Za-z0-9]", "", name.removeprefix("sub-"))
    if not letters:
        raise ValueError(f"{path}: subject {name!r}; a name with letters or digits is needed")
    return f"sub-{letters}"


def _session(name: str) -> str:
    return f"ses-{re.sub(r'[^A-Za-z0-9]', '', name.removeprefix('ses-'))}" if name else SESSION


def _read_person(row: tuple, folder: Path, rule: LabelRule, ledger: list[LedgerRow]) -> Person | None:
    ids = (row.participant, _session(row.session))
    if not row.t1:
        ledger += without_t1(*ids, "excluded", "no_t1", "no T1 in the list", row.subject)
        return None
    try:
        t1 = Choice(locate_image(folder / row.t1))
    except ScanError as error:
        ledger += without_t1(*ids, "failed", error.reason_code, error.message, row.t1)
        return None
    pet = None
    try:
        pet = Choice(locate_image(folder / row.pet)) if row.pet else None
        if not row.pet:
            ledger.append(LedgerRow(*ids, "pet", "excluded", "intake", "no_pet", "no PET in the list", row.subject))
    except ScanError as error:
        ledger.append(LedgerRow(*ids, "pet", "failed", "intake", error.reason_code, error.message, row.pet))
    label = _label(row, rule)
    group = row.group_id or row.participant
    followed = months_without_dementia(row.visits, 0.0)
    # Months of a list count from the scan.
    return Person(*ids, t1, pet, label, float(row.age), row.sex, row.site, group, followed, months=0)


def _label(row: tuple, rule: LabelRule) -> Label:
    if row.history:
        return derive_label(row.visits, 0.0, rule, None if pd.isna(row.death_month) else float(row.death_month))
    label = row.label.lower()
    if label and label not in rule.classes:
        raise ValueError(f"{row.subject} has label {row.label!r}; known: {', '.join(rule.classes)}, or empty")
    diagnosis = EXTRA_CLASSES.get(label, "MCI" if label else "")
    return Label(label, label or "no_diagnosis", diagnosis=diagnosis)
