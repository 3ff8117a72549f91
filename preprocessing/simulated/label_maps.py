"""Other people's heads: FreeSurfer label maps turned into T1 images and brought onto the template.

A label map has no cortical parcels; registration to the template brings CerebrA onto it. The registration that makes
the maps is kept in `OUT/truth/anatomies`, so it runs once per head.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm import tqdm

from adni_tcgm.files import whole_file
from adni_tcgm.processes import process_pool
from preprocessing.simulated.anatomy import sample
from preprocessing.simulated.deformation import displaced
from preprocessing.steps import lazy_ants as ants
from preprocessing.steps import register, template

# T1 intensity (mean, SD between heads), white matter 100, by tissue and FreeSurfer label. Deep structures lie between
# grey and white; numbers from 502 on are what surrounds the brain, in the maps' own extension of the labels.
INTENSITIES: dict[tuple[int, ...], tuple[float, float]] = {
    (2, 41, 7, 46, 85): (100, 3),  # white matter, cerebral and cerebellar; optic chiasm
    (16, 28, 60): (88, 3),  # brainstem, ventral diencephalon
    (3, 42, 8, 47): (64, 3),  # cortex, cerebral and cerebellar
    (17, 53, 18, 54): (68, 3),  # hippocampus, amygdala
    (10, 49): (84, 3),  # thalamus
    (11, 50, 26, 58): (74, 3),  # caudate, accumbens
    (12, 51): (80, 3),  # putamen
    (13, 52): (92, 3),  # pallidum
    (4, 5, 14, 15, 24, 43, 44, 72, 136, 137, 163, 164): (22, 3),  # ventricles and other fluid
    (25, 57, 30, 62): (70, 4),  # lesions, vessels
}
OUTSIDE = (52.0, 18.0)
BRAIN_LABELS = tuple(label for labels in INTENSITIES for label in labels)
FLUID_AROUND_BRAIN = 24
TEXTURE = 3.0
GRID_MARGIN_MM = 20.0


@dataclass(frozen=True)
class PointMap:
    """Displacements (3, i, j, k) in mm on a grid with `affine`; linear between, constant outside."""

    displacement: np.ndarray
    affine: np.ndarray

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        inverse = np.linalg.inv(self.affine)
        index = np.tensordot(inverse[:3, :3], points_mm, axes=1)
        index += inverse[:3, 3].reshape(3, *[1] * (points_mm.ndim - 1))
        moved = [ndimage.map_coordinates(d, index, order=1, mode="nearest") for d in self.displacement]
        return points_mm + np.stack(moved).astype(points_mm.dtype)


@dataclass(frozen=True)
class LabelMapAnatomy:
    """A head drawn from the label map in `file`, which is read only when its T1 is asked for.

    forward: template mm -> head mm; backward: head mm -> template mm.
    """

    file: Path
    forward: PointMap
    backward: PointMap
    seed: int
    mean_scale: float = 1.0

    def from_template(self, points_mm: np.ndarray) -> np.ndarray:
        return self.forward(points_mm)

    def to_template(self, points_mm: np.ndarray) -> np.ndarray:
        return self.backward(points_mm)

    @cached_property
    def _log_jacobian(self) -> np.ndarray:
        spacing = template.SPACING_MM
        derivative = np.stack([np.stack(np.gradient(d, spacing, axis=(0, 1, 2))) for d in self.forward.displacement])
        derivative += np.eye(3).reshape(3, 3, 1, 1, 1)
        determinant = np.linalg.det(np.moveaxis(derivative, (0, 1), (-2, -1)))
        return np.log(np.clip(determinant, 0.05, None)).astype(np.float32)

    def jacobian(self, displacement: np.ndarray) -> np.ndarray:
        index = np.indices(template.GRID_SHAPE, dtype=np.float32)
        points = index * template.SPACING_MM + template.GRID_AFFINE[:3, 3].reshape(3, 1, 1, 1)
        return np.exp(sample(self._log_jacobian, template.GRID_AFFINE, displaced(points, displacement)))

    @cached_property
    def _drawn(self) -> nib.Nifti1Image:
        labels = _canonical(self.file)
        return nib.Nifti1Image(draw_t1(labels, self.seed), labels.affine)

    def t1(self, points_mm: np.ndarray) -> np.ndarray:
        return sample(self._drawn.get_fdata(dtype=np.float32), self._drawn.affine, points_mm)


def draw_t1(labels: nib.Nifti1Image, seed: int) -> np.ndarray:
    """A T1 of the label map: a mean per tissue, texture, and the blur of a 1 mm scan."""
    rng = np.random.default_rng([seed, 11])
    numbers = np.asarray(labels.dataobj).astype(int)
    image = np.zeros(numbers.shape, np.float32)
    for names, (mean, sd) in INTENSITIES.items():
        image[np.isin(numbers, names)] = mean + sd * rng.standard_normal()
    for number in np.setdiff1d(np.unique(numbers), [0, *BRAIN_LABELS]):
        image[numbers == number] = max(8.0, OUTSIDE[0] + OUTSIDE[1] * rng.standard_normal())
    image += TEXTURE * rng.standard_normal(numbers.shape) * (numbers > 0)
    return ndimage.gaussian_filter(np.maximum(image, 0), 0.5)


def brain_of(labels: nib.Nifti1Image) -> np.ndarray:
    """Bool mask of the brain: every tissue label and the fluid enclosed by them, without the outer fluid."""
    numbers = np.asarray(labels.dataobj).astype(int)
    solid = np.isin(numbers, [label for label in BRAIN_LABELS if label != FLUID_AROUND_BRAIN])
    return ndimage.binary_closing(np.pad(solid, 4), iterations=3)[4:-4, 4:-4, 4:-4]


def label_map_files(folder: Path) -> list[Path]:
    """Label maps in a folder, by name. Raises FileNotFoundError where there is none."""
    files = sorted(folder.glob("*.nii.gz")) + sorted(folder.glob("*.nii"))
    if not files:
        raise FileNotFoundError(f"{folder}: no label map (*.nii.gz) here")
    return files


def prepare_anatomies(folder: Path, cache: Path, jobs: int, progress: bool = True) -> None:
    """Register every label map of `folder` to the template, once; the point maps go to `cache`."""
    missing = [(i, f, cache) for i, f in enumerate(label_map_files(folder)) if not _cached(cache, f).is_file()]
    if not missing:
        return
    cache.mkdir(parents=True, exist_ok=True)
    with process_pool(jobs, register.make_repeatable) as pool:
        results = pool.map(_register, missing)
        list(tqdm(results, total=len(missing), desc="anatomies", unit="head", disable=not progress))


def load_anatomy(folder: Path, cache: Path, number: int) -> LabelMapAnatomy:
    """One head of `folder`, registered before by `prepare_anatomies`."""
    file = label_map_files(folder)[number]
    maps = np.load(_cached(cache, file), allow_pickle=False)
    forward = PointMap(maps["forward"].astype(np.float32), template.GRID_AFFINE)
    backward = PointMap(maps["backward"].astype(np.float32), maps["affine"])
    return LabelMapAnatomy(file, forward, backward, number)


def _cached(cache: Path, file: Path) -> Path:
    return cache / (file.name.split(".")[0] + ".npz")


def _canonical(file: Path) -> nib.Nifti1Image:
    """The label map in RAS+, with the centre of the brain at the origin, as scanners place a head."""
    image = nib.as_closest_canonical(nib.load(file))
    numbers = np.asarray(image.dataobj).astype(np.int16)
    centre = ndimage.center_of_mass(np.isin(numbers, BRAIN_LABELS))
    affine = image.affine.copy()
    affine[:3, 3] -= nib.affines.apply_affine(affine, centre) - np.array([0.0, -18.0, 8.0])
    return nib.Nifti1Image(numbers, affine)


def _register(task: tuple[int, Path, Path]) -> None:
    number, file, cache = task
    labels = _canonical(file)
    brain = nib.Nifti1Image(draw_t1(labels, number) * brain_of(labels), labels.affine)
    fixed = template.grid_image(template.t1() * template.brain_mask())
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        found = register.register_to_template(brain, fixed, Path(scratch) / "a_")
        forward = _displacement(template.GRID_SHAPE, template.GRID_AFFINE, [found.warp, found.affine], [False, False])
        shape, affine = _native_grid(labels)
        backward = _displacement(shape, affine, [found.affine, found.inverse_warp], [True, False])
    with whole_file(_cached(cache, file)) as partial:
        np.savez(partial, forward=forward, backward=backward, affine=affine)


def _native_grid(labels: nib.Nifti1Image) -> tuple[tuple[int, ...], np.ndarray]:
    """A 2 mm grid over the head."""
    corners = np.array([[0, 0, 0], labels.shape])
    low, high = nib.affines.apply_affine(labels.affine, corners)
    shape = tuple(int(n) for n in np.ceil((high - low + 2 * GRID_MARGIN_MM) / template.SPACING_MM))
    affine = np.diag([template.SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = low - GRID_MARGIN_MM
    return shape, affine


def _displacement(shape: tuple[int, ...], affine: np.ndarray, chain: list[Path], inverted: list[bool]) -> np.ndarray:
    """Where the points of a grid go, less where they are: (3, *shape) float16 mm."""
    points = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3))
    itk = points * [-1, -1, 1]  # ITK counts millimetres towards left and back
    table = pd.DataFrame(itk, columns=["x", "y", "z"])
    with register.plain_names(*chain) as names:
        moved = ants.apply_transforms_to_points(3, table, names, whichtoinvert=inverted)
    difference = (moved[["x", "y", "z"]].to_numpy() - itk) * [-1, -1, 1]
    return np.moveaxis(difference.reshape(*shape, 3), -1, 0).astype(np.float16)
