"""The PET's steps: from a scan, static or dynamic, to an SUVR map on the template grid."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from adni_tcgm.files import SCRATCH_PREFIX
from preprocessing import sidecars
from preprocessing.ledger import compact, write_image
from preprocessing.quality import pictures
from preprocessing.quality.checks import Check, check_pet
from preprocessing.steps import (
    frames,
    own_view,
    partial_volume,
    regions,
    register,
    resample,
    resolution,
    suvr,
    template,
)
from preprocessing.subject import derivative
from preprocessing.subject.outcome import Outcome, step
from preprocessing.subject.plan import (
    SubjectTask,
    figures_stem,
    map_path,
    sidecar,
    write_crop,
    write_fine_map,
    write_map,
)
from preprocessing.subject.stamps import ALIGNMENT, Stamps, inputs_of
from preprocessing.subject.t1 import OWN_RESOLUTION, OWN_T1, Structure, own_path

OWN_PET = "space-T1w_res-2_desc-suvr{}_pet"


@dataclass(frozen=True)
class Uptake:
    """SUVR on the template grid, where the PET covers it (bool), by what its voxels count in regions of grey matter,
    and what quality control says."""

    suvr: np.ndarray
    covered: np.ndarray
    gray: regions.GreyUptake
    checks: list[Check]


@dataclass(frozen=True)
class Smoothed:
    """A PET at the resolution that was asked for. own: before; kernel_mm, found_mm: FWHM by axis of the smoothing and
    of what came of it."""

    image: nib.Nifti1Image
    own: resolution.Resolution
    kernel_mm: tuple[float, ...]
    found_mm: tuple[float, ...]


def measure_uptake(task: SubjectTask, prepared: Path, outcome: Outcome, structure: Structure, stamps: Stamps) -> Uptake:
    """Align the PET to the T1 and take it to the template with it. Raises StepFailed."""
    folder = task.folder(prepared) / "pet"
    with step("orient_pet", outcome):
        pet, about_frames = frames.read_pet(task.pet, task.recipe.pet_frames_min, task.recipe.header)
        folder.mkdir(parents=True, exist_ok=True)
    with step("register_pet", outcome):
        rigid = _align(task, prepared, pet, structure, stamps)
        points = register.template_points(structure.transforms, rigid)
        covered, as_scanned = resample.inside(pet, points), resample.sample(pet, points)
    with step("resolution", outcome):
        smoothed = _smooth(task, pet, as_scanned, structure)
        unchanged = smoothed.image is pet
        activity = as_scanned if unchanged else resample.sample(smoothed.image, points)
    with step("suvr", outcome):
        ratio, reference_mean = suvr.compute_suvr(activity, covered, task.recipe.reference)
        gray, white = suvr.gray_and_white(structure.tissues, structure.segmented)
        own = _correct(task, ratio, gray, white, smoothed, structure)
    with step("write_pet", outcome):
        about = sidecar(task, prepared, [task.pet, task.t1]) | _describe(task, smoothed, reference_mean)
        _write_view(task, prepared, smoothed.image, rigid, reference_mean, about)
        about |= derivative.frame_fields(about_frames)
        about |= {"NaNBackgroundShare": pet.extra["nan_share"]} if pet.extra["nan_share"] else {}
        outcome.pet_path = _write(task, prepared, ratio if own is None else own, about)
        if task.recipe.resolution_mm == 1:
            fine = register.to_template(smoothed.image, structure.transforms, rigid, resolution_mm=1)
            word = suvr.REFERENCES[task.recipe.reference].word
            write_fine_map(task, folder, f"desc-suvr{word}_pet", fine / reference_mean, about)
    with step("quality_pet", outcome):
        pictures.write_pet(ratio, structure.tissues, figures_stem(task, prepared))
        sides = register.mirror_pair(pet, structure.transforms, rigid)
        # A PET that lies wrongly is told better before it is smoothed.
        sharper = np.where(covered, as_scanned / reference_mean, 0).astype(np.float32)
        checks = check_pet(sharper, covered, structure.tissues[1], structure.tissues[2], sides)
    return Uptake(ratio, covered, regions.GreyUptake(gray, own, structure.segmented), checks)


def _smooth(task: SubjectTask, pet: nib.Nifti1Image, on_template: np.ndarray, structure: Structure) -> Smoothed:
    """The PET at the recipe's resolution. One whose own is not stated is compared, `on_template`, with the person's
    tissue."""
    about = sidecars.read_sidecars(task.pet)[0]
    own = resolution.stated(task.pet_series, about, task.pet_protocol)
    if own is None:
        own = resolution.estimate(on_template, structure.tissues, _scale(structure))
    kernel_mm = resolution.kernel_mm(own, task.recipe.pet_resolution_mm)
    found_mm = tuple(float(np.hypot(*pair)) for pair in zip(own.widths_mm, kernel_mm, strict=True))
    image = resolution.smooth(pet, kernel_mm) if any(kernel_mm) else pet
    return Smoothed(image, own, kernel_mm, found_mm)


def _scale(structure: Structure) -> float:
    """Millimetres of the person per millimetre of the template."""
    return float(np.cbrt(register.affine_determinant(structure.transforms.affine)))


def _correct(
    task: SubjectTask,
    ratio: np.ndarray,
    gray: np.ndarray,
    white: np.ndarray,
    smoothed: Smoothed,
    structure: Structure,
) -> np.ndarray | None:
    """SUVR of grey matter alone, or None where no correction was asked for."""
    if task.recipe.partial_volume == "none":
        return None
    widths = np.array(smoothed.found_mm) / _scale(structure)
    return partial_volume.correct(ratio, gray, white, widths)


def _describe(task: SubjectTask, smoothed: Smoothed, reference_mean: float) -> dict[str, object]:
    """What the sidecars of the SUVR say of how it was made."""
    about: dict[str, object] = {"TracerName": "FDG", "TracerRadionuclide": "F18"}
    about |= {"ReferenceRegion": suvr.REFERENCES[task.recipe.reference].name, "ReferenceMean": reference_mean}
    about |= {"OwnResolutionFWHM_mm": smoothed.own.widths_mm, "OwnResolutionSource": smoothed.own.source}
    about |= {"SmoothingFWHM_mm": np.round(smoothed.kernel_mm, 2).tolist()}
    about |= {"EffectiveResolutionFWHM_mm": np.round(smoothed.found_mm, 2).tolist()}
    return about | {"PartialVolumeCorrection": task.recipe.partial_volume}


def _write(task: SubjectTask, prepared: Path, values: np.ndarray, about: dict[str, object]) -> str:
    """Write the SUVR map and the crop that networks read; returns the crop's path relative to the prepared folder."""
    folder, word = task.folder(prepared) / "pet", suvr.REFERENCES[task.recipe.reference].word
    if task.recipe.partial_volume != "none":
        word += partial_volume.WORD
        what = "FDG-PET of grey matter alone, corrected for partial volume, relative to the reference region"
        about = about | {"Description": what, "SkullStripped": True}
    write_map(task, folder, f"desc-suvr{word}_pet", values, about)
    write_crop(task, folder, f"desc-suvr{word}Crop80_pet", values * template.brain_mask(), about)
    return map_path(task, folder, f"desc-suvr{word}Crop80_pet").relative_to(prepared).as_posix()


def _write_view(
    task: SubjectTask,
    prepared: Path,
    pet: nib.Nifti1Image,
    rigid: Path,
    reference_mean: float,
    about: dict[str, object],
) -> None:
    """The SUVR on the person's own T1, to look at."""
    anat, ending = task.folder(prepared) / "anat", OWN_PET.format(suvr.REFERENCES[task.recipe.reference].word)
    view = own_view.view_pet(pet, rigid, nib.load(own_path(task, anat, OWN_T1)))
    ratio = nib.Nifti1Image(view.get_fdata(dtype=np.float32) / reference_mean, view.affine)
    fields = derivative.image_fields(ending) | about | {"SpatialReference": about["Sources"][1]}
    fields["Resolution"] = OWN_RESOLUTION.replace("1 mm", "2 mm")
    write_image(compact(ratio), own_path(task, task.folder(prepared) / "pet", ending), fields)


def rigid_path(task: SubjectTask, prepared: Path) -> Path:
    """Where the rigid map from PET to T1 lies, under its BIDS name."""
    return task.folder(prepared) / "pet" / f"{task.name}_from-pet_to-T1w_mode-image_xfm.mat"


def _align(task: SubjectTask, prepared: Path, pet: nib.Nifti1Image, structure: Structure, stamps: Stamps) -> Path:
    """The file of the rigid map from PET to T1, found there under the right stamp or made."""
    rigid = rigid_path(task, prepared)
    stamp = ALIGNMENT.stamp(task.recipe, inputs_of(task, prepared))
    if stamps.found(ALIGNMENT, stamp, [rigid]) is None:
        stamps.forget(ALIGNMENT)
        with tempfile.TemporaryDirectory(dir=rigid.parent, prefix=SCRATCH_PREFIX) as scratch:
            os.replace(register.align_pet(pet, structure.t1_brain, Path(scratch) / "pet_"), rigid)
        stamps.keep(ALIGNMENT, stamp, {})
    return rigid
