"""What preprocessing would have found, without running it: the true maps, with the error that registration makes.

The error was measured on people who went through the whole path (`benchmarks/registration_error.py`) and lies beside
this file. Registration sees a smoothed part of the deformation and has an error of its own besides; what it then finds
on the template is the head's own tissue, displaced by that error. The template is symmetric, so that every measured
error counts in the mirror, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files

import numpy as np
from scipy import ndimage

from preprocessing.simulated import deformation, volume_error
from preprocessing.simulated.brain import Brain
from preprocessing.steps import template
from preprocessing.steps.interpolation import gaussian, trilinear
from preprocessing.subject.plan import Recipe
from preprocessing.subject.stamps import ALIGNMENT

STAGE = 9
FILE = "registration_error.npz"
MAPS = ("displacement", "log_suvr", "gray")
FINE = ("gray_mean", "gray_sd")
NUMBERS = ("sigma_voxels", "gain", "size_bias", "size_sd", "tiv_ratio", "tiv_ratio_sd")
MEAN_SOFTNESS = 1.5  # voxels of 4 mm: the mean of few people has noise that the mean of all has not
# Parts of the brain draw their errors apart: two halves along each axis, with soft borders (mm).
BORDER_MM = 20.0


@dataclass(frozen=True)
class Error:
    """What was found beyond what was put in, of N measured people, at the n voxels `kept` of the 4 mm grid.

    displacement (N, 3, n) mm: on the template, beyond gain * (smooth(true, sigma) - true), of the true displacement.
    log_suvr (N, n): found less true. gray (N, n): segmented grey matter less that at the displaced place; gray_mean,
    gray_sd (m,): of what is left of it in single voxels of 2 mm, at `fine_places`. size: log of the head's volume,
    found less true; tiv: intracranial volume over the true volume of the template's brain mask.
    """

    displacement: np.ndarray
    log_suvr: np.ndarray
    gray: np.ndarray
    sigma_voxels: float
    gain: float
    gray_mean: np.ndarray
    gray_sd: np.ndarray
    size_bias: float
    size_sd: float
    tiv_ratio: float
    tiv_ratio_sd: float

    @cached_property
    def means(self) -> dict[str, np.ndarray]:
        """Mean maps on the 4 mm grid, smoothed, the same left and right: each (C, 46, 55, 46)."""
        means, weights = {}, np.maximum(smooth(kept().astype(np.float32), MEAN_SOFTNESS), 0.1)
        for name in MAPS:
            soft = smooth(spread(self._maps(name).mean(0)), MEAN_SOFTNESS) / weights * kept()
            means[name] = (soft + mirrored(soft)) / 2
        return means

    @cached_property
    def deviations(self) -> dict[str, np.ndarray]:
        """Maps less their mean, and the mirror images of these: each (2 N, C, n)."""
        deviations = {}
        for name in MAPS:
            own = self._maps(name) - self._maps(name).mean(0)
            deviations[name] = np.concatenate([own, [mirrored(spread(d))[:, kept()] for d in own]])
        return deviations

    def _maps(self, name: str) -> np.ndarray:
        return getattr(self, name).reshape(len(self.log_suvr), -1, int(kept().sum()))

    def draw(self, name: str, rng: np.random.Generator) -> np.ndarray:
        """A map of a new person, on the 4 mm grid: the mean, and deviations of the covariance that was measured."""
        deviations, parts = self.deviations[name], _parts()
        people = np.sqrt(len(self.log_suvr) - 1) * np.sqrt(2)  # of a person and the mirror image half each
        weights = rng.standard_normal((len(parts), len(deviations))).astype(np.float32) / np.float32(people)
        drawn = np.einsum("pk,kcn->pcn", weights, deviations, optimize=True)
        return self.means[name] + spread((parts[:, None, :] * drawn).sum(0))


def smooth(values: np.ndarray, sigma_voxels: float) -> np.ndarray:
    """Gaussian over the last three axes."""
    return gaussian(values, sigma_voxels) if sigma_voxels else values


@lru_cache
def kept() -> np.ndarray:
    """Where errors are kept: the brain and a rim, (46, 55, 46) bool."""
    return ndimage.binary_dilation(template.brain_mask(), iterations=2)[::2, ::2, ::2]


def spread(values: np.ndarray) -> np.ndarray:
    """(C, n) values at the kept voxels -> (C, 46, 55, 46), zero elsewhere."""
    full = np.zeros((len(values), *deformation.SHAPE), np.float32)
    full[:, kept()] = values
    return full


def mirrored(maps: np.ndarray) -> np.ndarray:
    """(C, 46, 55, 46), left and right exchanged; of C = 3 the first is a displacement along that axis."""
    turned = maps[:, ::-1].copy()
    if len(maps) == 3:
        turned[0] *= -1
    return turned


@lru_cache
def _parts() -> np.ndarray:
    """Weights (8, n) of eight parts of the brain whose squares sum to 1."""
    index = np.argwhere(kept()) * deformation.SPACING_MM
    middle = index.mean(0)
    high = 0.5 * (1 + np.tanh((index - middle) / BORDER_MM))
    halves = [np.stack([np.sqrt(1 - h), np.sqrt(h)]) for h in high.T]
    return np.einsum("an,bn,cn->abcn", *halves).reshape(8, -1).astype(np.float32)


def save(error: Error, stamp: str) -> None:
    """Write the file beside this module, in steps of 1/127 of each map's largest value."""
    content = {name: np.float32(getattr(error, name)) for name in NUMBERS}
    for name in (*MAPS, *FINE):
        values = getattr(error, name)
        scale = max(float(np.abs(values).max()), 1e-6) / 127
        content |= {name: np.rint(values / scale).astype(np.int8), f"{name}_scale": np.float32(scale)}
    path = files("preprocessing.simulated").joinpath(FILE)
    np.savez_compressed(str(path), stamp=np.array(stamp), **content)


@lru_cache
def measured() -> Error:
    """The error as measured."""
    with files("preprocessing.simulated").joinpath(FILE).open("rb") as handle:
        content = np.load(handle, allow_pickle=False)
        maps = {name: content[name].astype(np.float32) * content[f"{name}_scale"] for name in (*MAPS, *FINE)}
        return Error(**maps, **{name: float(content[name]) for name in NUMBERS})


def stamp_of(recipe: Recipe) -> str:
    """All of a recipe that the error depends on: the steps up to the PET's alignment, and the reference region."""
    return f"{ALIGNMENT.stamp(recipe, {})}-{recipe.reference}"


def measured_stamp() -> str:
    """`stamp_of` the recipe under which the error was measured."""
    with files("preprocessing.simulated").joinpath(FILE).open("rb") as handle:
        return str(np.load(handle, allow_pickle=False)["stamp"])


@dataclass(frozen=True)
class Registered:
    """Maps on the 2 mm grid, (91, 109, 91), volumes by (region, side), and the intracranial volume."""

    jacobian: np.ndarray
    tissues: dict[str, np.ndarray]
    suvr: np.ndarray
    segmented_ml: dict[tuple[str, str], float]
    tiv_ml: float


def as_registered(brain: Brain, error: Error | None = None) -> Registered:
    """The person's maps as preprocessing would write them; error: another one than `measured`."""
    rng, error, effect = brain.person.scan_rng(STAGE), error or measured(), brain.effect
    true = brain.displacement
    displacement = error.gain * (smooth(true, error.sigma_voxels) - true) + error.draw("displacement", rng)
    found = displacement + deformation.sampled(true, displacement)
    volumes = volume_error.found(brain.label_volumes, brain.anatomy.kind, rng)
    tiv_ratio = error.tiv_ratio + error.tiv_ratio_sd * rng.standard_normal()
    size = error.size_bias + error.size_sd * rng.standard_normal() + 3 * np.log(effect.scale)
    jacobian = deformation.refine(brain.volume_change(found)) * np.float32(np.exp(size))
    suvr = effect.on_pet(brain.suvr) * np.exp(deformation.refine(error.draw("log_suvr", rng)[0]))
    gray, fluid = displaced_tissues(brain, displacement)
    places = fine_places()
    rest = deformation.refine(error.draw("gray", rng)[0]).ravel()[places]
    rest += error.gray_mean + error.gray_sd * rng.standard_normal(len(places), np.float32)
    before = gray.ravel()[places]
    gray.ravel()[places] = np.where(before > 0, np.clip(before + rest, 0, 1), 0)
    return Registered(
        jacobian,
        {"gm": gray, "csf": np.minimum(fluid, 1 - gray)},
        suvr / suvr[template.pons_mask()].mean(),
        {name: volume * effect.scale**3 for name, volume in volumes.items()},
        brain.brain_ml * effect.scale**3 * tiv_ratio,
    )


@lru_cache
def fine_places() -> np.ndarray:
    """The voxels of the 2 mm grid that may hold brain: (n,) places in a flattened grid."""
    return np.flatnonzero(ndimage.binary_dilation(template.brain_mask(), iterations=2))


@lru_cache
def _on_1mm() -> np.ndarray:
    """Where `fine_places` lie on the 1 mm grid: (3, n) voxels."""
    index = np.stack(np.unravel_index(fine_places(), template.GRID_SHAPE), 1)
    shift = template.GRID_AFFINE[:3, 3] - template.t1_1mm().affine[:3, 3]
    return np.ascontiguousarray((index * template.SPACING_MM + shift).T, dtype=np.float32)


def displaced_tissues(brain: Brain, displacement: np.ndarray) -> np.ndarray:
    """Grey matter and fluid as segmented, from where registration takes them: (2, 91, 109, 91).

    displacement: on the 4 mm grid, (3, 46, 55, 46) mm.
    """
    brain_places = fine_places()
    where = _on_1mm() + deformation.refine(displacement).reshape(3, -1)[:, brain_places]  # voxels of 1 mm
    found = trilinear(brain.anatomy.segmented, where)
    if brain.effect.soft:
        found += brain.effect.soft * (trilinear(brain.anatomy.segmented_blurred, where) - found)
    maps = np.zeros((2, *template.GRID_SHAPE), np.float32)
    maps.reshape(2, -1)[:, brain_places] = found
    return maps
