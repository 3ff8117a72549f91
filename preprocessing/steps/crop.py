"""The 80^3 box that every prepared map is cut to; smaller named crops are cut from it when training loads it."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from preprocessing.steps.template import GRID_AFFINE, SPACING_MM

PREPARED_SHAPE = (80, 80, 80)
# First voxel centre of the box in template mm (left-right, back-front, down-up): the box is centred near
# (0, -23, -13) mm, so that a 64^3 crop shifted by up to 6 mm still fits inside.
PREPARED_ORIGIN_MM = (-80.0, -102.0, -92.0)


def crop_prepared(values: np.ndarray) -> nib.Nifti1Image:
    """Cut (91, 109, 91) values on the 2 mm grid to the prepared 80^3 box; outside the grid lies zero."""
    first = np.rint((np.array(PREPARED_ORIGIN_MM) - GRID_AFFINE[:3, 3]) / SPACING_MM).astype(int)
    last = first + PREPARED_SHAPE
    before, after = np.maximum(-first, 0), np.maximum(last - values.shape, 0)
    inside = tuple(slice(max(f, 0), stop) for f, stop in zip(first, last, strict=True))
    box = np.pad(values[inside], list(zip(before, after, strict=True)))
    affine = GRID_AFFINE.copy()
    affine[:3, 3] = PREPARED_ORIGIN_MM
    image = nib.Nifti1Image(box, affine)
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    return image
