"""Brains of the right regional volumes: smooth invertible deformations of the template.

A stationary velocity field v (mm, on a 4 mm grid over template space) is exponentiated by scaling and squaring;
exp(v) maps template space to the person's space before head size, exp(-v) back. A region's log-volume change is, to
first order, the mean divergence of v over the region, so a field with wanted divergences is a Poisson problem, solved
by FFT, and the coefficients follow from a small linear system.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from preprocessing.simulated.disease import REGIONS
from preprocessing.simulated.healthy import SIDES
from preprocessing.steps import template

SPACING_MM = 4.0
SHAPE = (46, 55, 46)
ORIGIN_MM = template.GRID_AFFINE[:3, 3]
SQUARINGS = 4
# Anatomical variation that carries no information about anybody: displacement (mm) at two scales (mm).
VARIATION = ((1.4, 24.0), (0.3, 10.0))
CONTROLLED = tuple((region, side) for region in REGIONS["mri"] for side in SIDES)


def _on_field_grid(values: np.ndarray) -> np.ndarray:
    """(91, 109, 91) on the 2 mm grid -> means over 2x2x2 voxels on the 4 mm grid, (46, 55, 46)."""
    smooth = ndimage.uniform_filter(values.astype(np.float32), 3)
    return smooth[::2, ::2, ::2]


def _gradient_field(source: np.ndarray) -> np.ndarray:
    """The curl-free velocity (3, 46, 55, 46) whose divergence is `source` less its mean (periodic, spectral)."""
    frequencies = [2 * np.pi * np.fft.fftfreq(n, SPACING_MM) for n in SHAPE]
    # The Nyquist frequency has no derivative of its own sign; without this the field would be complex.
    for f, n in zip(frequencies, SHAPE, strict=True):
        if n % 2 == 0:
            f[n // 2] = 0
    k = np.stack(np.meshgrid(*frequencies, indexing="ij"))
    square = (k**2).sum(0)
    potential = np.fft.fftn(source - source.mean())
    potential = np.where(square > 0, -potential / np.where(square > 0, square, 1), 0)
    return np.real(np.fft.ifftn(1j * k * potential, axes=(1, 2, 3))).astype(np.float32)


def divergence(velocity: np.ndarray) -> np.ndarray:
    """(3, 46, 55, 46) mm -> (46, 55, 46), central differences."""
    return sum(np.gradient(velocity[axis], SPACING_MM, axis=axis) for axis in range(3))


@lru_cache
def _controlled_regions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (K, n) that average over each region, velocities (K, 3, ...) and their mean divergences (K, K)."""
    outside = ndimage.binary_dilation(template.brain_mask(), iterations=2) & ~ndimage.binary_erosion(
        template.brain_mask(), iterations=1
    )
    weights, velocities = [], []
    for region, side in CONTROLLED:
        inside = _on_field_grid(template.region_mask(region, side=side))
        source = ndimage.gaussian_filter(inside, 0.75)
        # What a region loses, the fluid around it gains; nothing far away moves.
        fluid = ndimage.gaussian_filter(inside, 6) * _on_field_grid(outside)
        velocities.append(_gradient_field(source / source.max() - fluid * source.sum() / source.max() / fluid.sum()))
        weights.append((inside / inside.sum()).ravel())
    weights, velocities = np.stack(weights), np.stack(velocities).astype(np.float32)
    means = np.stack([weights @ divergence(v).ravel() for v in velocities], axis=1)
    return weights, velocities, means


def random_velocity(rng: np.random.Generator) -> np.ndarray:
    """Smooth variation between people, (3, 46, 55, 46) mm."""
    velocity = np.zeros((3, *SHAPE), np.float32)
    for amplitude_mm, scale_mm in VARIATION:
        noise = rng.standard_normal((3, *SHAPE), np.float32)
        smooth = np.stack([ndimage.gaussian_filter(n, scale_mm / SPACING_MM, mode="wrap") for n in noise])
        velocity += amplitude_mm * smooth / smooth.std()
    return velocity


def velocity_with(changes: dict[tuple[str, str], float], background: np.ndarray) -> np.ndarray:
    """`background` corrected so that every controlled region changes its log volume as `changes` says."""
    weights, velocities, means = _controlled_regions()
    wanted = np.array([changes[key] for key in CONTROLLED])
    coefficients = np.linalg.solve(means, wanted - weights @ divergence(background).ravel())
    return background + np.tensordot(coefficients.astype(np.float32), velocities, axes=1)


def exponential(velocity: np.ndarray) -> np.ndarray:
    """Displacement (3, 46, 55, 46) mm of exp(velocity), by scaling and squaring (Arsigny et al., MICCAI 2006)."""
    displacement = velocity / 2**SQUARINGS
    grid = np.indices(SHAPE, dtype=np.float32)
    for _ in range(SQUARINGS):
        moved = grid + displacement / SPACING_MM
        displacement = displacement + np.stack(
            [ndimage.map_coordinates(d, moved, order=1, mode="nearest") for d in displacement]
        )
    return displacement


def displaced(points_mm: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Points (3, ...) in template mm moved by a displacement field on the 4 mm grid."""
    index = (points_mm - ORIGIN_MM.reshape(3, *[1] * (points_mm.ndim - 1))) / SPACING_MM
    moved = [ndimage.map_coordinates(d, index, order=1, mode="nearest") for d in displacement]
    return points_mm + np.stack(moved).astype(points_mm.dtype)


def jacobian_on_grid(displacement: np.ndarray) -> np.ndarray:
    """Determinant of the derivative of x + displacement(x), on the 2 mm grid: (91, 109, 91)."""
    derivative = np.stack([np.stack(np.gradient(d, SPACING_MM, axis=(0, 1, 2))) for d in displacement])
    derivative += np.eye(3).reshape(3, 3, 1, 1, 1)
    determinant = np.linalg.det(np.moveaxis(derivative, (0, 1), (-2, -1)))
    index = np.indices(template.GRID_SHAPE, dtype=np.float32) * (template.SPACING_MM / SPACING_MM)
    return ndimage.map_coordinates(determinant.astype(np.float32), index, order=1, mode="nearest")
