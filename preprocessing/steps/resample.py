"""Where the points of the template's grid lie in a scan, and the scan's values there by one linear interpolation.

A point goes through the displacement field, the affine and, for a PET, the rigid map: ITK's order, in RAS+ mm.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from preprocessing.steps import lazy_ants as ants
from preprocessing.steps.interpolation import trilinear
from preprocessing.steps.warp_field import read_field

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # between RAS+ and the LPS+ of ITK


def matrix_of(path: Path) -> np.ndarray:
    """(4, 4) of an affine or rigid transform file, between points in RAS+ mm."""
    transform = ants.read_transform(str(path))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.parameters[:9], (3, 3))
    center = np.asarray(transform.fixed_parameters[:3])
    matrix[:3, 3] = transform.parameters[9:12] + center - matrix[:3, :3] @ center
    return FLIP @ matrix @ FLIP


def displacements(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A displacement field's vectors in RAS+ mm, (3, X, Y, Z) float32, and the affine of its grid."""
    field = read_field(path)
    affine = np.eye(4)
    affine[:3, :3] = field.direction @ np.diag(field.spacing)
    affine[:3, 3] = field.origin
    vectors = np.moveaxis(field.numpy(), 3, 0) * np.diag(FLIP)[:3, None, None, None]
    return vectors.astype(np.float32), FLIP @ affine


def grid_points(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """The places of all voxels of a grid in mm: (3, *shape) float32."""
    return through(affine, np.indices(shape, dtype=np.float32))


def through(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (3, ...) mapped by a matrix (4, 4)."""
    matrix = matrix.astype(np.float32)
    moved = matrix[:3, :3] @ points.reshape(3, -1) + matrix[:3, 3:]
    return moved.reshape(points.shape)


def displaced(points: np.ndarray, warp: Path) -> np.ndarray:
    """Points (3, ...) moved by a displacement field; outside the field's grid they stay."""
    vectors, affine = displacements(warp)
    return points + _interpolate(vectors, through(np.linalg.inv(affine), points))


def sample(image: nib.Nifti1Image, points: np.ndarray) -> np.ndarray:
    """Values of an image at points (3, ...) in mm, linear, 0 outside: float32 of the points' shape."""
    values = image.get_fdata(dtype=np.float32)[np.newaxis]
    return _interpolate(values, through(np.linalg.inv(image.affine), points))[0]


def inside(image: nib.Nifti1Image, points: np.ndarray) -> np.ndarray:
    """Which points (3, ...) in mm lie in the voxels of an image: bool of the points' shape."""
    return _within(image.shape, through(np.linalg.inv(image.affine), points))


def _interpolate(maps: np.ndarray, place: np.ndarray) -> np.ndarray:
    # As ITK does: a voxel reaches half its width beyond its middle, with its own value.
    found = trilinear(maps, place)
    found *= _within(maps.shape[1:], place)
    return found


def _within(shape: tuple[int, ...], place: np.ndarray) -> np.ndarray:
    found = np.ones(place.shape[1:], bool)
    for index, size in zip(place, shape, strict=True):
        found &= (index >= -0.5) & (index < size - 0.5)
    return found
