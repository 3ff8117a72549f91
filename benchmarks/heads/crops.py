"""Real hippocampus crops with manual labels: overlap and volume, and known changes put into their real texture.

Both need a segmentation of crops, `Segment`; the product's own is `product_segmentation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from preprocessing.quality.checks import dice
from preprocessing.steps import hippocampus

# (image on BOX voxels of 1 mm in RAS+, "left" or "right") -> bool mask of the hippocampus.
Segment = Callable[[np.ndarray, str], np.ndarray]
BOX = (64, 64, 64)
ANTERIOR, POSTERIOR = 1, 2
# Crops whose number is divisible by this are for development; all others are locked.
DEVELOPMENT = 3
CHANGES_PERCENT = (-20, -10, -5, 0, 10)
FIELD_SIGMA_MM = 6.0
# All warps, also that of 0 %, read between the voxels: so that all are blurred alike.
OFFSET_VOXELS = (0.4, 0.3, 0.35)
BISECTIONS, RADII = 20, 20_000


@dataclass(frozen=True)
class Crop:
    """One crop in RAS+ at 1 mm. `labels`: 0, 1 (anterior), 2 (posterior)."""

    number: int
    image: np.ndarray
    labels: np.ndarray

    @property
    def side(self) -> str:
        """By the label's position: "left" where it lies left of the crop's middle."""
        middle = (self.labels.shape[0] - 1) / 2
        return "left" if np.argwhere(self.labels > 0)[:, 0].mean() < middle else "right"


def product_segmentation() -> Segment:
    """The product's segmentation of the middle of a crop, at a probability of one half."""
    edges = [(size - inner) // 2 for size, inner in zip(BOX, hippocampus.BOX, strict=True)]
    middle = tuple(slice(edge, size - edge) for edge, size in zip(edges, BOX, strict=True))

    def segment(image: np.ndarray, side: str) -> np.ndarray:
        found = np.zeros(image.shape, bool)
        found[middle] = hippocampus.segment_box(image[middle], side)["hippocampus"] > 0.5
        return found

    return segment


def crops(folder: Path, locked: bool = False) -> Iterator[Crop]:
    """The crops of `folder`/images that have a label: a fixed third, or with `locked` the rest."""
    for path in sorted((folder / "images").glob("hippocampus_*.nii.gz")):
        number, labels = int(path.name.split("_")[1].split(".")[0]), folder / "labels" / path.name
        if not labels.is_file() or (number % DEVELOPMENT != 0) != locked:
            continue
        image, given = (nib.as_closest_canonical(nib.load(p)) for p in (path, labels))
        yield Crop(number, image.get_fdata(dtype=np.float32), np.asarray(given.dataobj).astype(np.int16))


def boxed(values: np.ndarray, mode: str = "edge") -> np.ndarray:
    """`values` in the middle of BOX, padded, or cut where they are larger."""
    for axis, size in enumerate(BOX):
        before = (size - values.shape[axis]) // 2
        pad = [(0, 0)] * 3
        pad[axis] = (max(before, 0), max(size - values.shape[axis] - max(before, 0), 0))
        values = np.pad(values, pad, mode=mode)
        start = max(-before, 0)
        values = np.take(values, range(start, start + size), axis=axis)
    return values


def judge_msd(segment: Segment, folder: Path, locked: bool = False) -> pd.DataFrame:
    """Volume (mL) and Dice of each crop: `judge head measure side true found dice qc`."""
    rows = []
    for crop in crops(folder, locked):
        truth, found = boxed(crop.labels, "constant") > 0, segment(boxed(crop.image), crop.side)
        rows.append(
            {
                "judge": "msd, locked" if locked else "msd",
                "head": f"crop {crop.number:03d}",
                "measure": "hippocampus",
                "side": crop.side,
                "true": truth.sum() / 1000,
                "found": found.sum() / 1000,
                "dice": dice(found, truth),
                "qc": "",
            }
        )
    return pd.DataFrame(rows)


def judge_response(segment: Segment, folder: Path, count: int = 40, locked: bool = False) -> pd.DataFrame:
    """Found against true change of volume (percent), where a smooth field shrinks or swells one end of the label.

    The change found is that against the same crop warped by 0 %; what that warp itself does to the found volume is the
    measure "interpolation".
    """
    rows = []
    for crop, _ in zip(crops(folder, locked), range(count), strict=False):
        image, labels = boxed(crop.image), boxed(crop.labels, "constant")
        plain = segment(image, crop.side).sum()
        row = {"judge": "response", "head": f"crop {crop.number:03d}", "side": crop.side, "dice": np.nan, "qc": ""}
        for end, name in ((ANTERIOR, "anterior"), (POSTERIOR, "posterior")):
            center = np.argwhere(labels == end).mean(0)
            still = segment(warp(image, center, 0.0), crop.side).sum()
            if end == ANTERIOR:
                rows.append(row | {"measure": "interpolation", "true": 0.0, "found": 100 * (still / plain - 1)})
            for wanted in CHANGES_PERCENT:
                if wanted == 0:
                    continue
                strength = strength_for(labels > 0, center, wanted / 100)
                found = segment(warp(image, center, strength), crop.side).sum()
                change = {"true": 100 * true_change(labels > 0, center, strength), "found": 100 * (found / still - 1)}
                rows.append(row | {"measure": f"change, {name}", "head": f"{row['head']} {wanted:+d} %"} | change)
    return pd.DataFrame(rows)


def strength_for(label: np.ndarray, center: np.ndarray, change: float) -> float:
    """The field's strength that changes the label's volume by `change` (-.1: a tenth less), by bisection."""
    low, high = -0.8, 0.8
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if true_change(label, center, middle) < change else (low, middle)
    return (low + high) / 2


def true_change(label: np.ndarray, center: np.ndarray, strength: float) -> float:
    """Relative change of the label's volume: the integral of the Jacobian of the forward map, minus 1.

    The forward map moves a point at r from the center to r (1 + strength exp(-r^2 / 2 s^2)); along the radius it grows
    by 1 + strength exp(.) (1 - r^2 / s^2), across it by 1 + strength exp(.), whose product is the Jacobian.
    """
    distance = np.linalg.norm(np.argwhere(label) - center, axis=1)
    bell = strength * np.exp(-(distance**2) / (2 * FIELD_SIGMA_MM**2))
    return float(((1 + bell) ** 2 * (1 + bell * (1 - distance**2 / FIELD_SIGMA_MM**2))).mean() - 1)


def warp(image: np.ndarray, center: np.ndarray, strength: float) -> np.ndarray:
    """The image after the forward map, read once by cubic splines: each voxel from where its point came from."""
    points = np.indices(image.shape, dtype=float) + np.reshape(OFFSET_VOXELS, (3, 1, 1, 1))
    offset = points - np.reshape(center, (3, 1, 1, 1))
    moved = np.linalg.norm(offset, axis=0)
    # The forward map along the radius rises for strengths between -1 and 2, so its table can be read backwards.
    radius = np.linspace(0, moved.max() + 1, RADII)
    source = np.interp(moved, radius * (1 + strength * np.exp(-(radius**2) / (2 * FIELD_SIGMA_MM**2))), radius)
    share = np.divide(source, moved, out=np.ones_like(moved), where=moved > 0)
    return ndimage.map_coordinates(image, offset * share + np.reshape(center, (3, 1, 1, 1)), order=3, mode="nearest")
