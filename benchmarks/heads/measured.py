"""What the default recipe finds in a scan, and what the labels of the head say: long tables of one kind.

Both have the columns `measure side value`; volumes in mL.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from preprocessing.networks import weights_path
from preprocessing.quality.checks import dice
from preprocessing.steps import hippocampus, orient, register, template
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import StepFailed
from preprocessing.subject.plan import SubjectTask
from preprocessing.subject.run import preprocess_subject

# FreeSurfer's labels, (left, right), of what CerebrA has under the same name.
SIDED = {
    "hippocampus": ((17,), (53,)),
    "amygdala": ((18,), (54,)),
    "thalamus": ((10,), (49,)),
    # With its choroid plexus, as it is reported, and without the temporal horn.
    "lateral_ventricle": ((4, 31, 136), (43, 63, 163)),
}
TISSUE_LABELS = {
    "grey matter": (3, 42, 8, 47, 17, 53, 18, 54, 10, 49, 11, 50, 12, 51, 13, 52, 26, 58),
    "white matter": (2, 41, 7, 46, 16, 28, 60, 85, 25, 57),
    "CSF": (4, 5, 14, 15, 24, 43, 44, 72, 136, 137, 163, 164),
}
VESSELS = (30, 62)
# Beside the volume that is reported: what the registration says of the same region, and tissue within the atlas mask.
TISSUE_WITHIN = {"hippocampus": "GM", "amygdala": "GM", "lateral_ventricle": "CSF"}
SIDES = ("left", "right")
# Places of a voxel at which labels are looked up, in voxels from its middle: 64 of them.
WITHIN_VOXEL = np.stack(np.meshgrid(*[(-0.375, -0.125, 0.125, 0.375)] * 3), -1).reshape(-1, 3)
COLUMNS = ["measure", "side", "value"]


def true_volumes(labels: nib.Nifti1Image) -> pd.DataFrame:
    """Volumes of the labels, mL."""
    counts = np.bincount(np.asarray(labels.dataobj).ravel(), minlength=1000)
    voxel_ml = abs(np.linalg.det(labels.affine[:3, :3])) / 1000

    def volume_ml(names: tuple[int, ...]) -> float:
        return float(counts[list(names)].sum() * voxel_ml)

    rows = []
    for region, both in SIDED.items():
        found = [(side, volume_ml(names)) for side, names in zip(SIDES, both, strict=True)]
        rows += [(region, side, value) for side, value in found]
        if region in TISSUE_WITHIN:
            rows += [(_within(region), side, value) for side, value in found]
        rows += [(_atlas(region), side, value) for side, value in found]
    rows += [(name, "both", volume_ml(names)) for name, names in TISSUE_LABELS.items()]
    rows.append(("intracranial", "both", volume_ml(tuple({n for t in TISSUE_LABELS.values() for n in t}) + VESSELS)))
    return pd.DataFrame(rows, columns=COLUMNS)


def prepare(task: SubjectTask, prepared: Path) -> None:
    """The default recipe on one scan, unless its files are there. A scan that fails leaves the error beside them."""
    failed = failure_path(task, prepared)
    if SubjectFolder(task, prepared).regions.is_file() or failed.is_file():
        return
    try:
        preprocess_subject(task, prepared)
    except StepFailed as error:
        failed.parent.mkdir(parents=True, exist_ok=True)
        failed.write_text(f"{error}\n", encoding="utf-8")


def failure_path(task: SubjectTask, prepared: Path) -> Path:
    return task.folder(prepared) / f"{task.name}_failed.txt"


def verdict(task: SubjectTask, prepared: Path) -> str:
    """The worst quality check of the scan, with the names of those not passed; or the error that ended it."""
    if failure_path(task, prepared).is_file():
        return "failed: " + failure_path(task, prepared).read_text(encoding="utf-8").strip()
    checks = json.loads(SubjectFolder(task, prepared).quality.read_text(encoding="utf-8"))["Checks"]
    raised = [check for check in checks if check["verdict"] != "pass"]
    worst = "fail" if any(check["verdict"] == "fail" for check in raised) else "warn" if raised else "pass"
    return " ".join([worst, *(check["name"] for check in raised)])


def found_volumes(task: SubjectTask, prepared: Path) -> pd.DataFrame:
    """Volumes that were reported for the scan, and those of the atlas masks and of tissue within; none where it failed.

    What the network segments is not here: `segmented` has it, by a network that never saw the head.
    """
    if failure_path(task, prepared).is_file():
        return pd.DataFrame(columns=COLUMNS)
    folder = SubjectFolder(task, prepared)
    regions = pd.read_csv(folder.regions, sep="\t").set_index(["region", "side"]).volume_ml
    about = folder.read_sidecar("desc-preproc_T1w")
    jacobian = register.jacobian(folder.transforms)
    rows = [(r, side, regions[r, side]) for r in SIDED if r not in hippocampus.REGIONS for side in SIDES]
    for region in SIDED:
        sums = [jacobian[template.region_mask(region, side=side)].sum() * template.VOXEL_ML for side in SIDES]
        rows += [(_atlas(region), side, value) for side, value in zip(SIDES, sums, strict=True)]
    for region, tissue in TISSUE_WITHIN.items():
        modulated = folder.read_map(f"label-{tissue}_probseg") * jacobian
        for side in SIDES:
            mask = template.region_mask(region, side=side)
            rows.append((_within(region), side, modulated[mask].sum() * template.VOXEL_ML))
    rows += [
        ("grey matter", "both", about["GM_mL"]),
        ("white matter", "both", about["WM_mL"]),
        ("CSF", "both", about["CSF_mL"]),
        ("intracranial", "both", about["TIV_mL"]),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def overlaps(task: SubjectTask, prepared: Path, labels: nib.Nifti1Image) -> pd.DataFrame:
    """Dice of each atlas mask, carried to the T1, with the head's label on the T1's grid: `measure side dice`."""
    if failure_path(task, prepared).is_file():
        return pd.DataFrame(columns=["measure", "side", "dice"])
    transforms = SubjectFolder(task, prepared).transforms
    numbers = np.asarray(labels.dataobj)
    structures = [
        (region, side, names) for region, both in SIDED.items() for side, names in zip(SIDES, both, strict=True)
    ]
    atlas = np.zeros(template.GRID_SHAPE, np.float32)
    for number, (region, side, _) in enumerate(structures, start=1):
        atlas[template.region_mask(region, side=side)] = number
    carried = register.to_native(atlas, transforms, labels, "nearestNeighbor").round()
    rows = [
        (_atlas(region), side, dice(carried == number, np.isin(numbers, names)))
        for number, (region, side, names) in enumerate(structures, start=1)
    ]
    return pd.DataFrame(rows, columns=["measure", "side", "dice"])


def segmented(task: SubjectTask, prepared: Path, labels: nib.Nifti1Image | None) -> pd.DataFrame:
    """What the network finds on the T1, with Dice against `labels` where there are any: `measure side value dice`."""
    if failure_path(task, prepared).is_file():
        return pd.DataFrame(columns=[*COLUMNS, "dice"])
    t1, rows = orient.read_scan(task.t1), []
    for side, center in hippocampus.hippocampal_centers(SubjectFolder(task, prepared).transforms).items():
        probability, affine = hippocampus.segment_around(t1, center, side, weights_path("hippocampus", task.fold))
        for region in hippocampus.REGIONS:
            overlap = np.nan
            if labels is not None:
                names = SIDED[region][SIDES.index(side)]
                overlap = dice(probability[region] > 0.5, label_share(labels, names, affine, hippocampus.BOX) > 0.5)
            rows.append((region, side, float(probability[region].sum() / 1000), overlap))
    return pd.DataFrame(rows, columns=[*COLUMNS, "dice"])


def label_share(
    labels: nib.Nifti1Image, names: tuple[int, ...], affine: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Share of each voxel of another grid that has one of the labels: `shape`, float32.

    One look a voxel moves the surface by up to half a voxel: two grids of 1 mm that lie half a voxel apart then agree
    to a Dice of .89 in a hippocampus, whatever is compared.
    """
    share = np.zeros(shape, np.float32)
    wanted = np.isin(np.asarray(labels.dataobj), names).astype(np.float32)
    matrix = np.linalg.inv(labels.affine) @ affine
    box = _box_around(wanted, matrix, shape)
    corner, size = [s.start for s in box], [s.stop - s.start for s in box]
    for place in WITHIN_VOXEL:
        first = matrix[:3, 3] + matrix[:3, :3] @ (corner + place)
        share[box] += ndimage.affine_transform(wanted, matrix[:3, :3], first, size, order=0)
    return share / len(WITHIN_VOXEL)


def _box_around(wanted: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Of the voxels of a grid of `shape` that may see something of `wanted`; `matrix` leads from it to `wanted`'s."""
    found = ndimage.find_objects((wanted > 0).astype(int))
    if not found:
        return (slice(0, 0),) * 3
    corners = np.array(list(itertools.product(*((s.start - 1, s.stop) for s in found[0]))))
    there = (corners - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T
    first, last = np.floor(there.min(0)).astype(int) - 1, np.ceil(there.max(0)).astype(int) + 2
    return tuple(slice(max(a, 0), max(min(b, n), max(a, 0))) for a, b, n in zip(first, last, shape, strict=True))


def found_with_segmented(task: SubjectTask, prepared: Path) -> pd.DataFrame:
    """`found_volumes`, and below them what the hippocampal network finds: `measure side value`, mL."""
    found = (found_volumes(task, prepared), segmented(task, prepared, None)[COLUMNS])
    return pd.concat(found, ignore_index=True)


def _atlas(region: str) -> str:
    return f"{region} (J)"


def _within(region: str) -> str:
    return f"{region} ({TISSUE_WITHIN[region]} x J)"
