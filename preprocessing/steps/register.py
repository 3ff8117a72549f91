"""Bring scans to the template: affine + SyN for the T1, rigid for the PET, and one interpolation for what is warped.

Direction and space: a transform "from T1w to template" resamples a T1 onto the template's grid; as a map of points it
takes template points into the T1 (ITK's convention). Reference: Avants et al., Medical Image Analysis 2008 (SyN).
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np

from preprocessing.steps import lazy_ants as ants
from preprocessing.steps import resample, template
from preprocessing.steps.orient import crop_to
from preprocessing.steps.warp_field import write_field

# SyN iterations at 8, 4 and 2 mm. Few steps, each three times as long as ANTs' default: labels of heads overlap as well
# as after (40, 20, 5) of half the length, which took 1.7 times as long; without the last level ventricles fit worse.
ITERATIONS = (30, 8, 3)
COARSE_ITERATIONS = (20, 10, 0)
GRADIENT_STEP = 0.6
# At 8 and 4 mm: ANTs' own schedule inside SyN goes on for thousands of steps that move nothing.
AFFINE = {"aff_iterations": (100, 50), "aff_shrink_factors": (4, 2), "aff_smoothing_sigmas": (2, 1)}
BOX_MARGIN_MM = 4.0
# ANTs takes these for its own syntax, "[FILE,1]", wherever they stand in a path.
ANTS_SYNTAX = re.compile(r"[\[\],]")


@dataclass(frozen=True)
class Transforms:
    """The T1's way to the template as files: an affine, the SyN field on the template's brain box, and its inverse."""

    affine: Path
    warp: Path
    inverse_warp: Path


@lru_cache
def _brain_box() -> tuple[slice, slice, slice]:
    """The part of the template grid that SyN works on: the brain and a margin. Around it the map is affine."""
    brain = template.brain_mask()
    return crop_to(template.grid_image(brain.astype(np.uint8)), brain, BOX_MARGIN_MM)


def make_repeatable(seed: int = 0) -> None:
    """From here on, this process registers with random numbers from `seed` (0 or more).

    That it does so on one thread is seen to in `preprocessing/__init__.py`, before ITK can look.
    """
    ants.draw_from(seed + 1)  # ANTs takes 0 for "from the clock"


def to_ants(image: nib.Nifti1Image) -> ants.ANTsImage:
    """Float32 copy of an image for ANTs, in the same place of the world."""
    copy = nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)
    copy.header.set_xyzt_units("mm", "sec")  # ANTs warns of unknown units
    return ants.from_nibabel_nifti(copy)


@contextmanager
def plain_names(*files: Path) -> Iterator[list[str]]:
    """The files under names that ANTs cannot misread: as they are called, or as links in a folder of their own."""
    if not any(ANTS_SYNTAX.search(str(file)) for file in files):
        yield [str(file) for file in files]
        return
    with tempfile.TemporaryDirectory() as folder:
        links = [Path(folder, f"{number}{''.join(file.suffixes)}") for number, file in enumerate(files)]
        for link, file in zip(links, files, strict=True):
            link.symlink_to(file.absolute())
        yield [str(link) for link in links]


@contextmanager
def _plain_prefix(prefix: Path) -> Iterator[str]:
    """Where ANTs may write: beside `prefix`, or in a folder whose name it cannot misread."""
    if not ANTS_SYNTAX.search(str(prefix)):
        yield f"{prefix}ants_"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield f"{folder}/ants_"


def _apply(grid: ants.ANTsImage, image: ants.ANTsImage, chain: list[Path], **options: object) -> np.ndarray:
    """`image` on `grid`; a point of the grid goes through the chain from its start."""
    with plain_names(*chain) as names:
        return ants.apply_transforms(grid, image, names, **options).numpy().astype(np.float32)


def register_to_template(
    moving: nib.Nifti1Image,
    fixed: nib.Nifti1Image,
    prefix: Path,
    iterations: tuple[int, int, int] = ITERATIONS,
) -> Transforms:
    """Affine + SyN of `moving` to `fixed`, an image on the 2 mm template grid; both as `Head.contrast` has them.

    Files are written as PREFIX + affine.mat, warp.h5 and inversewarp.h5. Repeatable to the byte after
    `make_repeatable`.
    """
    fixed = fixed.slicer[_brain_box()]
    # The moving image at the resolution of the template: faster, and no finer detail than the template has.
    spacing = tuple(max(template.SPACING_MM, float(size)) for size in moving.header.get_zooms()[:3])
    coarse = ants.resample_image(to_ants(moving), spacing, use_voxels=False, interp_type=0)
    transforms = Transforms(
        affine=Path(f"{prefix}affine.mat"),
        warp=Path(f"{prefix}warp.h5"),
        inverse_warp=Path(f"{prefix}inversewarp.h5"),
    )
    with _plain_prefix(prefix) as where:
        target = to_ants(fixed)
        (start,) = ants.registration(target, coarse, "Affine", outprefix=f"{where}affine_", **AFFINE)["fwdtransforms"]
        result = ants.registration(
            target,
            coarse,
            type_of_transform="SyNOnly",
            initial_transform=[start],
            reg_iterations=iterations,
            grad_step=GRADIENT_STEP,
            outprefix=f"{where}syn_",
        )
        warp, affine = result["fwdtransforms"]
        Path(start).unlink()
        shutil.move(affine, transforms.affine)
        for found, kept in ((warp, transforms.warp), (result["invtransforms"][1], transforms.inverse_warp)):
            write_field(ants.image_read(found), kept)
            Path(found).unlink()
    return transforms


def coarsen_for_pet(t1_brain: nib.Nifti1Image) -> nib.Nifti1Image:
    """The T1's brain at 3 mm: PET resolves 6-8 mm, and there the rigid map is as exact as at 2 mm (.27 mm), in a fifth
    of the time."""
    return ants.to_nibabel_nifti(
        ants.resample_image(to_ants(t1_brain), (3.0, 3.0, 3.0), use_voxels=False, interp_type=0)
    )


def align_pet(pet: nib.Nifti1Image, t1_brain: nib.Nifti1Image, prefix: Path) -> Path:
    """Rigid map from a PET, on its own grid, to the T1 by mutual information; returns the file PREFIX + rigid.mat.

    t1_brain: of `coarsen_for_pet`.
    """
    path = Path(f"{prefix}rigid.mat")
    with _plain_prefix(prefix) as where:
        result = ants.registration(
            to_ants(t1_brain),
            to_ants(pet),
            type_of_transform="Rigid",
            aff_random_sampling_rate=0.1,
            aff_iterations=(100, 50, 10),
            aff_shrink_factors=(4, 2, 1),
            aff_smoothing_sigmas=(2, 1, 0),
            outprefix=where,
        )
        shutil.move(result["fwdtransforms"][0], path)
    return path


def to_template(
    image: nib.Nifti1Image, transforms: Transforms, rigid: Path | None = None, resolution_mm: int = 2
) -> np.ndarray:
    """Resample an image in T1 space (or PET space, with `rigid`) to the template by one linear interpolation.

    Returns float32, (91, 109, 91) or, at 1 mm, (193, 229, 193); outside the image lies zero.
    """
    return resample.sample(image, template_points(transforms, rigid, resolution_mm))


def template_points(transforms: Transforms, rigid: Path | None = None, resolution_mm: int = 2) -> np.ndarray:
    """Where the voxels of the template's grid lie in the T1 (in the PET, with `rigid`): (3, X, Y, Z) mm."""
    points = resample.displaced(_grid_points(resolution_mm), transforms.warp)
    matrix = resample.matrix_of(transforms.affine)
    return resample.through(resample.matrix_of(rigid) @ matrix if rigid else matrix, points)


def _grid_points(resolution_mm: int = 2) -> np.ndarray:
    if resolution_mm == 1:
        return resample.grid_points(template.t1_1mm().shape, template.t1_1mm().affine)
    return resample.grid_points(template.GRID_SHAPE, template.GRID_AFFINE)


def mirror_pair(pet: nib.Nifti1Image, transforms: Transforms, rigid: Path) -> tuple[np.ndarray, np.ndarray]:
    """A PET on the template as given, and with its sides exchanged at the midplane that the affine has found.

    The exchange comes before the nonlinear map, which holds what makes this head lopsided. Both by two interpolations,
    so that they may be compared: (91, 109, 91) float32 each.
    """
    grid = _grid_points()
    matrix = resample.matrix_of(rigid) @ resample.matrix_of(transforms.affine)
    placed = resample.sample(pet, resample.through(matrix, grid))
    points = resample.displaced(grid, transforms.warp)
    # The first axis of the grid is symmetric about x = 0.
    as_given, mirrored = (
        resample.sample(template.grid_image(values), points) for values in (placed, np.ascontiguousarray(placed[::-1]))
    )
    return as_given, mirrored


def to_native(
    values: np.ndarray, transforms: Transforms, t1: nib.Nifti1Image, interpolation: str = "linear"
) -> np.ndarray:
    """Resample (91, 109, 91) template values onto the grid of `t1`: float32 of the T1's shape."""
    image = to_ants(template.grid_image(values.astype(np.float32)))
    chain = [transforms.affine, transforms.inverse_warp]
    return _apply(to_ants(t1), image, chain, whichtoinvert=[True, False], interpolator=interpolation)


def jacobian(transforms: Transforms) -> np.ndarray:
    """mL of the person per mL of template at each template voxel: det(affine) x det(SyN), (91, 109, 91) float32.

    Above 1 where the person is larger than the template.
    """
    vectors, affine = resample.displacements(transforms.warp)
    spacing = np.diag(affine)[:3]
    units = np.eye(3, dtype=np.float32)[..., None, None, None]
    x, y, z = (unit + np.stack(np.gradient(part, *spacing)) for unit, part in zip(units, vectors, strict=True))
    nonlinear = np.ones(template.GRID_SHAPE, np.float32)
    nonlinear[_brain_box()] = (x * np.cross(y, z, axis=0)).sum(0)
    return (nonlinear * affine_determinant(transforms.affine)).astype(np.float32)


def affine_determinant(path: Path) -> float:
    """Volume factor of an affine transform file (points from template to T1)."""
    return float(np.linalg.det(affine_matrix(path)))


def affine_matrix(path: Path) -> np.ndarray:
    """(3, 3) of an affine transform file (points from template to T1)."""
    return resample.matrix_of(path)[:3, :3]
