"""A look before the work: who is in, with which scans and labels, and what was not understood. Reads no voxel."""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from adni_tcgm.privacy import cap_age, without_days
from preprocessing.choices import PAIR_DAYS
from preprocessing.intake import prepared_people
from preprocessing.intake.acquisition import interval_days
from preprocessing.intake.labels import LabelRule, Visit
from preprocessing.intake.people import Choice, Intake, Person, chosen_scans
from preprocessing.intake.source import read_intake
from preprocessing.ledger import LedgerRow, describe_ledger, ledger_table, write_table

PEOPLE_COLUMNS = (
    *("participant_id", "session_id", "months", "label", "label_reason", "age", "sex", "site", "t1", "pet"),
    *("days_between", "history"),
)
SHOWN = 20  # people whose line is printed; everybody stands in the tables
# Reasons that speak of us and not of the person: whoever reads the data knows more than was understood here.
NOT_UNDERSTOOD = (
    *("unknown_visit", "wrong_month", "not_in_collection", "unknown_tracer", "unknown_series"),
    *("unknown_format", "ecat", "wrong_modality", "missing_file", "missing_content"),
)


@dataclass(frozen=True)
class Overview:
    """people: one row a person and visit (PEOPLE_COLUMNS); ledger: one row a scan; notes: what warnings said."""

    people: pd.DataFrame
    ledger: list[LedgerRow]
    chosen: pd.DataFrame
    notes: list[str]

    @property
    def lost(self) -> list[LedgerRow]:
        """Scans that are left out for want of understanding; those without a T1 count once."""
        return [row for row in self.ledger if row.status != "kept" and row.reason_code in NOT_UNDERSTOOD]

    def _line(self, person: pd.Series) -> str:
        """A person's visit in words: the label and where it comes from, the series and why they were taken."""
        ids = (person.participant_id, person.session_id)
        scans = self.chosen[(self.chosen.participant_id == ids[0]) & (self.chosen.session_id == ids[1])]
        series = [
            f"{scan.modality} {scan.image_id or scan.series}" + (f" ({scan.why})" if scan.why else "")
            for scan in scans.itertuples()
        ]
        history = f" from {person.history}" if person.history else ""
        return f"  {' '.join(ids)}: {person.label_reason}{history}; {', '.join(series) or 'arrives prepared'}"

    def __str__(self) -> str:
        labels = ", ".join(f"{count} {reason}" for reason, count in Counter(self.people.label_reason).most_common())
        lines = [
            f"people    {len(self.people)} with a T1, {int((self.people.pet != '').sum())} of them with an FDG-PET",
            f"labels    {labels or 'none'}",
            describe_ledger(self.ledger),
            "",
            *(self._line(person) for person in self.people.head(SHOWN).itertuples()),
        ]
        if len(self.people) > SHOWN:
            lines.append(f"  and {len(self.people) - SHOWN} more, see people.tsv and chosen_scans.tsv")
        if self.lost:
            lines += ["", f"{len(self.lost)} scans are left out because something about them was not understood:"]
            lines += [f"  {row.participant_id} {row.modality}: {row.reason} ({row.reason_code})" for row in self.lost]
        if self.notes:
            lines += ["", "what else was not understood, and costs nobody:", *(f"  {note}" for note in self.notes)]
        return "\n".join(lines)


def look_at(
    layout: str,
    raw: Path,
    prepared: Path,
    tables: Path | None = None,
    rule: LabelRule | None = None,
    pair_days: int = PAIR_DAYS,
    dates: str | None = None,
    visits: str = "one",
) -> Overview:
    """What `preprocess_cohort` would begin with. DICOM series are chosen and not opened.

    Raises FileNotFoundError or ValueError for tables that are missing or not understood.
    """
    rule, arrived = rule or LabelRule(), prepared_people.read_people(prepared)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        intake = read_intake(layout, raw, tables, rule, pair_days, frozenset(arrived.participant_id), dates, visits)
    rows, ledger = prepared_people.describe(prepared_people.without_scans(arrived, intake), intake, rule)
    ledger += [row for person in intake.people for row in _kept(person, prepared)]
    notes = list(dict.fromkeys(str(warning.message) for warning in caught))
    return Overview(people_table(intake, rows, prepared), ledger, chosen_scans(intake.people), notes)


def people_table(intake: Intake, arrived: Sequence[dict[str, object]], prepared: Path) -> pd.DataFrame:
    """The people of an intake, and those who arrive prepared (their rows of the manifest)."""
    rows = [_person_row(person, intake.histories, prepared) for person in intake.people]
    rows += [_arrived_row(row, intake.histories) for row in arrived]
    table = pd.DataFrame(rows, columns=list(PEOPLE_COLUMNS))
    return table.sort_values(["participant_id", "session_id"], ignore_index=True)


def write_overview(overview: Overview, prepared: Path) -> None:
    """people.tsv and chosen_scans.tsv; the ledger too, unless there is one of scans that are prepared already."""
    prepared.mkdir(parents=True, exist_ok=True)
    write_table(overview.people, prepared / "people.tsv")
    write_table(overview.chosen, prepared / "chosen_scans.tsv")
    if not (prepared / "manifest.tsv").is_file():
        write_table(ledger_table(overview.ledger), prepared / "ledger.tsv")


def _person_row(person: Person, histories: dict[str, Sequence[Visit]], prepared: Path) -> dict[str, object]:
    return {
        "participant_id": person.participant_id,
        "session_id": person.session_id,
        "months": person.months,
        "label": person.label.label,
        "label_reason": person.label.reason,
        "age": None if math.isnan(person.age) else cap_age(person.age),
        "sex": person.sex,
        "site": person.site,
        "t1": _place(person.t1, prepared),
        "pet": _place(person.pet, prepared),
        "days_between": interval_days(person),
        "history": _written(histories.get(person.participant_id, [])),
    }


def _arrived_row(row: dict[str, object], histories: dict[str, Sequence[Visit]]) -> dict[str, object]:
    scans = {"t1": row["gm_path"], "pet": row["pet_path"], "months": prepared_people.month_of(str(row["session_id"]))}
    history = {"history": _written(histories.get(str(row["participant_id"]), []))}
    return {name: row.get(name) for name in PEOPLE_COLUMNS} | scans | history


def _place(scan: Choice | None, prepared: Path) -> str:
    """Where a scan lies, from `prepared`; folders of a download are named after days, which are left out."""
    return without_days(os.path.relpath(scan.path, prepared)) if scan else ""


def _written(history: Sequence[Visit]) -> str:
    """0:MCI 12:MCI 24:AD, in months from baseline."""
    return " ".join(f"{visit.month:.0f}:{visit.diagnosis}" for visit in history)


def _kept(person: Person, prepared: Path) -> list[LedgerRow]:
    scans = {"mri": person.t1} | ({"pet": person.pet} if person.pet else {})
    ids = (person.participant_id, person.session_id)
    return [
        LedgerRow(*ids, modality, "kept", "intake", source=_place(scan, prepared)) for modality, scan in scans.items()
    ]
