"""What ADNI's own quality control said of an image: MRIQUALITY and the Mayo table for MRI, PETQC and PETC3 for PET.

A verdict is found by image id; PET tables also by person and date, because they name the uploaded series while a
collection often holds a processed one with an id of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from preprocessing.intake.columns import csv_files, find_column, read_text_table

# Beginning of the file name -> (columns of the verdict, the values that mean failed). Mayo's series_quality runs from 1
# (excellent) to 4 (unusable), -1 is not rated. In the others 1 is a pass and 0 a fail.
TABLES = {
    "MRIQUALITY": (("series_quality", "QUALITY", "PASS", "MRIQUALITY"), {"series_quality": {4}}),
    "MAYOADIRL_MRI_IMAGEQC": (("series_quality",), {"series_quality": {4}}),
    "PETQC": (("PASS",), {}),
    "PETC3": (("SCANQLTY",), {}),
}
PET_TABLES = ("PETQC", "PETC3")
IMAGE_IDS = ("LONIUID", "loni_image", "IMAGEUID", "image_id", "Image Data ID")
DATES = ("EXAMDATE", "SCANDATE", "image_date")


@dataclass(frozen=True)
class Verdicts:
    """Sentences about images that failed, by image id and, for PET, by (RID, date)."""

    by_image: Mapping[str, str] = field(default_factory=dict)
    by_date: Mapping[tuple[int, pd.Timestamp], str] = field(default_factory=dict)

    def why_failed(self, ptid: str, modality: str, image_id: str, date: pd.Timestamp) -> str:
        """The sentence about an image that failed, "" for any other."""
        by_date = self.by_date.get((int(ptid.split("_")[2]), date), "") if modality == "pet" else ""
        return self.by_image.get(image_id, by_date)


def read_verdicts(folder: Path) -> Verdicts:
    """All quality tables under `folder`; none is needed. Raises ValueError for one whose columns are not known."""
    by_image: dict[str, str] = {}
    days: dict[tuple[int, pd.Timestamp], list[str]] = {}
    for path in csv_files(folder):
        kind = next((kind for kind in TABLES if path.name.upper().startswith(kind)), None)
        if kind is None:
            continue
        table = read_text_table(path)
        failed = _failed(table, path, kind)
        sentence = f"failed ADNI's quality control ({path.name})"
        image = find_column(table, path, IMAGE_IDS, required=kind not in PET_TABLES)
        if image:
            ids = table[image].str.strip().str.removeprefix("I")
            by_image |= dict.fromkeys(ids[failed & (ids != "")], sentence)
        if kind in PET_TABLES:
            rid = pd.to_numeric(table[find_column(table, path, ("RID",))], errors="coerce")
            date = pd.to_datetime(table[find_column(table, path, DATES)], errors="coerce", format="mixed")
            for one, day, bad in zip(rid, date, failed, strict=True):
                if pd.notna(one) and pd.notna(day):
                    days.setdefault((int(one), day), []).append(sentence if bad else "")
    # A day with a repeated scan has failed only if every scan of that day has.
    return Verdicts(by_image, {day: found[0] for day, found in days.items() if all(found)})


def _failed(table: pd.DataFrame, path: Path, kind: str) -> pd.Series:
    spellings, marks = TABLES[kind]
    column = find_column(table, path, spellings)
    name = next(s for s in spellings if s.lower().replace("_", "") == column.lower().replace("_", "").replace(" ", ""))
    return pd.to_numeric(table[column], errors="coerce").isin(marks.get(name, {0}))
