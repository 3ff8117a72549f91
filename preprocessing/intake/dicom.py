"""DICOM series to NIfTI. The series is chosen by its description; after that only geometry is kept of the header.

One file a slice (classic) or one file a volume (enhanced multi-frame). Where the voxels belong is taken from the
headers (`dicom_series`). Classic series are converted by dcm2niix, whose volume must lie there. Where it does not, or
where there are several (it splits a series whose study time varies), GDCM reads the slices through SimpleITK. So it
does for all multi-frame files: dcm2niix 1.0.20260724 wrote frames that were stored from top to bottom upside down, and
frames of two volumes at one place as one, both without a warning.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from adni_tcgm.files import write_bytes
from preprocessing.intake import dcm2niix, pet_frames
from preprocessing.intake.acquisition import read_field_strength, read_tracer
from preprocessing.intake.dicom_choice import rank_series
from preprocessing.intake.dicom_frames import frame_times, split_frames
from preprocessing.intake.dicom_series import (
    Grid,
    Series,
    Slice,
    find_series,
    grid_of,
    read_pixels,
    without_copies,
)
from preprocessing.intake.formats import NIFTI, visible_files
from preprocessing.intake.isolation import Guard
from preprocessing.intake.people import Choice, Person, without_t1
from preprocessing.ledger import LedgerRow, write_json
from preprocessing.steps.orient import ScanError
from preprocessing.steps.resolution import describe_scanner, uniform_mm

MODALITY_TAG = {"mri": "MR", "pet": "PT"}
RESOLUTION = "UniformResolution_mm"  # in sidecars; null for a series that nobody smoothed
NAMES = {"mri": ("anat", "T1w"), "pet": ("pet", "pet")}
# For one series; far above what a slow disk needs.
GDCM_SECONDS = 600.0
# Corners of dcm2niix's volume may lie this far from where the headers have them, as share of a voxel.
CORNER_TOLERANCE = 0.05


def choose_series(series: list[Series], modality: str) -> Series:
    """The series of a folder to take for "mri" or "pet": the only one, or the best by its description, the longest of
    equals.

    Raises ScanError (missing_file, wrong_modality, unknown_series).
    """
    if not series:
        raise ScanError("missing_file", "the folder holds no DICOM image")
    right = [s for s in series if s.modality in (MODALITY_TAG[modality], "")]
    if not right:
        found = ", ".join(sorted({s.modality for s in series}))
        raise ScanError("wrong_modality", f"DICOM modality is {found}; {MODALITY_TAG[modality]} is needed here")
    if len(right) == 1:
        return right[0]
    ranks = [rank_series(s.description, modality) for s in right]
    ranked = [(rank, -len(right[i].slices), i) for i, rank in enumerate(ranks) if rank is not None]
    if not ranked:
        names = ", ".join(repr(s.description) for s in right)
        raise ScanError("unknown_series", f"none of {len(right)} series is an accepted one: {names}")
    return right[min(ranked)[2]]


def read_series(series: Series) -> nib.Nifti1Image:
    """The volume of a series, in the scanner's world coordinates. Whole numbers that fit are kept as int16, exactly.

    Raises ScanError (dicom_unreadable, dicom_contradiction, too_large, not_3d, dynamic, dicom_gap, dicom_geometry).
    """
    return _read(without_copies(series))[0]


def _read(slices: tuple[Slice, ...]) -> tuple[nib.Nifti1Image, dict[str, object]]:
    """The volume, and what dcm2niix's sidecar says."""
    grid = grid_of(slices)
    files, multiple = [s.path for s in slices], len(slices) == 1
    converted = dcm2niix.run(files, volume=not multiple)
    values = _on_grid(converted, grid)
    if values is None:
        values = _read_frames(files[0], grid) if multiple else _read_slices(files, grid)
    whole = np.all(np.isfinite(values)) and np.abs(values).max() < 2**15 and np.array_equal(values, np.rint(values))
    return nib.Nifti1Image(values.astype(np.int16) if whole else values, grid.affine), converted.sidecar


def _read_volumes(slices: tuple[Slice, ...]) -> tuple[nib.Nifti1Image, dict[str, object], dict[str, object]]:
    """A PET, of four dimensions where it has several frames; what dcm2niix says of the first; the times of frames."""
    frames = split_frames(slices)
    if len(frames) == 1:
        return *_read(slices), {}
    times = frame_times(frames)
    read = [_read(frame) for frame in frames]
    images = [image for image, _ in read]
    first = images[0]
    if any(i.shape != first.shape or not np.allclose(i.affine, first.affine, atol=1e-3) for i in images):
        raise ScanError("dynamic", f"{len(frames)} frames that do not lie in one place")
    values = np.stack([np.asarray(image.dataobj, np.float32) for image in images], axis=-1)
    return nib.Nifti1Image(values, first.affine), read[0][1], times


def _on_grid(converted: dcm2niix.Converted, grid: Grid) -> np.ndarray | None:
    """The values in the order of the grid's axes, if they are one volume that lies where the headers have it."""
    if converted.values is None or converted.values.ndim != 3 or np.linalg.det(converted.affine) == 0:
        return None
    turn = nib.io_orientation(np.linalg.inv(grid.affine) @ converted.affine)
    if np.isnan(turn).any():
        return None
    affine = converted.affine @ nib.orientations.inv_ornt_aff(turn, converted.values.shape)
    values = nib.apply_orientation(converted.values, turn)
    corners = np.array(np.meshgrid(*([0, size - 1] for size in grid.shape), [1], indexing="ij")).reshape(4, -1)
    off = np.linalg.inv(grid.affine) @ affine @ corners - corners
    return values if values.shape == grid.shape and np.abs(off).max() < CORNER_TOLERANCE else None


def _read_slices(files: list[Path], grid: Grid) -> np.ndarray:
    """(X, Y, Z) float32, each slice scaled by its own slope."""
    images = [np.squeeze(sitk.GetArrayFromImage(read_pixels(files[k]))).T for k in grid.order]
    return np.stack(images, axis=-1)


def _read_frames(path: Path, grid: Grid) -> np.ndarray:
    """(X, Y, Z) float32. GDCM scales every frame by the first one's slope and intercept, which is undone."""
    scaled = np.transpose(sitk.GetArrayFromImage(read_pixels(path, sitk.sitkFloat64)))
    if scaled.shape != grid.shape:
        raise ScanError("dicom_geometry", f"pixels of shape {scaled.shape} where {grid.shape} is needed ({path.name})")
    slopes, intercepts = (np.array([getattr(f, name) for f in grid.frames]) for name in ("slope", "intercept"))
    if np.ptp(slopes) or np.ptp(intercepts):
        stored = (scaled - intercepts[0]) / slopes[0] if slopes[0] else np.full_like(scaled, np.nan)
        if not np.allclose(stored, np.rint(stored), rtol=0, atol=1e-3):
            raise ScanError("dicom_geometry", f"the frames' own slopes do not give whole numbers ({path.name})")
        scaled = np.rint(stored) * slopes + intercepts
    return scaled[:, :, grid.order].astype(np.float32)


def _acquisition(sidecar: dict[str, object], modality: str) -> dict[str, object]:
    """BIDS's MagneticFieldStrength, or TracerName, scanner and filter; of free text only what is known here."""
    if modality == "mri":
        strength = read_field_strength(sidecar.get("MagneticFieldStrength", ""))
        return {} if strength is None else {"MagneticFieldStrength": strength}
    tracer = read_tracer(sidecar.get("TracerName", ""))
    return ({"TracerName": tracer} if tracer else {}) | describe_scanner(sidecar)


def convert(source: Path, target: Path, modality: str) -> str:
    """Write the best series under `source` as `target` (.nii.gz, the same bytes every time).

    Returns "uniform 8 mm" for a PET smoothed to that resolution, else "". A target that stands is left as it is while
    the source is unchanged. The sidecar holds no text of the DICOM header but the field strength, "FDG" and a scanner
    that is known; it counts the files that were read, were there twice, or hold no image. Raises ScanError.
    """
    about = target.with_name(target.name.removesuffix(".nii.gz") + ".json")
    digest = _digest(source)
    if target.is_file() and about.is_file():
        written = json.loads(about.read_text(encoding="utf-8"))
        if written.get("SourceDigest") == digest and RESOLUTION in written:
            return _describe(written[RESOLUTION])
    series = choose_series(find_series(source), modality)
    slices = without_copies(series)
    image, sidecar, times = _read_volumes(slices) if modality == "pet" else (*_read(slices), {})
    width_mm = uniform_mm(series.description) if modality == "pet" else None
    write_bytes(target, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
    files = {"SourceFormat": "DICOM", "SourceFiles": len(slices), "SourceDigest": digest}
    left_out = {"FilesTwice": len(series.slices) - len(slices), "FilesWithoutImage": series.others}
    files |= {name: count for name, count in left_out.items() if count}
    write_json(files | {RESOLUTION: width_mm} | times | _acquisition(sidecar, modality), about)
    return _describe(width_mm)


def _describe(width_mm: float | None) -> str:
    return "" if width_mm is None else f"uniform {width_mm:g} mm"


def _digest(source: Path) -> str:
    found = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in visible_files(source)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def convert_people(people: list[Person], prepared: Path) -> tuple[list[Person], list[LedgerRow]]:
    """The people with NIfTI files in place of DICOM ones, and the ledger rows of what could not be converted.

    A broken file can make GDCM or dcm2niix loop or crash, so they work in a process that may be ended.
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
    if choice is None or choice.path.name.lower().endswith(NIFTI):
        return choice
    folder, ending = NAMES[modality]
    apart = choice.path.is_dir() and pet_frames.nifti_files(visible_files(choice.path))
    name = f"{person.participant_id}_{person.session_id}_desc-{'fromFrames' if apart else 'fromDicom'}_{ending}.nii.gz"
    target = prepared / person.participant_id / person.session_id / folder / name
    arguments = (pet_frames.join, choice.path, target) if apart else (convert, choice.path, target, modality)
    found = guard.run(*arguments)
    return replace(choice, path=target, description=choice.description or found)
