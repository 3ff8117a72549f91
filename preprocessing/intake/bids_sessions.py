"""The sessions of a person of a BIDS data set in time: months from baseline, days between scans.

The month of a session is what sessions.tsv says (months, or days), else what its name says (ses-M012, ses-bl; ses-d0129
are days), else it follows from its date (acq_time or session_date of sessions.tsv, acq_time of scans.tsv) and that of
the baseline session. Where none of these tells it, it is unknown, and no diagnosis is taken for that of the scan.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from preprocessing.intake.bids_scans import Scans, optional_table, read_bids_dates, read_scans
from preprocessing.intake.columns import find_column, is_filled, is_missing, warn_unread
from preprocessing.intake.labels import Visit, read_diagnoses
from preprocessing.intake.people import DAYS_A_MONTH, read_ages
from preprocessing.intake.visits import person_month

NO_SESSION = "ses-M000"
DIAGNOSIS = ("diagnosis", "dx", "clinical_diagnosis")
MONTHS = ("months", "month", "months_from_baseline")
DAYS = ("days", "days_from_baseline", "days_from_entry", "days_since_entry")
DATES = ("acq_time", "session_date", "examination_date", "visit_date")
BASELINE = ("bl", "baseline", "sc", "screening")
MAX_MONTHS = 600
MONTH_WORD = re.compile(r"(?:m|months?)?[\s_-]*([+-]?\d+(?:[.,]\d+)?)\s*(?:m|mo|months?)?")


@dataclass(frozen=True)
class Written:
    """A diagnosis in a table, at a month from baseline or, where `month` is None, at a session."""

    session: str
    month: float | None
    diagnosis: str


@dataclass(frozen=True)
class Session:
    """A visit's folder; its months from baseline, its date and the person's age then, where they are known.

    day: from baseline, where the data set counts in days. scans: what tables say of its images.
    """

    name: str
    folder: Path
    month: float | None = None
    date: pd.Timestamp | None = None
    day: float | None = None
    age: float | None = None
    scans: Scans = field(default_factory=Scans)


@dataclass(frozen=True)
class Timeline:
    """A person's sessions in time, and the visits with a diagnosis.

    diagnosed: whether there is any diagnosis at all, also one of unknown month.
    """

    sessions: list[Session]
    history: list[Visit]
    diagnosed: bool


@dataclass(frozen=True)
class _Row:
    """What sessions.tsv says of a session."""

    month: float | None = None
    day: float | None = None
    date: pd.Timestamp | None = None
    age: float | None = None
    diagnosis: str = ""


def days_between(one: Session, image: Path, other: Session, other_image: Path) -> float | None:
    """Days between two scans: by their dates, else by days or months from baseline; 0 in one session; None if unknown.

    The date of a scan is its own in scans.tsv, else that of its session.
    """
    dates = one.scans.dates.get(image.name, one.date), other.scans.dates.get(other_image.name, other.date)
    if None not in dates:
        return float(abs((dates[0] - dates[1]).days))
    if one.name == other.name:
        return 0.0
    if one.day is not None and other.day is not None:
        return abs(one.day - other.day)
    if one.month is not None and other.month is not None:
        return abs(one.month - other.month) * DAYS_A_MONTH
    return None


def read_month(text: str) -> float | None:
    """Months from baseline as tables write them: "bl", "m06", "12.0", "12,5 months"; None for any other word.

    >>> read_month("bl"), read_month("m06"), read_month("12,5"), read_month("year 2")
    (0.0, 6.0, 12.5, None)
    """
    word = text.strip().lower()
    if word in BASELINE:
        return 0.0
    match = MONTH_WORD.fullmatch(word)
    month = float(match[1].replace(",", ".")) if match else person_month(word)
    return month if month is not None and abs(month) <= MAX_MONTHS else None  # 2019 is a year


def read_months(texts: pd.Series, place: str) -> list[float | None]:
    """`read_month` of a column; words that are none are counted in a warning. `place` names the column."""
    months = [None if is_missing(text) else read_month(text) for text in texts]
    unread = pd.Series([month is None for month in months], texts.index, dtype=bool)
    warn_unread(texts[unread & is_filled(texts)], place, "months (12, m12, bl)")
    return months


def session_name(text: str) -> str:
    return text.strip() if text.strip().startswith("ses-") or is_missing(text) else f"ses-{text.strip()}"


def place_by_name(name: str) -> tuple[float | None, float | None]:
    """(months, days) from baseline that the name of a session states; a bare number states nothing.

    >>> place_by_name("ses-M012"), place_by_name("ses-baseline"), place_by_name("ses-03")
    ((12.0, None), (0.0, None), (None, None))
    """
    label = name.lower().removeprefix("ses-")
    if label in BASELINE:
        return 0.0, None
    if match := re.fullmatch(r"d(\d{3,})|days?(\d+)", label):
        day = float(match[1] or match[2])
        return day / DAYS_A_MONTH, day
    match = re.fullmatch(r"(?:m|mo|months?)(\d+)|(\d+)(?:m|mo|months?)", label)
    return (float(match[1] or match[2]), None) if match else (None, None)


def read_timeline(folder: Path, written: Sequence[Written], cell: Sequence[Visit]) -> Timeline:
    """The sessions of a person, and the diagnoses.

    written: the person's rows of phenotype tables; cell: the history in participants.tsv. The first of these and of
    sessions.tsv that has a diagnosis is taken.
    """
    rows = _read_sessions_table(folder / f"{folder.name}_sessions.tsv")
    listed = [Written(name, row.month, row.diagnosis) for name, row in rows.items() if row.diagnosis]
    source = list(written) or listed
    # Months that a table or a name states count from a baseline that need not be the first session with a date.
    by_session = bool(source) and all(_month_of(row, {}) is None for row in source)
    sessions = _place_by_dates(_without_dummy_dates(_read_folders(folder, rows)), by_session)
    months = {session.name: session.month for session in sessions}
    dated = [(_month_of(row, months), row.diagnosis) for row in source]
    history = [Visit(month, diagnosis) for month, diagnosis in dated if month is not None] if source else list(cell)
    sessions = [session for session in sessions if session.folder.is_dir()]
    if len(sessions) == 1 and sessions[0].month is None and len({visit.month for visit in history}) == 1:
        sessions = [replace(sessions[0], month=history[0].month)]  # one visit, one diagnosis: they belong together
    ordered = sorted(sessions, key=lambda s: (s.month is None, s.month or 0.0, s.date or pd.Timestamp.max, s.name))
    return Timeline(ordered, sorted(history, key=lambda visit: visit.month), bool(source or cell))


def _month_of(row: Written, months: Mapping[str, float | None]) -> float | None:
    """The month of a diagnosis: its own, else that of its session, which need not have a scan."""
    if row.month is not None:
        return row.month
    return months[row.session] if months.get(row.session) is not None else place_by_name(row.session)[0]


def _read_folders(folder: Path, rows: Mapping[str, _Row]) -> list[Session]:
    """A person's sessions, with a folder or only in the table, as names and tables place them."""
    scans = read_scans(folder)
    sessions = [_read_session(name, path, rows.get(name), scans) for name, path in _folders(folder).items()]
    if len(sessions) > 1:  # beside others, the person's own folder is no baseline
        sessions = [replace(s, month=None) if s.folder == folder else s for s in sessions]
    names = {session.name for session in sessions}
    return sessions + [
        _read_session(name, folder / name, row, Scans()) for name, row in rows.items() if name not in names
    ]


def _folders(folder: Path) -> dict[str, Path]:
    """The sessions' folders, and the person's own where it holds images or where there is no session."""
    named = {path.name: path for path in sorted(folder.glob("ses-*")) if path.is_dir()}
    own = folder.is_dir() and (not named or any((folder / kind).is_dir() for kind in ("anat", "pet")))
    return named | ({NO_SESSION: folder} if own and NO_SESSION not in named else {})


def _read_sessions_table(path: Path) -> dict[str, _Row]:
    table = optional_table(path)
    if table is None:
        return {}
    names = find_column(table, path, ("session_id", "session"), required=False)
    if names is None:
        warnings.warn(f"{path}: no column 'session_id'; the table is left out", stacklevel=2)
        return {}
    wanted = (MONTHS, DAYS, DATES, ("age",), DIAGNOSIS)
    columns = [find_column(table, path, spellings, required=False) for spellings in wanted]
    nothing: list[None] = [None] * len(table)
    months, days = (read_months(table[name], f"{path}: column {name!r}") if name else nothing for name in columns[:2])
    dates = read_bids_dates(table[columns[2]], f"{path}: column {columns[2]!r}") if columns[2] else nothing
    ages = read_ages(table[columns[3]], f"{path}: column {columns[3]!r}") if columns[3] else nothing
    words = read_diagnoses(table[columns[4]], f"{path}: column {columns[4]!r}") if columns[4] else [""] * len(table)
    ids = table[names].map(session_name)
    if (twice := ids[ids.duplicated()]).size:
        warnings.warn(f"{path}: session {twice.iloc[0]} stands twice; its first row counts", stacklevel=2)
    found: dict[str, _Row] = {}
    for name, month, day, date, age, word in zip(ids, months, days, dates, ages, words, strict=True):
        found.setdefault(name, _Row(month, day, date, None if pd.isna(age) else age, word))
    return found


def _read_session(name: str, folder: Path, row: _Row | None, scans: Scans) -> Session:
    """scans: what the table in the person's own folder says, which may list the images of all sessions."""
    row = row or _Row()
    month, day = place_by_name(name)
    if row.day is not None:
        month, day = row.day / DAYS_A_MONTH, row.day
    if row.month is not None:
        month = row.month
    own = scans.of_session(name)
    own = own.with_others(read_scans(folder)) if folder.name == name else own
    date = row.date if row.date is not None else min(own.dates.values(), default=None)
    return Session(name, folder, month, date, day, row.age, own)


def _without_dummy_dates(sessions: list[Session]) -> list[Session]:
    """Sessions without their dates, where sessions of different months bear one and the same: it stands for nothing."""
    months = {session.month for session in sessions if session.date is not None and session.month is not None}
    dates = {session.date for session in sessions if session.date is not None}
    if len(months) > 1 and len(dates) == 1:
        return [replace(session, date=None, scans=replace(session.scans, dates={})) for session in sessions]
    return sessions


def _place_by_dates(sessions: list[Session], by_session: bool) -> list[Session]:
    """Sessions with months by their dates where nothing else tells them.

    Baseline is `month` before the earliest session whose month is known; else it is the earliest of several sessions,
    unless its number says that others came before. `by_session`: diagnoses are given at sessions, so that it does not
    matter where months are counted from.
    """
    dated = sorted((s for s in sessions if s.date is not None), key=lambda s: s.date)
    known = [session for session in dated if session.month is not None]
    if known:
        first = min(known, key=lambda s: s.month)
        zero = first.date - pd.Timedelta(days=round(first.month * DAYS_A_MONTH))
    elif dated and (by_session or (len(dated) > 1 and not _is_later(dated[0].name))):
        zero = dated[0].date
    else:
        return sessions
    return [
        replace(s, month=(s.date - zero).days / DAYS_A_MONTH) if s.month is None and s.date is not None else s
        for s in sessions
    ]


def _is_later(name: str) -> bool:
    number = re.search(r"\d+", name)
    return bool(number) and int(number[0]) > 1
