"""What the guarded process runs on broken DICOM: in a module of its own, so that loading it counts as its start."""

from __future__ import annotations

from pathlib import Path

from preprocessing.intake.dicom import choose_series, find_series, read_series


def read_folder(folder: Path) -> None:
    read_series(choose_series(find_series(folder), "mri"))
