"""The disease of one cohort, drawn from its seed: which regions suffer, how much, in which subtypes.

No list of regions is near-optimal for every cohort, because every cohort has a pattern of its own. What is fixed are
ranges. Three subtypes (typical, limbic-predominant, hippocampal-sparing) have shares between those that Murray et al.
(Lancet Neurology 2011: 75, 14 and 11 % at autopsy) and Ferreira et al. (Neurology 2020: 55, 21 and 17 % in a
meta-analysis, minimal atrophy apart) found. How much a zone suffers relative to the worst is chosen, wide, after
their descriptions; no published table gives it. Cohen's d between stable and converting MCI is drawn around .75 for
hippocampal volume and 1.1 for the FDG meta-ROI, which follow from the groups' means and SDs as quoted in the field:
6800 (1000) against 6050 (1000) mm3, SUVR 1.25 (.12) against 1.12 (.12).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from preprocessing.simulated import healthy
from preprocessing.steps import template

MODALITIES = ("mri", "pet")
SUBTYPES = ("typical", "limbic", "sparing")
SHARES = np.array([0.65, 0.19, 0.16])
SHARES_PRECISION = 30.0
ZONES = {
    "medial temporal": ("hippocampus", "amygdala", "entorhinal", "parahippocampal"),
    "lateral temporal": ("inferior_temporal", "middle_temporal", "superior_temporal", "fusiform"),
    "parietal": (
        *("isthmus_cingulate", "posterior_cingulate", "precuneus", "inferior_parietal", "superior_parietal"),
        "supramarginal",
    ),
    "frontal": (
        *("superior_frontal", "rostral_middle_frontal", "caudal_middle_frontal", "lateral_orbitofrontal"),
        *("medial_orbitofrontal", "insula", "rostral_anterior_cingulate"),
    ),
    "occipital": ("lateral_occipital", "lingual", "cuneus"),
    "sensorimotor": ("precentral", "postcentral", "paracentral"),
}
# Least and most that each zone of ZONES suffers, by subtype, the worst being about 1.
RANGES = {
    "mri": {
        "typical": ((0.7, 1.2), (0.4, 1.0), (0.2, 0.8), (0.1, 0.5), (0.0, 0.4), (0.0, 0.2)),
        "limbic": ((1.1, 1.7), (0.2, 0.7), (0.0, 0.4), (0.0, 0.3), (0.0, 0.2), (0.0, 0.1)),
        "sparing": ((0.2, 0.6), (0.4, 1.0), (0.5, 1.2), (0.2, 0.8), (0.1, 0.6), (0.0, 0.3)),
    },
    "pet": {
        "typical": ((0.2, 0.7), (0.5, 1.1), (0.7, 1.3), (0.1, 0.7), (0.0, 0.5), (0.0, 0.2)),
        "limbic": ((0.5, 1.2), (0.4, 1.0), (0.2, 0.8), (0.1, 0.5), (0.0, 0.3), (0.0, 0.1)),
        "sparing": ((0.0, 0.4), (0.5, 1.1), (0.8, 1.6), (0.3, 0.9), (0.1, 0.7), (0.0, 0.3)),
    },
}
REGION_SPREAD, SPARED_SHARE, SPARED = 0.5, 0.25, 0.1
VENTRICLES = tuple(healthy.VENTRICLE_SD)
REGIONS = {
    "mri": (*(r for zone in ZONES.values() for r in zone), *VENTRICLES),
    "pet": tuple(dict.fromkeys(region for region, _ in healthy.log_suvr_sd())),
}
SUMMARY = {"mri": ("hippocampus",), "pet": template.META_ROI}
# Cohen's d of the two summaries: mean, SD and limits over cohorts; severity is `RATIO` times as far apart.
TARGET = {"mri": (0.75, 0.22, 0.3, 1.3), "pet": (1.1, 0.22, 0.5, 1.7)}
RATIO = {"mri": (1.15, 1.7), "pet": (1.1, 1.5)}
# Where the groups lie between stable (0) and converting MCI (1), from the same means of volumes and SUVRs.
POSITION = {"normal": -0.5, "stable": 0.0, "censored": 0.45, "reverting": -0.2, "converter": 1.0, "dementia": 1.45}
# How the variance that is not severity's divides: recorded age; a factor that no table records (vascular load,
# motion); a level that all regions share; the region's own; the side's own.
VARIANCE = {"age": 0.08, "nuisance": 0.17, "level": 0.40, "own": 0.22, "side": 0.13}
LEAST_RESIDUAL = 0.25
AD_COSINE = (0.5, 0.9)


@dataclass(frozen=True)
class Expression:
    """How one modality of a cohort shows the disease; R regions in the order of `regions`.

    effect: distance of stable and converting MCI in SDs of severity. loading (subtypes, R), of people on the way to
    dementia, and ad_loading, of AD people: log change per SD of severity. residual (2, R): SD of everything else, by
    side. nuisance (R,): relative loading of what no table records, root mean square 1.
    """

    regions: tuple[str, ...]
    effect: float
    target: float
    loading: np.ndarray
    ad_loading: np.ndarray
    residual: np.ndarray
    nuisance: np.ndarray


@dataclass(frozen=True)
class Disease:
    """shares: of the subtypes. ad_cosine: between the patterns of AD and of converters."""

    shares: np.ndarray
    ad_cosine: float
    expressions: dict[str, Expression]

    def center(self, group: str, modality: str) -> float:
        """Mean severity of a group, stable MCI being 0."""
        return POSITION[group] * self.expressions[modality].effect


@lru_cache(maxsize=64)
def draw_disease(seed: int) -> Disease:
    """The disease of the cohorts of this seed."""
    rng = np.random.default_rng([seed, 12])
    shares = rng.dirichlet(SHARES_PRECISION * SHARES)
    cosine = float(rng.uniform(*AD_COSINE))
    return Disease(shares, cosine, {name: _expression(name, shares, cosine, rng) for name in MODALITIES})


def _expression(modality: str, shares: np.ndarray, cosine: float, rng: np.random.Generator) -> Expression:
    regions = REGIONS[modality]
    pattern = _pattern(modality, rng)
    nuisance = np.exp(rng.normal(0, 0.6, len(regions)))
    nuisance /= np.sqrt((nuisance**2).mean())
    mean, sd, least, most = TARGET[modality]
    target = float(np.clip(rng.normal(mean, sd), least, most))
    effect = target * float(rng.uniform(*RATIO[modality]))
    spread = _spread(modality)
    scale = _scale(modality, pattern, shares, effect, target, spread, nuisance)
    other = _pattern(modality, rng)
    signs = np.array([1.0 if r in VENTRICLES else -1.0 for r in regions])
    ad = np.stack([turned(p, o, cosine) for p, o in zip(pattern, other, strict=True)])
    residual = _residual(scale, pattern, shares, spread)
    return Expression(regions, effect, target, signs * scale * pattern, signs * scale * ad, residual, nuisance)


def _pattern(modality: str, rng: np.random.Generator) -> np.ndarray:
    """Relative loadings, (subtypes, R), 0 or more; the three subtypes share which regions are hit within a zone."""
    regions = REGIONS[modality]
    zones = [next((i for i, zone in enumerate(ZONES.values()) if r in zone), None) for r in regions]
    jitter = np.exp(rng.normal(0, REGION_SPREAD, len(regions)))
    spared = (rng.random(len(regions)) < SPARED_SHARE) & np.array(
        [r not in ("hippocampus", *VENTRICLES) for r in regions]
    )
    jitter = np.where(spared, SPARED * jitter, jitter)
    rows = []
    for subtype in SUBTYPES:
        levels = [rng.uniform(*limits) for limits in RANGES[modality][subtype]]
        # Ventricles open by more than tissue shrinks, most where most is lost nearby.
        opened = 1.3 * float(np.mean(levels[:3]))
        rows.append(
            [
                opened if r in VENTRICLES else 0.0 if z is None else levels[z]
                for r, z in zip(regions, zones, strict=True)
            ]
        )
    return np.array(rows) * jitter


def turned(pattern: np.ndarray, other: np.ndarray, cosine: float) -> np.ndarray:
    """A pattern of the same length as `pattern` at this cosine to it, towards `other`."""
    unit = pattern / np.linalg.norm(pattern)
    across = other - (other @ unit) * unit
    across /= np.linalg.norm(across)
    return np.linalg.norm(pattern) * (cosine * unit + np.sqrt(1 - cosine**2) * across)


def _spread(modality: str) -> np.ndarray:
    """Log SD within a class, (2, R), left and right."""
    if modality == "pet":
        return np.array([[healthy.log_suvr_sd()[r, side] for r in REGIONS["pet"]] for side in healthy.SIDES])
    volumes = healthy.VOLUME_SD | healthy.VENTRICLE_SD
    return np.tile([volumes.get(r, healthy.CORTEX_VOLUME_SD) for r in REGIONS["mri"]], (2, 1))


def _residual(scale: float, pattern: np.ndarray, shares: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """SD that is left for everything but severity, so that normal people vary by `spread` in all."""
    left = spread**2 - scale**2 * (shares @ pattern**2)
    return np.sqrt(np.maximum(left, LEAST_RESIDUAL * spread**2))


def _scale(
    modality: str,
    pattern: np.ndarray,
    shares: np.ndarray,
    effect: float,
    target: float,
    spread: np.ndarray,
    nuisance: np.ndarray,
) -> float:
    """What relative loadings are multiplied by, so that the modality's summary separates the classes by `target`."""
    used = [REGIONS[modality].index(r) for r in SUMMARY[modality]]
    weights = np.array([healthy.voxels(r) for r in SUMMARY[modality]], float)
    weights /= weights.sum()
    summary = pattern[:, used] @ weights
    scales = np.linspace(0.001, 0.2, 200)
    found = []
    for scale in scales:
        residual = _residual(scale, pattern, shares, spread)[:, used].mean(0) * weights
        common = VARIANCE["age"] + VARIANCE["level"]
        variance = common * residual.sum() ** 2 + VARIANCE["nuisance"] * (residual @ nuisance[used]) ** 2
        variance += (VARIANCE["own"] + VARIANCE["side"] / 2) * (residual**2).sum()
        variance += healthy.HEAD_SIZE_SD**2 if modality == "mri" else 0
        for amount in (0.5 * effect, 1.5 * effect):  # of stable and converting MCI, normal people at 0
            variance += scale**2 * (shares @ summary**2 * (amount**2 + 1) - (shares @ summary * amount) ** 2) / 2
        found.append(scale * effect * (shares @ summary) / np.sqrt(variance))
    return float(np.interp(target, np.maximum.accumulate(found), scales))
