"""Directions in which two modalities vary together too strongly for it to be the classes, damped in both.

Both scans of a person show the person's anatomy (a PET through partial volume), and a gain takes what two modalities
share for the class. But classes can make them vary together only so far. Of two equal classes whose measurements lie d
standard deviations apart in each modality, q = d²/4 is the variance between classes over that within, and the
correlation that they make is q / (1 + q): .45 for d = 1.81, where each modality alone has an AUC of .90. Whatever is
shared beyond that is something else.

The directions are the canonical pairs (Hotelling, Biometrika 1936) of measurements centered within populations. Where a
pair correlates by r, think of x = √r z + √(1 - r) e in each modality, z shared and e of its own. Then (1 - r) x is
what to expect of its own part, given x, and so much is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf

# What pairs correlate by chance is measured on so many permutations of the people.
PERMUTATIONS = 100
# With fewer people who have both modalities, nothing is measured.
SMALLEST_SAMPLE = 20


@dataclass(frozen=True, eq=False)
class SharedDirections:
    """What is taken out of each modality: values x (N, D), standardized, become x - x @ matrix.

    correlations: of the canonical pairs, chance taken off, the largest first; those above the limit were damped.
    people: that they were measured on. matrices: modality -> (D, D).

    >>> found = SharedDirections((0.5,), 100, {"mri": np.array([[0.5]])})
    >>> found.take_out("mri", np.array([[3.0]])).tolist()
    [[1.5]]
    """

    correlations: tuple[float, ...]
    people: int
    matrices: Mapping[str, np.ndarray]

    def take_out(self, modality: str, values: np.ndarray) -> np.ndarray:
        # Not by BLAS, whose last bits of a person depend on how many others are asked with them.
        return values - np.einsum("nd,de->ne", values, self.matrices[modality])

    def describe(self) -> dict:
        """All but the matrices, as JSON."""
        return {"correlations": list(self.correlations), "people": self.people}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SharedDirections) or self.describe() != other.describe():
            return False
        mine, others = self.matrices, other.matrices
        return mine.keys() == others.keys() and all((mine[name] == others[name]).all() for name in mine)


def fit_shared_directions(
    values: Mapping[str, np.ndarray], populations: Sequence[str], limit: float
) -> SharedDirections | None:
    """values: of two modalities, (N, D) standardized measurements of people who have both. populations: (N,), what
    people are centered within. limit: the largest correlation that is left alone.

    None with fewer than SMALLEST_SAMPLE people. Deterministic. Raises ValueError unless there are two modalities.

    >>> rng = np.random.default_rng(0)
    >>> head, mri, pet = rng.normal(size=(200, 1)), rng.normal(size=(200, 3)), rng.normal(size=(200, 2))
    >>> values = {"mri": mri + 2 * head, "pet": pet + 2 * head}
    >>> found = fit_shared_directions(values, ["mci"] * 200, limit=0.45)
    >>> [round(r, 1) for r in found.correlations]
    [0.9, 0.0]
    >>> [round(float(found.take_out(name, x).mean(1).std() / x.mean(1).std()), 1) for name, x in values.items()]
    [0.1, 0.1]
    """
    if len(values) != 2:
        raise ValueError(f"shared directions are those of two modalities; here are {', '.join(values)}")
    groups = np.asarray(populations)
    if len(groups) < SMALLEST_SAMPLE:
        return None
    roots, white = {}, []
    for name, x in values.items():
        centered = np.array(x, dtype=float)
        for group in np.unique(groups):
            centered[groups == group] -= centered[groups == group].mean(0)
        # Shrunk, so that a hundred people suffice for a hundred regions.
        variances, axes = np.linalg.eigh(LedoitWolf(assume_centered=True).fit(centered).covariance_)
        roots[name] = (axes * np.sqrt(variances)) @ axes.T, (axes / np.sqrt(variances)) @ axes.T
        white.append(centered @ roots[name][1])
    one, two = white
    left, found, right = np.linalg.svd(one.T @ two / len(groups), full_matrices=False)
    correlations = _beyond_chance(found, one, two)
    damped = np.where(correlations > limit, correlations, 0)
    matrices = {}
    for (name, (root, inverse)), axes in zip(roots.items(), (left, right.T), strict=True):
        matrices[name] = inverse @ (axes * damped) @ axes.T @ root
    return SharedDirections(tuple(correlations.tolist()), len(groups), matrices)


def _beyond_chance(found: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Singular values (K,) less the mean of those where people's modalities are exchanged, as shares of variance; 0
    where 5 % of the latter are as large."""
    rng = np.random.default_rng(0)
    drawn = [
        np.linalg.svd(one.T @ two[rng.permutation(len(two))] / len(two), compute_uv=False) for _ in range(PERMUTATIONS)
    ]
    chance = np.mean(drawn, axis=0) ** 2
    corrected = np.sqrt(np.clip((found**2 - chance) / (1 - chance), 0, 1))
    return np.where(found > np.quantile(drawn, 0.95, axis=0), corrected, 0)
