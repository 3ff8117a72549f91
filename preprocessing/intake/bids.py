"""Any BIDS data set with T1w images and, for some, FDG-PET (PET-BIDS).

Ages, sexes, sites and groups come from participants.tsv (age, sex, site or site_id, group_id; all optional), the age at
a session from sub-X_sessions.tsv where it stands there.
Diagnoses, for labels, are read from the first of these that is there:
  phenotype/diagnosis.tsv   participant_id, diagnosis, and months (from baseline) or session_id
  phenotype/*.tsv           any other tables with these columns
  sub-X_sessions.tsv        session_id and diagnosis
  participants.tsv          diagnosis_history: "0:MCI 12:MCI 24:AD"
and a `death_month` in participants.tsv. Without any, people are prepared all the same, unlabeled. `bids_sessions` says
how months are found, `bids_choice` which image is taken.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from preprocessing.choices import PAIR_DAYS
from preprocessing.intake import bids_choice
from preprocessing.intake.acquisition import TRACER, read_field_strength, read_tracer
from preprocessing.intake.bids_choice import PET_ORDER, T1_ORDER, T1_SUFFIXES, Image, find_images, in_order
from preprocessing.intake.bids_sessions import Session, Timeline, days_between, read_timeline
from preprocessing.intake.bids_tables import About, read_participants, read_phenotype
from preprocessing.intake.columns import is_missing
from preprocessing.intake.labels import Label, LabelRule, derive_label, diagnosis_at, months_without_dementia
from preprocessing.intake.people import Choice, Intake, Person, without_t1
from preprocessing.ledger import LedgerRow
from preprocessing.sidecars import Sidecars
from preprocessing.steps.orient import ScanError

UNPLACED = "nothing tells the month of its session; a column months in sub-X_sessions.tsv would"
# Words of a tracer's name that name none: the radionuclide, and what is in the syringe.
NO_TRACER = re.compile(r"18\W*f|f\W*18|fluorine|solution|injection|radiopharmaceutical|tracer|pet|[\W_]")


def read_dataset(
    root: Path,
    rule: LabelRule | None = None,
    pair_days: int = PAIR_DAYS,
    visits: str = "one",
    participants: Collection[str] | None = None,
) -> Intake:
    """Plan the work on a data set. Everybody in participants.tsv or with a folder is a person or ledger rows.

    visits: "one" a person (the earliest with MCI and a pair, if any), or "all" that have a T1. participants: nobody but
    these (sub-X) is read.
    Raises FileNotFoundError for a folder without people, ValueError for tables that are not understood and for
    participants who are not there.
    """
    folders = {path.name: path for path in sorted(root.glob("sub-*")) if path.is_dir()}
    listed = read_participants(root / "participants.tsv")
    if not folders:
        raise FileNotFoundError(f"{root}: no sub-* folder; a BIDS data set is needed")
    written, sidecars = read_phenotype(root / "phenotype"), Sidecars()
    people, ledger, histories, deaths = [], [], {}, {}
    everybody = set(folders) | set(listed)
    unknown = sorted(set(participants or ()) - everybody)
    if unknown:
        raise ValueError(
            f"{root}: no {unknown[0]} among {len(everybody)} people, e.g. {', '.join(sorted(everybody)[:3])}"
        )
    for name in sorted(everybody if participants is None else participants):
        about = listed.get(name, About())
        timeline = read_timeline(root / name, written.get(name, []), about.history)
        histories[name] = timeline.history
        deaths |= {} if about.death_month is None else {name: about.death_month}
        plan = _Plan(name, timeline, about, rule or LabelRule(), pair_days, sidecars)
        with_t1 = plan.sessions_with_t1() if visits == "all" else []
        for session in with_t1 or [None]:
            person = replace(plan, only=session).choose(ledger)
            people += [person] if person else []
    return Intake(people, ledger, histories, deaths)


@dataclass(frozen=True)
class _Plan:
    """The choice of one T1 and one FDG of one person; `only`: at this session."""

    participant: str
    timeline: Timeline
    about: About
    rule: LabelRule
    pair_days: int
    sidecars: Sidecars
    only: Session | None = None

    def _t1_images(self, sessions: Sequence[Session]) -> list[Image]:
        return [image for s in sessions for image in find_images(s, "anat", T1_SUFFIXES, self.sidecars.of)]

    def sessions_with_t1(self) -> list[Session]:
        return [session for session in self.timeline.sessions if self._t1_images([session])]

    def _of_this_visit(self, t1: Image, pets: list[Image]) -> list[Image]:
        """Without those that are nearer to the T1 of another session, where every session is a visit of its own."""
        if self.only is None:
            return pets
        others = [image for image in self._t1_images(self.timeline.sessions) if image.session != self.only]
        gaps = {pet.path: _known(self._gap(t1, pet)) for pet in pets}
        return [pet for pet in pets if all(_known(self._gap(other, pet)) >= gaps[pet.path] for other in others)]

    def choose(self, ledger: list[LedgerRow]) -> Person | None:
        """The person's visit, or None; scans that are not used are added to `ledger`."""
        sessions = self.timeline.sessions
        pets = [image for s in sessions for image in find_images(s, "pet", ("pet",), self.sidecars.of)]
        try:
            image, t1 = self._choose_t1([pet for pet in pets if not self._why_no_fdg(pet)])
        except ScanError as error:
            status = "excluded" if error.reason_code in ("no_t1", "missing_file", "missing_content") else "failed"
            session = self.only.name if self.only else ""
            reason = (status, error.reason_code, error.message)
            ledger += without_t1(self.participant, session, *reason, self.participant)
            return None
        pet, session = None, image.session
        try:
            pet = self._choose_pet(image, self._of_this_visit(image, pets))
        except ScanError as error:
            status = "failed" if error.reason_code in ("ecat", "unknown_format", "wrong_modality") else "excluded"
            row = (status, "intake", error.reason_code, error.message, self.participant)
            ledger.append(LedgerRow(self.participant, session.name, "pet", *row))
        history, month = self.timeline.history, session.month or 0.0
        unplaced = self.timeline.diagnosed and session.month is None
        label = derive_label(history, month, self.rule, self.about.death_month)
        return Person(
            participant_id=self.participant,
            session_id=session.name,
            t1=replace(t1, note=UNPLACED if unplaced else ""),
            pet=pet,
            label=Label("", "unknown_visit") if unplaced else label,
            age=self.about.age if session.age is None else session.age,
            sex=self.about.sex,
            site=self.about.site,
            group_id=self.about.group_id or self.participant,
            months_without_dementia=None if unplaced else months_without_dementia(history, month),
            field_strength_t=read_field_strength(image.about.get("MagneticFieldStrength", ""))
            or session.scans.tesla.get(image.path.name),
            tracer=TRACER if pet else "",
            months=None if session.month is None else round(session.month),
        )

    def _has_mci(self, session: Session) -> bool:
        if session.month is None:
            return False
        return diagnosis_at(self.timeline.history, session.month, self.rule.scan_months) == "MCI"

    def _gap(self, one: Image, other: Image) -> float | None:
        return days_between(one.session, one.path, other.session, other.path)

    def _is_near(self, t1: Image, pet: Image) -> bool:
        gap = self._gap(t1, pet)
        return gap is not None and gap <= self.pair_days

    def _choose_t1(self, fdgs: list[Image]) -> tuple[Image, Choice]:
        """The best T1 of the earliest session with MCI and an FDG, else with MCI, else of the earliest session."""
        sessions = [self.only] if self.only else self.timeline.sessions
        if not sessions:
            raise ScanError("missing_file", f"{self.participant} is in participants.tsv and has no folder")
        images = self._t1_images(sessions)
        if not images:
            raise ScanError("no_t1", f"no *_T1w image in {len(sessions)} sessions")
        reasons = {image.path: reason for image in images if (reason := bids_choice.why_no_t1(image))}
        usable = [image for image in images if image.path not in reasons]
        if not usable:
            named = "; ".join(f"{path.name} ({reason})" for path, reason in reasons.items())
            raise ScanError("no_t1", f"no T1 of a head: {named}")
        ranked = [
            replace(
                image,
                rank=bids_choice.rank_t1(image)
                | {"not_mci": not self._has_mci(image.session), "session": sessions.index(image.session)}
                | {"unpaired": not any(self._is_near(image, fdg) for fdg in fdgs)},
            )
            for image in usable
        ]
        image = bids_choice.first_usable(in_order(ranked, T1_ORDER), "MR", reasons)
        facts = {"MCI at its session": not image.rank["not_mci"], "FDG near enough": not image.rank["unpaired"]}
        why = bids_choice.describe(image, images, facts)
        unranked = [other for other in images if other not in usable]
        rejected = bids_choice.list_rejected([*ranked, *unranked], image, reasons, T1_ORDER)
        return image, Choice(image.path, image.path.name, image.path.name, 0, why, rejected)

    def _choose_pet(self, t1: Image, pets: list[Image]) -> Choice:
        """The nearest FDG within `pair_days` of the T1, the best of equals. Raises ScanError."""
        if not pets:
            reason = "no *_pet image in any session" if self.only is None else "no PET is nearest to this session"
            raise ScanError("no_pet", reason)
        reasons = {pet.path: reason for pet in pets if (reason := self._why_no_fdg(pet))}
        fdgs = [pet for pet in pets if pet.path not in reasons]
        if not fdgs:
            raise self._no_fdg(pets)
        gaps = {pet.path: self._gap(t1, pet) for pet in fdgs}
        near = [
            replace(pet, rank=bids_choice.rank_pet(pet) | {"gap": gaps[pet.path]})
            for pet in fdgs
            if self._is_near(t1, pet)
        ]
        if not near:
            known = [gap for gap in gaps.values() if gap is not None]
            days = f"{min(known):.0f} days" if known else "an unknown number of days (scans.tsv tells no acq_time)"
            raise ScanError("pet_too_far", f"nearest FDG is {days} from the T1; at most {self.pair_days} allowed")
        image = bids_choice.first_usable(in_order(near, PET_ORDER), "PT", reasons)
        far = [pet for pet in fdgs if not self._is_near(t1, pet)]
        reasons |= {pet.path: "too far from the T1" for pet in far}
        others = [pet for pet in pets if all(pet.path != other.path for other in near)]
        rejected = bids_choice.list_rejected([*near, *others], image, reasons, PET_ORDER)
        description = " ".join(filter(None, [image.path.name, str(image.about.get("SeriesDescription", ""))]))
        why = bids_choice.describe(image, pets, {"near the T1": True})
        return Choice(image.path, description, image.path.name, gaps[image.path], why, rejected)

    def _why_no_fdg(self, pet: Image) -> str:
        name = _tracer_name(pet)
        if not read_tracer(name):
            return f"its tracer is {name}" if _names_a_tracer(name) else "nothing says its tracer"
        return bids_choice.why_no_pet(pet)

    def _no_fdg(self, pets: list[Image]) -> ScanError:
        """Why none of a person's PETs is an FDG that can be used."""
        unfit = [pet for pet in pets if read_tracer(_tracer_name(pet))]
        if unfit:
            named = "; ".join(f"{pet.path.name} ({bids_choice.why_no_pet(pet)})" for pet in unfit)
            return ScanError("no_pet", f"no usable FDG: {named}")
        names = sorted({name for pet in pets if (name := _tracer_name(pet))})
        others = [name for name in names if _names_a_tracer(name)]
        if others:
            return ScanError("other_tracer", f"the PET is {', '.join(others)}, not FDG")
        said = f"{names[0]!r} names no tracer" if names else "no PET says its tracer"
        return ScanError("unknown_tracer", f"{said}; name it by trc-FDG or TracerName in its sidecar")


def _known(gap: float | None) -> float:
    return float("inf") if gap is None else gap


def _tracer_name(pet: Image) -> str:
    """The entity trc, where that names a tracer, else what the sidecars say, else acq where that says FDG.

    Clinica called its PETs acq-fdg before BIDS had trc.
    """
    entity = re.search(r"_trc-([A-Za-z0-9]+)", pet.path.name)
    if entity and _names_a_tracer(entity[1]):
        return entity[1]
    said = [pet.about.get(name, "") for name in ("TracerName", "TracerRadionuclide")]
    if not _names_a_tracer(str(said[0])) and not is_missing(other := pet.about.get("Radiopharmaceutical", "")):
        said[0] = other
    words = " ".join(str(text) for text in said if not is_missing(text)) or (entity[1] if entity else "")
    acquisition = pet.entities.get("acq", "")
    return acquisition if read_tracer(acquisition) and not _names_a_tracer(words) else words


def _names_a_tracer(text: str) -> bool:
    return not is_missing(NO_TRACER.sub("", text.lower()))
