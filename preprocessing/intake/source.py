"""The one door to the intakes: an ADNI download, a BIDS data set or a list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from preprocessing.choices import PAIR_DAYS
from preprocessing.intake import adni, bids, dicom, listing
from preprocessing.intake.acquisition import from_sidecars
from preprocessing.intake.catalog import PTID
from preprocessing.intake.columns import read_text_table
from preprocessing.intake.labels import LabelRule
from preprocessing.intake.people import Intake
from preprocessing.intake.walk import walk

LAYOUTS = ("adni", "bids", "list")


def count_people(layout: str, raw: Path) -> int:
    """How many people a source names, without looking at any of them (for a plan of the work)."""
    if layout == "bids":
        return sum(path.is_dir() for path in raw.glob("sub-*"))
    if layout == "list":
        return len(read_text_table(raw)) if raw.is_file() else 0
    return len({path.name for path, _ in walk(raw) if PTID.fullmatch(path.name)})


def read_intake(
    layout: str,
    raw: Path,
    tables: Path | None = None,
    rule: LabelRule | None = None,
    pair_days: int = PAIR_DAYS,
    given: frozenset[str] = frozenset(),
    dates: str | None = None,
    visits: str = "one",
) -> Intake:
    """Who is to be processed, from which scans; of DICOM series the folders. Reads tables, names and sidecars.

    visits: "one" a person, or "all" that have a T1 (of a list, whatever it names).
    Raises FileNotFoundError or ValueError for tables that are missing or not understood; a bad scan is a ledger row.
    """
    if layout == "adni":
        intake = adni.read_download(raw, tables, rule, pair_days, given, dates, visits)
    elif layout == "bids":
        intake = bids.read_dataset(raw, rule, pair_days, visits)
    elif layout == "list":
        intake = listing.read_list(raw, rule)
    else:
        raise ValueError(f"layout {layout!r}; known: {', '.join(LAYOUTS)}")
    return replace(intake, people=[from_sidecars(person) for person in intake.people])


def with_nifti(intake: Intake, prepared: Path) -> Intake:
    """The intake with NIfTI scans alone: DICOM series are converted below `prepared`, or become ledger rows."""
    people, failed = dicom.convert_people(intake.people, prepared)
    people = [from_sidecars(person) for person in people]
    # A PET that was refused before belongs to a person whose T1 now failed, too: one row a scan.
    refused = {(row.participant_id, row.session_id, row.modality) for row in intake.ledger}
    failed = [row for row in failed if (row.participant_id, row.session_id, row.modality) not in refused]
    return replace(intake, people=people, ledger=intake.ledger + failed)
