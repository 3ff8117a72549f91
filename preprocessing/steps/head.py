"""Tissues and what lies inside the skull on the person's own T1, by a network that saw drawn images alone.

No registration: the head is found by its brightness, and the box is moved once to what was found inside the skull.
The network and its limits: `networks/weights/README.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from preprocessing.networks import weights_path
from preprocessing.steps.orient import ScanError

WEIGHTS = weights_path("head")
VOXEL_MM = 2.0
BOX = (88, 104, 88)  # voxels: 176 x 208 x 176 mm
LOOK = 0.25  # voxels from the middle of a voxel to a point where it is looked at, as in `networks.synthesis.LOOKS`
# Classes that make up each tissue; the names of classes are those of `networks.labels.HEAD_CLASSES`.
TISSUES = {
    "csf": ("outer_csf", "lateral_ventricle", "inner_ventricle"),
    "gm": ("cortex", "deep_grey_matter", "hippocampus_amygdala", "cerebellar_cortex"),
    "wm": ("white_matter", "brainstem", "cerebellar_white_matter"),
}
CONTRAST = {"csf": 0.25, "gm": 0.65, "wm": 1.0}
TOP_TO_MIDDLE_MM = 80.0  # from the top of the head to the middle of what lies inside the skull
RECENTER_MM = 6.0
PLAUSIBLE_ML = (700.0, 2500.0)


@dataclass(frozen=True)
class Head:
    """What was found. probability: of each class by name, BOX float32 each; affine: (4, 4), voxels of VOXEL_MM along
    the axes of the T1 to its mm; volumes_ml: sums of probabilities by class, so that voxels at a border count in part.
    """

    probability: dict[str, np.ndarray]
    affine: np.ndarray
    volumes_ml: dict[str, float]

    @property
    def intracranial_ml(self) -> float:
        """All but background: brain and the fluid around it."""
        return sum(ml for name, ml in self.volumes_ml.items() if name != "background")

    @property
    def intracranial(self) -> np.ndarray:
        """Probability of lying inside the skull, BOX float32."""
        return 1 - self.probability["background"]

    def tissue(self, tissue: str) -> nib.Nifti1Image:
        """Probability of one of TISSUES."""
        return self.image(*TISSUES[tissue])

    def tissue_ml(self, tissue: str) -> float:
        """Volume of one of TISSUES."""
        return sum(self.volumes_ml[name] for name in TISSUES[tissue])

    def image(self, *classes: str) -> nib.Nifti1Image:
        """Probability of any of the classes."""
        return nib.Nifti1Image(sum(self.probability[name] for name in classes), self.affine)

    def contrast(self) -> nib.Nifti1Image:
        """The brain as a T1 without noise and shading: each voxel has the mean brightness of its tissues, CONTRAST."""
        values = sum(level * self.tissue(name).dataobj for name, level in CONTRAST.items())
        return nib.Nifti1Image(np.asarray(values, np.float32), self.affine)


def segment_head(t1: nib.Nifti1Image, weights: Path = WEIGHTS) -> Head:
    """Segment a T1 in RAS+ of any voxel size, as scanned or without its skull. The network runs once or twice.

    Raises ScanError: not_3d, not_finite, empty (no contrast), head_not_found (what lies inside the skull has an
    implausible volume). Raises FileNotFoundError where there are no weights.
    """
    values = _checked(t1)
    center = _first_center(values, t1.affine)
    for last in (False, True):
        affine = _box_affine(t1.affine, center)
        probability = _segment_box(_sampled(values, t1.affine, affine), weights)
        inside = probability["background"] < 0.5
        if last or not inside.any():
            break
        index = np.array(ndimage.center_of_mass(inside))
        center = nib.affines.apply_affine(affine, index)
        if np.linalg.norm(index - (np.array(BOX) - 1) / 2) * VOXEL_MM < RECENTER_MM:
            break
    ml = VOXEL_MM**3 / 1000
    head = Head(probability, affine, {name: float(p.sum(dtype=float) * ml) for name, p in probability.items()})
    low, high = PLAUSIBLE_ML
    if not low <= head.intracranial_ml <= high:
        found = f"{head.intracranial_ml:.0f} mL found inside the skull; expected {low:.0f}-{high:.0f} mL"
        raise ScanError("head_not_found", f"{found} (T1 of {' x '.join(map(str, t1.shape))} voxels)")
    return head


def to_scan(image: nib.Nifti1Image, t1: nib.Nifti1Image) -> np.ndarray:
    """Values of a map of the head on the grid of the T1 that was segmented, linear, 0 outside the box: float32."""
    matrix = np.linalg.inv(image.affine) @ t1.affine  # diagonal: the box lies along the axes of the T1
    places = [matrix[axis, axis] * np.arange(length) + matrix[axis, 3] for axis, length in enumerate(t1.shape)]
    return along_axes(np.asarray(image.dataobj, np.float32), places)


def along_axes(values: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """Values on another grid along the same axes, linear, 0 outside; places: its voxels along each axis, in voxels."""
    for axis, place in enumerate(places):
        weights = np.clip(1 - np.abs(place[:, np.newaxis] - np.arange(values.shape[axis])), 0, 1).astype(np.float32)
        values = np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
    return values


def _checked(t1: nib.Nifti1Image) -> np.ndarray:
    """The T1's values, float32."""
    if len(t1.shape) != 3:
        raise ScanError("not_3d", f"shape {t1.shape}; a T1 must have 3 axes")
    values = np.asarray(t1.dataobj, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ScanError("not_finite", f"{int((~np.isfinite(values)).sum())} voxels of the T1 are NaN or infinite")
    if values.max() == values.min():
        raise ScanError("empty", f"every voxel of the T1 is {values.flat[0]:g}; a scan must have contrast")
    return values


def _first_center(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Where the middle of the brain should lie, (3,) mm: below the top of what is bright."""
    spacing = nib.affines.voxel_sizes(affine)
    every = np.maximum(1, np.round(4 / spacing)).astype(int)
    coarse = values[tuple(slice(None, None, step) for step in every)]
    bright = np.argwhere(ndimage.median_filter((coarse > _otsu(coarse)).astype(np.uint8), 3)) * every
    if not len(bright):
        return nib.affines.apply_affine(affine, (np.array(values.shape) - 1) / 2)
    top = np.percentile(bright[:, 2], 99.5)
    upper = bright[bright[:, 2] > top - 2 * TOP_TO_MIDDLE_MM / spacing[2]]
    # Of what lies there, the middle between its ends: a brighter front does not draw it forward.
    middle = np.percentile(upper[:, :2], [2, 98], axis=0).mean(0)
    return nib.affines.apply_affine(affine, [*middle, top - TOP_TO_MIDDLE_MM / spacing[2]])


def _otsu(values: np.ndarray) -> float:
    """The threshold that parts values into two classes most unlike each other (Otsu, 1979)."""
    counts, edges = np.histogram(values, 256, (values.min(), np.percentile(values, 99.5)))
    middles, below = (edges[1:] + edges[:-1]) / 2, np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(middles[np.nanargmax(between)])


def _box_affine(t1_affine: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Of a box of BOX voxels around `center` (mm), along the axes of the T1."""
    affine = np.eye(4)
    affine[:3, :3] = VOXEL_MM * t1_affine[:3, :3] / nib.affines.voxel_sizes(t1_affine)
    affine[:3, 3] = center - affine[:3, :3] @ ((np.array(BOX) - 1) / 2)
    return affine


def _sampled(values: np.ndarray, t1_affine: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The T1 on a box along its axes: each voxel the mean of eight points, as wide apart as in training."""
    matrix = np.linalg.inv(t1_affine) @ affine
    for axis, length in enumerate(values.shape):
        weights, places = np.zeros((BOX[axis], length), np.float32), np.arange(BOX[axis])[:, np.newaxis]
        for look in (-LOOK, LOOK):
            away = matrix[axis, 3] + matrix[axis, axis] * (places + look) - np.arange(length)
            weights += np.clip(1 - np.abs(away), 0, 1) / 2  # linear interpolation
        values = np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
    return np.ascontiguousarray(values)


def _segment_box(box: np.ndarray, weights: Path) -> dict[str, np.ndarray]:
    """Probability of each class by name."""
    import torch

    from preprocessing.networks.synthesis import normalize

    network = _network(weights)
    with torch.inference_mode():
        probability = network(normalize(torch.from_numpy(box)[None, None])).softmax(1)[0].numpy()
    return dict(zip(network.classes, probability, strict=True))


@lru_cache(maxsize=2)
def _network(weights: Path):
    import torch

    from preprocessing.networks.unet import load_network

    if not weights.is_file():
        make = "python -m preprocessing.networks.train --label-maps DIR --network head makes them"
        raise FileNotFoundError(f"{weights}: no weights of the head network; {make}")
    torch.set_num_threads(1)  # one process a subject, one thread a process
    return load_network(weights)
