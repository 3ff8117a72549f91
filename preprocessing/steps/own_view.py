"""A person's scans to look at: on the T1 as scanned, not warped, in upright slices of 1 mm around the brain."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from preprocessing.steps import resample

MARGIN_MM = 10.0
BRIGHTEST_PERCENTILE = 99.5
COARSE_MM = 2.0


def view_t1(t1: nib.Nifti1Image, mask: np.ndarray) -> nib.Nifti1Image:
    """The T1 on an upright grid of 1 mm around the brain: uint8, 0 to the 99.5th percentile inside `mask` (bool).

    The grid's axes are right, front and top in the scan's own millimeters, whichever way the scan was tilted.
    """
    places = resample.through(t1.affine, np.stack(np.nonzero(mask)).astype(np.float32))
    first = np.floor(places.min(1) - MARGIN_MM) + 0.5  # on the voxels of the segmented boxes
    shape = tuple(np.ceil(places.max(1) + MARGIN_MM - first).astype(int) + 1)
    affine = np.eye(4)
    affine[:3, 3] = first
    values = resample.sample(t1, resample.grid_points(shape, affine))
    top = max(float(np.percentile(t1.get_fdata(dtype=np.float32)[mask], BRIGHTEST_PERCENTILE)), 1e-9)
    return nib.Nifti1Image(np.round(255 * np.clip(values / top, 0, 1)).astype(np.uint8), affine)


def coarse_grid(view: nib.Nifti1Image) -> nib.Nifti1Image:
    """Cubes of 2 mm over the box of `view_t1`, empty: for what is smoother than a T1."""
    affine = view.affine @ np.diag([*[COARSE_MM] * 3, 1.0])
    shape = tuple(int(np.ceil(size / COARSE_MM)) for size in view.shape)
    return nib.Nifti1Image(np.zeros(shape, np.float32), affine)


def view_pet(pet: nib.Nifti1Image, rigid: Path, view: nib.Nifti1Image) -> nib.Nifti1Image:
    """The PET on `coarse_grid`, by one interpolation; rigid: the file of `register.align_pet`."""
    grid = coarse_grid(view)
    points = resample.through(resample.matrix_of(rigid), resample.grid_points(grid.shape, grid.affine))
    return nib.Nifti1Image(resample.sample(pet, points), grid.affine)
