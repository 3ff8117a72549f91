"""sub-X[_ses-Y]_scans.tsv of a BIDS data set: the date of each image, and its field strength where Clinica wrote it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from preprocessing.intake.acquisition import read_field_strength
from preprocessing.intake.catalog import FIELD_STRENGTHS
from preprocessing.intake.columns import find_column, read_text_table
from preprocessing.intake.dates import read_dates
from preprocessing.intake.walk import is_hidden

STRENGTHS = ("mri_field", *FIELD_STRENGTHS)


@dataclass(frozen=True)
class Scans:
    """Dates and field strengths (tesla) of images by file name, where they are known."""

    dates: Mapping[str, pd.Timestamp] = field(default_factory=dict)
    tesla: Mapping[str, float] = field(default_factory=dict)

    def with_others(self, others: Scans) -> Scans:
        return Scans({**self.dates, **others.dates}, {**self.tesla, **others.tesla})

    def of_session(self, name: str) -> Scans:
        """Without images whose names say another session."""
        columns = (self.dates, self.tesla)
        return Scans(*({f: x for f, x in of.items() if f"_{name}_" in f or "_ses-" not in f} for of in columns))


def read_scans(folder: Path) -> Scans:
    """What the tables of a folder say of the images that they list."""
    scans = Scans()
    for path in sorted(folder.glob("*_scans.tsv")):
        table = None if is_hidden(path) else optional_table(path)
        if table is not None:
            scans = scans.with_others(_read_table(table, path))
    return scans


def _read_table(table: pd.DataFrame, path: Path) -> Scans:
    spellings = (("filename",), ("acq_time",), STRENGTHS)
    name, time, strength = (find_column(table, path, known, required=False) for known in spellings)
    if name is None:
        return Scans()
    files = [Path(text.strip()).name for text in table[name]]
    dates = read_bids_dates(table[time], f"{path}: column {time!r}") if time else []
    tesla = [read_field_strength(text) for text in table[strength]] if strength else []
    return Scans(_known(files, dates), _known(files, tesla))


def _known(files: list[str], values: list[Any]) -> dict[str, Any]:
    return {file: value for file, value in zip(files, values, strict=False) if value is not None}


def read_bids_dates(texts: pd.Series, place: str) -> list[pd.Timestamp | None]:
    """Dates of a column, None where there is none; a warning where they cannot be read. `place` names the column."""
    try:
        return [None if pd.isna(date) else date for date in read_dates(texts, place)]
    except ValueError as error:
        what = str(error).partition("; say which")[0]
        warnings.warn(f"{what}; the dates are left out, BIDS writes them like 2020-01-31", stacklevel=2)
        return [None] * len(texts)


def optional_table(path: Path) -> pd.DataFrame | None:
    """A TSV that nothing depends on: None where there is none, and with a warning where it cannot be read."""
    try:
        return read_text_table(path, "\t") if path.is_file() else None
    except (ValueError, OSError) as error:
        warnings.warn(f"{error}; the table is left out", stacklevel=2)
        return None
