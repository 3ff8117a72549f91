"""What quality control left of one visit: its checks, the verdicts that people set, pictures with contours."""

from __future__ import annotations

import json
from typing import Any

from reports.records import Prepared


def quality_rows(prepared: Prepared, sample_id: str) -> list[dict[str, Any]]:
    """The QC checks of a raw visit, from the `*_qc.json` beside its volumes; empty where there are none."""
    visit = prepared.visits.loc[sample_id]
    root = prepared.home(sample_id)
    folder = (root / visit["participant_id"] / visit["session_id"]).resolve()
    # An id such as "../.." must not make a report read elsewhere.
    if not folder.is_relative_to(root.resolve()) or not folder.is_dir():
        return []
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*_qc.json"))]
    return [row for checks in found for row in checks["Checks"]]


def override_notes(prepared: Prepared, sample_id: str) -> list[str]:
    """A sentence for each scan of a visit on which a person set the verdict; folders of an older version have none."""
    visit, ledger = prepared.visits.loc[sample_id], prepared.ledger
    if "rater" not in ledger:
        return []
    same = (ledger["participant_id"] == visit["participant_id"]) & (ledger["session_id"] == visit["session_id"])
    rows = ledger[same & (ledger["rater"] != "")]
    names = {"mri": "T1", "pet": "PET"}
    return [f"{names[row.modality]} {row.status} by {row.rater}: {row.reason}" for row in rows.itertuples()]


def contour_pictures(prepared: Prepared, sample_id: str) -> dict[str, bytes]:
    """Modality -> PNG of the scan in template space under its contours, where preprocessing drew one."""
    visit = prepared.visits.loc[sample_id]
    root = prepared.home(sample_id).resolve()
    folder = (root / visit["participant_id"] / visit["session_id"] / "figures").resolve()
    if not folder.is_relative_to(root):
        return {}
    named = {"mri": "t1"} | ({"pet": "pet"} if visit["pet_path"] else {})
    files = {modality: folder / f"{sample_id}_desc-{name}_qc.png" for modality, name in named.items()}
    return {modality: file.read_bytes() for modality, file in files.items() if file.is_file()}
