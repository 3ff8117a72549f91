"""The PET's steps: from a scan, static or dynamic, to an SUVR map on the template grid."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from preprocessing import sidecars
from preprocessing.ledger import compact
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
from preprocessing.subject.folder import FINE_MM, SubjectFolder
from preprocessing.subject.outcome import Outcome, step
from preprocessing.subject.plan import SubjectTask
from preprocessing.subject.stamps import ALIGNMENT
from preprocessing.subject.t1 import OWN_RESOLUTION, OWN_T1, Step, Structure

OWN_PET = "space-T1w_res-2_desc-suvr{}_pet"


@dataclass(frozen=True)
class Smoothed:
    """A PET at the resolution that was asked for. own: before; kernel_mm, found_mm: FWHM by axis of the smoothing and
    of what came of it."""

    image: nib.Nifti1Image
    own: resolution.Resolution
    kernel_mm: tuple[float, ...]
    found_mm: tuple[float, ...]


@dataclass(frozen=True)
class Uptake:
    """What is computed of a PET. Arrays lie on the template's 2 mm grid.

    suvr; covered: where the PET reaches (bool); gray: by what its voxels count in regions of grey matter; smoothed: on
    its own grid; reference_mean: its mean in the reference region, its unit; checks: of quality control.
    """

    suvr: np.ndarray
    covered: np.ndarray
    gray: regions.GreyUptake
    smoothed: Smoothed
    reference_mean: float
    checks: list[Check]

    @property
    def corrected(self) -> np.ndarray:
        """The SUVR of grey matter alone, where a correction for partial volume was asked for; else the SUVR."""
        return self.suvr if self.gray.suvr is None else self.gray.suvr


def prepare_pet(folder: SubjectFolder, outcome: Outcome, structure: Structure) -> Uptake:
    """Align the PET to the T1, take it to the template with it, and write it. Raises StepFailed."""
    task = folder.task
    timed = partial(step, seconds=outcome.seconds)
    with timed("orient_pet"):
        pet, about_frames = frames.read_pet(task.pet, task.recipe.pet_frames_min, task.recipe.header)
    with timed("register_pet"):
        folder.once(ALIGNMENT, [folder.rigid], partial(_align, folder, pet, structure.t1_brain))
    found = compute_uptake(task, pet, folder.rigid, structure, timed)
    with timed("write_pet"):
        about = {"NaNBackgroundShare": pet.extra["nan_share"]} if pet.extra["nan_share"] else {}
        outcome.pet_path = _write(folder, found, structure, derivative.frame_fields(about_frames) | about)
    return found


def _align(folder: SubjectFolder, pet: nib.Nifti1Image, brain: nib.Nifti1Image) -> dict[str, Any]:
    with folder.scratch("pet") as scratch:
        os.replace(register.align_pet(pet, brain, scratch / "pet_"), folder.rigid)
    return {}


def compute_uptake(task: SubjectTask, pet: nib.Nifti1Image, rigid: Path, structure: Structure, step: Step) -> Uptake:
    """The steps of an aligned PET; nothing is written. rigid: the file of `register.align_pet`."""
    with step("resample_pet"):
        points = register.template_points(structure.transforms, rigid)
        covered, as_scanned = resample.inside(pet, points), resample.sample(pet, points)
    with step("resolution"):
        smoothed = _smooth(task, pet, as_scanned, structure)
        unchanged = smoothed.image is pet
        activity = as_scanned if unchanged else resample.sample(smoothed.image, points)
    with step("suvr"):
        ratio, reference_mean = suvr.compute_suvr(activity, covered, task.recipe.reference)
        gray, white = suvr.gray_and_white(structure.tissues, structure.segmented)
        own = _correct(task, ratio, gray, white, smoothed, structure)
    with step("quality_pet"):
        sides = register.mirror_pair(pet, structure.transforms, rigid)
        # A PET that lies wrongly is told better before it is smoothed.
        sharper = np.where(covered, as_scanned / reference_mean, 0).astype(np.float32)
        checks = check_pet(sharper, covered, structure.tissues[1], structure.tissues[2], sides)
    counted = regions.GreyUptake(gray, own, structure.segmented)
    return Uptake(ratio, covered, counted, smoothed, reference_mean, checks)


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


def _write(folder: SubjectFolder, found: Uptake, structure: Structure, about_scan: dict[str, object]) -> str:
    """Write the SUVR map, the crop that networks read, the SUVR on the T1 itself, and pictures; returns the crop's path
    relative to the prepared folder."""
    task, recipe, smoothed = folder.task, folder.task.recipe, found.smoothed
    word = suvr.REFERENCES[recipe.reference].word
    about = folder.about(task.pet, task.t1) | _describe(task, smoothed, found.reference_mean)
    view = own_view.view_pet(smoothed.image, folder.rigid, nib.load(folder.own(OWN_T1)))
    view = compact(nib.Nifti1Image(view.get_fdata(dtype=np.float32) / found.reference_mean, view.affine))
    fields = {"SpatialReference": about["Sources"][1], "Resolution": OWN_RESOLUTION.replace("1 mm", "2 mm")}
    folder.write_own(OWN_PET.format(word), view, 2, about | fields)
    about |= about_scan
    if recipe.resolution_mm == FINE_MM:
        fine = register.to_template(smoothed.image, structure.transforms, folder.rigid, resolution_mm=FINE_MM)
        folder.write_fine_map(f"desc-suvr{word}_pet", fine / found.reference_mean, about)
    if recipe.partial_volume != "none":
        word += partial_volume.WORD
        what = "FDG-PET of grey matter alone, corrected for partial volume, relative to the reference region"
        about |= {"Description": what, "SkullStripped": True}
    folder.write_map(f"desc-suvr{word}_pet", found.corrected, about)
    crop = f"desc-suvr{word}Crop80_pet"
    folder.write_crop(crop, found.corrected * template.brain_mask(), about)
    pictures.write_pet(found.suvr, structure.tissues, folder.figures)
    return folder.relative(folder.map(crop))


def _describe(task: SubjectTask, smoothed: Smoothed, reference_mean: float) -> dict[str, object]:
    """What the sidecars of the SUVR say of how it was made."""
    about: dict[str, object] = {"TracerName": "FDG", "TracerRadionuclide": "F18"}
    about |= {"ReferenceRegion": suvr.REFERENCES[task.recipe.reference].name, "ReferenceMean": reference_mean}
    about |= {"OwnResolutionFWHM_mm": smoothed.own.widths_mm, "OwnResolutionSource": smoothed.own.source}
    about |= {"SmoothingFWHM_mm": np.round(smoothed.kernel_mm, 2).tolist()}
    about |= {"EffectiveResolutionFWHM_mm": np.round(smoothed.found_mm, 2).tolist()}
    return about | {"PartialVolumeCorrection": task.recipe.partial_volume}
