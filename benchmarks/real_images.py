"""Real T1s through the real steps: quality, hippocampi against given segmentations, and a second registration as judge.

`python -m benchmarks.real_images OUT --brains DIR`: the two T1s below DIR/t1, and of DIR/label_maps a T1 drawn from the
first N. SimpleITK registers the same brains by methods of its own (affine by mutual information, then diffeomorphic
demons), and carries the same atlas hippocampi to the T1.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from preprocessing.cohort.run import Recipe, SubjectTask, preprocess_subject
from preprocessing.ledger import write_image
from preprocessing.quality.checks import dice
from preprocessing.simulated.label_maps import draw_t1, label_map_files
from preprocessing.steps import brain_mask, orient, register, template
from preprocessing.steps.head import segment_head
from preprocessing.subject.folder import SubjectFolder

HIPPOCAMPI = {"left": 17, "right": 53}  # FreeSurfer's numbers
# The axes of `oasis_like_test_scan.npz`, FreeSurfer's: to the left, down, to the front.
LEFT_DOWN_FRONT = np.array([[-1.0, 0, 0, 80], [0, 0, 1, -112], [0, -1, 0, 96], [0, 0, 0, 1]])


def write_scans(brains: Path, folder: Path, heads: int) -> dict[str, tuple[Path, nib.Nifti1Image | None]]:
    """Name -> T1 file and, where there is one, its segmentation."""
    folder.mkdir(parents=True, exist_ok=True)
    scans = {"ExampleT1": (brains / "t1" / "example_brain_t1.nii.gz", None)}
    with np.load(brains / "t1" / "oasis_like_test_scan.npz", allow_pickle=False) as content:
        path = folder / "oasis_like.nii.gz"
        write_image(nib.Nifti1Image(1000 * content["vol"].astype(np.float32), LEFT_DOWN_FRONT), path, {})
        labels = nib.Nifti1Image(content["seg"].astype(np.int16), LEFT_DOWN_FRONT)
    left, right = (
        nib.affines.apply_affine(LEFT_DOWN_FRONT, np.argwhere(np.asarray(labels.dataobj) == n).mean(0))
        for n in HIPPOCAMPI.values()
    )
    if not left[0] < right[0]:
        raise ValueError(f"{brains}: the left hippocampus lies at x {left[0]:.0f}, the right one at {right[0]:.0f} mm")
    scans["OasisLike"] = (path, labels)
    for number, file in enumerate(label_map_files(brains / "label_maps")[:heads]):
        labels = nib.load(file)
        path = folder / f"head_{number}.nii.gz"
        write_image(nib.Nifti1Image(draw_t1(labels, seed=number).astype(np.float32), labels.affine), path, {})
        scans[f"Head{number:02d}"] = (path, labels)
    return scans


def judge(name: str, path: Path, labels: nib.Nifti1Image | None, prepared: Path) -> dict:
    """Prepare one T1, and what there is to say of it."""
    task = SubjectTask(f"sub-{name}", "ses-M000", path, recipe=Recipe())
    outcome = preprocess_subject(task, prepared)
    checks = json.loads(SubjectFolder(task, prepared).quality.read_text(encoding="utf-8"))["Checks"]
    transforms = SubjectFolder(task, prepared).transforms
    t1 = orient.read_scan(path)
    atlas = {side: template.region_mask("hippocampus", side=side).astype(np.float32) for side in HIPPOCAMPI}
    ours = {side: register.to_native(mask, transforms, t1) > 0.5 for side, mask in atlas.items()}
    second = register_again(t1, atlas)
    voxel_ml = abs(np.linalg.det(t1.affine[:3, :3])) / 1000
    result: dict = {
        "verdict": outcome.qc,
        "warnings": [c["name"] for c in checks if c["verdict"] != "pass"],
        "brain_dice": next(c["value"] for c in checks if c["name"] == "brain_dice"),
        "tiv_ml": outcome.tiv_ml,
    }
    if labels is not None:
        given = nib.as_closest_canonical(labels)
        numbers = np.asarray(given.dataobj)
        if not np.allclose(given.affine, t1.affine):
            raise ValueError(f"{name}: T1 and segmentation are not on one grid")
    for side, number in HIPPOCAMPI.items():
        row = {
            "ours_ml": ours[side].sum() * voxel_ml,
            "simpleitk_ml": second[side].sum() * voxel_ml,
            "dice_ours_simpleitk": dice(ours[side], second[side]),
        }
        if labels is not None:
            truth = numbers == number
            row |= {"segmented_ml": truth.sum() * voxel_ml, "dice_ours_segmented": dice(ours[side], truth)}
            row |= {"dice_simpleitk_segmented": dice(second[side], truth)}
        result[side] = {key: round(float(value), 3) for key, value in row.items()}
    return result


def register_again(t1: nib.Nifti1Image, atlas: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The atlas masks on the T1's grid, by SimpleITK's affine and demons instead of ANTs' SyN."""
    mask = brain_mask.mask_brain(segment_head(t1), t1)
    fixed = _to_sitk(nib.Nifti1Image(t1.get_fdata(dtype=np.float32) * mask, t1.affine))
    brain = template.t1() * brain_mask.template_brain_mask()
    moving = _to_sitk(template.grid_image(brain.astype(np.float32)))
    # Template points from T1 points: the way in which the atlas is resampled onto the T1.
    affine = _affine(fixed, moving)
    there = sitk.Resample(moving, fixed, affine, sitk.sitkLinear)
    spacing = [2.0] * 3
    size = [int(np.ceil(n * s / 2)) for n, s in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    grid = sitk.Image(size, sitk.sitkFloat32)
    grid.SetSpacing(spacing), grid.SetOrigin(fixed.GetOrigin()), grid.SetDirection(fixed.GetDirection())
    coarse_fixed, coarse_moving = (sitk.Resample(image, grid) for image in (fixed, there))
    coarse_moving = sitk.HistogramMatching(coarse_moving, coarse_fixed, 256, 10, True)
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfIterations(60)
    demons.SetStandardDeviations(1.5)
    field = sitk.DisplacementFieldTransform(
        sitk.Cast(demons.Execute(coarse_fixed, coarse_moving), sitk.sitkVectorFloat64)
    )
    chain = sitk.CompositeTransform([affine, field])
    return {
        side: sitk.GetArrayFromImage(
            sitk.Resample(_to_sitk(template.grid_image(values)), fixed, chain, sitk.sitkLinear)
        ).transpose(2, 1, 0)
        > 0.5
        for side, values in atlas.items()
    }


def _affine(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([3, 1])
    method.SetInitialTransform(start)
    return method.Execute(fixed, moving)


def _to_sitk(image: nib.Nifti1Image) -> sitk.Image:
    """RAS+ nibabel image -> SimpleITK, whose axes point left, back and up."""
    found = sitk.GetImageFromArray(image.get_fdata(dtype=np.float32).transpose(2, 1, 0))
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    flip = np.diag([-1.0, -1, 1])
    found.SetSpacing(spacing.tolist())
    found.SetDirection((flip @ image.affine[:3, :3] / spacing).ravel().tolist())
    found.SetOrigin((flip @ image.affine[:3, 3]).tolist())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--brains", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    register.make_repeatable()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    scans = write_scans(arguments.brains, arguments.out / "scans", arguments.heads)
    results = {}
    for name, (path, labels) in scans.items():
        results[name] = judge(name, path, labels, arguments.out / "prepared")
        print(json.dumps({name: results[name]}), flush=True)


if __name__ == "__main__":
    main()
