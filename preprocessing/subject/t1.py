"""The T1's steps: from a scan to tissue maps on the template grid, or from the files that an earlier run left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from preprocessing.ledger import compact
from preprocessing.networks import weights_path
from preprocessing.quality import measures, pictures
from preprocessing.quality.checks import Check, T1Maps, check_hippocampi, check_t1, place_loosely
from preprocessing.steps import (
    bias,
    brain_mask,
    hippocampus,
    orient,
    own_view,
    refinement,
    regions,
    register,
    resample,
    template,
    tissue,
)
from preprocessing.steps.head import Head, segment_head, to_scan
from preprocessing.subject.folder import FINE_MM, SubjectFolder
from preprocessing.subject.outcome import Outcome, step
from preprocessing.subject.plan import Recipe
from preprocessing.subject.stamps import STRUCTURE

GM_CROP = "label-GM_desc-modulatedCrop80_probseg"
COARSE_BRAIN = "space-T1w_res-3_desc-brain_T1w"
# What reports show of the scan itself.
OWN_T1, OWN_HIPPOCAMPI = "space-T1w_res-1_desc-view_T1w", "space-T1w_res-1_label-hippocampus_probseg"
FINE_MAPS = ("desc-preproc_T1w", "label-GM_desc-modulated_probseg")
OWN_RESOLUTION = "1 mm isotropic, upright in the T1's own millimeters"
PROBABILITIES = tuple(f"label-{name.upper()}_probseg" for name in tissue.TISSUES)
SEGMENTED = {region: f"label-{region}_probseg" for region in hippocampus.REGIONS}
TEMPORAL_HORN = "inferior_lateral_ventricle"

Volumes = dict[tuple[str, str], float]
Step = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class T1:
    """What is computed of a T1. Arrays lie on the template's 2 mm grid, images on their own.

    scan: RAS+, cut to the head; corrected: without bias field; mask: inside the skull, on its grid; ghosts, nan_share:
    of the scan; segmented: probability by region, both sides; volumes_ml: by region and side, on the T1 itself;
    covered: where the scan reaches; fine: corrected T1 and modulated grey matter on the 1 mm grid, where asked for.
    """

    scan: nib.Nifti1Image
    corrected: nib.Nifti1Image
    mask: np.ndarray
    nan_share: float
    ghosts: float
    head: Head
    hippocampi: dict[str, hippocampus.Box]
    transforms: register.Transforms
    jacobian: np.ndarray
    warped: np.ndarray
    warped_mask: np.ndarray
    covered: np.ndarray
    tissues: np.ndarray
    segmented: dict[str, np.ndarray]
    volumes_ml: Volumes
    fine: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Structure:
    """What the T1's steps hand to the PET's. Maps on the template grid, `t1_brain` native, as coarse as PET needs it.

    Always as read from the files, so that it is the same in the run that made them and in any later one.
    """

    t1_brain: nib.Nifti1Image
    transforms: register.Transforms
    jacobian: np.ndarray
    tissues: np.ndarray
    segmented: dict[str, np.ndarray]  # probability by region, both sides
    checks: list[Check]
    segmented_ml: Volumes  # by region and side, on the T1 itself


def prepare_t1(folder: SubjectFolder, outcome: Outcome) -> Structure:
    """Do the T1's steps, unless their outputs are there under the right stamp; and read them."""
    notes = folder.once(STRUCTURE, _files(folder), partial(_make, folder, outcome.seconds))
    outcome.tiv_ml = notes["tiv_ml"]
    outcome.t1_path = folder.relative(folder.map("desc-preproc_T1w"))
    outcome.gm_path = folder.relative(folder.map(GM_CROP))
    with step("read", outcome.seconds):
        tissues = np.stack([folder.read_map(ending) for ending in PROBABILITIES])
        segmented = {region: folder.read_map(ending) for region, ending in SEGMENTED.items()}
        jacobian = register.jacobian(folder.transforms)
        brain = nib.load(folder.own(COARSE_BRAIN))
    checks = [Check(**check) for check in notes["checks"]]
    segmented_ml = {(region, side): value for region, side, value in notes["segmented_ml"]}
    return Structure(brain, folder.transforms, jacobian, tissues, segmented, checks, segmented_ml)


def _make(folder: SubjectFolder, seconds: dict[str, float]) -> dict[str, Any]:
    """Compute, judge, write; returns what is noted of it."""
    task = folder.task
    with folder.scratch("anat") as scratch:
        found = compute_t1(task.t1, task.recipe, scratch, task.fold, partial(step, seconds=seconds))
        with step("quality", seconds):
            checks = _check(found)
        with step("write", seconds):
            _write(folder, found)
    segmented = [[*names, round(value, 5)] for names, value in found.volumes_ml.items()]
    return {"checks": [asdict(check) for check in checks], "tiv_ml": _tiv_ml(found), "segmented_ml": segmented}


def compute_t1(path: Path, recipe: Recipe, scratch: Path, fold: int | None, step: Step) -> T1:
    """The T1's steps on one scan; nothing is written but the files of the registration, into `scratch`.

    fold: of the networks that never saw this head. Raises what a step raises, inside of `step(name)`.
    """
    with step("orient"):
        scan = orient.read_scan(path, recipe.header)
        nan_share = scan.extra["nan_share"]
    with step("head"):
        head = segment_head(scan, weights_path("head", fold))
        mask = brain_mask.mask_brain(head, scan)
        ghosts = measures.ghost_share(scan.get_fdata(dtype=np.float32), mask, scan.header.get_zooms()[:3])
        box = orient.crop_to(scan, mask, recipe.crop_margin_mm)
        scan, mask = scan.slicer[box], mask[box]
    with step("bias"):
        corrected = bias.correct_bias(scan, mask)
    with step("tissue"):
        refined = refinement.refine(head, corrected)
    with step("register"):
        fixed = template.grid_image(brain_mask.template_contrast())
        transforms = register.register_to_template(head.contrast(), fixed, scratch / "t1_", recipe.syn_iterations)
        jacobian = register.jacobian(transforms)
    with step("segment"):
        boxes = hippocampus.segment_hippocampi(scan, transforms, weights_path("hippocampus", fold))
    with step("warp"):
        native = {name: refined.tissue(name) for name in tissue.TISSUES}
        inside = nib.Nifti1Image(head.intracranial, head.affine)
        points = register.template_points(transforms)
        *tissues, warped, warped_mask = (
            resample.sample(each, points) for each in (*native.values(), corrected, inside)
        )
        segmented = {region: hippocampus.on_template(boxes, region, points) for region in SEGMENTED}
        volumes = hippocampus.volumes_ml(boxes) | _ventricles_ml(head, boxes, points, jacobian)
        fine = _fine(corrected, native["gm"], transforms, jacobian) if recipe.resolution_mm == FINE_MM else None
    return T1(
        scan=scan,
        corrected=corrected,
        mask=mask,
        nan_share=nan_share,
        ghosts=ghosts,
        head=refined,
        hippocampi=boxes,
        transforms=transforms,
        jacobian=jacobian,
        warped=warped,
        warped_mask=warped_mask > 0.5,
        covered=resample.inside(corrected, points),
        tissues=np.stack(tissues),
        segmented=segmented,
        volumes_ml=volumes,
        fine=fine,
    )


def _ventricles_ml(head: Head, boxes: dict[str, hippocampus.Box], points: np.ndarray, jacobian: np.ndarray) -> Volumes:
    """Lateral ventricles by side: all by the network of the head, the temporal horn by that of the hippocampus."""
    whole = regions.sides_ml(resample.sample(head.image("lateral_ventricle"), points), jacobian)
    horns = {side: box.volume_ml(TEMPORAL_HORN) for side, box in boxes.items()}
    rest = {("lateral_ventricle", side): max(ml - horns[side], 0.0) for side, ml in whole.items()}
    return rest | {(TEMPORAL_HORN, side): ml for side, ml in horns.items()}


def _fine(
    corrected: nib.Nifti1Image, gray: nib.Nifti1Image, transforms: register.Transforms, jacobian: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The T1 and the modulated grey matter at 1 mm, interpolated once; the Jacobian is as smooth as its 2 mm field."""
    points = register.template_points(transforms, resolution_mm=FINE_MM)
    warped, gray_there = (resample.sample(image, points) for image in (corrected, gray))
    return warped, tissue.modulate(gray_there, template.to_fine_grid(jacobian))


def _check(found: T1) -> list[Check]:
    target = brain_mask.template_brain_mask()
    placed = place_loosely(found.corrected, found.mask, target)
    affine = register.affine_matrix(found.transforms.affine)
    on_template = (found.warped, found.warped_mask, target, found.jacobian, found.covered)
    maps = T1Maps(*on_template, found.mask, placed, affine, found.ghosts)
    checks = check_t1(maps, found.head, brain_mask.affine_ml(found.transforms))
    return checks + check_hippocampi(found.hippocampi)


def _tiv_ml(found: T1) -> float:
    return round(found.head.intracranial_ml, 2)


def _write(folder: SubjectFolder, found: T1) -> None:
    """The maps on the template grid, the cropped grey matter that training reads, what PET and reports need of the T1
    itself, and pictures. The transforms are moved to their names."""
    about = folder.about(folder.task.t1)
    about |= {"TIV_mL": _tiv_ml(found), "TIVDefinition": "intracranial segmentation, sum of probabilities"}
    about |= {"AffineTIV_mL": round(brain_mask.affine_ml(found.transforms), 2)}
    about |= {"NaNBackgroundShare": found.nan_share} if found.nan_share else {}
    about |= {f"{name.upper()}_mL": round(found.head.tissue_ml(name), 2) for name in tissue.TISSUES}
    maps = {"desc-preproc_T1w": found.warped, "desc-brain_mask": found.warped_mask.astype(np.uint8)}
    maps |= {ending: found.segmented[region] for region, ending in SEGMENTED.items()}
    maps |= dict(zip(PROBABILITIES, found.tissues, strict=True))
    gray = tissue.modulate(found.tissues[tissue.TISSUES.index("gm")], found.jacobian)
    maps |= {"label-GM_desc-modulated_probseg": gray}
    for ending, values in maps.items():
        folder.write_map(ending, values, about)
    folder.write_crop(GM_CROP, gray, about)
    for ending, values in zip(FINE_MAPS, found.fine or (), strict=False):
        folder.write_fine_map(ending, values, about)
    _write_own(folder, found, about)
    figures = folder.figures
    pictures.write_t1(found.warped, figures)
    white = to_scan(found.head.tissue("wm"), found.corrected)
    pictures.write_native(found.corrected, found.mask, white, found.hippocampi, figures)
    folder.keep_transforms(found.transforms)


def _write_own(folder: SubjectFolder, found: T1, about: dict[str, object]) -> None:
    """The brain as PET is aligned to it; the T1 to look at, and the hippocampi as segmented on it, on one grid."""
    about = about | {"SpatialReference": about["Sources"][0]}
    brain = nib.Nifti1Image(found.corrected.get_fdata(dtype=np.float32) * found.mask, found.corrected.affine)
    folder.write_own(COARSE_BRAIN, register.coarsen_for_pet(brain), 3, about)
    view = own_view.view_t1(found.corrected, found.mask)
    hippocampi = compact(hippocampus.on_view(found.hippocampi, "hippocampus", view))
    for ending, image in ((OWN_T1, view), (OWN_HIPPOCAMPI, hippocampi)):
        folder.write_own(ending, image, 1, about | {"Resolution": OWN_RESOLUTION})


def _files(folder: SubjectFolder) -> list[Path]:
    """All that the T1's steps leave and a later run may go on from."""
    endings = [*PROBABILITIES, *SEGMENTED.values(), "desc-preproc_T1w", "desc-brain_mask", GM_CROP]
    maps = [folder.map(ending) for ending in [*endings, "label-GM_desc-modulated_probseg"]]
    maps += [folder.map(ending, FINE_MM) for ending in FINE_MAPS if folder.task.recipe.resolution_mm == FINE_MM]
    own = [folder.own(ending) for ending in (COARSE_BRAIN, OWN_T1, OWN_HIPPOCAMPI)]
    return [*maps, *vars(folder.transforms).values(), *pictures.t1_paths(folder.figures), *own]
