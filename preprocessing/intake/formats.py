"""Which files hold an image that can be read, by name and first bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from preprocessing.intake.walk import files_under, is_hidden, require_content
from preprocessing.steps.orient import ScanError

NIFTI = (".nii", ".nii.gz")
NO_IMAGES = (".xml", ".csv", ".tsv", ".txt", ".json", ".md", ".pdf", ".html")
ECAT = "ECAT (.v) is not read; download the NIfTI or DICOM of this series, or convert it first"


def is_dicom(path: Path) -> bool:
    """Whether the file carries DICOM's mark, the letters DICM after 128 bytes."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def is_ecat(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix == ".v" or file.read(6) == b"MATRIX"


def visible_files(source: Path) -> list[Path]:
    """The files of a folder and all below it, links followed and hidden ones left out; or the one file."""
    return [source] if source.is_file() else [path for path in files_under(source) if path.is_file()]


def usable_image(files: Sequence[Path]) -> Path:
    """The one image that these files make up: a NIfTI file, or the folder of a DICOM series.

    Raises ScanError (missing_file, missing_content, ecat, unknown_format).
    """
    named = [p for p in files if p.suffix.lower() not in NO_IMAGES and not is_hidden(p)]
    files = [path for path in named if path.is_file()]
    if not files:
        for path in named:
            require_content(path)
        raise ScanError("missing_file", "no image file")
    nifti = [path for path in files if path.name.lower().endswith(NIFTI)]
    if nifti:
        return nifti[0]
    dicom = [path for path in files if is_dicom(path) or path.suffix.lower() == ".dcm"]
    if dicom:
        return dicom[0].parent
    if any(is_ecat(path) for path in files):
        raise ScanError("ecat", f"{files[0].name}: {ECAT}")
    raise ScanError("unknown_format", f"{files[0].name}: neither NIfTI (.nii, .nii.gz) nor DICOM")


def locate_image(path: Path) -> Path:
    """An image that a list names: a NIfTI file, a DICOM file (multi-frame) or a folder of DICOM files.

    Raises ScanError (missing_file, missing_content, ecat, unknown_format).
    """
    require_content(path)
    if path.is_dir():
        found = usable_image(files_under(path))
        return found if found.is_file() else path
    if not path.exists():
        raise ScanError("missing_file", f"no such file: {path.name}")
    usable_image([path])
    return path
