"""Read an ADNI download: which T1 and which FDG of whom, with which diagnosis. Reads tables and names, no voxels.

Layout: `ADNI/<PTID>/<Series>/<date_time>/<I123>/ADNI_<PTID>_..._I<image>.nii[.gz]` with a collection CSV and DXSUM
anywhere beneath. Every expected scan (person x modality) ends as exactly one ledger row.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from preprocessing.choices import PAIR_DAYS
from preprocessing.intake.acquisition import TRACER, FieldStrengths, read_field_strengths
from preprocessing.intake.catalog import PTID, read_tables
from preprocessing.intake.choice import (
    DYNAMIC_RANK,
    FDG_ORDER,
    T1_ORDER,
    describe_t1,
    is_dynamic,
    rank_fdg,
    rank_t1,
    sort_fdg,
    sort_t1,
    why_not,
)
from preprocessing.intake.clinical import read_scores
from preprocessing.intake.formats import NO_IMAGES, usable_image
from preprocessing.intake.labels import LabelRule, Visit, derive_label, diagnosis_at, months_without_dementia
from preprocessing.intake.people import Choice, Intake, Person, session_id
from preprocessing.intake.pet_frames import dynamic_image
from preprocessing.intake.tables import read_collection, read_deaths, read_groups, read_histories
from preprocessing.intake.verdicts import Verdicts, read_verdicts
from preprocessing.intake.visits import FLAGGED_MONTHS, Calendar, read_calendar
from preprocessing.intake.walk import files_under, walk
from preprocessing.ledger import LedgerRow
from preprocessing.steps.orient import ScanError

# An image that exists and cannot be read is a failure; one that is not there, or not wanted, is left out.
FAILURES = ("ecat", "unknown_format")


def participant_id(ptid: str) -> str:
    """011_S_4105 -> sub-ADNI011S4105."""
    return f"sub-ADNI{ptid.replace('_', '')}"


def ptid_of(participant: str) -> str:
    """sub-ADNI011S4105 -> 011_S_4105. Raises ValueError for another style."""
    match = re.fullmatch(r"sub-ADNI(\d{3})S(\d{4,5})", participant)
    if not match:
        raise ValueError(f"participant_id {participant!r}; expected the style sub-ADNI011S4105")
    return f"{match[1]}_S_{match[2]}"


def index_images(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """image id -> files under a person's folders: by name (*_I123.*), else by the folder they lie in (I123/).

    The last folder is I123 in older downloads and S123 (the series) in newer ones.
    """
    index: dict[str, list[Path]] = {}
    for path in sorted(path for folder in folders for path in files_under(folder)):
        match = re.search(r"_I(\d+)\.[^/]*$", path.name) or re.fullmatch(r"I(\d+)", path.parent.name)
        if match and path.suffix.lower() not in NO_IMAGES:
            index.setdefault(match[1], []).append(path)
    return index


def image_days(index: Mapping[str, Sequence[Path]]) -> dict[str, pd.Timestamp]:
    """image id -> the day that its folder is named after (2006-03-01_10_22_33.0)."""
    days = {}
    for image_id, paths in index.items():
        match = re.match(r"\d{4}-\d\d-\d\d(?=_\d\d_\d\d_\d\d)", paths[0].parent.parent.name)
        if match:
            days[image_id] = pd.to_datetime(match[0], errors="coerce")
    return days


def read_download(
    raw: Path,
    tables: Path | None = None,
    rule: LabelRule | None = None,
    pair_days: int = PAIR_DAYS,
    given: frozenset[str] = frozenset(),
    dates: str | None = None,
    visits: str = "one",
) -> Intake:
    """Plan the work on a download. `given` names participants who arrive prepared; without a folder here they are left
    out. `dates` (dmy or mdy): what comes first in columns of dates that do not prove it. `visits`: "one" a person (the
    earliest with MCI and a pair, if any), or "all" that have a T1.

    Raises FileNotFoundError or ValueError that name the table, its column and the spellings that are known.
    """
    given = frozenset(ptid_of(name) for name in given)
    indices = {ptid: index_images(found) for ptid, found in _person_folders(raw).items()}
    days = {image_id: day for index in indices.values() for image_id, day in image_days(index).items()}
    where = read_tables(tables or raw, dates, days)
    collection = read_collection(where, required=bool(indices))
    collection["date"] = pd.to_datetime(collection.date).fillna(pd.to_datetime(collection.image_id.map(days)))
    everybody = set(collection.ptid) | set(indices) | given
    calendar = read_calendar(where, everybody, collection)
    collection = _place_images(collection, calendar)
    histories, deaths = read_histories(where, everybody, calendar), read_deaths(where, everybody, calendar)
    groups, verdicts, strengths = read_groups(where), read_verdicts(where), read_field_strengths(where)
    people, ledger = [], []
    expected = set(collection.ptid[~collection.archive.astype(bool)])
    for ptid in sorted((expected - given) | set(indices)):
        plan = _Plan(
            ptid=ptid,
            rows=collection[collection.ptid == ptid],
            index=indices.get(ptid, {}),
            history=histories.get(ptid, []),
            death_month=deaths.get(ptid),
            verdicts=verdicts,
            strengths=strengths,
            rule=rule or LabelRule(),
            pair_days=pair_days,
        )
        people += plan.choose(groups.get(ptid, participant_id(ptid)), visits == "all", ledger)
    scores = read_scores(where, everybody, calendar)
    scores = scores.assign(participant_id=scores.participant_id.map(participant_id))
    return Intake(people, ledger, _by_participant(histories), _by_participant(deaths), scores)


def _place_images(images: pd.DataFrame, calendar: Calendar) -> pd.DataFrame:
    """Images with `month`, `wrong` and `note` of `place_visits`; those with a note are counted in a warning."""
    placed = calendar.place(images.ptid, images.date, images.visit.str.strip().str.lower())
    noted = placed.note[placed.note != ""]
    if len(noted):
        first = images.loc[noted.index[0]]
        warnings.warn(
            f"{len(noted)} images lie more than {FLAGGED_MONTHS} months from where their visit code puts them, the "
            f"first {first.ptid}, I{first.image_id}: {noted.iloc[0]}; the date counts",
            stacklevel=2,
        )
    return images.join(placed)


def _person_folders(raw: Path) -> dict[str, list[Path]]:
    """PTID -> folders; several where the parts of a download were unpacked side by side."""
    folders: dict[str, list[Path]] = {}
    for path, _ in walk(raw):
        if PTID.fullmatch(path.name):
            folders.setdefault(path.name, []).append(path)
    return folders


def _nearest(day: pd.Timestamp, days: pd.Series) -> float:
    """Days to the nearest of `days`, infinite where none is known."""
    distance = (days - day).abs().min()
    return float("inf") if pd.isna(distance) else distance.days


def _by_participant(by_ptid: Mapping[str, object]) -> dict[str, object]:
    return {participant_id(ptid): value for ptid, value in by_ptid.items()}


@dataclass(frozen=True)
class _Plan:
    """The choice of one T1 and one FDG of one person."""

    ptid: str
    rows: pd.DataFrame
    index: Mapping[str, list[Path]]
    history: list[Visit]
    death_month: float | None
    verdicts: Verdicts
    strengths: FieldStrengths
    rule: LabelRule
    pair_days: int

    def choose(self, group: str, all_visits: bool, ledger: list[LedgerRow]) -> list[Person]:
        """The person's visit, or all of them; scans that are not used are added to `ledger`."""
        pets = self._fdg()
        try:
            candidates, ordered = self._rank_t1(pets)
            if not all_visits:
                return [self._visit(candidates, ordered, pets, group, ledger)]
        except ScanError as error:
            self._leave_out("", error, ledger)
            return []
        session = ordered.month.map(session_id)
        found = []
        for name in sorted(session.unique()):
            here, others = ordered[session == name], ordered[session != name]
            nearer = [_nearest(day, others.date) < _nearest(day, here.date) for day in pets.date]
            own = pets[[not yes for yes in nearer]]
            try:
                found.append(self._visit(candidates[candidates.index.isin(here.index)], here, own, group, ledger))
            except ScanError as error:
                self._leave_out(name, error, ledger)
        return found

    def _leave_out(self, session: str, error: ScanError, ledger: list[LedgerRow]) -> None:
        without = ScanError("no_t1", "without a T1 a PET cannot be brought to the template")
        ledger += [self._row("mri", session, error), self._row("pet", session, without)]

    def _visit(
        self, candidates: pd.DataFrame, ordered: pd.DataFrame, pets: pd.DataFrame, group: str, ledger: list[LedgerRow]
    ) -> Person:
        """The visit of the first T1 of `ordered` that can be read, with an FDG where there is one."""
        t1_row, t1 = self._find(candidates, ordered, T1_ORDER)
        t1 = replace(t1, days_from_t1=0, why=describe_t1(t1_row))
        session, pet = session_id(t1_row.month), None
        try:
            pet = self._choose_pet(t1_row, pets)
        except ScanError as error:
            ledger.append(self._row("pet", session, error))
        return Person(
            participant_id=participant_id(self.ptid),
            session_id=session,
            t1=t1,
            pet=pet,
            label=derive_label(self.history, t1_row.month, self.rule, self.death_month),
            age=float(t1_row.age),
            sex=t1_row.sex,
            site=self.ptid[:3],
            group_id=group,
            months_without_dementia=months_without_dementia(self.history, t1_row.month),
            field_strength_t=self._tesla(t1_row),
            # A series is accepted only where its description is that of an FDG.
            tracer=TRACER if pet else "",
            months=round(float(t1_row.month)),
        )

    def _row(self, modality: str, session: str, error: ScanError) -> LedgerRow:
        code = error.reason_code
        status = "failed" if code in FAILURES else "excluded"
        return LedgerRow(participant_id(self.ptid), session, modality, status, "intake", code, error.message, self.ptid)

    def _tesla(self, image: pd.Series) -> float | None:
        return self.strengths.find(image.protocol, image.image_id, self.ptid)

    def _fdg(self) -> pd.DataFrame:
        """The person's PETs with rank, code and reason (why a series is no FDG), and `failed` (by quality control)."""
        pet = self.rows[self.rows.modality == "pet"]
        ranks = [self._rank_fdg(*row) for row in zip(pet.description, pet.image_id, strict=True)]
        codes, reasons = ([found[k] for found in ranks] for k in (1, 2))
        known = np.array([np.nan if rank is None else rank for rank, _, _ in ranks], float)
        return pet.assign(rank=known, code=codes, reason=reasons, failed=self._why_failed(pet))

    def _rank_fdg(self, description: str, image_id: str) -> tuple[float | None, str, str]:
        """`rank_fdg`; a series of single frames whose times nobody says has no rank, and the reason."""
        if rank_fdg(description)[0] == DYNAMIC_RANK:
            try:
                dynamic_image(self.index.get(image_id, []))
            except ScanError as error:
                return None, error.reason_code, f"series {description!r}: {error.message}"
        return rank_fdg(description)

    def _why_failed(self, images: pd.DataFrame) -> list[str]:
        columns = zip(images.modality, images.image_id, images.date, strict=True)
        return [self.verdicts.why_failed(self.ptid, *row) for row in columns]

    def _find(
        self, candidates: pd.DataFrame, ordered: pd.DataFrame, order: Mapping[str, str]
    ) -> tuple[pd.Series, Choice]:
        """The first of `ordered` that is there and can be read; the choice lists the other candidates with a reason.

        Raises ScanError with the reason of the first.
        """
        reasons = {row.image_id: row.wrong or row.failed or row.out for row in candidates.itertuples()}
        errors = []
        for _, row in ordered.iterrows():
            try:
                dynamic = row.modality == "pet" and is_dynamic(row.description)
                path = (dynamic_image if dynamic else usable_image)(self.index.get(row.image_id, []))
            except ScanError as error:
                message = f"image I{row.image_id} under folder {self.ptid}: {error.message}"
                errors.append(ScanError(error.reason_code, message))
                reasons[row.image_id] = error.message
                continue
            for _, other in ordered.iterrows():
                reasons[other.image_id] = reasons[other.image_id] or why_not(other, row, order)
            rejected = [
                f"I{other.image_id} {other.description} ({reasons[other.image_id]})"
                for other in candidates.itertuples()
                if other.image_id != row.image_id
            ]
            return row, Choice(
                path,
                row.description,
                row.image_id,
                rejected="; ".join(rejected),
                note=row.note,
                protocol=row.protocol,
            )
        raise next((error for error in errors if error.reason_code in FAILURES), errors[0])

    def _rank_t1(self, pets: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """All T1s with the reasons that speak against them, and those that may be taken, the best first: of the
        earliest visit with MCI and an FDG, else with MCI, else of the earliest visit. Raises ScanError for none.
        """
        if self.rows.empty:
            raise ScanError("not_in_collection", f"folder {self.ptid} has no row in the collection CSV")
        mri = self.rows[self.rows.modality == "mri"]
        mri = mri.assign(rank=[rank_t1(text) for text in mri.description], failed=self._why_failed(mri))
        mri = mri.dropna(subset=["rank"])
        if mri.empty:
            raise ScanError("no_t1", f"no accepted T1 series among {len(self.rows)} images in the collection CSV")
        right = self._right(mri)
        known = right.dropna(subset=["month"])
        if known.empty:
            visits = ", ".join(sorted(set(right.visit)))
            missing = "acquisition date" if right.date.isna().all() else "date of a baseline examination"
            reason = f"visit {visits!r} gives no month from baseline, and there is no {missing}"
            raise ScanError("unknown_visit", reason)
        passed = known[known.failed == ""]
        if passed.empty:
            raise ScanError("failed_qc", f"every accepted T1 {known.failed.iloc[0]}")
        usable = pets[pets["rank"].notna() & (pets.wrong == "") & (pets.failed == "") & pets.image_id.isin(self.index)]
        near = [((usable.date - day).dt.days.abs() <= self.pair_days).any() for day in passed.date]
        mci = [diagnosis_at(self.history, month, self.rule.scan_months) == "MCI" for month in passed.month]
        passed = passed.assign(not_mci=[not yes for yes in mci], unpaired=[not yes for yes in near])
        tesla = [self._tesla(row) for row in passed.itertuples()]
        ordered = sort_t1(passed, self.verdicts.selected, self.verdicts.grades, tesla)
        candidates = mri.assign(out=["its month is unknown" if unknown else "" for unknown in mri.month.isna()])
        return candidates, ordered

    def _right(self, images: pd.DataFrame) -> pd.DataFrame:
        """Images whose month may be right. Raises ScanError where none is."""
        right = images[images.wrong == ""]
        if right.empty:
            first = images.iloc[0]
            raise ScanError("wrong_month", f"image I{first.image_id} under {self.ptid}: {first.wrong}")
        return right

    def _choose_pet(self, t1: pd.Series, pets: pd.DataFrame) -> Choice:
        """The best FDG series within `pair_days` of the T1, the nearest of equals. Raises ScanError."""
        if pets.empty:
            elsewhere = (self.rows.modality == "pet").any()
            reason = "every PET is nearer to another visit" if elsewhere else "no PET in the collection CSV"
            raise ScanError("no_pet", reason)
        accepted = pets.dropna(subset=["rank"])
        if accepted.empty:
            raise ScanError(pets.code.iloc[0], pets.reason.iloc[0])
        right = self._right(accepted)
        passed = right[right.failed == ""]
        if passed.empty:
            raise ScanError("failed_qc", f"every accepted FDG {right.failed.iloc[0]}")
        passed = passed.assign(gap=(passed.date - t1.date).dt.days.abs())
        near = passed[passed.gap <= self.pair_days]
        if near.empty:
            days = int(passed.gap.min()) if passed.gap.notna().any() else "an unknown number of"
            raise ScanError("pet_too_far", f"nearest FDG is {days} days from the T1; at most {self.pair_days} allowed")
        candidates = accepted.assign(out=["" if k in near.index else "too far from the T1" for k in accepted.index])
        row, choice = self._find(candidates, sort_fdg(near), FDG_ORDER)
        return replace(choice, days_from_t1=int(row.gap), why="near the T1")
