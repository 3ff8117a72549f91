"""The box of the prepared maps, on which everything voxel-wise lies: 80 x 80 x 80 voxels of 2 mm in template space."""

from __future__ import annotations

from functools import lru_cache

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from scipy import ndimage

from reports import overlays

SHAPE = (80, 80, 80)
AFFINE = np.array([[2.0, 0, 0, -80], [0, 2.0, 0, -102], [0, 0, 2.0, -92], [0, 0, 0, 1]])


def to_box(image: nib.Nifti1Image, order: int = 1) -> np.ndarray:
    """The values on the box, zero where the image has none: (80, 80, 80) float32."""
    if image.shape == SHAPE and np.allclose(image.affine, AFFINE):
        return image.get_fdata(dtype=np.float32)
    return resample_from_to(image, (SHAPE, AFFINE), order=order, cval=0.0).get_fdata(dtype=np.float32)


@lru_cache
def labels() -> np.ndarray:
    """CerebrA's labels on the box, int."""
    return to_box(overlays.label_image(), order=0).round().astype(int)


@lru_cache
def grey_matter() -> np.ndarray:
    """Where the atlas has grey matter, bool."""
    return np.isin(labels(), list(overlays.grey_numbers()))


@lru_cache
def nearest_grey() -> np.ndarray:
    """For each voxel of the box the place of the nearest one of grey matter among these: (80, 80, 80) int."""
    places = np.zeros(SHAPE, int)
    places[grey_matter()] = np.arange(grey_matter().sum())
    nearest = ndimage.distance_transform_edt(~grey_matter(), return_distances=False, return_indices=True)
    return places[tuple(nearest)]
