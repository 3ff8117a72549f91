"""The T1's steps: from a scan to tissue maps on the template grid, or from the files that an earlier run left."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from adni_tcgm.files import SCRATCH_PREFIX
from preprocessing.ledger import compact, write_image, write_json
from preprocessing.networks import weights_path
from preprocessing.quality import measures, pictures
from preprocessing.quality.checks import Check, T1Maps, check_hippocampi, check_t1, place_loosely
from preprocessing.steps import (
    bias,
    brain_mask,
    hippocampus,
    orient,
    own_view,
    regions,
    register,
    resample,
    template,
    tissue,
)
from preprocessing.steps.head import Head, segment_head, to_scan
from preprocessing.subject import derivative
from preprocessing.subject.outcome import Outcome, step
from preprocessing.subject.plan import (
    SubjectTask,
    figures_stem,
    map_path,
    read_map,
    sidecar,
    write_crop,
    write_fine_map,
    write_map,
)
from preprocessing.subject.stamps import ALIGNMENT, STRUCTURE, Stamps, inputs_of

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


def obtain_structure(task: SubjectTask, prepared: Path, outcome: Outcome, stamps: Stamps) -> Structure:
    """Do the T1's steps, unless their outputs are there under the right stamp; and read them."""
    stamp = STRUCTURE.stamp(task.recipe, inputs_of(task, prepared))
    notes = stamps.found(STRUCTURE, stamp, _files(task, prepared))
    # Notes from before there was a segmentation lack its volumes.
    if notes is None or "segmented_ml" not in notes:
        for stage in (STRUCTURE, ALIGNMENT):
            stamps.forget(stage)
        checks, segmented_ml = _compute(task, prepared, outcome)
        segmented = [[*names, round(value, 5)] for names, value in segmented_ml.items()]
        notes = {"checks": [asdict(check) for check in checks], "tiv_ml": outcome.tiv_ml, "segmented_ml": segmented}
        stamps.keep(STRUCTURE, stamp, notes)
    anat = task.folder(prepared) / "anat"
    outcome.tiv_ml = notes["tiv_ml"]
    outcome.t1_path = map_path(task, anat, "desc-preproc_T1w").relative_to(prepared).as_posix()
    outcome.gm_path = map_path(task, anat, GM_CROP).relative_to(prepared).as_posix()
    with step("read", outcome):
        tissues = np.stack([read_map(map_path(task, anat, ending)) for ending in PROBABILITIES])
        segmented = {region: read_map(map_path(task, anat, ending)) for region, ending in SEGMENTED.items()}
        jacobian = register.jacobian(transforms_of(task, anat))
        brain = nib.load(anat / f"{task.name}_{COARSE_BRAIN}.nii.gz")
    checks = [Check(**check) for check in notes["checks"]]
    segmented_ml = {(region, side): value for region, side, value in notes["segmented_ml"]}
    return Structure(brain, transforms_of(task, anat), jacobian, tissues, segmented, checks, segmented_ml)


def _compute(task: SubjectTask, prepared: Path, outcome: Outcome) -> tuple[list[Check], Volumes]:
    """The T1's steps, written to files; returns their checks, and the volumes that were segmented."""
    folder = task.folder(prepared) / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    with step("orient", outcome):
        t1 = orient.read_scan(task.t1, task.recipe.header)
        nan_share = t1.extra["nan_share"]
    with step("head", outcome):
        head = segment_head(t1, weights_path("head", task.fold))
        mask = brain_mask.mask_brain(head, t1)
        ghosts = measures.ghost_share(t1.get_fdata(dtype=np.float32), mask, t1.header.get_zooms()[:3])
        box = orient.crop_to(t1, mask, task.recipe.crop_margin_mm)
        scan, mask = t1.slicer[box], mask[box]
        outcome.tiv_ml = round(head.intracranial_ml, 2)
    with step("bias", outcome):
        t1 = bias.correct_bias(scan, mask)
        brain = nib.Nifti1Image(t1.get_fdata(dtype=np.float32) * mask, t1.affine)
    with step("register", outcome):
        transforms = _register(task, folder, head)
        jacobian = register.jacobian(transforms)
    with step("segment", outcome):
        boxes = hippocampus.segment_hippocampi(scan, transforms, weights_path("hippocampus", task.fold))
    with step("warp", outcome):
        native = {name: head.tissue(name) for name in tissue.TISSUES}
        inside = nib.Nifti1Image(head.intracranial, head.affine)
        points = register.template_points(transforms)
        *there, warped, warped_mask = (resample.sample(image, points) for image in (*native.values(), t1, inside))
        tissues, warped_mask, covered = np.stack(there), warped_mask > 0.5, resample.inside(t1, points)
        segmented = {ending: hippocampus.on_template(boxes, region, points) for region, ending in SEGMENTED.items()}
        volumes = hippocampus.volumes_ml(boxes) | _ventricles_ml(head, boxes, points, jacobian)
    with step("write", outcome):
        about = sidecar(task, prepared, [task.t1])
        about |= {"TIV_mL": outcome.tiv_ml, "TIVDefinition": "intracranial segmentation, sum of probabilities"}
        about |= {"AffineTIV_mL": round(brain_mask.affine_ml(transforms), 2)}
        about |= {"NaNBackgroundShare": nan_share} if nan_share else {}
        about |= {f"{name.upper()}_mL": round(head.tissue_ml(name), 2) for name in tissue.TISSUES}
        maps = {"desc-preproc_T1w": warped, "desc-brain_mask": warped_mask.astype(np.uint8), **segmented}
        _write_maps(task, prepared, maps, tissues, jacobian, about)
        coarse = register.coarsen_for_pet(brain)
        about_coarse = derivative.image_fields(COARSE_BRAIN, 3) | about | {"SpatialReference": about["Sources"][0]}
        write_image(coarse, folder / f"{task.name}_{COARSE_BRAIN}.nii.gz", about_coarse)
        _write_views(task, folder, own_view.view_t1(t1, mask), boxes, about)
        if task.recipe.resolution_mm == 1:
            _write_fine_maps(task, folder, t1, native["gm"], transforms, jacobian, about)
    with step("quality", outcome):
        on_template = (warped, warped_mask, jacobian, covered)
        checks = _judge(task, prepared, t1, mask, on_template, transforms, head, ghosts)
        pictures.write_native(t1, mask, to_scan(native["wm"], t1), boxes, figures_stem(task, prepared))
    return checks + check_hippocampi(boxes), volumes


def _ventricles_ml(head: Head, boxes: dict[str, hippocampus.Box], points: np.ndarray, jacobian: np.ndarray) -> Volumes:
    """Lateral ventricles by side: all by the network of the head, the temporal horn by that of the hippocampus."""
    whole = regions.sides_ml(resample.sample(head.image("lateral_ventricle"), points), jacobian)
    horns = {side: box.volume_ml(TEMPORAL_HORN) for side, box in boxes.items()}
    rest = {("lateral_ventricle", side): max(ml - horns[side], 0.0) for side, ml in whole.items()}
    return rest | {(TEMPORAL_HORN, side): ml for side, ml in horns.items()}


def _judge(
    task: SubjectTask,
    prepared: Path,
    t1: nib.Nifti1Image,
    mask: np.ndarray,
    warped: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    transforms: register.Transforms,
    head: Head,
    ghosts: float,
) -> list[Check]:
    """Pictures and checks of the T1. `t1` and `mask` native; `warped`: T1, mask, Jacobian and field of view (bool) on
    the template grid."""
    target = brain_mask.template_brain_mask()
    placed = place_loosely(t1, mask, target)
    pictures.write_t1(warped[0], figures_stem(task, prepared))
    affine = register.affine_matrix(transforms.affine)
    maps = T1Maps(warped[0], warped[1], target, warped[2], warped[3], mask, placed, affine, ghosts)
    return check_t1(maps, head, brain_mask.affine_ml(transforms))


def _write_maps(
    task: SubjectTask,
    prepared: Path,
    maps: dict[str, np.ndarray],
    tissues: np.ndarray,
    jacobian: np.ndarray,
    about: dict[str, object],
) -> None:
    """Write the T1's maps on the whole grid, and the cropped modulated grey matter that training reads."""
    folder = task.folder(prepared) / "anat"
    modulated = tissue.modulate(tissues[tissue.TISSUES.index("gm")], jacobian)
    maps = maps | dict(zip(PROBABILITIES, tissues, strict=True)) | {"label-GM_desc-modulated_probseg": modulated}
    for ending, values in maps.items():
        write_map(task, folder, ending, values, about)
    write_crop(task, folder, GM_CROP, modulated, about)


def own_path(task: SubjectTask, folder: Path, ending: str) -> Path:
    """Where a map on the T1's own grid lies."""
    return folder / f"{task.name}_{ending}.nii.gz"


def _write_views(
    task: SubjectTask, folder: Path, view: nib.Nifti1Image, boxes: dict[str, hippocampus.Box], about: dict[str, object]
) -> None:
    """The T1 to look at, and the hippocampi as segmented on it, on one grid."""
    found = hippocampus.on_view(boxes, "hippocampus", view)
    for ending, image in ((OWN_T1, view), (OWN_HIPPOCAMPI, compact(found))):
        fields = derivative.image_fields(ending, 1) | about | {"SpatialReference": about["Sources"][0]}
        write_image(image, own_path(task, folder, ending), fields | {"Resolution": OWN_RESOLUTION})


def _write_fine_maps(
    task: SubjectTask,
    folder: Path,
    t1: nib.Nifti1Image,
    gray: nib.Nifti1Image,
    transforms: register.Transforms,
    jacobian: np.ndarray,
    about: dict[str, object],
) -> None:
    """The T1 and the modulated grey matter at 1 mm, interpolated once; the Jacobian is as smooth as its 2 mm field."""
    points = register.template_points(transforms, resolution_mm=1)
    warped, gray_there = (resample.sample(image, points) for image in (t1, gray))
    modulated = tissue.modulate(gray_there, template.to_fine_grid(jacobian))
    for ending, values in zip(FINE_MAPS, (warped, modulated), strict=True):
        write_fine_map(task, folder, ending, values, about)


def _files(task: SubjectTask, prepared: Path) -> list[Path]:
    """All that the T1's steps leave and a later run may go on from."""
    anat = task.folder(prepared) / "anat"
    endings = [*PROBABILITIES, *SEGMENTED.values(), "desc-preproc_T1w", "desc-brain_mask", GM_CROP]
    maps = [map_path(task, anat, ending) for ending in [*endings, "label-GM_desc-modulated_probseg"]]
    maps += [map_path(task, anat, ending, 1) for ending in FINE_MAPS if task.recipe.resolution_mm == 1]
    transforms = transforms_of(task, anat)
    fields = [transforms.affine, transforms.warp, transforms.inverse_warp]
    drawn = pictures.t1_paths(figures_stem(task, prepared))
    own = [own_path(task, anat, ending) for ending in (COARSE_BRAIN, OWN_T1, OWN_HIPPOCAMPI)]
    return [*maps, *fields, *drawn, *own]


def transforms_of(task: SubjectTask, anat: Path) -> register.Transforms:
    """Where the transforms lie, under BIDS names."""
    there = f"{task.name}_from-T1w_to-{template.SPACE}_mode-image"
    back = f"{task.name}_from-{template.SPACE}_to-T1w_mode-image"
    return register.Transforms(
        affine=anat / f"{there}_desc-affine_xfm.mat",
        warp=anat / f"{there}_desc-syn_xfm.h5",
        inverse_warp=anat / f"{back}_desc-syn_xfm.h5",
    )


def _register(task: SubjectTask, folder: Path, head: Head) -> register.Transforms:
    """Register, and keep the transforms under BIDS names."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH_PREFIX) as scratch:
        fixed = template.grid_image(brain_mask.template_contrast())
        found = register.register_to_template(head.contrast(), fixed, Path(scratch) / "t1_", task.recipe.syn_iterations)
        kept = transforms_of(task, folder)
        os.replace(found.affine, kept.affine)
        os.replace(found.warp, kept.warp)
        os.replace(found.inverse_warp, kept.inverse_warp)
    note = "T1w to template: SyN field, then affine, on points; back: inverse of the affine, then the inverse field"
    name = f"{task.name}_from-T1w_to-{template.SPACE}_mode-image_xfm.json"
    write_json({"Order": note, "Type": "ITK"}, folder / name)
    return kept
