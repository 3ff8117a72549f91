"""Any BIDS data set with T1w images and, for some, FDG-PET (PET-BIDS).

Ages, sexes, sites and groups come from participants.tsv (age, sex, site or site_id, group_id; all optional), session
dates from sub-X_sessions.tsv. Diagnoses, for labels, are read from the first of these that is there:
  phenotype/diagnosis.tsv   participant_id, diagnosis, and months (from baseline) or session_id
  sub-X_sessions.tsv        session_id, diagnosis, and months or a session_id like ses-M012
  participants.tsv          diagnosis_history: "0:MCI 12:MCI 24:AD"
and a `death_month` in participants.tsv. Without any, people are prepared all the same, unlabeled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from adni_tcgm.limits import read_json
from preprocessing.intake.acquisition import FDG, TRACER, read_field_strength
from preprocessing.intake.columns import find_column, read_number, read_text_table
from preprocessing.intake.formats import NIFTI, NO_IMAGES, usable_image
from preprocessing.intake.labels import (
    LabelRule,
    Visit,
    derive_label,
    diagnosis_at,
    months_without_dementia,
    parse_history,
    read_diagnoses,
)
from preprocessing.intake.people import DAYS_A_MONTH, PAIR_DAYS, Choice, Intake, Person, read_sex, without_t1
from preprocessing.intake.walk import is_hidden
from preprocessing.ledger import LedgerRow
from preprocessing.orient import ScanError

NO_SESSION = "ses-M000"
SITE = ("site", "site_id", "institution", "center")
MONTHS = ("months", "month", "months_from_baseline")


@dataclass(frozen=True)
class Session:
    """A visit's folder, and its months from baseline (None where no table or name says)."""

    name: str
    folder: Path
    month: float | None


def read_dataset(root: Path, rule: LabelRule | None = None, pair_days: int = PAIR_DAYS) -> Intake:
    """Plan the work on a data set. Everybody in participants.tsv or with a folder is a person or ledger rows.

    Raises FileNotFoundError for a folder without people, ValueError for tables that are not understood.
    """
    folders = {path.name: path for path in sorted(root.glob("sub-*")) if path.is_dir()}
    table = _read_participants(root)
    if not folders:
        raise FileNotFoundError(f"{root}: no sub-* folder; a BIDS data set is needed")
    written = _read_phenotype(root)
    people, ledger, histories, deaths = [], [], {}, {}
    for name in sorted(set(folders) | set(table.index)):
        about = table.loc[name].to_dict() if name in table.index else {}
        sessions, visits = _read_sessions(folders.get(name, root / name))
        history = _resolve(written.get(name, []), sessions) or visits or parse_history(about.get("history", ""))
        death = pd.to_numeric(about.get("death_month", ""), errors="coerce")
        histories[name] = history
        deaths |= {} if pd.isna(death) else {name: float(death)}
        plan = _Plan(name, root, sessions, history, deaths.get(name), rule or LabelRule(), pair_days)
        person = plan.choose(about, ledger)
        people += [person] if person else []
    return Intake(people, ledger, histories, deaths)


def _read_participants(root: Path) -> pd.DataFrame:
    """participants.tsv by participant_id, columns age, sex, site, group_id, history, death_month (text)."""
    path = root / "participants.tsv"
    names = {"age": ("age", "age_bl"), "sex": ("sex", "gender"), "site": SITE, "group_id": ("group_id",)}
    names |= {"history": ("diagnosis_history",), "death_month": ("death_month",)}
    if not path.is_file():
        return pd.DataFrame(columns=list(names))
    raw = read_text_table(path, "\t").replace("n/a", "")
    found = {ours: find_column(raw, path, theirs, required=False) for ours, theirs in names.items()}
    people = raw[find_column(raw, path, ("participant_id",))].str.strip()
    twice = people[people.duplicated()]
    if len(twice):
        raise ValueError(f"{path}: participant {twice.iloc[0]} stands twice; one row a person")
    values = {ours: raw[theirs].str.strip() if theirs else "" for ours, theirs in found.items()}
    table = pd.DataFrame(values, index=raw.index)
    return table.set_index(people.where(people.str.startswith("sub-"), "sub-" + people).rename(None))


def _read_phenotype(root: Path) -> dict[str, list[tuple[float | str, str]]]:
    """phenotype/diagnosis.tsv: participant -> (months, or the session where there are none, diagnosis)."""
    path = root / "phenotype" / "diagnosis.tsv"
    if not path.is_file():
        return {}
    table = read_text_table(path, "\t").replace("n/a", "")
    people = table[find_column(table, path, ("participant_id",))]
    diagnosis = read_diagnoses(table[find_column(table, path, ("diagnosis",))], f"{path}: column 'diagnosis'")
    months = find_column(table, path, MONTHS, required=False)
    when = table[months or find_column(table, path, ("session_id", *MONTHS))]
    found: dict[str, list[tuple[float | str, str]]] = {}
    for name, moment, word in zip(people, when, diagnosis, strict=True):
        if moment and word:
            found.setdefault(name, []).append((float(moment) if months else moment, word))
    return found


def _resolve(written: Sequence[tuple[float | str, str]], sessions: Sequence[Session]) -> list[Visit]:
    """Visits by month; a session stands for its month, and one without a month is left out."""
    month_of = {session.name: session.month for session in sessions}
    dated = [(_session_month(m) if isinstance(m, str) else m, m, dx) for m, dx in written]
    months = [(month if month is not None else month_of.get(m), dx) for month, m, dx in dated]
    return sorted((Visit(month, dx) for month, dx in months if month is not None), key=lambda visit: visit.month)


def _session_month(name: str) -> float | None:
    """ses-M012, ses-m12 -> 12; ses-baseline, ses-bl -> 0; None for a name that says nothing."""
    if re.fullmatch(r"ses-(bl|baseline)", name.lower()):
        return 0.0
    match = re.fullmatch(r"ses-[mM](\d+)", name)
    return float(match[1]) if match else None


def _read_sessions(folder: Path) -> tuple[list[Session], list[Visit]]:
    """The sessions of a person in time, and the visits that sessions.tsv gives a diagnosis for."""
    named = {path.name: path for path in sorted(folder.glob("ses-*")) if path.is_dir()}
    path = folder / f"{folder.name}_sessions.tsv"
    months: dict[str, float | None] = {name: _session_month(name) for name in named}
    visits = []
    if path.is_file():
        table = read_text_table(path, "\t").replace("n/a", "")
        names = table[find_column(table, path, ("session_id",))]
        listed = _session_months(table, path, names)
        months |= {name: month for name, month in listed.items() if month is not None}
        diagnosis = find_column(table, path, ("diagnosis",), required=False)
        words = read_diagnoses(table[diagnosis], f"{path}: column 'diagnosis'") if diagnosis else [""] * len(table)
        rows = [(listed[name], word) for name, word in zip(names, words, strict=True)]
        visits = [Visit(month, word) for month, word in rows if word and month is not None]
    sessions = [Session(name, path, months[name]) for name, path in named.items()]
    if not sessions and folder.is_dir():
        sessions = [Session(NO_SESSION, folder, 0.0)]
    if len(sessions) == 1 and sessions[0].month is None:
        sessions = [Session(sessions[0].name, sessions[0].folder, 0.0)]
    return sorted(sessions, key=lambda s: (s.month is None, s.month or 0.0, s.name)), visits


def _session_months(table: pd.DataFrame, path: Path, names: pd.Series) -> dict[str, float | None]:
    """Months of each session: its own column, else the days since the first acq_time, else its name."""
    column = find_column(table, path, MONTHS, required=False)
    times = find_column(table, path, ("acq_time", "session_date"), required=False)
    month = pd.to_numeric(table[column], errors="coerce") if column else pd.Series(float("nan"), table.index)
    if times:
        date = pd.to_datetime(table[times], errors="coerce", format="mixed")
        month = month.fillna((date - date.min()).dt.days / DAYS_A_MONTH)
    return {name: _session_month(name) if pd.isna(m) else float(m) for name, m in zip(names, month, strict=True)}


@dataclass(frozen=True)
class _Plan:
    """The choice of one T1 and one FDG of one person."""

    participant: str
    root: Path
    sessions: list[Session]
    history: list[Visit]
    death_month: float | None
    rule: LabelRule
    pair_days: int

    def choose(self, about: Mapping[str, str], ledger: list[LedgerRow]) -> Person | None:
        """The person's visit, or None; scans that are not used are added to `ledger`."""
        try:
            session, t1 = self._choose_t1()
        except ScanError as error:
            status = "excluded" if error.reason_code in ("no_t1", "missing_file") else "failed"
            source = self.participant
            ledger += without_t1(self.participant, "", status, error.reason_code, error.message, source)
            return None
        pet = None
        try:
            pet = self._choose_pet(session)
        except ScanError as error:
            status = "failed" if error.reason_code in ("ecat", "unknown_format", "wrong_modality") else "excluded"
            row = (status, "intake", error.reason_code, error.message, self.participant)
            ledger.append(LedgerRow(self.participant, session.name, "pet", *row))
        return Person(
            participant_id=self.participant,
            session_id=session.name,
            t1=t1,
            pet=pet,
            label=derive_label(self.history, session.month or 0.0, self.rule, self.death_month),
            age=read_number(about.get("age", "")),
            sex=read_sex(about.get("sex", "")),
            site=about.get("site", ""),
            group_id=about.get("group_id", "") or self.participant,
            months_without_dementia=months_without_dementia(self.history, session.month or 0.0),
            field_strength_t=read_field_strength(self._sidecar(t1.path).get("MagneticFieldStrength", "")),
            tracer=TRACER if pet else "",
        )

    def _choose_t1(self) -> tuple[Session, Choice]:
        """The T1 of the earliest session with MCI, else of the earliest session that has one."""
        if not self.sessions:
            raise ScanError("missing_file", f"{self.participant} is in participants.tsv and has no folder")
        with_t1 = [(s, images) for s in self.sessions if (images := _images(s.folder / "anat", "T1w"))]
        if not with_t1:
            raise ScanError("no_t1", f"no *_T1w image in {len(self.sessions)} sessions")
        mci = [
            s.month is not None and diagnosis_at(self.history, s.month, self.rule.scan_months) == "MCI"
            for s, _ in with_t1
        ]
        session, images = with_t1[mci.index(True) if any(mci) else 0]
        path = usable_image(images)
        self._check_modality(path, "MR")
        return session, Choice(path, path.name, path.name, 0)

    def _choose_pet(self, at: Session) -> Choice:
        """The FDG of the session, else of the nearest one within `pair_days`."""
        gaps = {s.name: _days_between(at, s) for s in self.sessions}
        ordered = sorted(self.sessions, key=lambda s: (gaps[s.name] is None, gaps[s.name] or 0.0))
        images = [(path, gaps[s.name]) for s in ordered for path in _images(s.folder / "pet", "pet")]
        if not images:
            raise ScanError("no_pet", "no *_pet image in any session")
        tracers = {path: self._tracer(path) for path, _ in images}
        fdg = [(path, gap) for path, gap in images if FDG.search(tracers[path])]
        if not fdg:
            named = sorted({tracer for tracer in tracers.values() if tracer})
            if named:
                raise ScanError("other_tracer", f"the PET is {', '.join(named)}, not FDG")
            raise ScanError("unknown_tracer", "no PET says its tracer; name it by trc-FDG or TracerName in its sidecar")
        near = [(path, gap) for path, gap in fdg if gap is not None and gap <= self.pair_days]
        if not near:
            days = f"{fdg[0][1]:.0f}" if fdg[0][1] is not None else "an unknown number of"
            raise ScanError("pet_too_far", f"nearest FDG is {days} days from the T1; at most {self.pair_days} allowed")
        first = near[0][1]
        path = usable_image([path for path, gap in near if gap == first])
        self._check_modality(path, "PT")
        about = self._sidecar(path)
        description = " ".join(filter(None, [path.name, str(about.get("SeriesDescription", ""))]))
        return Choice(path, description, path.name, first)

    def _tracer(self, path: Path) -> str:
        entity = re.search(r"_trc-([A-Za-z0-9]+)", path.name)
        return entity[1] if entity else str(self._sidecar(path).get("TracerName", ""))

    def _check_modality(self, path: Path, wanted: str) -> None:
        found = str(self._sidecar(path).get("Modality", wanted))
        if found not in (wanted, {"MR": "MRI", "PT": "PET"}[wanted]):
            raise ScanError("wrong_modality", f"{path.name}: its sidecar says modality {found}; {wanted} is needed")

    def _sidecar(self, path: Path) -> dict[str, object]:
        """JSON that applies to an image: of the folders from the root down, the later and the more exact last."""
        stem, suffix = _stem(path), _stem(path).rsplit("_", 1)[-1]
        entities = set(stem.split("_"))
        folders = [folder for folder in reversed(path.parents) if folder == self.root or self.root in folder.parents]
        about: dict[str, object] = {}
        for folder in folders:
            files = [f for f in folder.glob(f"*{suffix}.json") if set(f.stem.split("_")) <= entities]
            for file in sorted(files, key=lambda f: len(f.stem)):
                about |= _read_json(file)
        return about


def _days_between(one: Session, other: Session) -> float | None:
    """0 in one session; None where a month is unknown."""
    if one.name == other.name:
        return 0.0
    if one.month is None or other.month is None:
        return None
    return abs(one.month - other.month) * DAYS_A_MONTH


def _stem(path: Path) -> str:
    return re.sub(r"\.nii(\.gz)?$|\.[^.]*$", "", path.name)


def _images(folder: Path, suffix: str) -> list[Path]:
    """Images of a kind: NIfTI first, those with fewer entities (no special acquisition), then by name."""
    found = [path for path in folder.glob(f"*_{suffix}.*") if path.is_file() and not is_hidden(path)]
    paths = [path for path in found if path.suffix.lower() not in NO_IMAGES]
    return sorted(paths, key=lambda p: (not p.name.endswith(NIFTI), p.name.count("_"), p.name))


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = read_json(path)
    except ValueError as error:
        raise ScanError("bad_sidecar", f"{path.name}: {str(error).removeprefix(f'{path}: ')}") from error
    return content if isinstance(content, dict) else {}
