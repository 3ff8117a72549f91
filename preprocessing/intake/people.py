"""What every intake hands on: the people to process, the scans chosen for them, and who goes no further and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from preprocessing.intake.columns import is_filled, read_numbers, warn_unread
from preprocessing.intake.labels import Label, Visit
from preprocessing.ledger import LedgerRow

DAYS_A_MONTH = 30.44
MAX_AGE = 120
FEMALE = ("f", "female", "w", "woman", "weiblich", "weibl", "frau", "femme", "féminin", "femmina", "femenino", "mujer")
MALE = ("m", "male", "man", "männlich", "maennlich", "männl", "mann", "homme", "masculin", "maschio", "masculino")
SEX_WORDS = dict.fromkeys(FEMALE, "F") | dict.fromkeys((*MALE, "hombre"), "M")

SCORE_COLUMNS = ("participant_id", "score", "month", "value")
CHOSEN_COLUMNS = (
    "participant_id",
    "session_id",
    "modality",
    "image_id",
    "series",
    "days_from_t1",
    "why",
    "rejected",
    "note",
)


@dataclass(frozen=True)
class Choice:
    """The scan picked for a person: its file (or DICOM folder) and the series it came from.

    why: what spoke for it; rejected: the other candidates, each with a reason; note: what to know about its month;
    protocol: what the archive says of how it was taken.
    """

    path: Path
    description: str = ""
    image_id: str = ""
    days_from_t1: float | None = None
    why: str = ""
    rejected: str = ""
    note: str = ""
    protocol: str = ""


@dataclass(frozen=True)
class Person:
    """One person's visit as manifest columns, with the scans chosen for it.

    months_without_dementia: from the scan to the last visit before any dementia; None where nobody knows.
    months: from baseline to the scan; None where nobody knows.
    """

    participant_id: str
    session_id: str
    t1: Choice
    pet: Choice | None
    label: Label
    age: float
    sex: str
    site: str
    group_id: str
    months_without_dementia: float | None = None
    field_strength_t: float | None = None
    tracer: str = ""
    months: float | None = None

    @property
    def name(self) -> str:
        """Of the visit, as its files begin."""
        return f"{self.participant_id}_{self.session_id}"


@dataclass(frozen=True)
class Intake:
    """People to process, and the ledger rows of scans that go no further.

    `histories` and `deaths` (months from baseline) are by participant_id; they label people who arrive prepared.
    scores: clinical scores of all visits (columns SCORE_COLUMNS); no imaging classifier sees them.
    """

    people: list[Person]
    ledger: list[LedgerRow]
    histories: Mapping[str, Sequence[Visit]] = field(default_factory=dict)
    deaths: Mapping[str, float] = field(default_factory=dict)
    scores: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SCORE_COLUMNS)))


def session_id(month: float) -> str:
    """12.0 -> ses-M012 (months from baseline)."""
    return f"ses-M{round(month):03d}"


def month_of(session: str) -> int:
    """ses-M012 -> 12. Raises ValueError for another style."""
    match = re.fullmatch(r"ses-M(\d+)", session)
    if not match:
        raise ValueError(f"session_id {session!r}; expected the style ses-M012")
    return int(match[1])


def read_sex(text: object) -> str:
    """F or M from a word that is known; else empty: numbers are never guessed at.

    >>> read_sex("weiblich"), read_sex("Male"), read_sex("1"), read_sex("married")
    ('F', 'M', '', '')
    """
    return SEX_WORDS.get(str(text).strip().strip(".").lower(), "")


def read_sexes(texts: pd.Series, place: str) -> pd.Series:
    """`read_sex` of a column; words that are not known are counted in a warning. `place` names the column."""
    found = texts.map(read_sex).astype(object)
    # Where H is the man (hombre), M is the woman (mujer).
    if texts.str.strip().str.lower().isin(["h", "hombre"]).any():
        found = found.mask(texts.str.strip().str.lower() == "m", "")
    warn_unread(texts[(found == "") & is_filled(texts)], place, "sexes that are known (F, M, female, male)")
    return found


def read_ages(texts: pd.Series, place: str) -> pd.Series:
    """Ages in years; "89+" is 89. What is no age of a person is NaN, and counted in a warning."""
    ages = read_numbers(texts.str.strip().str.replace(r"(?i)\s*(y|yrs?|years?)\.?$", "", regex=True))
    ages = ages.where(ages.between(0, MAX_AGE))
    warn_unread(texts[ages.isna() & is_filled(texts)], place, f"ages from 0 to {MAX_AGE}")
    return ages


def without_t1(participant: str, session: str, status: str, code: str, reason: str, source: str) -> list[LedgerRow]:
    """The two rows of a person whose T1 cannot be used: a PET alone cannot be brought to the template."""
    ids = (participant, session)
    pet = "without a T1 a PET cannot be brought to the template"
    return [
        LedgerRow(*ids, "mri", status, "intake", code, reason, source),
        LedgerRow(*ids, "pet", "excluded", "intake", "no_t1", pet, source),
    ]


def chosen_scans(people: Sequence[Person]) -> pd.DataFrame:
    """Which series was taken for each person and modality, one row a scan (columns CHOSEN_COLUMNS)."""
    rows = [
        (
            person.participant_id,
            person.session_id,
            modality,
            scan.image_id,
            scan.description,
            scan.days_from_t1,
            scan.why,
            scan.rejected,
            scan.note,
        )
        for person in people
        for modality, scan in (("mri", person.t1), ("pet", person.pet))
        if scan
    ]
    table = pd.DataFrame(rows, columns=list(CHOSEN_COLUMNS))
    return table.sort_values(["participant_id", "session_id", "modality"])
