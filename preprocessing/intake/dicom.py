"""DICOM series to NIfTI. The series is chosen by its description; after that only geometry is kept of the header.

One file a slice (classic) or one file a volume (enhanced multi-frame), read by GDCM through SimpleITK.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from adni_tcgm.files import write_bytes
from preprocessing.guard import Guard
from preprocessing.intake.acquisition import read_field_strength, read_tracer
from preprocessing.intake.adni import rank_fdg, rank_t1
from preprocessing.intake.formats import is_dicom
from preprocessing.intake.people import Choice, Person, is_uniform, without_t1
from preprocessing.ledger import LedgerRow, write_json
from preprocessing.orient import MAX_VOXELS, ScanError

SERIES_UID, DESCRIPTION, MODALITY = "0020|000e", "0008|103e", "0008|0060"
POSITION, ORIENTATION, FRAMES = "0020|0032", "0020|0037", "0028|0008"
RANKS: dict[str, Callable[[str], float | None]] = {"mri": rank_t1, "pet": lambda text: rank_fdg(text)[0]}
MODALITY_TAG = {"mri": "MR", "pet": "PT"}
NAMES = {"mri": ("anat", "T1w"), "pet": ("pet", "pet")}
# For one series; far above what a slow disk needs.
GDCM_SECONDS = 600.0
# Slices may lie this far (share of the spacing) from where an even spacing would put them.
SPACING_TOLERANCE = 0.05
# (0020,0032) with VR DS and its length; (7fe0,0010), where the pixels begin.
POSITION_BYTES = rb"\x20\x00\x32\x00DS(..)"
# (0018,0087), a number, and (0018,0031), which lies in a sequence: text of which only "FDG" goes further.
FIELD_STRENGTH_BYTES = rb"\x18\x00\x87\x00DS(..)"
TRACER_BYTES = rb"\x18\x00\x31\x00LO(..)"
PIXEL_DATA = b"\xe0\x7f\x10\x00O"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Series:
    """One series of a folder. `files` are ordered along the slice normal, `places` are the millimetres there."""

    description: str
    modality: str
    files: tuple[Path, ...]
    places: tuple[float | None, ...]


@dataclass(frozen=True)
class _Slice:
    path: Path
    tags: dict[str, str]

    @property
    def place(self) -> float | None:
        """Millimetres along the slice normal; None where the header does not say."""
        numbers = [_numbers(self.tags.get(tag, "")) for tag in (POSITION, ORIENTATION)]
        if len(numbers[0]) != 3 or len(numbers[1]) != 6:
            return None
        return float(np.dot(np.cross(numbers[1][:3], numbers[1][3:]), numbers[0]))


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split("\\")]
    except ValueError:
        return []


def find_series(source: Path) -> list[Series]:
    """All series of a folder (or of one multi-frame file). Raises ScanError (dicom_unreadable) naming the file."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    files = [path for path in files if path.suffix.lower() == ".dcm" or is_dicom(path)]
    groups: dict[str, list[_Slice]] = {}
    for path in files:
        tags = _read_tags(path)
        groups.setdefault(tags.get(SERIES_UID, ""), []).append(_Slice(path, tags))
    return [_series(slices) for _, slices in sorted(groups.items())]


def _read_tags(path: Path) -> dict[str, str]:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ScanError("dicom_unreadable", f"not a readable DICOM file (file {path.name})") from error
    wanted = (SERIES_UID, DESCRIPTION, MODALITY, POSITION, ORIENTATION, FRAMES)
    return {tag: reader.GetMetaData(tag).strip(" \0") for tag in wanted if reader.HasMetaDataKey(tag)}


def _series(slices: list[_Slice]) -> Series:
    ordered = sorted(slices, key=lambda s: (s.place if s.place is not None else 0.0, s.path.name))
    tags = ordered[0].tags
    return Series(
        tags.get(DESCRIPTION, ""),
        tags.get(MODALITY, ""),
        tuple(s.path for s in ordered),
        tuple(s.place for s in ordered),
    )


def choose_series(series: list[Series], modality: str) -> Series:
    """The series of a folder to take for "mri" or "pet": the only one, or the best by its description, the longest of
    equals.

    Raises ScanError (missing_file, wrong_modality, unknown_series).
    """
    if not series:
        raise ScanError("missing_file", "the folder holds no DICOM file")
    right = [s for s in series if s.modality in (MODALITY_TAG[modality], "")]
    if not right:
        found = ", ".join(sorted({s.modality for s in series}))
        raise ScanError("wrong_modality", f"DICOM modality is {found}; {MODALITY_TAG[modality]} is needed here")
    if len(right) == 1:
        return right[0]
    ranked = [
        (rank, -len(s.files), i) for i, s in enumerate(right) if (rank := RANKS[modality](s.description)) is not None
    ]
    if not ranked:
        names = ", ".join(repr(s.description) for s in right)
        raise ScanError("unknown_series", f"none of {len(right)} series is an accepted one: {names}")
    return right[min(ranked)[2]]


def read_series(series: Series) -> nib.Nifti1Image:
    """The volume of a series, in the scanner's world coordinates. Whole numbers that fit are kept as int16, exactly.

    Raises ScanError (dicom_unreadable, dynamic, dicom_gap, dicom_geometry, not_3d).
    """
    _check_slices(series)
    _check_voxels(series)
    try:
        if len(series.files) == 1:
            image = sitk.ReadImage(str(series.files[0]), sitk.sitkFloat32, imageIO="GDCMImageIO")
        else:
            reader = sitk.ImageSeriesReader()
            reader.SetImageIO("GDCMImageIO")
            reader.SetFileNames([str(path) for path in series.files])
            reader.SetOutputPixelType(sitk.sitkFloat32)  # else PET slices with their own slopes lose their fractions
            image = reader.Execute()
    except RuntimeError as error:
        where = series.files[0].parent.name
        raise ScanError("dicom_unreadable", f"the pixels of a DICOM series cannot be read (folder {where})") from error
    if image.GetDimension() != 3 or min(image.GetSize()) < 2:
        raise ScanError("not_3d", f"the DICOM series has the size {image.GetSize()}; a volume is needed")
    if len(series.files) == 1:
        _check_frames(series.files[0], image)
    values = np.transpose(sitk.GetArrayFromImage(image))
    whole = np.all(np.isfinite(values)) and np.abs(values).max() < 2**15 and np.array_equal(values, np.rint(values))
    return nib.Nifti1Image(values.astype(np.int16) if whole else values, _affine(image))


def _affine(image: sitk.Image) -> np.ndarray:
    """Voxel to RAS+ millimetres; DICOM's axes point left and posterior."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine


def _check_voxels(series: Series) -> None:
    """The first slice's size times the number of slices, before any pixel is read."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(series.files[0]))
    reader.ReadImageInformation()
    voxels = np.prod(reader.GetSize(), dtype=float) * len(series.files)
    if voxels > MAX_VOXELS:
        raise ScanError("too_large", f"a DICOM series of {voxels:.3g} voxels; at most {MAX_VOXELS:.0e} are read")


def _check_slices(series: Series) -> None:
    """One slice a place, evenly spaced."""
    if len(series.files) == 1:
        return
    places = np.array(series.places, dtype=float)
    if np.isnan(places).any():
        raise ScanError("dicom_unreadable", "slices without position or orientation")
    steps = np.diff(places)
    if np.any(np.abs(steps) < 1e-3):
        volumes = len(places) / len(np.unique(np.round(places, 3)))
        raise ScanError("dynamic", f"the DICOM series holds {volumes:.3g} images at each place, not one volume")
    if np.any(np.abs(steps - np.median(steps)) > SPACING_TOLERANCE * np.median(steps)):
        raise ScanError("dicom_gap", f"slices are {steps.min():.3g} to {steps.max():.3g} mm apart; one is missing")


def _check_frames(path: Path, image: sitk.Image) -> None:
    """Whether the frames of a multi-frame file lie where the image has them.

    Where frames are stored out of order, or without positions, GDCM falls back to 1 mm and unrotated axes in silence.
    """
    found = _frame_positions(path)
    axes = np.reshape(image.GetDirection(), (3, 3))
    steps = np.arange(image.GetSize()[2])[:, None] * image.GetSpacing()[2]
    expected = np.array(image.GetOrigin()) + steps * axes[:, 2]
    far = SPACING_TOLERANCE * image.GetSpacing()[2]
    if found.shape != expected.shape or np.abs(found - expected).max() > far:
        what = "no positions" if not len(found) else f"{len(np.unique(found, axis=0))} places that are not in order"
        raise ScanError("dicom_geometry", f"{len(expected)} frames, {what}; convert it with dcm2niix ({path.name})")


def _frame_positions(path: Path) -> np.ndarray:
    """(frames, 3): every image position in the header, wherever it is nested (explicit little-endian files)."""
    found = [_numbers(text) for text in _values_of(path, POSITION_BYTES)]
    return np.array([numbers for numbers in found if len(numbers) == 3]).reshape(-1, 3)


def _values_of(path: Path, element: bytes) -> list[str]:
    """The text of every data element of this tag in the header, however deep it lies (explicit little-endian files)."""
    header = path.read_bytes().partition(PIXEL_DATA)[0]
    matches = [(m.end(), int.from_bytes(m[1], "little")) for m in re.finditer(element, header, re.DOTALL)]
    return [header[start : start + length].decode("latin-1").strip(" \0") for start, length in matches]


def _acquisition(path: Path, modality: str) -> dict[str, object]:
    """BIDS's MagneticFieldStrength or TracerName, where the header says it."""
    if modality == "mri":
        strength = next(map(read_field_strength, _values_of(path, FIELD_STRENGTH_BYTES)), None)
        return {} if strength is None else {"MagneticFieldStrength": strength}
    tracer = next(filter(None, map(read_tracer, _values_of(path, TRACER_BYTES))), "")
    return {"TracerName": tracer} if tracer else {}


def convert(source: Path, target: Path, modality: str) -> str:
    """Write the best series under `source` as `target` (.nii.gz, the same bytes every time).

    Returns "uniform" for a PET of one resolution, else "". A target that stands is left as it is while the source is
    unchanged. The sidecar holds no text of the DICOM header but the field strength and "FDG". Raises ScanError.
    """
    about = target.with_name(target.name.removesuffix(".nii.gz") + ".json")
    digest = _digest(source)
    if target.is_file() and about.is_file():
        written = json.loads(about.read_text(encoding="utf-8"))
        if written.get("SourceDigest") == digest:
            return "uniform" if written["UniformResolution"] else ""
    series = choose_series(find_series(source), modality)
    image = read_series(series)
    uniform = is_uniform(series.description)
    write_bytes(target, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
    files = {"SourceFormat": "DICOM", "SourceFiles": len(series.files), "SourceDigest": digest}
    write_json(files | {"UniformResolution": uniform} | _acquisition(series.files[0], modality), about)
    return "uniform" if uniform else ""


def _digest(source: Path) -> str:
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    found = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def convert_people(people: list[Person], prepared: Path) -> tuple[list[Person], list[LedgerRow]]:
    """The people with NIfTI files in place of DICOM ones, and the ledger rows of what could not be converted.

    A broken file can make GDCM loop or crash, so it works in a process that may be ended.
    """
    with Guard(GDCM_SECONDS) as guard:
        return _convert_people(people, prepared, guard)


def _convert_people(people: list[Person], prepared: Path, guard: Guard) -> tuple[list[Person], list[LedgerRow]]:
    converted, ledger = [], []
    for person in people:
        ids = (person.participant_id, person.session_id)
        try:
            person = replace(person, t1=_convert_choice(person, person.t1, "mri", prepared, guard))
        except ScanError as error:
            ledger += without_t1(*ids, "failed", error.reason_code, error.message, person.t1.path.name)
            continue
        try:
            person = replace(person, pet=_convert_choice(person, person.pet, "pet", prepared, guard))
        except ScanError as error:
            row = ("failed", "intake", error.reason_code, error.message, person.pet.path.name)
            ledger.append(LedgerRow(*ids, "pet", *row))
            person = replace(person, pet=None)
        converted.append(person)
    return converted, ledger


def _convert_choice(
    person: Person, choice: Choice | None, modality: str, prepared: Path, guard: Guard
) -> Choice | None:
    if choice is None or choice.path.name.endswith((".nii", ".nii.gz")):
        return choice
    folder, ending = NAMES[modality]
    name = f"{person.participant_id}_{person.session_id}_desc-fromDicom_{ending}.nii.gz"
    target = prepared / person.participant_id / person.session_id / folder / name
    found = guard.run(convert, choice.path, target, modality)
    return replace(choice, path=target, description=choice.description or found)
