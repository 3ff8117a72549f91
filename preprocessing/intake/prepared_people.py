"""People who arrive prepared (`prepared/given.tsv`): their rows for the manifest, the ledger and the regions."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from adni_tcgm.privacy import cap_age
from preprocessing.intake.labels import LabelRule, derive_label, months_without_dementia
from preprocessing.intake.people import Intake, month_of
from preprocessing.ledger import LedgerRow
from preprocessing.steps.regions import COLUMNS as REGION_COLUMNS

PEOPLE_FILE = "given.tsv"
REGIONS_FILE = "given_regions.tsv"
PEOPLE_COLUMNS = ["participant_id", "session_id", "gm_path", "pet_path", "age", "sex", "site", "group_id", "tiv_ml"]


# How the scans were taken; empty where the table does not say.
OPTIONAL_COLUMNS = ("field_strength_t", "tracer", "days_between")


def read_people(prepared: Path) -> pd.DataFrame:
    """`given.tsv`, or an empty table without it. Raises ValueError for a missing column."""
    return _read(prepared / PEOPLE_FILE, PEOPLE_COLUMNS)


def read_regions(prepared: Path, people: Collection[str]) -> pd.DataFrame:
    """Rows of `given_regions.tsv` of these people, or an empty table without it."""
    needed = [name for name in REGION_COLUMNS if name != "method"]  # somebody else's tables have their own methods
    table = _read(prepared / REGIONS_FILE, needed)
    return table[table.participant_id.isin(set(people))]


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    text = {
        name: str
        for name in ("participant_id", "session_id", "site", "group_id", "sex", "gm_path", "pet_path", "tracer")
    }
    table = pd.read_csv(path, sep="\t", dtype=text)
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r}; expected {', '.join(columns)}")
    return table


def without_scans(people: pd.DataFrame, intake: Intake) -> pd.DataFrame:
    """Given people who do not arrive as scans, too: scans take the place of what was given."""
    return people[~people.participant_id.isin({person.participant_id for person in intake.people})]


def describe(people: pd.DataFrame, intake: Intake, rule: LabelRule) -> tuple[list[dict[str, object]], list[LedgerRow]]:
    """Manifest rows of given people, labeled by the same rule as everybody; and the ledger: two rows of each of them,
    and what the intake says of all others.
    """
    rows, ledger = [], []
    for person in people.fillna({"pet_path": "", "gm_path": "", "tracer": ""}).to_dict("records"):
        name = person["participant_id"]
        month = month_of(person["session_id"])
        label = derive_label(intake.histories.get(name, []), month, rule, intake.deaths.get(name))
        rows.append(
            {name: person[name] for name in PEOPLE_COLUMNS}
            | {"age": cap_age(person["age"])}
            | {"kind": "prepared", "t1_path": "", "qc": "pass", "label": label.label, "label_reason": label.reason}
            | {"months_to_conversion": label.months_to_conversion, "months": month}
            | {"diagnosis": label.diagnosis, "months_to_death": label.months_to_death}
            | {"months_without_dementia": months_without_dementia(intake.histories.get(name, []), month)}
            | {name: person[name] for name in OPTIONAL_COLUMNS if name in person}
        )
        ids = (person["participant_id"], person["session_id"])
        ledger.append(LedgerRow(*ids, "mri", "kept", "given", source=PEOPLE_FILE))
        no_pet = ("excluded", "given", "no_pet", "no PET was given")
        pet = ("kept", "given", "", "") if person["pet_path"] else no_pet
        ledger.append(LedgerRow(*ids, "pet", *pet, PEOPLE_FILE))
    described = {row.participant_id for row in ledger}
    return rows, ledger + [row for row in intake.ledger if row.participant_id not in described]
