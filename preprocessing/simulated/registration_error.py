"""What preprocessing would have found, without running it: the true maps, with the error that registration makes.

The error was measured on people who went through the whole path (`benchmarks/registration_error.py`) and lies beside
this file: registration sees a smoothed part of the shape, with a bias of its own at each place; segmentation sees its
own grey matter, the scanner its own blur.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from scipy import ndimage

from preprocessing import template
from preprocessing.simulated import scanner, tissue_model
from preprocessing.simulated.brain import Brain

STAGE = 9
FILE = "registration_error.npz"
# Correlation length of what registration gets wrong differently in every person.
RESIDUAL_FWHM_MM = 10.0
MAPS = ("grey", "jacobian_bias", "suvr_bias")
NUMBERS = ("sigma_voxels", "gain", "size_bias", "size_sd", "residual_sd", "tiv_ratio", "tiv_ratio_sd")


@dataclass(frozen=True)
class Error:
    """Means over measured people, maps (91, 109, 91): grey matter as segmented and warped (share of a voxel), bias of
    the log-Jacobian and of log SUVR. found = size + gain * smooth(true shape, sigma) + bias + noise, in logs."""

    grey: np.ndarray
    jacobian_bias: np.ndarray
    suvr_bias: np.ndarray
    sigma_voxels: float
    gain: float
    size_bias: float
    size_sd: float
    residual_sd: float
    tiv_ratio: float
    tiv_ratio_sd: float


@dataclass(frozen=True)
class Registered:
    """Maps on the 2 mm grid, (91, 109, 91), and the intracranial volume."""

    jacobian: np.ndarray
    modulated: np.ndarray
    suvr: np.ndarray
    tiv_ml: float


def smooth(values: np.ndarray, sigma_voxels: float) -> np.ndarray:
    """Gaussian over the last three axes."""
    return ndimage.gaussian_filter(values, sigma_voxels, axes=(-3, -2, -1)) if sigma_voxels else values


def save(error: Error, recipe_hash: str) -> None:
    """Write the file beside this module. Maps as int8 steps of 1/100 of their range: they are means of a few people."""
    content = {name: np.float32(getattr(error, name)) for name in NUMBERS}
    for name in MAPS:
        values = getattr(error, name)
        scale = float(np.abs(values).max()) / 127
        content |= {name: np.rint(values / scale).astype(np.int8), f"{name}_scale": np.float32(scale)}
    path = files("preprocessing.simulated").joinpath(FILE)
    np.savez_compressed(str(path), recipe_hash=np.array(recipe_hash), **content)


@lru_cache
def measured() -> Error:
    """The error as measured."""
    with files("preprocessing.simulated").joinpath(FILE).open("rb") as handle:
        content = np.load(handle, allow_pickle=False)
        maps = {name: content[name].astype(np.float32) * content[f"{name}_scale"] for name in MAPS}
        return Error(**maps, **{name: float(content[name]) for name in NUMBERS})


def recipe_hash() -> str:
    """The recipe under which the error was measured."""
    with files("preprocessing.simulated").joinpath(FILE).open("rb") as handle:
        return str(np.load(handle, allow_pickle=False)["recipe_hash"])


def as_registered(brain: Brain) -> Registered:
    """The person's maps as preprocessing would write them."""
    rng, error, inside = brain.person.rng(STAGE), measured(), template.brain_mask()
    log_jacobian = np.log(brain.jacobian.astype(np.float32))
    size = log_jacobian[inside].mean()
    noise = tissue_model.blur(rng.standard_normal(template.GRID_SHAPE, np.float32), RESIDUAL_FWHM_MM)
    shape = error.gain * smooth(log_jacobian - size, error.sigma_voxels) + error.jacobian_bias
    shape = shape + error.residual_sd * noise / noise.std()
    jacobian = np.exp(size + error.size_bias + error.size_sd * rng.standard_normal() + shape).astype(np.float32)

    noise = tissue_model.blur(rng.standard_normal(template.GRID_SHAPE, np.float32), scanner.PET_NOISE_FWHM_MM)
    suvr = brain.suvr * np.exp(error.suvr_bias) * (1 + scanner.PET_NOISE * noise / noise.std())
    suvr = (suvr / suvr[template.pons_mask()].mean()).astype(np.float32)

    brain_ml = float(brain.jacobian[inside].sum() * template.VOXEL_ML)
    tiv_ml = brain_ml * (error.tiv_ratio + error.tiv_ratio_sd * rng.standard_normal())
    return Registered(jacobian, (error.grey * jacobian).astype(np.float32), suvr, tiv_ml)
