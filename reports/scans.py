"""Which scans a run used: a row for everybody in its splits, with RID, visit and image ids. Participant-level data."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from reports.records import Prepared, Run

COLUMNS = ("participant_id", "rid", "session_id", "months", "split", "mri_image_id", "pet_image_id", "label")
# ADNI's roster id is the last part of 011_S_4105.
RID = re.compile(r"sub-ADNI\d{3}S0*(\d+)")


def list_scans(run: Run, prepared: Prepared) -> pd.DataFrame:
    """Columns COLUMNS, in the order of the splits; rid is empty for ids that are not ADNI's, image ids for people who
    arrived prepared."""
    visits = prepared.visits.reindex(run.splits.index)
    ids = {modality: _image_ids(prepared.root / "chosen_scans.tsv", modality) for modality in ("mri", "pet")}
    there = {"mri": visits["gm_path"].fillna("") != "", "pet": visits["pet_path"].fillna("") != ""}
    sample_ids = pd.Series(run.splits.index, index=run.splits.index)
    participant, session = (sample_ids.str.extract(r"^(.*)_(ses-.*)$")[column] for column in (0, 1))
    table = pd.DataFrame(
        {
            "participant_id": participant,
            "rid": [match[1] if (match := RID.fullmatch(name)) else "" for name in participant],
            "session_id": session,
            "months": visits["months"],
            "split": run.splits["split"],
            **{f"{m}_image_id": ids[m].reindex(sample_ids).fillna("").where(there[m], "") for m in ids},
            "label": run.splits["label"],
        }
    )
    return table[list(COLUMNS)]


def _image_ids(file: Path, modality: str) -> pd.Series:
    """Sample id -> image id; empty without the file."""
    if not file.is_file():
        return pd.Series(dtype=str)
    table = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)
    table = table[table["modality"] == modality]
    return table.set_index(table["participant_id"] + "_" + table["session_id"])["image_id"]
