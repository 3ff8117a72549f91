"""Measures of quality control that take more than a line; `checks` judges them.

Each asks for a cause: a head that the registration had to turn, a copy of the head beside the head, a PET of another
head, a PET whose sides are exchanged.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from preprocessing.steps import template

COARSE_MM = 4.0
AIR_DISTANCE_MM = 30.0  # from the brain: beyond skull, scalp and hair
MIN_AIR_VOXELS = 200
THIN = 2  # voxels: 4 mm is fine enough for a PET of 8 mm


def tilt_degrees(matrix: np.ndarray) -> float:
    """By how much an affine (3x3) turns, without its stretch: the angle of the rotation next to it (polar form)."""
    left, _, right = np.linalg.svd(matrix)
    rotation = left @ right * np.sign(np.linalg.det(left @ right))
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def ghost_share(scan: np.ndarray, mask: np.ndarray, voxel_mm: tuple[float, float, float]) -> float:
    """Structure in the air around the upper head, over the signal of bright brain.

    Motion during the scan repeats the head along an axis, beside the brain as well as on it. Noise is blurred away
    (about 10 mm), its floor taken off by the median. 0 where there is no air to look at, or where it was set to zero.
    scan: the full field of view, RAS+; mask: the brain on it, bool.
    """
    steps = tuple(max(1, round(COARSE_MM / size)) for size in voxel_mm)
    thin = tuple(slice(step // 2, None, step) for step in steps)
    coarse = ndimage.gaussian_filter(ndimage.uniform_filter(scan.astype(np.float32), steps)[thin], 1.0)
    brain = mask[thin]
    if not brain.any():
        return 0.0
    spacing = [step * size for step, size in zip(steps, voxel_mm, strict=True)]
    air = ndimage.distance_transform_edt(~brain, sampling=spacing) > AIR_DISTANCE_MM
    air[:, :, : int(np.argwhere(brain)[:, 2].mean())] = False  # face and neck
    if air.sum() < MIN_AIR_VOXELS:
        return 0.0
    low, high = np.percentile(coarse[air], (50, 95))
    return float((high - low) / max(np.percentile(coarse[brain], 80), 1e-9))


def rim_mm(probability: np.ndarray) -> float:
    """Width of the rim in which a segmentation is unsure, in voxels of 1 mm; NaN where it found nothing.

    Where probability falls from 1 to 0 evenly over a width w, p (1 - p) adds up to w / 6 along each line across.
    """
    inside = probability > 0.5
    surface = (inside & ~ndimage.binary_erosion(inside)).sum()
    return float(6 * (probability * (1 - probability)).sum() / surface) if surface else float("nan")


def misfit_mm(suvr: np.ndarray, expected: np.ndarray, covered: np.ndarray) -> float:
    """How far a PET would have to bend to lie on the uptake that the T1 lets expect: root mean square in the brain, mm.

    To first order suvr = constant + level * expected + displacement . slope of expected. The displacement is a
    quadratic polynomial of position in each direction, so that place, size, proportions and bends of a head count; the
    level is a linear one, so that regional uptake counts less. By least squares on every second voxel of the brain and
    8 mm around it, where borders show most. All maps (91, 109, 91) in template space. Another person's PET, rigidly on
    this T1, leaves some millimeters. NaN where hardly anything is covered.
    """
    region = (ndimage.binary_dilation(template.brain_mask(), iterations=4) & covered)[::THIN, ::THIN, ::THIN]
    if region.sum() < 1000:
        return float("nan")
    maps = (suvr, expected, *np.gradient(expected, template.SPACING_MM))
    measured, likely, *slopes = (values[::THIN, ::THIN, ::THIN][region].astype(np.float64) for values in maps)
    half = np.array(template.GRID_SHAPE) / 2
    x, y, z = ((np.argwhere(region) * THIN - half) / half).T
    linear = np.stack([np.ones_like(x), x, y, z])
    basis = np.concatenate([linear, [x * x, y * y, z * z, x * y, x * z, y * z]])
    columns = [np.ones_like(x), *(likely * linear), *(slope * term for slope in slopes for term in basis)]
    solution = np.linalg.lstsq(np.stack(columns, 1), measured, rcond=None)[0]
    level = solution[1:5] @ linear
    moved = (solution[5:].reshape(3, -1) @ basis) / np.maximum(level, 0.2 * np.abs(level).max())
    return float(np.sqrt((moved**2).sum(0).mean()))
