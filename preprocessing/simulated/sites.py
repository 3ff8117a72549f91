"""What a site's scanners do to all its people alike: errors of scale, sharpness, and a PET that is not quite linear.

Sizes are chosen, of the order that phantom studies and harmonization report (about 1 % in volumes, 5 % in SUVR); no
published table gives them for these scanners. `size` multiplies them; 0 leaves every scan as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SCALE_SD, SOFT_SD = 0.004, 0.3  # of log length; of the share of the T1's signal that is blurred
OFFSET_SD, GAMMA_SD = 0.05, 0.06  # of the PET: uptake added everywhere (pons 1), log of the exponent
STREAM = 5


@dataclass(frozen=True)
class SiteEffect:
    """scale: of lengths in the T1. soft: share of its signal that is blurred, in [0, 1]. pet_offset, pet_gamma: uptake
    u (pons 1) shows as ((u + offset) / (1 + offset)) ** gamma."""

    scale: float = 1.0
    soft: float = 0.0
    pet_offset: float = 0.0
    pet_gamma: float = 1.0

    def on_pet(self, uptake: np.ndarray) -> np.ndarray:
        """What is shown of an uptake relative to the pons."""
        if self == SiteEffect():
            return uptake
        return np.maximum((uptake + self.pet_offset) / (1 + self.pet_offset), 0) ** self.pet_gamma


@lru_cache(maxsize=1024)
def site_effect(seed: int, site: int, size: float) -> SiteEffect:
    """The effect of a site of the cohort of this seed."""
    if not size:
        return SiteEffect()
    scale, soft, offset, gamma = size * np.random.default_rng([seed, STREAM, site]).standard_normal(4)
    return SiteEffect(
        float(np.exp(SCALE_SD * scale)),
        float(min(1.0, SOFT_SD * abs(soft))),
        float(OFFSET_SD * offset),
        float(np.exp(GAMMA_SD * gamma)),
    )
