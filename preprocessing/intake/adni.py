"""Read an ADNI download: which T1 and which FDG of whom, with which diagnosis. Reads tables and names, no voxels.

Layout: `ADNI/<PTID>/<Series>/<date_time>/<I123>/ADNI_<PTID>_..._I<image>.nii[.gz]` with a collection CSV and DXSUM
anywhere beneath. Every expected scan (person x modality) ends as exactly one ledger row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from preprocessing.intake.acquisition import TRACER, FieldStrengths, read_field_strengths
from preprocessing.intake.clinical import read_scores
from preprocessing.intake.formats import NO_IMAGES, usable_image
from preprocessing.intake.labels import LabelRule, Visit, derive_label, diagnosis_at, months_without_dementia
from preprocessing.intake.people import PAIR_DAYS, Choice, Intake, Person, session_id
from preprocessing.intake.tables import PTID, read_collection, read_deaths, read_groups, read_histories
from preprocessing.intake.verdicts import Verdicts, read_verdicts
from preprocessing.ledger import LedgerRow
from preprocessing.orient import ScanError

OTHER_TRACERS = re.compile(
    r"av-?45|av-?1451|florbeta|flortau|\bpib\b|\bfbb\b|\btau\b|amyloid|mk-?6240|pi-?2620|nav-?4694"
)
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


def rank_t1(description: str) -> float | None:
    """Order of preference of a T1 series (0 is best), None for what is no usable T1."""
    text = re.sub(r"[_;,\s]+", " ", description.lower()).strip()
    if re.search(r"mask|spatially norm|phantom|localizer|survey|calibration|scout|\bt2\b|flair|dti|fmri|\bnd\b", text):
        return None
    penalty = 0.5 if "repeat" in text else 0.0
    if "scaled" in text:
        return 0 + penalty
    if "n3m" in text:
        return 1 + penalty
    if re.search(r"mp-?\s?rage|ir-?\s?f?spgr|\bmpr\b|\bt1\b", text):
        return 2 + penalty
    return None


def rank_fdg(description: str) -> tuple[float | None, str, str]:
    """Order of preference of a PET series (0 is best), or None with a reason code and a sentence."""
    text = re.sub(r"[_;,\s]+", " ", description.lower()).strip()
    if OTHER_TRACERS.search(text):
        return None, "other_tracer", f"series {description!r} is not FDG"
    if "early" in text:
        return None, "early_frames", f"series {description!r} holds early frames only"
    if "dynamic" in text or "raw" in text:
        return (
            None,
            "dynamic",
            f"series {description!r} holds single frames, not an average; in BIDS, with frame times, they are averaged",
        )
    if "uniform res" in text:
        return 0, "", ""
    if "uniform 6mm" in text:
        return 1, "", ""
    if re.search(r"stand?ardized image|std img", text):
        return 2, "", ""
    if re.search(r"(averaged|avg)", text):
        return 3, "", ""
    return None, "unknown_series", f"series {description!r} is none of the FDG series that are accepted"


def index_images(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """image id -> files under a person's folders: by name (*_I123.*), else by the folder they lie in (I123/).

    The last folder is I123 in older downloads and S123 (the series) in newer ones.
    """
    index: dict[str, list[Path]] = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        match = re.search(r"_I(\d+)\.[^/]*$", path.name) or re.fullmatch(r"I(\d+)", path.parent.name)
        if match and path.is_file() and path.suffix.lower() not in NO_IMAGES:
            index.setdefault(match[1], []).append(path)
    return index


def read_download(
    raw: Path,
    tables: Path | None = None,
    rule: LabelRule | None = None,
    pair_days: int = PAIR_DAYS,
    given: frozenset[str] = frozenset(),
) -> Intake:
    """Plan the work on a download. `given` names participants who arrive prepared; without a folder here they are left
    out.

    Raises FileNotFoundError or ValueError that name the table, its column and the spellings that are known.
    """
    given = frozenset(ptid_of(name) for name in given)
    folders = _person_folders(raw)
    where = tables or raw
    collection = read_collection(where, required=bool(folders))
    everybody = set(collection.ptid) | set(folders) | given
    baselines = collection[collection.month == 0].groupby("ptid").date.min()
    histories, deaths = read_histories(where, everybody), read_deaths(where, everybody, baselines)
    groups, verdicts, strengths = read_groups(where), read_verdicts(where), read_field_strengths(where)
    people, ledger = [], []
    expected = set(collection.ptid[~collection.archive.astype(bool)])
    for ptid in sorted((expected - given) | set(folders)):
        plan = _Plan(
            ptid=ptid,
            rows=collection[collection.ptid == ptid],
            index=index_images(folders.get(ptid, [])),
            history=histories.get(ptid, []),
            death_month=deaths.get(ptid),
            verdicts=verdicts,
            strengths=strengths,
            rule=rule or LabelRule(),
            pair_days=pair_days,
        )
        person = plan.choose(groups.get(ptid, participant_id(ptid)), ledger)
        people += [person] if person else []
    scores = read_scores(where, everybody)
    scores = scores.assign(participant_id=scores.participant_id.map(participant_id))
    return Intake(people, ledger, _by_participant(histories), _by_participant(deaths), scores)


def _person_folders(raw: Path) -> dict[str, list[Path]]:
    """PTID -> folders; several where the parts of a download were unpacked side by side."""
    folders: dict[str, list[Path]] = {}
    for path in sorted(raw.rglob("*_S_*")):
        if path.is_dir() and PTID.fullmatch(path.name):
            folders.setdefault(path.name, []).append(path)
    return folders


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

    def choose(self, group: str, ledger: list[LedgerRow]) -> Person | None:
        """The person's visit, or None; scans that are not used are added to `ledger`."""
        t1_row, t1, code, reason = self._choose_t1()
        if t1 is None:
            ledger.append(self._row("mri", "", code, reason))
            ledger.append(self._row("pet", "", "no_t1", "without a T1 a PET cannot be brought to the template"))
            return None
        session = session_id(t1_row.month)
        pet, code, reason = self._choose_pet(t1_row)
        if pet is None:
            ledger.append(self._row("pet", session, code, reason))
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
            field_strength_t=self.strengths.find(t1_row.protocol, t1_row.image_id, self.ptid),
            # A series is accepted only where its description is that of an FDG.
            tracer=TRACER if pet else "",
        )

    def _row(self, modality: str, session: str, code: str, reason: str) -> LedgerRow:
        status = "failed" if code in FAILURES else "excluded"
        return LedgerRow(participant_id(self.ptid), session, modality, status, "intake", code, reason, self.ptid)

    def _without_failed(self, images: pd.DataFrame) -> tuple[pd.DataFrame, str]:
        """The images that ADNI's quality control did not fail, and why the first of the others did."""
        columns = zip(images.modality, images.image_id, images.date, strict=True)
        why = pd.Series([self.verdicts.why_failed(self.ptid, *row) for row in columns], index=images.index, dtype=str)
        return images[why == ""], next((sentence for sentence in why if sentence), "")

    def _find(self, images: pd.DataFrame) -> tuple[object | None, Path | None, str, str]:
        """The first image that is there and can be read, else the reason of the first."""
        reasons = []
        for row in images.itertuples():
            try:
                return row, usable_image(self.index.get(row.image_id, [])), "", ""
            except ScanError as error:
                reasons.append((error.reason_code, f"image I{row.image_id} under folder {self.ptid}: {error.message}"))
        return None, None, *next((r for r in reasons if r[0] in FAILURES), reasons[0])

    def _choose_t1(self) -> tuple[pd.Series | None, Choice | None, str, str]:
        """The best T1 of the earliest visit with MCI, else of the earliest visit."""
        if self.rows.empty:
            return None, None, "not_in_collection", f"folder {self.ptid} has no row in the collection CSV"
        mri = self.rows[self.rows.modality == "mri"]
        mri = mri.assign(rank=[rank_t1(text) for text in mri.description]).dropna(subset=["rank"])
        if mri.empty:
            return None, None, "no_t1", f"no accepted T1 series among {len(self.rows)} images in the collection CSV"
        known = mri.dropna(subset=["month"])
        if known.empty:
            visits = ", ".join(sorted(set(mri.visit)))
            return None, None, "unknown_visit", f"visit code {visits!r} gives no month from baseline"
        passed, why = self._without_failed(known)
        if passed.empty:
            return None, None, "failed_qc", f"every accepted T1 {why}"
        mci = [diagnosis_at(self.history, month) == "MCI" for month in passed.month]
        ordered = passed.assign(not_mci=[not yes for yes in mci]).sort_values(["not_mci", "month", "rank", "image_id"])
        row, path, code, reason = self._find(ordered)
        return row, Choice(path, row.description, row.image_id, 0) if path else None, code, reason

    def _choose_pet(self, t1: pd.Series) -> tuple[Choice | None, str, str]:
        """The best FDG series within `pair_days` of the T1, the nearest of equals."""
        pet = self.rows[self.rows.modality == "pet"]
        if pet.empty:
            return None, "no_pet", "no PET in the collection CSV"
        ranks = [rank_fdg(text) for text in pet.description]
        pet = pet.assign(
            rank=[rank for rank, _, _ in ranks],
            code=[code for _, code, _ in ranks],
            reason=[reason for _, _, reason in ranks],
            gap=(pet.date - t1.date).dt.days.abs(),
        )
        accepted = pet.dropna(subset=["rank"])
        if accepted.empty:
            return None, pet.code.iloc[0], pet.reason.iloc[0]
        passed, why = self._without_failed(accepted)
        if passed.empty:
            return None, "failed_qc", f"every accepted FDG {why}"
        near = passed[passed.gap <= self.pair_days].sort_values(["rank", "gap", "image_id"])
        if near.empty:
            days = int(passed.gap.min()) if passed.gap.notna().any() else "an unknown number of"
            return None, "pet_too_far", f"nearest FDG is {days} days from the T1; at most {self.pair_days} allowed"
        row, path, code, reason = self._find(near)
        return Choice(path, row.description, row.image_id, row.gap) if path else None, code, reason
