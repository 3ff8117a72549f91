"""The DICOM series of a folder, and where their slices lie, from the headers alone (SimpleITK's GDCM reads them)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from preprocessing.intake.dicom_elements import SOP_CLASS, Frame, numbers, read_frames, read_meta, read_texts
from preprocessing.intake.formats import is_dicom, visible_files
from preprocessing.steps.orient import MAX_VOXELS, ScanError

SERIES_UID, INSTANCE_UID, MODALITY = "0020|000e", "0008|0018", "0008|0060"
DESCRIPTION, PROTOCOL = "0008|103e", "0018|1030"
POSITION, ORIENTATION, SPACING = "0020|0032", "0020|0037", "0028|0030"
ACQUISITION_TIME, DURATION = "0008|0032", "0018|1242"  # of a PET's frame; milliseconds
ROWS, COLUMNS, FRAMES = "0028|0010", "0028|0011", "0028|0008"
TAGS = (
    SERIES_UID,
    INSTANCE_UID,
    MODALITY,
    DESCRIPTION,
    PROTOCOL,
    POSITION,
    ORIENTATION,
    SPACING,
    ROWS,
    COLUMNS,
    FRAMES,
    ACQUISITION_TIME,
    DURATION,
)
# Objects with slices or frames (PS3.4, annex B): CT, MR, secondary capture, NM and PET, also enhanced. Others, as
# structured reports, presentation states, raw data and spectra, have no pixels that could be meant.
KINDS = ("2", "2.1", "2.2", "4", "4.1", "4.3", "4.4", "7", "7.1", "7.2", "7.3", "7.4", "20", "128", "128.1", "130")
IMAGES = tuple(f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in KINDS)
# Slices may lie this far (share of the spacing) from where an even spacing would put them, and this far (mm) beside
# the line through the first along their normal.
SPACING_TOLERANCE = 0.05
SIDEWAYS_MM = 1.0
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Slice:
    """One file: a slice, or all frames of a multi-frame object. `tags`: text by SimpleITK's keys. damaged: only the
    header can be read."""

    path: Path
    tags: dict[str, str]
    damaged: bool = False

    @property
    def frames(self) -> int:
        return self._count(FRAMES) or 1

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return self._count(COLUMNS), self._count(ROWS)

    def _count(self, tag: str) -> int:
        text = self.tags.get(tag, "")
        return int(text) if text.isdecimal() and len(text) < 10 else 0

    @property
    def place(self) -> Frame | None:
        """None where the header does not say it."""
        found = Frame(*(numbers(self.tags.get(tag, "")) for tag in (POSITION, ORIENTATION, SPACING)))
        lengths = [len(found.position), len(found.orientation), len(found.spacing_mm)]
        return found if lengths == [3, 6, 2] else None


@dataclass(frozen=True)
class Series:
    """One series of a folder. `others`: files of the folder that hold no image."""

    description: str
    modality: str
    slices: tuple[Slice, ...]
    others: int = 0


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a series belong: shape (columns, rows, slices), affine to mm (RAS+), and for each slice, from
    the lowest place along the normal, the number of its file or frame."""

    shape: tuple[int, int, int]
    affine: np.ndarray
    order: np.ndarray
    frames: tuple[Frame, ...]


def find_series(source: Path) -> list[Series]:
    """All series of a folder (or of one multi-frame file). Raises ScanError (dicom_unreadable) naming the file."""
    groups: dict[str, list[Slice]] = {}
    others = 0
    for path in visible_files(source):
        if not (path.suffix.lower() == ".dcm" or is_dicom(path)):
            continue
        found = _read_slice(path)
        if found is None:
            others += 1
        else:
            groups.setdefault(found.tags.get(SERIES_UID, ""), []).append(found)
    return [_series(slices, others) for _, slices in sorted(groups.items())]


def _read_slice(path: Path) -> Slice | None:
    """None for an object that holds no image. Raises ScanError where nobody can tell of which series the file is."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        kind, tags = read_meta(path).get(SOP_CLASS, ""), read_texts(path)
        if kind and kind not in IMAGES:
            return None
        if not tags.get(SERIES_UID):
            what = "the file ends early or is damaged" if kind else "not a readable DICOM file"
            raise ScanError("dicom_unreadable", f"{what} (file {path.name})") from error
        return Slice(path, {tag: tags[tag] for tag in TAGS if tag in tags}, damaged=True)
    return Slice(path, {tag: reader.GetMetaData(tag).strip(" \0") for tag in TAGS if reader.HasMetaDataKey(tag)})


def _series(slices: list[Slice], others: int) -> Series:
    tags = slices[0].tags
    description = tags.get(DESCRIPTION, "") or tags.get(PROTOCOL, "")
    return Series(description, tags.get(MODALITY, ""), tuple(slices), others)


def without_copies(series: Series) -> tuple[Slice, ...]:
    """The slices without files that are the same object a second time.

    Raises ScanError naming the file: dicom_unreadable for a damaged one, dicom_contradiction where two with one SOP
    instance UID and place have different pixels.
    """
    damaged = next((slice_.path.name for slice_ in series.slices if slice_.damaged), None)
    if damaged is not None:
        raise ScanError("dicom_unreadable", f"the file ends early or is damaged (file {damaged})")
    kept: dict[tuple[str, str], Slice] = {}
    for number, found in enumerate(series.slices):
        uid = found.tags.get(INSTANCE_UID, "") or f"none {number}"
        first = kept.setdefault((uid, found.tags.get(POSITION, "")), found)
        if first is not found and not _same_pixels(first.path, found.path):
            names = f"{first.path.name} and {found.path.name}"
            rule = "one SOP instance UID and place, and different pixels; which of them is right?"
            raise ScanError("dicom_contradiction", f"{names} have {rule}")
    return tuple(kept.values())


def _same_pixels(one: Path, other: Path) -> bool:
    if one.read_bytes() == other.read_bytes():
        return True
    return np.array_equal(*(sitk.GetArrayFromImage(read_pixels(path)) for path in (one, other)))


def read_pixels(path: Path, kind: int = sitk.sitkFloat32) -> sitk.Image:
    """Pixels of a file as GDCM scales them. Raises ScanError (dicom_unreadable) naming the file."""
    try:
        return sitk.ReadImage(str(path), kind, imageIO="GDCMImageIO")
    except RuntimeError as error:
        what = "the pixels cannot be read; the file ends early or is damaged"
        raise ScanError("dicom_unreadable", f"{what} (file {path.name})") from error


def grid_of(slices: Sequence[Slice]) -> Grid:
    """Where the slices or frames lie: one at each place, evenly spaced, on one straight line.

    Raises ScanError (too_large, not_3d, dicom_unreadable, dicom_geometry, dynamic, dicom_gap).
    """
    multiple = len(slices) == 1 and slices[0].frames > 1
    count = slices[0].frames if multiple else len(slices)
    if (voxels := np.prod(slices[0].size, dtype=float) * count) > MAX_VOXELS:
        raise ScanError("too_large", f"a DICOM series of {voxels:.3g} voxels; at most {MAX_VOXELS:.0e} are read")
    if count < 2 or min(slices[0].size) < 2:
        raise ScanError("not_3d", f"the DICOM series has the size {(*slices[0].size, count)}; a volume is needed")
    if multiple:
        frames = read_frames(slices[0].path)
        if len(frames) != count:
            found = f"{count} frames, {len(frames) or 'no'} positions"
            raise ScanError("dicom_geometry", f"{found}: nobody knows where they lie ({slices[0].path.name})")
    else:
        frames = [slice_.place for slice_ in slices]
        if None in frames or any(slice_.frames > 1 for slice_ in slices):
            raise ScanError("dicom_unreadable", "slices without position, orientation or pixel spacing")
        sizes = Counter(slice_.size for slice_ in slices)
        if len(sizes) > 1:
            raise ScanError("dicom_geometry", f"slices of {len(sizes)} sizes in one series: {sorted(sizes)}")
    return _grid(slices[0].size, frames)


def _grid(size: tuple[int, ...], frames: Sequence[Frame]) -> Grid:
    positions, orientations = (np.array([getattr(f, name) for f in frames]) for name in ("position", "orientation"))
    row, column = orientations[0, :3], orientations[0, 3:]
    between_rows, between_columns = frames[0].spacing_mm
    normal = np.cross(row, column)
    if not (np.isfinite(positions).all() and min(frames[0].spacing_mm) > 0 and abs(np.linalg.norm(normal) - 1) < 1e-2):
        raise ScanError(
            "dicom_geometry", "position, orientation or pixel spacing in the DICOM series are no such thing"
        )
    if np.abs(orientations - orientations[0]).max() > 1e-2:
        raise ScanError("dicom_geometry", "the slices of the DICOM series lie in planes of different orientations")
    order = np.argsort(positions @ normal, kind="stable")
    places = (positions @ normal)[order]
    _check_places(places)
    step = (places[-1] - places[0]) / (len(places) - 1)
    sideways = positions[order] - positions[order[0]] - np.outer(places - places[0], normal)
    if (shift := np.linalg.norm(sideways, axis=1).max()) > SIDEWAYS_MM:
        what = f"slices lie up to {shift:.3g} mm beside the line along their normal"
        raise ScanError("dicom_geometry", f"{what} (gantry tilt); at most {SIDEWAYS_MM:g} mm is read")
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([row * between_columns, column * between_rows, normal * step])
    affine[:3, 3] = positions[order[0]]
    return Grid((*size, len(frames)), LPS_TO_RAS @ affine, order, tuple(frames))


def _check_places(places: np.ndarray) -> None:
    """One slice a place, evenly spaced. places: millimetres along the normal, sorted."""
    steps = np.diff(places)
    if np.any(np.abs(steps) < 1e-3):
        volumes = len(places) / len(np.unique(np.round(places, 3)))
        raise ScanError("dynamic", f"the DICOM series holds {volumes:.3g} images at each place, not one volume")
    if np.any(np.abs(steps - np.median(steps)) > SPACING_TOLERANCE * np.median(steps)):
        raise ScanError("dicom_gap", f"slices are {steps.min():.3g} to {steps.max():.3g} mm apart; one is missing")
