"""Read an ADNI download: which T1 and which FDG of whom, with which diagnosis. Reads tables and names, no voxels.

Layout: `ADNI/<PTID>/<Series>/<date_time>/<I123>/ADNI_<PTID>_..._I<image>.nii[.gz]` with a collection CSV and DXSUM
anywhere beneath. Every expected scan (person x modality) ends as exactly one ledger row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from preprocessing.intake.labels import HORIZON_MONTHS, Label, Visit, derive_label, diagnosis_at
from preprocessing.intake.tables import read_collection, read_groups, read_histories
from preprocessing.ledger import LedgerRow

PAIR_DAYS = 90
PTID = re.compile(r"\d{3}_S_\d{4,5}")
OTHER_TRACERS = re.compile(
    r"av-?45|av-?1451|florbeta|flortau|\bpib\b|\bfbb\b|\btau\b|amyloid|mk-?6240|pi-?2620|nav-?4694"
)


@dataclass(frozen=True)
class Choice:
    """The scan picked for a person: its file, and the series it came from."""

    path: Path
    description: str
    image_id: str


@dataclass(frozen=True)
class Person:
    """One person's visit as manifest columns, with the scans chosen for it."""

    participant_id: str
    session_id: str
    t1: Choice
    pet: Choice | None
    label: Label
    age: float
    sex: str
    site: str
    group_id: str


@dataclass(frozen=True)
class Intake:
    """People to process, and the ledger rows of scans that go no further. `histories` is by PTID, for given people."""

    people: list[Person]
    ledger: list[LedgerRow]
    histories: Mapping[str, list[Visit]]
    groups: Mapping[str, str]


def participant_id(ptid: str) -> str:
    """011_S_4105 -> sub-ADNI011S4105."""
    return f"sub-ADNI{ptid.replace('_', '')}"


def ptid_of(participant: str) -> str:
    """sub-ADNI011S4105 -> 011_S_4105. Raises ValueError for another style."""
    match = re.fullmatch(r"sub-ADNI(\d{3})S(\d{4,5})", participant)
    if not match:
        raise ValueError(f"participant_id {participant!r}; expected the style sub-ADNI011S4105")
    return f"{match[1]}_S_{match[2]}"


def session_id(month: float) -> str:
    """12.0 -> ses-M012 (months from baseline)."""
    return f"ses-M{round(month):03d}"


def month_of(session: str) -> int:
    """ses-M012 -> 12. Raises ValueError for another style."""
    match = re.fullmatch(r"ses-M(\d+)", session)
    if not match:
        raise ValueError(f"session_id {session!r}; expected the style ses-M012")
    return int(match[1])


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
        return None, "dynamic", f"series {description!r} holds single frames, not an average"
    if "uniform res" in text:
        return 0, "", ""
    if "uniform 6mm" in text:
        return 1, "", ""
    if re.search(r"stand?ardized image|std img", text):
        return 2, "", ""
    if re.search(r"(averaged|avg)", text):
        return 3, "", ""
    return None, "unknown_series", f"series {description!r} is none of the FDG series that are accepted"


def is_uniform(description: str) -> bool:
    """Whether ADNI already smoothed this PET to one resolution (such a series is never smoothed again)."""
    return "uniform" in description.lower()


def find_image(folder: Path, image_id: str) -> tuple[Path | None, str]:
    """File of an image id under a person's folder, or None and a reason code."""
    found = sorted(folder.rglob(f"*_I{image_id}.*")) if folder.is_dir() else []
    readable = [path for path in found if path.name.endswith((".nii", ".nii.gz"))]
    if readable:
        return readable[0], ""
    return None, "format" if found else "missing_file"


def read_download(
    raw: Path,
    tables: Path | None = None,
    horizon_months: float = HORIZON_MONTHS,
    pair_days: int = PAIR_DAYS,
    given: frozenset[str] = frozenset(),
) -> Intake:
    """Plan the work on a download. `given` names PTIDs that arrive prepared; without a folder here they are left out.

    Raises FileNotFoundError or ValueError that name the table, its column and the spellings that are known.
    """
    folders = {path.name: path for path in sorted(raw.rglob("*_S_*")) if path.is_dir() and PTID.fullmatch(path.name)}
    collection = read_collection(tables or raw, required=bool(folders))
    histories = read_histories(tables or raw, set(collection.ptid) | set(folders) | given)
    groups = read_groups(tables or raw)
    people, ledger = [], []
    for ptid in sorted((set(collection.ptid) - given) | set(folders)):
        rows = collection[collection.ptid == ptid]
        plan = _Plan(ptid, rows, folders.get(ptid, raw / ptid), histories.get(ptid, []), horizon_months, pair_days)
        person = plan.choose(groups.get(ptid, participant_id(ptid)), ledger)
        people += [person] if person else []
    return Intake(people, ledger, histories, groups)


@dataclass(frozen=True)
class _Plan:
    """The choice of one T1 and one FDG of one person."""

    ptid: str
    rows: pd.DataFrame
    folder: Path
    history: list[Visit]
    horizon_months: float
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
            label=derive_label(self.history, t1_row.month, self.horizon_months),
            age=float(t1_row.age),
            sex=t1_row.sex,
            site=self.ptid[:3],
            group_id=group,
        )

    def _row(self, modality: str, session: str, code: str, reason: str) -> LedgerRow:
        return LedgerRow(participant_id(self.ptid), session, modality, "excluded", "intake", code, reason, self.ptid)

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
        mci = [diagnosis_at(self.history, month) == "MCI" for month in known.month]
        ordered = known.assign(not_mci=[not yes for yes in mci]).sort_values(["not_mci", "month", "rank", "image_id"])
        reasons = []
        for row in ordered.itertuples():
            path, code = find_image(self.folder, row.image_id)
            if path:
                return row, Choice(path, row.description, row.image_id), "", ""
            reasons.append(code)
        code = reasons[0]
        what = "no file" if code == "missing_file" else "no NIfTI file"
        return None, None, code, f"{what} *_I{ordered.image_id.iloc[0]}.* under folder {self.ptid}"

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
        near = accepted[accepted.gap <= self.pair_days].sort_values(["rank", "gap", "image_id"])
        if near.empty:
            days = int(accepted.gap.min()) if accepted.gap.notna().any() else "an unknown number of"
            return None, "pet_too_far", f"nearest FDG is {days} days from the T1; at most {self.pair_days} allowed"
        for row in near.itertuples():
            path, code = find_image(self.folder, row.image_id)
            if path:
                return Choice(path, row.description, row.image_id), "", ""
        return None, code, f"no NIfTI file *_I{near.image_id.iloc[0]}.* under folder {self.ptid}"
