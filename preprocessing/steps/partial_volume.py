"""Grey matter's own uptake, without what blurs out of it and into it.

The correction of Müller-Gärtner et al., Journal of Cerebral Blood Flow and Metabolism 1992: a PET shows
(grey * psf) x (what is looked for) + (white * psf) x (one value for all white matter); psf is the blur, fluid has none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from preprocessing.steps import template
from preprocessing.steps.orient import ScanError
from preprocessing.steps.resolution import FWHM_PER_SIGMA

WORD = "MullerGartner"  # in file names
MIN_GREY = 0.3  # share of a voxel; below it the correction would divide by little
# White matter's value is the mean where it fills this share of what the blur takes together.
PURE_WHITE = 0.95
MIN_WHITE_VOXELS = 100


def blur(values: np.ndarray, fwhm_mm: ArrayLike) -> np.ndarray:
    """Template-grid values through a Gaussian of that FWHM by axis."""
    return ndimage.gaussian_filter(values, np.asarray(fwhm_mm) / FWHM_PER_SIGMA / template.SPACING_MM)


def correct(activity: np.ndarray, gray: np.ndarray, white: np.ndarray, fwhm_mm: ArrayLike) -> np.ndarray:
    """The activity of grey matter alone, zero where a voxel holds less than MIN_GREY of it: float32 of the same shape.

    activity: a PET on the template grid, of the resolution `fwhm_mm` by axis, in mm of the template; gray, white:
    shares of each voxel. Raises ScanError (white_matter) where there is no pure white matter.
    """
    gray_seen, white_seen = blur(gray, fwhm_mm), blur(white, fwhm_mm)
    pure = white_seen > PURE_WHITE
    if pure.sum() < MIN_WHITE_VOXELS:
        found = f"{int(pure.sum())} voxels hold more than {PURE_WHITE:.0%} white matter at the PET's resolution"
        raise ScanError("white_matter", f"{found}; at least {MIN_WHITE_VOXELS} are needed for its uptake")
    corrected = (activity - float(activity[pure].mean()) * white_seen) / np.maximum(gray_seen, MIN_GREY / 2)
    return np.where(gray > MIN_GREY, np.maximum(corrected, 0), 0).astype(np.float32)
