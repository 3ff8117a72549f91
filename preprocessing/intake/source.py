"""The one door to the intakes: an ADNI download, a BIDS data set or a list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from preprocessing.intake import adni, bids, dicom, listing
from preprocessing.intake.labels import LabelRule
from preprocessing.intake.people import Intake

LAYOUTS = ("adni", "bids", "list")


def read_people(
    layout: str,
    raw: Path,
    prepared: Path,
    tables: Path | None,
    rule: LabelRule,
    pair_days: int,
    given: frozenset[str] = frozenset(),
) -> Intake:
    """Who is to be processed, with NIfTI scans: DICOM series are converted below `prepared`.

    Raises FileNotFoundError or ValueError for tables that are missing or not understood; a bad scan is a ledger row.
    """
    if layout == "adni":
        intake = adni.read_download(raw, tables, rule, pair_days, given)
    elif layout == "bids":
        intake = bids.read_dataset(raw, rule, pair_days)
    elif layout == "list":
        intake = listing.read_list(raw, rule)
    else:
        raise ValueError(f"layout {layout!r}; known: {', '.join(LAYOUTS)}")
    people, failed = dicom.convert_people(intake.people, prepared)
    # A PET that was refused before belongs to a person whose T1 now failed, too: one row a scan.
    refused = {(row.participant_id, row.modality) for row in intake.ledger}
    failed = [row for row in failed if (row.participant_id, row.modality) not in refused]
    return replace(intake, people=people, ledger=intake.ledger + failed)
