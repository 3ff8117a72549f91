"""Standardized uptake value ratio: PET divided by its mean in the pons, a region that Alzheimer's disease spares."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from preprocessing import template
from preprocessing.orient import ScanError

# A reference region that the field of view cuts off would give a ratio to something else.
MIN_REFERENCE_COVERAGE = 0.9


def compute_suvr(pet: np.ndarray, covered: np.ndarray, reference: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """SUVR map on the template grid, and the reference mean in the PET's own units.

    pet: (91, 109, 91) activity; covered: the same shape, bool, where the PET's field of view reaches; reference: bool,
    the pons by default. The ratio needs neither dose nor weight. Raises ScanError (reference_coverage,
    reference_value).
    """
    reference = template.pons_mask() if reference is None else reference
    coverage = float(covered[reference].mean())
    if coverage < MIN_REFERENCE_COVERAGE:
        raise ScanError(
            "reference_coverage",
            f"the PET covers {coverage:.0%} of {template.PONS_NAME}; at least {MIN_REFERENCE_COVERAGE:.0%} needed",
        )
    mean = float(pet[reference & covered].mean())
    if not mean > 0:
        raise ScanError("reference_value", f"mean uptake in {template.PONS_NAME} is {mean:g}; it must be > 0")
    return np.where(covered, pet / mean, 0).astype(np.float32), mean


def smooth(values: np.ndarray, fwhm_mm: float, spacing_mm: float = template.SPACING_MM) -> np.ndarray:
    """Gaussian smoothing. Never for series that ADNI already brought to a uniform resolution."""
    return ndimage.gaussian_filter(values, fwhm_mm / (np.sqrt(8 * np.log(2)) * spacing_mm)).astype(np.float32)
