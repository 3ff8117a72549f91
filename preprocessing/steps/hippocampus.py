"""Volumes of hippocampus and amygdala on the person's own T1, by a network that saw drawn images alone.

The atlas mask that a registration carries says nothing of how large a person's hippocampus is; see
`benchmarks.heads`. The network and its limits: `networks/weights/README.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from preprocessing.networks import weights_path
from preprocessing.steps import lazy_ants as ants
from preprocessing.steps import register, resample, template

WEIGHTS = weights_path("hippocampus")
BOX = (40, 64, 40)  # voxels of 1 mm: the left one's width, length and height with room around it
SIDES = ("left", "right")
REGIONS = ("hippocampus", "amygdala")
RECENTER_MM = 2.0


@dataclass(frozen=True)
class Box:
    """One side's segmentation. probability: of each class by name, in 1 mm voxels in RAS+ that lie at `affine`;
    expected: where the registration looked for the hippocampus, (3,) mm; carried: the template's hippocampus as the
    registration carries it into the box, bool."""

    probability: dict[str, np.ndarray]
    affine: np.ndarray
    expected: np.ndarray
    carried: np.ndarray

    def volume_ml(self, region: str) -> float:
        """Sum of probabilities, so that voxels at the surface count in part."""
        return float(self.probability[region].sum() / 1000)

    @property
    def center(self) -> np.ndarray:
        """Middle of the hippocampus that was found, (3,) mm; NaN without one."""
        found = self.probability["hippocampus"]
        if found.sum() < 1:
            return np.full(3, np.nan)
        return nib.affines.apply_affine(self.affine, ndimage.center_of_mass(found))


def segment_hippocampi(t1: nib.Nifti1Image, transforms: register.Transforms, weights: Path = WEIGHTS) -> dict[str, Box]:
    """Segmentation of hippocampus and amygdala by side.

    t1: RAS+, as scanned (the network has seen bias fields); transforms: its registration, which says where to look.
    """
    boxes = {}
    for side, center in hippocampal_centers(transforms).items():
        probability, affine = segment_around(t1, center, side, weights)
        atlas = template.region_mask("hippocampus", side=side).astype(np.float32)
        carried = register.to_native(atlas, transforms, nib.Nifti1Image(probability["hippocampus"], affine)) > 0.5
        boxes[side] = Box(probability, affine, center, carried)
    return boxes


def volumes_ml(boxes: dict[str, Box]) -> dict[tuple[str, str], float]:
    """Volumes by (region, side), regions REGIONS and sides SIDES."""
    return {(region, side): box.volume_ml(region) for side, box in boxes.items() for region in REGIONS}


def on_template(boxes: dict[str, Box], region: str, points: np.ndarray) -> np.ndarray:
    """Probability of a region of both sides on a grid, such as the template's, with voxels at `points` (3, X, Y, Z)
    mm of the T1: (X, Y, Z) float32."""
    return resample.sample(_both_sides(boxes, region), points)


def on_view(boxes: dict[str, Box], region: str, view: nib.Nifti1Image) -> nib.Nifti1Image:
    """Probability of a region of both sides on the grid of `own_view.view_t1`, whose voxels are those of the boxes."""
    both = _both_sides(boxes, region)
    first = np.rint((both.affine - view.affine)[:3, 3]).astype(int)
    last = np.minimum(first + both.shape, view.shape)
    values = np.zeros(view.shape, np.float32)
    there, here = (
        tuple(slice(low, max(low, high)) for low, high in zip(np.maximum(first, 0) - start, last - start, strict=True))
        for start in (0 * first, first)
    )
    values[there] = both.dataobj[here]
    return nib.Nifti1Image(values, view.affine)


def _both_sides(boxes: dict[str, Box], region: str) -> nib.Nifti1Image:
    """Probability of a region in one box over those of both sides."""
    origins = np.array([box.affine[:3, 3] for box in boxes.values()])
    affine = np.eye(4)
    affine[:3, 3] = origins.min(0)
    starts = np.rint(origins - origins.min(0)).astype(int)
    both = np.zeros(starts.max(0) + BOX, np.float32)
    for start, box in zip(starts, boxes.values(), strict=True):
        part = both[tuple(slice(first, first + size) for first, size in zip(start, BOX, strict=True))]
        np.maximum(part, box.probability[region], out=part)
    return nib.Nifti1Image(both, affine)


def segment_around(
    t1: nib.Nifti1Image, center: np.ndarray, side: str, weights: Path = WEIGHTS
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Probability of each class in a box of 1 mm voxels around `center` (mm), and the box's affine.

    Where the hippocampus is found off the middle, the box is moved there once.
    """
    for last in (False, True):
        affine = np.eye(4)
        affine[:3, 3] = np.round(center) - (np.array(BOX) - 1) / 2
        matrix = np.linalg.inv(t1.affine) @ affine
        values = np.asarray(t1.dataobj, dtype=np.float32)
        box = ndimage.affine_transform(values, matrix[:3, :3], matrix[:3, 3], BOX, order=1)
        probability = segment_box(box, side, weights)
        found = probability["hippocampus"]
        if last or found.sum() < 1:
            break
        index = np.array(ndimage.center_of_mass(found))
        center = nib.affines.apply_affine(affine, index)
        if np.abs(index - (np.array(BOX) - 1) / 2).max() < RECENTER_MM:
            break
    return probability, affine


def segment_box(box: np.ndarray, side: str, weights: Path = WEIGHTS) -> dict[str, np.ndarray]:
    """Probability of each class by name, in a box of 1 mm voxels in RAS+ around one hippocampus: each of its shape.

    The sides of the box can be halved three times; side: "left" or "right", whose box is looked at in a mirror.
    """
    import torch

    from preprocessing.networks.synthesis import normalize

    network = _network(weights)
    image = np.ascontiguousarray(box[::-1] if side == "right" else box, dtype=np.float32)
    with torch.inference_mode():
        shares = network(normalize(torch.from_numpy(image)[None, None])).softmax(1)[0].numpy()
    shares = shares[:, ::-1] if side == "right" else shares
    return dict(zip(network.classes, shares, strict=True))


def hippocampal_centers(transforms: register.Transforms) -> dict[str, np.ndarray]:
    """Where the middle of each of the template's hippocampi lies on the T1, (3,) mm by side."""
    inside = [np.argwhere(template.region_mask("hippocampus", side=side)).mean(0) for side in SIDES]
    points = nib.affines.apply_affine(template.GRID_AFFINE, np.array(inside)) * [-1, -1, 1]  # ITK's millimeters
    table = pd.DataFrame(points, columns=["x", "y", "z"])
    with register.plain_names(transforms.warp, transforms.affine) as names:
        moved = ants.apply_transforms_to_points(3, table, names, whichtoinvert=[False, False])
    return dict(zip(SIDES, moved[["x", "y", "z"]].to_numpy() * [-1, -1, 1], strict=True))


@lru_cache(maxsize=2)
def _network(weights: Path):
    import torch

    from preprocessing.networks.unet import load_network

    torch.set_num_threads(1)  # one process a subject, one thread a process
    return load_network(weights)
