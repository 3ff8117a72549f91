"""What ADNI's own quality control said of an image: MRIQUALITY and the Mayo table for MRI, PETQC and PETC3 for PET.

A verdict is found by image id; PET tables also by person and date, because they name the uploaded series while a
collection often holds a processed one with an id of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from preprocessing.intake.catalog import IMAGE_IDS, SCAN_DATES, Tables, read_tables
from preprocessing.intake.columns import find_column, plain, read_ids, read_numbers

# Columns of a verdict, and the values that mean failed. Mayo's series_quality runs from 1 (excellent) to 4 (unusable),
# -1 is not rated. In the others 1 is a pass and 0 a fail.
VERDICTS = {"series_quality": {4}, "SCANQLTY": {0}, "PASS": {0}, "QUALITY": {0}, "MRIQUALITY": {0}}


@dataclass(frozen=True)
class Verdicts:
    """Sentences about images that failed, by image id and, for PET, by (RID, date); Mayo's word on the others.

    selected: image ids of the series that Mayo selected; grades: 1 (excellent) to 3 (fair) by image id.
    """

    by_image: Mapping[str, str] = field(default_factory=dict)
    by_date: Mapping[tuple[int, pd.Timestamp], str] = field(default_factory=dict)
    selected: frozenset[str] = frozenset()
    grades: Mapping[str, float] = field(default_factory=dict)

    def why_failed(self, ptid: str, modality: str, image_id: str, date: pd.Timestamp) -> str:
        """The sentence about an image that failed, "" for any other."""
        by_date = self.by_date.get((int(ptid.split("_")[2]), date), "") if modality == "pet" else ""
        return self.by_image.get(image_id, by_date)


def read_verdicts(where: Path | Tables) -> Verdicts:
    """All quality tables under a folder; none is needed."""
    tables = read_tables(where)
    by_image: dict[str, str] = {}
    days: dict[tuple[int, pd.Timestamp], list[str]] = {}
    selected: set[str] = set()
    grades: dict[str, float] = {}
    for path, table in tables.of("image quality"):
        ids = read_ids(table[find_column(table, path, IMAGE_IDS)])
        by_image |= dict.fromkeys(ids[_failed(table, path) & (ids != "")], _sentence(path))
        if column := find_column(table, path, ("series_selected",), required=False):
            selected |= set(ids[read_numbers(table[column]) == 1])
        if column := find_column(table, path, ("series_quality",), required=False):
            grade = read_numbers(table[column])
            grades |= dict(zip(ids[grade.between(1, 3)], grade[grade.between(1, 3)], strict=True))
    for path, table in tables.of("day quality"):
        if _is_of_mri(table, path):
            continue
        rid = read_numbers(table[find_column(table, path, ("RID",))])
        date = tables.dates(path, table, SCAN_DATES)
        for one, day, bad in zip(rid, date, _failed(table, path), strict=True):
            if pd.notna(one) and pd.notna(day):
                days.setdefault((int(one), day), []).append(_sentence(path) if bad else "")
    # A day with a repeated scan has failed only if every scan of that day has.
    by_date = {day: found[0] for day, found in days.items() if all(found)}
    return Verdicts(by_image, by_date, frozenset(selected), grades)


def _sentence(path: Path) -> str:
    return f"failed ADNI's quality control ({path.name})"


def _is_of_mri(table: pd.DataFrame, path: Path) -> bool:
    """Whether a table with PASS is of MRI; its failures then say nothing of a PET on the same day."""
    return any("mri" in name or "series" in name for name in map(plain, (path.name, *table.columns)))


def _failed(table: pd.DataFrame, path: Path) -> pd.Series:
    name = next(name for name in VERDICTS if find_column(table, path, (name,), required=False))
    return read_numbers(table[find_column(table, path, (name,))]).isin(VERDICTS[name])
