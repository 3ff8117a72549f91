"""Standardized uptake value ratio: PET divided by its mean in a region that Alzheimer's disease spares.

Which region is a choice with a name: the pons by default; pons and vermis, of which only the hotter half of the voxels
counts, as for ADNI's FDG meta-ROI; or the whole cerebellum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from preprocessing import choices
from preprocessing.steps import template
from preprocessing.steps.orient import ScanError

# A reference region that the field of view cuts off would give a ratio to something else.
MIN_REFERENCE_COVERAGE = 0.9
VERMIS = ("vermal_lobules_i_v", "vermal_lobules_vi_vii", "vermal_lobules_viii_x")
MYELINATED = ("thalamus", "caudate", "putamen", "pallidum", "accumbens_area")
CEREBELLUM = ("cerebellum_gray_matter", "cerebellum_white_matter", *VERMIS)


@dataclass(frozen=True)
class Reference:
    """A reference region: its word in file names, its name in sidecars, and the share of its hottest voxels used."""

    word: str
    name: str
    hottest_share: float = 1.0


PONS, PONS_VERMIS, WHOLE_CEREBELLUM = choices.REFERENCES
REFERENCES = {
    PONS: Reference("Pons", template.PONS_NAME),
    PONS_VERMIS: Reference("PonsVermis", "pons and vermis (CerebrA), mean of the hottest 50 % of voxels", 0.5),
    WHOLE_CEREBELLUM: Reference("Cerebellum", "whole cerebellum (CerebrA, with vermis)"),
}


@lru_cache
def reference_mask(reference: str) -> np.ndarray:
    """Voxels of a reference region of REFERENCES: (91, 109, 91) bool. Raises ValueError for another name."""
    if reference not in REFERENCES:
        raise ValueError(f"reference region {reference!r}; known: {', '.join(REFERENCES)}")
    if reference == "cerebellum":
        return template.region_mask(*CEREBELLUM)
    pons = template.pons_mask()
    mask = pons if reference == "pons" else pons | template.region_mask(*VERMIS)
    mask.setflags(write=False)  # kept and shared between calls
    return mask


def compute_suvr(pet: np.ndarray, covered: np.ndarray, reference: str = "pons") -> tuple[np.ndarray, float]:
    """SUVR map on the template grid, and the reference mean in the PET's own units.

    pet: (91, 109, 91) activity; covered: the same shape, bool, where the PET's field of view reaches; reference: a name
    of REFERENCES. The ratio needs neither dose nor weight. Raises ScanError (reference_coverage, reference_value).
    """
    mask, about = reference_mask(reference), REFERENCES[reference]
    coverage = float(covered[mask].mean())
    if coverage < MIN_REFERENCE_COVERAGE:
        raise ScanError(
            "reference_coverage",
            f"the PET covers {coverage:.0%} of {about.name}; at least {MIN_REFERENCE_COVERAGE:.0%} needed",
        )
    mean = float(hottest(pet[mask & covered], about.hottest_share).mean())
    if not mean > 0:
        raise ScanError("reference_value", f"mean uptake in {about.name} is {mean:g}; it must be > 0")
    return np.where(covered, pet / mean, 0).astype(np.float32), mean


def hottest(values: np.ndarray, share: float) -> np.ndarray:
    """That share of the values, the largest ones.

    >>> hottest(np.array([1, 4, 3, 2]), 0.5)
    array([3, 4])
    """
    return np.sort(values)[int(len(values) * (1 - share)) :]


def gray_and_white(tissues: Sequence[np.ndarray], segmented: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Shares of grey and white matter as a PET shows them, (91, 109, 91) each.

    tissues: CSF, grey and white matter by the contrast of the T1, (91, 109, 91) each; segmented: probability of grey
    structures by name. Deep nuclei hold so much myelin that the contrast calls half of them white matter.
    """
    _, gray, white = tissues
    known = template.region_mask(*MYELINATED)
    for probability in segmented.values():
        known = np.maximum(known, probability)
    moved = np.minimum(white, np.maximum(known - gray, 0))
    return gray + moved, white - moved
