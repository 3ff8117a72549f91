"""The PET's steps: from a scan, static or dynamic, to an SUVR map on the template grid."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from adni_tcgm.files import SCRATCH_PREFIX
from preprocessing.quality import pictures
from preprocessing.quality.checks import Check, check_pet
from preprocessing.steps import frames, register, suvr, template
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
from preprocessing.subject.t1 import Structure


@dataclass(frozen=True)
class Uptake:
    """SUVR on the template grid, where the PET covers it (bool), and what quality control says of both."""

    suvr: np.ndarray
    covered: np.ndarray
    checks: list[Check]


def measure_uptake(task: SubjectTask, prepared: Path, outcome: Outcome, structure: Structure, stamps: Stamps) -> Uptake:
    """Align the PET to the T1 and take it to the template with it. Raises StepFailed."""
    folder = task.folder(prepared) / "pet"
    with step("orient_pet", outcome):
        pet, about_frames = frames.read_pet(task.pet, task.recipe.pet_frames_min, task.recipe.header)
        folder.mkdir(parents=True, exist_ok=True)
    with step("register_pet", outcome):
        rigid = _align(task, prepared, pet, structure, stamps)
        activity = register.to_template(pet, structure.transforms, rigid)
        view = nib.Nifti1Image(np.ones(pet.shape, np.float32), pet.affine)
        covered = register.to_template(view, structure.transforms, rigid) > 0.5
    with step("suvr", outcome):
        fwhm_mm = 0.0 if task.pet_uniform else task.recipe.pet_smooth_mm
        activity = suvr.smooth(activity, fwhm_mm) if fwhm_mm else activity
        ratio, reference_mean = suvr.compute_suvr(activity, covered, task.recipe.reference)
        reference = suvr.REFERENCES[task.recipe.reference]
    with step("write_pet", outcome):
        about = sidecar(task, prepared, [task.pet, task.t1])
        about |= {"TracerName": "FDG", "TracerRadionuclide": "F18"}
        about |= {"ReferenceRegion": reference.name, "ReferenceMean": reference_mean}
        about |= {"SmoothingFWHM_mm": fwhm_mm, "UniformResolutionSeries": task.pet_uniform}
        about |= derivative.frame_fields(about_frames)
        about |= {"NaNBackgroundShare": pet.extra["nan_share"]} if pet.extra["nan_share"] else {}
        write_map(task, folder, f"desc-suvr{reference.word}_pet", ratio, about)
        cropped = f"desc-suvr{reference.word}Crop80_pet"
        write_crop(task, folder, cropped, ratio * template.brain_mask(), about)
        if task.recipe.resolution_mm == 1:
            fine = register.to_template(pet, structure.transforms, rigid, resolution_mm=1)
            fine = (suvr.smooth(fine, fwhm_mm, spacing_mm=1.0) if fwhm_mm else fine) / reference_mean
            write_fine_map(task, folder, f"desc-suvr{reference.word}_pet", fine, about)
        outcome.pet_path = map_path(task, folder, cropped).relative_to(prepared).as_posix()
    with step("quality_pet", outcome):
        pictures.write_pet(ratio, structure.tissues, figures_stem(task, prepared))
        sides = register.mirror_pair(pet, structure.transforms, rigid)
        checks = check_pet(ratio, covered, structure.tissues[1], structure.tissues[2], sides)
    return Uptake(ratio, covered, checks)


def _align(task: SubjectTask, prepared: Path, pet: nib.Nifti1Image, structure: Structure, stamps: Stamps) -> Path:
    """The file of the rigid map from PET to T1, found there under the right stamp or made."""
    folder = task.folder(prepared) / "pet"
    rigid = folder / f"{task.name}_from-pet_to-T1w_mode-image_xfm.mat"
    stamp = ALIGNMENT.stamp(task.recipe, inputs_of(task, prepared))
    if stamps.found(ALIGNMENT, stamp, [rigid]) is None:
        stamps.forget(ALIGNMENT)
        with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH_PREFIX) as scratch:
            os.replace(register.align_pet(pet, structure.t1_brain, Path(scratch) / "pet_"), rigid)
        stamps.keep(ALIGNMENT, stamp, {})
    return rigid
