"""Scans of a head whose labels are known: T1 in two renderings and a second session, and an FDG-PET.

Nothing that trains calls these functions; they are for comparisons alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from preprocessing.simulated.label_maps import BRAIN_LABELS, draw_t1

# What surrounds each head in its scan, so that there is air on every side.
MARGIN_MM = 10.0
NOISE, BIAS = 0.03, 0.25
FWHM_PER_SIGMA = 2.3548

# The second rendering: mean and SD between heads by tissue, white matter 100. A flatter contrast than that of
# `draw_t1`, as of a spoiled gradient echo at 1.5 T.
SECOND_CONTRAST: dict[tuple[int, ...], tuple[float, float]] = {
    (2, 41, 7, 46, 85): (100, 4),
    (16, 28, 60): (94, 3),
    (3, 42): (72, 4),
    (8, 47): (76, 4),
    (17, 53, 18, 54): (74, 4),
    (10, 49): (89, 4),
    (11, 50, 26, 58): (80, 4),
    (12, 51): (86, 4),
    (13, 52): (96, 4),
    (4, 5, 14, 15, 24, 43, 44, 72, 136, 137, 163, 164): (34, 5),
    (25, 57, 30, 62): (60, 8),
}
SECOND_VOXEL_MM, SECOND_TEXTURE = 1.2, 3.0
# Shares of the head's places along one axis during the scan, a voxel apart.
MOTION = (0.1, 0.2, 0.4, 0.2, 0.1)

# FDG uptake by label over that of the brainstem, (mean, SD between heads). Sizes after the published regional means
# of normal scans; not those of the simulated cohort.
UPTAKE: dict[tuple[int, ...], tuple[float, float]] = {
    (3, 42): (1.75, 0.15),
    (8, 47): (1.35, 0.10),
    (17, 53): (1.15, 0.12),
    (18, 54): (1.10, 0.10),
    (10, 49): (1.45, 0.12),
    (11, 50, 26, 58): (1.50, 0.14),
    (12, 51): (1.75, 0.14),
    (13, 52): (1.20, 0.10),
    (2, 41, 7, 46, 85, 25, 57): (0.70, 0.04),
    (16, 28, 60): (1.00, 0.0),
    (4, 5, 14, 15, 24, 43, 44, 72, 136, 137, 163, 164, 30, 62): (0.12, 0.02),
}
SCALP_UPTAKE = 0.35
PET_VOXEL_MM, PET_FWHM_MM, PET_NOISE = 2.0, (6.0, 8.0), 0.04


@dataclass(frozen=True)
class Scan:
    """An image, and the labels of the head where they lie in it: in mm of the image but on voxels of their own, since
    labels that are resampled have a rougher surface."""

    image: nib.Nifti1Image
    labels: nib.Nifti1Image


def read_labels(path) -> nib.Nifti1Image:
    """A label map in RAS+, cut to the head and a margin: int16."""
    image = nib.as_closest_canonical(nib.load(path))
    numbers = np.asarray(image.dataobj).astype(np.int16)
    margin = int(MARGIN_MM)
    corners = [(max(int(i.min()) - margin, 0), int(i.max()) + margin + 1) for i in np.nonzero(numbers)]
    return nib.Nifti1Image(numbers, image.affine).slicer[tuple(slice(*c) for c in corners)]


def first_rendering(labels: nib.Nifti1Image, seed: int) -> Scan:
    """`draw_t1` on the grid of the labels, with a bias field and Rician noise."""
    rng = np.random.default_rng([seed, 21])
    return Scan(_scanned(draw_t1(labels, seed), labels.affine, rng), labels)


def second_rendering(labels: nib.Nifti1Image, seed: int) -> Scan:
    """Another contrast, blurred by motion, with partial volume on voxels of 1.2 mm, in another pose."""
    rng = np.random.default_rng([seed, 22])
    numbers = np.asarray(labels.dataobj)
    image = _by_label(numbers, SECOND_CONTRAST, rng)
    outside = (numbers > 0) & ~np.isin(numbers, BRAIN_LABELS)
    for number in np.unique(numbers[outside]):
        image[numbers == number] = rng.uniform(15, 90)
    texture = ndimage.gaussian_filter(rng.standard_normal(numbers.shape, np.float32), 1.5)
    image += SECOND_TEXTURE * texture / texture.std() * (numbers > 0)
    image = ndimage.convolve1d(np.maximum(image, 0), MOTION, axis=int(rng.integers(3)))
    return _resampled(image.astype(np.float32), labels, rng, SECOND_VOXEL_MM)


def second_session(labels: nib.Nifti1Image, seed: int) -> Scan:
    """The first rendering's kind of image on another day: new pose, contrast, bias and noise, voxels of 1.2 mm."""
    rng = np.random.default_rng([seed, 23])
    return _resampled(draw_t1(labels, seed + 1000), labels, rng, SECOND_VOXEL_MM)


def resliced(image: nib.Nifti1Image, seed: int, voxel_mm: float = SECOND_VOXEL_MM) -> nib.Nifti1Image:
    """A real scan on another grid in another pose, with new noise (2 % of its 98th percentile)."""
    rng = np.random.default_rng([seed, 24])
    image = nib.as_closest_canonical(image)
    shape, affine, pose = _posed_grid(image, rng, voxel_mm)
    values = _sample(image.get_fdata(dtype=np.float32), image.affine, shape, np.linalg.inv(pose) @ affine, 3)
    noise = 0.02 * np.percentile(values, 98)
    return nib.Nifti1Image(_rician(np.maximum(values, 0), noise, rng), affine)


@dataclass(frozen=True)
class Uptake:
    """A PET of a head. pet: as scanned; sharp: before any blur, on the grid of the labels, `spacing_mm` apart."""

    pet: nib.Nifti1Image
    sharp: np.ndarray
    spacing_mm: np.ndarray

    def seen(self, fwhm_mm: float) -> np.ndarray:
        """Without noise, at that resolution, on the grid of the labels."""
        return ndimage.gaussian_filter(self.sharp, fwhm_mm / FWHM_PER_SIGMA / self.spacing_mm)


def render_pet(labels: nib.Nifti1Image, seed: int, again: bool = False) -> Uptake:
    """An FDG-PET drawn from the head's own labels: uptake by label and side, blur of 6 or 8 mm, pose and noise.

    again: the same uptake on another day, in another pose and with other noise.
    """
    rng = np.random.default_rng([seed, 25])
    numbers = np.asarray(labels.dataobj)
    uptake = np.where(numbers > 0, SCALP_UPTAKE, 0).astype(np.float32)
    for names, (mean, sd) in UPTAKE.items():
        for side in (names[: len(names) // 2], names[len(names) // 2 :]) if sd > 0.05 else (names,):
            uptake[np.isin(numbers, side)] = mean + sd * rng.standard_normal()
    texture = ndimage.gaussian_filter(rng.standard_normal(numbers.shape).astype(np.float32), 8.0)
    gray = np.isin(numbers, (3, 42))
    uptake[gray] *= np.exp(0.08 * texture / texture.std())[gray]
    spacing = nib.affines.voxel_sizes(labels.affine)
    noiseless = ndimage.gaussian_filter(uptake, pet_fwhm_mm(seed) / FWHM_PER_SIGMA / spacing)
    rng = np.random.default_rng([seed, 26]) if again else rng
    shape, affine, pose = _posed_grid(labels, rng, PET_VOXEL_MM)
    seen = _sample(noiseless, labels.affine, shape, np.linalg.inv(pose) @ affine, 1)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), 6.0 / FWHM_PER_SIGMA / PET_VOXEL_MM)
    seen *= 1 + PET_NOISE * noise / noise.std()
    pet = nib.Nifti1Image((5000 * np.clip(seen, 0, None)).astype(np.float32), affine)
    return Uptake(pet, uptake, spacing)


def pet_fwhm_mm(seed: int) -> float:
    """The resolution at which `render_pet` draws."""
    return PET_FWHM_MM[seed % len(PET_FWHM_MM)]


def _by_label(numbers: np.ndarray, table: dict[tuple[int, ...], tuple[float, float]], rng) -> np.ndarray:
    image = np.zeros(numbers.shape, np.float32)
    for names, (mean, sd) in table.items():
        image[np.isin(numbers, names)] = mean + sd * rng.standard_normal()
    return image


def _scanned(signal: np.ndarray, affine: np.ndarray, rng: np.random.Generator) -> nib.Nifti1Image:
    """Signal with a smooth bias field and Rician noise, in a scanner's arbitrary unit."""
    coarse = ndimage.gaussian_filter(rng.standard_normal((8, 8, 8)), 1.5)
    zoom = np.array(signal.shape) / coarse.shape
    bias = ndimage.zoom(BIAS * coarse / np.abs(coarse).max(), zoom, order=1, mode="nearest", grid_mode=True)
    return nib.Nifti1Image(_rician(8 * signal * np.exp(bias), 8 * NOISE * 100, rng), affine)


def _rician(signal: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    real, imaginary = (sd * rng.standard_normal(signal.shape, np.float32) for _ in range(2))
    return np.hypot(signal + real, imaginary).astype(np.float32)


def _posed_grid(image: nib.Nifti1Image, rng: np.random.Generator, voxel_mm: float):
    """A grid over the image in a new pose: its shape, its affine, and the 4x4 pose (old mm -> new mm)."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", 4 * rng.standard_normal(3), degrees=True).as_matrix()
    pose[:3, 3] = 4 * rng.standard_normal(3)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.shape], indexing="ij")).reshape(3, -1).T
    corners = nib.affines.apply_affine(pose @ image.affine, corners)
    shape = tuple(int(n) for n in np.ceil((corners.max(0) - corners.min(0)) / voxel_mm))
    affine = np.diag([voxel_mm] * 3 + [1.0])
    affine[:3, 3] = corners.min(0)
    return shape, affine, pose


def _sample(values: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], onto: np.ndarray, order: int) -> np.ndarray:
    """`values` on their `affine`, read at the voxels of a grid of `shape` that `onto` places in the same mm."""
    matrix = np.linalg.inv(affine) @ onto
    return ndimage.affine_transform(values, matrix[:3, :3], matrix[:3, 3], shape, order=order)


def _resampled(image: np.ndarray, labels: nib.Nifti1Image, rng: np.random.Generator, voxel_mm: float) -> Scan:
    """The head in a new pose on larger voxels, each the mean of what lies in it, scanned."""
    shape, affine, pose = _posed_grid(labels, rng, voxel_mm)
    onto = np.linalg.inv(pose) @ affine
    # Nine points a voxel, at the corners of a cube half as wide and in its middle, stand for the mean over the voxel.
    corners = np.array(np.meshgrid(*[(-0.25, 0.25)] * 3)).reshape(3, -1).T
    mean = np.zeros(shape, np.float32)
    for offset in (*corners, np.zeros(3)):
        shift = np.eye(4)
        shift[:3, 3] = offset
        mean += _sample(image, labels.affine, shape, onto @ shift, 1) / 9
    return Scan(_scanned(mean, affine, rng), nib.Nifti1Image(np.asarray(labels.dataobj), pose @ labels.affine))
