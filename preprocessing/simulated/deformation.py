"""Brains of the right regional volumes: smooth invertible deformations of the template.

A stationary velocity field v (mm, on a 4 mm grid over template space) is exponentiated by scaling and squaring;
exp(v) maps template space to the person's space before head size, exp(-v) back. A region's log-volume change is, to
first order, the mean divergence of v over the region, so a field with wanted divergences is a Poisson problem, solved
by FFT, and the coefficients follow from a small linear system.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft, ndimage

from preprocessing.simulated.disease import REGIONS
from preprocessing.simulated.healthy import SIDES
from preprocessing.steps import template
from preprocessing.steps.interpolation import trilinear

SPACING_MM = 4.0
SHAPE = (46, 55, 46)
ORIGIN_MM = template.GRID_AFFINE[:3, 3]
SQUARINGS = 2
# Anatomical variation that carries no information about anybody: displacement (mm) at two scales (mm).
VARIATION = ((2.2, 24.0), (0.5, 10.0))
CONTROLLED = tuple((region, side) for region in REGIONS["mri"] for side in SIDES)
SOURCE_SOFTNESS, REACH_MM = 0.75, 24.0  # voxels of the field; mm
# How readily white matter, and whatever else in the skull is no region, gives way, fluid being 1; and how thick a shell
# around it, on the 2 mm grid, gives way to what the skull would gain.
YIELDING, SHELL_VOXELS = 0.2, 4


def coarsen(values: np.ndarray) -> np.ndarray:
    """(91, 109, 91) on the 2 mm grid -> the 4 mm grid of the fields, (46, 55, 46): means over about 4 mm."""
    smooth = values.astype(np.float32, copy=False)
    for axis in range(3):
        before = (slice(None),) * axis
        even, odd = smooth[*before, ::2], smooth[*before, 1::2]
        smooth = even / 2
        count = smooth.shape[axis]  # of the even voxels; the last has none behind it where their number is odd
        smooth[*before, : odd.shape[axis]] += odd / 4
        smooth[*before, 1:] += odd[*before, : count - 1] / 4
        smooth[*before, 0] += even[*before, 0] / 4
        if odd.shape[axis] < count:
            smooth[*before, -1] += even[*before, -1] / 4
    return smooth


def _coarse_mask(labels: np.ndarray, number: int, box: tuple[slice, ...]) -> np.ndarray:
    """`coarsen(labels == number)`, looking only into the label's own box."""
    starts = [max(0, axis.start // 2 - 1) for axis in box]
    part = tuple(slice(2 * first, axis.stop + 2) for first, axis in zip(starts, box, strict=True))
    small = coarsen(labels[part] == number)
    mask = np.zeros(SHAPE, np.float32)
    mask[tuple(slice(first, first + size) for first, size in zip(starts, small.shape, strict=True))] = small
    return mask


def refine(values: np.ndarray) -> np.ndarray:
    """(..., 46, 55, 46) on the 4 mm grid -> (..., 91, 109, 91) on the 2 mm grid, linear between voxels."""
    for axis in (-1, -2, -3):  # the last, whose voxels lie one by one in memory, while there are few
        before, size = (slice(None),) * (values.ndim + axis), values.shape[axis]
        fine = np.empty((*values.shape[: values.ndim + axis], 2 * size - 1, *values.shape[axis:][1:]), values.dtype)
        fine[*before, ::2] = values
        np.add(values[*before, :-1], values[*before, 1:], out=fine[*before, 1::2])
        fine[*before, 1::2] /= 2
        values = fine
    return values


@lru_cache
def _wave_numbers() -> tuple[np.ndarray, ...]:
    """Wave number along each axis at which central differences see a wave, shaped for `fft.rfftn`."""
    waves = [np.sin(2 * np.pi * fft.fftfreq(n)) / SPACING_MM for n in SHAPE[:2]]
    waves.append(np.sin(2 * np.pi * fft.rfftfreq(SHAPE[2])) / SPACING_MM)
    return tuple(
        w.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)]) for axis, w in enumerate(waves)
    )


def gradient_field(source: np.ndarray) -> np.ndarray:
    """The curl-free velocity (3, 46, 55, 46) whose divergence is `source` less its mean (periodic)."""
    waves = _wave_numbers()
    square = sum(w**2 for w in waves)
    potential = fft.rfftn(source.astype(np.float32))
    potential = np.where(square > 1e-12, -potential / np.maximum(square, 1e-12), 0)
    return np.stack([fft.irfftn(1j * w * potential, SHAPE) for w in waves]).astype(np.float32)


def divergence(velocity: np.ndarray) -> np.ndarray:
    """(3, 46, 55, 46) mm -> (46, 55, 46), central differences."""
    return sum(np.gradient(velocity[axis], SPACING_MM, axis=axis) for axis in range(3))


@dataclass(frozen=True)
class Controls:
    """How the volumes of an anatomy's regions are set: those of CONTROLLED, and last the whole brain: K in all.

    weights (K, n) average over each region; sources (K, n) are divergences that change it; means (K, K): mean
    divergence over each region of each source; inside (46, 55, 46) bool: the n voxels of the field.
    """

    weights: np.ndarray
    sources: np.ndarray
    means: np.ndarray
    inside: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, fluid: np.ndarray) -> Controls:
        """On the 2 mm template grid, (91, 109, 91): CerebrA's numbers, and the share of fluid."""
        brain = template.brain_mask()
        numbers = template.region_table().set_index(["region", "side"]).label
        boxes = ndimage.find_objects(labels, labels.max())
        reach = _gaussian_spectrum(REACH_MM).astype(np.float32)
        yielding = coarsen((brain & (labels == 0)) * (YIELDING + (1 - YIELDING) * fluid))
        weights, sources = [], []
        for key in CONTROLLED:
            inside = _coarse_mask(labels, numbers[key], boxes[numbers[key] - 1])
            source = ndimage.gaussian_filter(inside, SOURCE_SOFTNESS)
            # What a region loses, the fluid around it gains; nothing far away moves.
            around = fft.irfftn(fft.rfftn(inside) * reach, SHAPE) * yielding
            source -= around * (source.sum() / around.sum())
            sources.append(source.ravel() / source.max())
            weights.append(inside.ravel() / inside.sum())
        # The skull keeps its size, whatever shrinks in it.
        outside = coarsen(ndimage.binary_dilation(brain, iterations=SHELL_VOXELS) & ~brain)
        source, inside = yielding / yielding.sum() - outside / outside.sum(), coarsen(brain)
        sources.append(source.ravel() / source.max())
        weights.append(inside.ravel() / inside.sum())
        weights, sources = np.stack(weights), np.stack(sources)
        changed = (weights != 0).any(0) | (sources != 0).any(0)
        weights, sources = weights[:, changed], sources[:, changed]
        return cls(weights, sources, weights @ sources.T, changed.reshape(SHAPE))

    def velocity(self, changes: dict[tuple[str, str], float], background: np.ndarray) -> np.ndarray:
        """`background` corrected: each region changes its log volume as `changes` says, the whole brain keeps it."""
        wanted = np.array([*(changes[key] for key in CONTROLLED), 0.0])
        coefficients = np.linalg.solve(self.means, wanted - self.weights @ divergence(background)[self.inside])
        source = np.zeros(SHAPE, np.float32)
        source[self.inside] = coefficients.astype(np.float32) @ self.sources
        return background + gradient_field(source)


def _gaussian_spectrum(sigma_mm: float) -> np.ndarray:
    """What a blur of this width leaves of each wave, in the order of `fft.rfftn`."""
    frequencies = (fft.fftfreq(SHAPE[0]), fft.fftfreq(SHAPE[1]), fft.rfftfreq(SHAPE[2]))
    square = sum(f.reshape([-1 if a == axis else 1 for a in range(3)]) ** 2 for axis, f in enumerate(frequencies))
    return np.exp(-2 * (np.pi * sigma_mm / SPACING_MM) ** 2 * square)


def random_velocity(rng: np.random.Generator) -> np.ndarray:
    """Smooth variation between people, (3, 46, 55, 46) mm."""
    return smooth_noise(rng, VARIATION, 3)


def smooth_noise(rng: np.random.Generator, scales: tuple[tuple[float, float], ...], count: int) -> np.ndarray:
    """Independent Gaussian fields (count, 46, 55, 46), each a sum of parts of these (SD, sigma of the blur in mm)."""
    noise = fft.rfftn(rng.standard_normal((count, *SHAPE), np.float32), axes=(1, 2, 3))
    return fft.irfftn(noise * _noise_amplitude(scales), SHAPE, axes=(1, 2, 3)).astype(np.float32)


@lru_cache
def _noise_amplitude(scales: tuple[tuple[float, float], ...]) -> np.ndarray:
    """By what white noise is multiplied in `smooth_noise`, in the order of `fft.rfftn`."""
    # rfftn leaves out the mirrored half of the frequencies.
    times = np.full(SHAPE[2] // 2 + 1, 2)
    times[[0, -1]] = 1
    power = 0.0
    for sd, scale_mm in scales:
        gaussian = _gaussian_spectrum(scale_mm) ** 2
        power += sd**2 * gaussian * np.prod(SHAPE) / (gaussian * times).sum()
    return np.sqrt(power).astype(np.float32)


def exponential(velocity: np.ndarray) -> np.ndarray:
    """Displacement (3, 46, 55, 46) mm of exp(velocity), by scaling and squaring (Arsigny et al., MICCAI 2006).

    The step that is squared is right to second order: v + (v . grad) v / 2.
    """
    small = velocity / 2**SQUARINGS
    slopes = (np.gradient(component, np.float32(SPACING_MM)) for component in small)
    displacement = small + np.stack([sum(map(np.multiply, small, slope)) for slope in slopes]) / 2
    for _ in range(SQUARINGS):
        displacement = displacement + sampled(displacement, displacement)
    return displacement


def sampled(fields: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """`fields` (C, 46, 55, 46) at the voxels of the 4 mm grid moved by `displacement` (mm); constant outside."""
    return trilinear(fields, np.indices(SHAPE, dtype=np.float32) + displacement / np.float32(SPACING_MM))


def displaced(points_mm: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Points (3, ...) in template mm moved by a displacement field on the 4 mm grid."""
    origin = ORIGIN_MM.astype(points_mm.dtype).reshape(3, *[1] * (points_mm.ndim - 1))
    index = (points_mm - origin) / points_mm.dtype.type(SPACING_MM)
    return points_mm + trilinear(displacement, index).astype(points_mm.dtype)


def determinant(displacement: np.ndarray) -> np.ndarray:
    """Of the derivative of x + displacement(x), on the 4 mm grid: (46, 55, 46) float32."""
    (a, b, c), (d, e, f), (g, h, i) = (np.gradient(u, np.float32(SPACING_MM), axis=(0, 1, 2)) for u in displacement)
    a, e, i = a + 1, e + 1, i + 1
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
