"""What preprocessing would have found, without running it: the true maps, with the error that registration makes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from preprocessing import template
from preprocessing.simulated import scanner, tissue_model
from preprocessing.simulated.brain import Brain

STAGE = 9


@dataclass(frozen=True)
class Registered:
    """Maps on the 2 mm grid, (91, 109, 91), and the intracranial volume."""

    jacobian: np.ndarray
    modulated: np.ndarray
    suvr: np.ndarray
    tiv_ml: float


def as_registered(brain: Brain) -> Registered:
    """The person's maps as preprocessing would write them."""
    rng = brain.person.rng(STAGE)
    noise = tissue_model.blur(rng.standard_normal(template.GRID_SHAPE), scanner.PET_NOISE_FWHM_MM)
    suvr = brain.suvr * (1 + scanner.PET_NOISE * noise / noise.std())
    suvr = suvr / suvr[template.pons_mask()].mean()
    tiv_ml = float(brain.jacobian[template.brain_mask()].sum() * template.VOXEL_ML)
    modulated = tissue_model.grey_matter() * brain.jacobian
    return Registered(brain.jacobian, modulated.astype(np.float32), suvr.astype(np.float32), tiv_ml)
