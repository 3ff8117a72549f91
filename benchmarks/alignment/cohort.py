"""SIMULATED regional measurements of many sites: the simulation's own diseases, people and sites, no image rendered.

A measurement is the log change of a signature region (sides averaged) of `preprocessing.simulated.pattern`, plus
errors of measurement, in units of its SD within a class. Sites of 5 to 60 people have shares of converters of their own
(SD 1 of the log odds). What a site's scanner does is drawn on top, feature by feature, SD `size`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from adni_tcgm.datasets.adni_regions import SIGNATURE
from preprocessing.simulated.disease import REGIONS
from preprocessing.simulated.pattern import regional_changes
from preprocessing.simulated.people import CohortDesign, Person, draw_people

# Of the within-class SD; chosen, of the order of what segmentation adds (`preprocessing.simulated.volume_error`).
ERROR = 0.5
SITE_IMBALANCE = 1.0
JUDGES = 1000
WIDTH = max(len(regions) for regions in SIGNATURE.values())


@dataclass(frozen=True)
class People:
    """values: modality -> (N, D); labels (N,), 1 converter; -1 unknown. sites: (N,) names. covariates: (N, 2) age and
    male. severity: (N, 2) of MRI and PET."""

    values: dict[str, np.ndarray]
    labels: np.ndarray
    sites: np.ndarray
    covariates: np.ndarray
    severity: np.ndarray


def draw_cohort(seed: int, imbalance: float = SITE_IMBALANCE) -> tuple[People, People]:
    """Training people (a third of the 330 stable, converting, censored and reverting ones could be labeled) and JUDGES
    others of the same disease and sites, before any scanner."""
    sizes = {"normal": 0, "dementia": 0, "raw": 0, "truncated": 0}
    train = draw_people(CohortDesign(seed=seed, site_imbalance=imbalance, **sizes))
    half = JUDGES // 2
    others = CohortDesign(seed=seed + 10_000, disease_seed=seed, converters=half, stable=half, **sizes)
    judges = [p for p in draw_people(others) if p.group in ("converter", "stable")]
    rng = np.random.default_rng([seed, 100])
    found, judged = (_measure(people, rng) for people in (train, judges))
    # The judges' sites, class by class, are those of the training people.
    for label in (0, 1):
        rows = judged.labels == label
        judged.sites[rows] = rng.choice(found.sites[found.labels == label], rows.sum())
    within = {name: _spread(found.values[name], found.labels) for name in SIGNATURE}
    for people in (found, judged):
        for name, values in people.values.items():
            values /= within[name]
            values += ERROR * rng.standard_normal(values.shape)
    return found, judged


def _measure(people: list[Person], rng: np.random.Generator) -> People:
    values = {}
    for name, regions in SIGNATURE.items():
        known = [r for r in regions if r in REGIONS[name]]
        rows = []
        for person in people:
            changes = regional_changes(person, name)
            rows.append([np.mean([changes[r, side] for side in ("left", "right")]) for r in known])
        values[name] = np.array(rows)
    groups = np.array([p.group for p in people])
    labels = np.where(groups == "converter", 1, np.where(groups == "stable", 0, -1))
    covariates = np.array([[p.age, float(p.sex == "M")] for p in people])
    severity = np.array([[p.severity_mri, p.severity_pet] for p in people])
    return People(values, labels, np.array([str(p.site) for p in people], dtype="<U8"), covariates, severity)


def _spread(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean([values[labels == label].var(0) for label in (0, 1)], axis=0))


@dataclass(frozen=True)
class Scanner:
    """What one site does to D standardized features: a shift and, per feature, a factor; where it is not linear, also a
    skew and heavier or lighter tails (sinh-arcsinh of Jones and Pewsey, Biometrika 2009)."""

    shift: np.ndarray
    factor: np.ndarray
    skew: np.ndarray
    tail: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        bent = np.sinh((np.arcsinh(values) + self.skew) * self.tail)
        return self.shift + self.factor * bent


def draw_scanner(width: int, size: float, linear: bool, rng: np.random.Generator) -> Scanner:
    shift, factor, skew, tail = rng.standard_normal((4, width)) * np.array([[1.0], [0.25], [0.4], [0.25]]) * size
    return Scanner(shift, np.exp(factor), 0 * skew if linear else skew, np.exp(0 * tail if linear else tail))


def scan(parts: tuple[People, ...], size: float, linear: bool, seed: int) -> tuple[People, ...]:
    """The same people as their sites' scanners show them; the same site does the same to each of `parts`."""
    if not size:
        return parts
    found = []
    for people in parts:
        values = {}
        for stage, (name, clean) in enumerate(people.values.items()):
            shown = clean.copy()
            center = parts[0].values[name].mean(0)
            for site in np.unique(people.sites):
                rng = np.random.default_rng([seed, 101, stage, int(site)])
                rows = people.sites == site
                shown[rows] = center + draw_scanner(clean.shape[1], size, linear, rng)(clean[rows] - center)
            values[name] = shown
        found.append(replace(people, values=values))
    return tuple(found)
