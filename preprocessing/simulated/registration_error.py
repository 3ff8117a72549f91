"""What preprocessing would have found, without running it: the true maps, with the error that registration makes.

The error was measured on people who went through the whole path (`benchmarks/registration_error.py`) and lies beside
this file: registration sees a smoothed part of the shape, and each place has an error of its own; segmentation sees its
own grey matter, the scanner its own noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from scipy import ndimage

from preprocessing.simulated.brain import Brain
from preprocessing.steps import template
from preprocessing.subject.plan import Recipe
from preprocessing.subject.stamps import ALIGNMENT

STAGE = 9
FILE = "registration_error.npz"
MAPS = ("grey", "log_jacobian", "log_suvr")
# These two are smooth: registration and PET resolve no more than this grid, of 4 mm.
COARSE = ("log_jacobian", "log_suvr")
STEP = 2
NUMBERS = ("sigma_voxels", "gain", "size_bias", "size_sd", "tiv_ratio", "tiv_ratio_sd")


@dataclass(frozen=True)
class Error:
    """What was found beyond what was put in, of N measured people; maps (N, 91, 109, 91).

    grey: grey matter as segmented and warped, share of a voxel. log_jacobian: found shape less gain * smooth(true
    shape, sigma). log_suvr: found less true. size: mean log-Jacobian, found less true; tiv: intracranial volume over
    the true volume of the template's brain mask.
    """

    grey: np.ndarray
    log_jacobian: np.ndarray
    log_suvr: np.ndarray
    sigma_voxels: float
    gain: float
    size_bias: float
    size_sd: float
    tiv_ratio: float
    tiv_ratio_sd: float

    def draw(self, name: str, rng: np.random.Generator) -> np.ndarray:
        """A map of a new person: the mean of the measured ones and a normal draw with their covariance."""
        measured = getattr(self, name)
        weights = rng.standard_normal(len(measured)).astype(np.float32) / np.sqrt(len(measured) - 1)
        return np.tensordot(weights - weights.mean() + 1 / len(measured), measured, axes=1)


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


def _kept() -> np.ndarray:
    """Where errors are kept: the brain and a rim. (91, 109, 91) bool."""
    return ndimage.binary_dilation(template.brain_mask(), iterations=2)


def _coarsen(maps: np.ndarray) -> np.ndarray:
    return smooth(maps, 0.8)[:, ::STEP, ::STEP, ::STEP]


def _refine(coarse: np.ndarray) -> np.ndarray:
    index = np.indices(template.GRID_SHAPE, dtype=np.float32) / STEP
    return ndimage.map_coordinates(coarse, index, order=1, mode="nearest")


def save(error: Error, stamp: str) -> None:
    """Write the file beside this module, in steps of 1/127 of each map's largest value."""
    content = {name: np.float32(getattr(error, name)) for name in NUMBERS}
    for name in MAPS:
        values = getattr(error, name) * _kept()
        values = _coarsen(values) if name in COARSE else values[:, _kept()]
        scale = float(np.abs(values).max()) / 127
        content |= {name: np.rint(values / scale).astype(np.int8), f"{name}_scale": np.float32(scale)}
    path = files("preprocessing.simulated").joinpath(FILE)
    np.savez_compressed(str(path), stamp=np.array(stamp), **content)


@lru_cache
def measured() -> Error:
    """The error as measured."""
    with files("preprocessing.simulated").joinpath(FILE).open("rb") as handle:
        content = np.load(handle, allow_pickle=False)
        maps = {}
        for name in MAPS:
            values = content[name].astype(np.float32) * content[f"{name}_scale"]
            if name in COARSE:
                maps[name] = np.stack([_refine(coarse) for coarse in values])
            else:
                maps[name] = np.zeros((len(values), *template.GRID_SHAPE), np.float32)
                maps[name][:, _kept()] = values
        return Error(**maps, **{name: float(content[name]) for name in NUMBERS})


def stamp_of(recipe: Recipe) -> str:
    """All of a recipe that the error depends on: the steps up to the PET's alignment, and the reference region."""
    return f"{ALIGNMENT.stamp(recipe, {})}-{recipe.reference}"


def measured_stamp() -> str:
    """`stamp_of` the recipe under which the error was measured."""
    with files("preprocessing.simulated").joinpath(FILE).open("rb") as handle:
        return str(np.load(handle, allow_pickle=False)["stamp"])


def as_registered(brain: Brain) -> Registered:
    """The person's maps as preprocessing would write them."""
    rng, error, inside = brain.person.rng(STAGE), measured(), template.brain_mask()
    log_jacobian = np.log(brain.jacobian)
    size = log_jacobian[inside].mean()
    shape = error.gain * smooth(log_jacobian - size, error.sigma_voxels) + error.draw("log_jacobian", rng)
    jacobian = np.exp(size + np.float32(error.size_bias + error.size_sd * rng.standard_normal()) + shape)
    suvr = brain.suvr * np.exp(error.draw("log_suvr", rng))
    suvr = (suvr / suvr[template.pons_mask()].mean()).astype(np.float32)
    grey = error.draw("grey", rng)
    brain_ml = float(brain.jacobian[inside].sum() * template.VOXEL_ML)
    tiv_ml = brain_ml * (error.tiv_ratio + error.tiv_ratio_sd * rng.standard_normal())
    return Registered(jacobian, grey * jacobian, suvr, tiv_ml)
