"""Regional measurements freed from site, head size, age and sex: fitted on training people, applied to everybody.

Sites: ComBat (Johnson, Li & Rabinovic, Biostatistics 2007; for brain measures Fortin et al., NeuroImage 2018), the same
as neuroCombat 0.2.12 to 3e-6 where nothing is missing. Written here because no kept library does it: neuroCombat cannot
be applied to new people, neuroHarmonize 2.5 needs numpy < 2, and combatlearn 2.3 takes its priors over sites instead of
features, refuses new sites and brings a plotting stack. A label enters nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd

# A site with fewer training people than this is left as it is: its spread is not to be learned from so few.
SMALLEST_SITE = 5
# A site with fewer is no nuisance group of its own: it joins the other small ones of its field strength.
SMALLEST_GROUP = 20
# What site effects are separated from; and what `tiv_age_sex` removes. Uptake is a ratio that knows no head size.
COVARIATES = {"mri": ("age", "male", "tiv_ml"), "pet": ("age", "male")}
TOLERANCE, MOST_ROUNDS = 1e-6, 1000


@dataclass(frozen=True)
class LinearPart:
    """What covariates explain of D features: `slopes` (P, D) per unit of each covariate minus its `center` (P,)."""

    covariates: tuple[str, ...]
    center: tuple[float, ...]
    slopes: tuple[tuple[float, ...], ...]

    def explain(self, people: pd.DataFrame) -> np.ndarray:
        """(N, D). Somebody whose age or sex is unknown stands at the mean of the training people."""
        return _centered(people, self.covariates, self.center) @ np.array(self.slopes)


@dataclass(frozen=True)
class SiteEffect:
    """One site's shift and factor of the spread, (D,), in units of `SiteModel.sd`; `n`: its training people."""

    n: int
    shift: tuple[float, ...]
    factor: tuple[float, ...]


@dataclass(frozen=True)
class SiteModel:
    """ComBat: features = mean + covariates + sd * (shift of the site + factor of the site * noise)."""

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    linear: LinearPart
    sites: dict[str, SiteEffect]

    def remove(self, values: np.ndarray, people: pd.DataFrame) -> np.ndarray:
        """(N, D) with site effects gone; people of a site that has none here are left as they are."""
        expected = np.array(self.mean) + self.linear.explain(people)
        sd = np.array(self.sd)
        result = values.copy()
        for name, effect in self.sites.items():
            rows = people.site.eq(name).to_numpy()
            noise = ((values[rows] - expected[rows]) / sd - np.array(effect.shift)) / np.array(effect.factor)
            result[rows] = expected[rows] + sd * noise
        return result


@dataclass(frozen=True)
class ModalityAdjustment:
    """What is done to one modality: sites first, then covariates. `unharmonized`: split -> people of other sites."""

    features: tuple[str, ...]
    site: SiteModel | None
    linear: LinearPart | None
    unharmonized: dict[str, int]

    def apply(self, values: np.ndarray, people: pd.DataFrame) -> np.ndarray:
        if self.site:
            values = self.site.remove(values, people)
        return values - self.linear.explain(people) if self.linear else values

    def count_unharmonized(self, people: pd.DataFrame) -> int:
        return int((~people.site.isin(self.site.sites)).sum()) if self.site else 0


@dataclass(frozen=True)
class Adjustment:
    """`harmonize` (none|site) and `adjust` (none|tiv_age_sex) as fitted on training people, modality by modality.

    groups: site -> the group that is taken out (`group_sites`). A site that is not there stays as it is.
    """

    harmonize: str
    adjust: str
    modalities: dict[str, ModalityAdjustment]
    groups: dict[str, str] = field(default_factory=dict)

    def covariates(self, people: pd.DataFrame) -> pd.DataFrame:
        """`read_covariates` of manifest rows, with the group in the place of the site; "" where there is none."""
        found = read_covariates(people)
        return found.assign(site=found.site.map(self.groups).fillna(""))

    def to_json(self) -> dict:
        return {"smallest_site": SMALLEST_SITE, **asdict(self)}

    @staticmethod
    def from_json(content: Mapping) -> Adjustment:
        modalities = {}
        for name, part in content["modalities"].items():
            site = part["site"]
            if site:
                sites = {key: SiteEffect(**_tuples(effect)) for key, effect in site["sites"].items()}
                site = SiteModel(tuple(site["mean"]), tuple(site["sd"]), _linear(site["linear"]), sites)
            linear = _linear(part["linear"]) if part["linear"] else None
            modalities[name] = ModalityAdjustment(tuple(part["features"]), site, linear, part["unharmonized"])
        # Of a run from before there were groups every site was its own.
        sites = {name: name for part in modalities.values() if part.site for name in part.site.sites}
        return Adjustment(content["harmonize"], content["adjust"], modalities, content.get("groups", sites))


def _linear(content: Mapping) -> LinearPart:
    slopes = tuple(tuple(row) for row in content["slopes"])
    return LinearPart(tuple(content["covariates"]), tuple(content["center"]), slopes)


def _tuples(content: Mapping) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}


def read_covariates(people: pd.DataFrame) -> pd.DataFrame:
    """Manifest rows -> age (years), male (0 or 1), tiv_ml, NaN where unknown; site and field_strength (text).

    No other column is read.
    """
    tesla = people.field_strength_t if "field_strength_t" in people else pd.Series("", people.index)
    return pd.DataFrame(
        {
            "age": pd.to_numeric(people.age, errors="coerce"),
            "male": people.sex.str.strip().str.upper().str[:1].map({"M": 1.0, "F": 0.0}),
            "tiv_ml": pd.to_numeric(people.tiv_ml, errors="coerce").where(lambda tiv: tiv > 0),
            "site": people.site.fillna("").astype(str).str.strip(),
            "field_strength": pd.to_numeric(tesla, errors="coerce").map(lambda t: "" if np.isnan(t) else f"{t:g} T"),
        }
    )


def group_sites(covariates: pd.DataFrame) -> dict[str, str]:
    """Site -> nuisance group, of training people (`read_covariates`): itself where it has `SMALLEST_GROUP` of them,
    else all small sites of its field strength, where these have so many together; other sites have no group.
    """
    known = covariates[covariates.site != ""]
    sizes = known.site.value_counts()
    large = sizes.index[sizes >= SMALLEST_GROUP]
    groups = {site: site for site in large}
    few = known[~known.site.isin(large) & (known.field_strength != "")]
    # A site with two scanners counts where most of its people were.
    magnets = few.groupby("site").field_strength.agg(lambda seen: seen.mode().iloc[0])
    for tesla, sites in magnets.groupby(magnets):
        if few.site.isin(sites.index).sum() >= SMALLEST_GROUP:
            groups |= {site: f"small sites, {tesla}" for site in sites.index}
    return dict(sorted(groups.items()))


def fit_adjustment(
    modality: str, table: pd.DataFrame, covariates: pd.DataFrame, split: np.ndarray, harmonize: str, adjust: str
) -> ModalityAdjustment:
    """Fit on the people of `split` "train" alone, with a label and without; nobody's label is an argument.

    table: (N, D) features of the people who have the modality, NaN where one is missing; covariates: (N, ·), from
    `read_covariates`; split: (N,) names. Raises ValueError where fewer than two sites are large enough.
    """
    values, trains = table.to_numpy(float), split == "train"
    names, site, linear = COVARIATES[modality], None, None
    if harmonize == "site":
        site = _fit_sites(values[trains], covariates[trains], names, f"modality {modality!r}")
        values = site.remove(values, covariates)
    if adjust == "tiv_age_sex":
        linear = _fit_linear(values[trains], covariates[trains], names)[0]
    result = ModalityAdjustment(tuple(table.columns), site, linear, {})
    for name in dict.fromkeys(split.tolist()) if site else ():
        result.unharmonized[name] = result.count_unharmonized(covariates[split == name])
    return result


def _centered(people: pd.DataFrame, names: tuple[str, ...], center: tuple[float, ...]) -> np.ndarray:
    return np.nan_to_num(people[list(names)].to_numpy(float) - np.array(center))


def _fit_linear(
    values: np.ndarray, people: pd.DataFrame, names: tuple[str, ...], groups: np.ndarray | None = None
) -> tuple[LinearPart, np.ndarray]:
    """Least squares of each feature on covariates and an intercept per column of `groups` (N, G), or one for all.

    Returns the part of the covariates and the intercepts (G, D). A feature is fitted on the people who have it.
    """
    center = people[list(names)].mean().fillna(0).to_numpy()
    groups = np.ones((len(values), 1)) if groups is None else groups
    design = np.column_stack([groups, _centered(people, names, center)])
    found = np.zeros((design.shape[1], values.shape[1]))
    for column in range(values.shape[1]):
        rows = ~np.isnan(values[:, column])
        found[:, column] = np.linalg.lstsq(design[rows], values[rows, column], rcond=None)[0]
    intercepts, slopes = found[: groups.shape[1]], found[groups.shape[1] :]
    return LinearPart(names, tuple(center.tolist()), _rows(slopes)), intercepts


def _fit_sites(values: np.ndarray, people: pd.DataFrame, names: tuple[str, ...], place: str) -> SiteModel:
    """values: (N, D) of the training people. The steps and letters are those of Johnson et al., section 3.2."""
    counts = people.site[people.site != ""].value_counts()
    sites = sorted(counts.index[counts >= SMALLEST_SITE])
    if len(sites) < 2:
        raise ValueError(
            f"harmonize is 'site', but {len(sites)} sites have at least {SMALLEST_SITE} training people with "
            f"{place}; two are needed (the largest have {counts.head(2).tolist()})"
        )
    rows = people.site.isin(sites).to_numpy()
    values, people = values[rows], people[rows]
    member = np.stack([people.site.eq(name).to_numpy() for name in sites], axis=1)
    linear, levels = _fit_linear(values, people, names, member.astype(float))
    # Each site's level counts as often as the site has people: the mean of all stays where it was.
    share = member.T.astype(float) @ ~np.isnan(values)
    mean = (share * levels).sum(0) / np.maximum(share.sum(0), 1)
    residuals = values - member @ levels - linear.explain(people)
    sd = np.sqrt(np.nanmean(residuals**2, axis=0))
    # A feature that never varied has no spread to bring to one.
    sd = np.where(sd > 0, sd, 1.0)
    z = (values - mean - linear.explain(people)) / sd
    effects = {}
    for column, name in enumerate(sites):
        shift, variance = _shrink(z[member[:, column]])
        effects[name] = SiteEffect(int(counts[name]), tuple(shift.tolist()), tuple(np.sqrt(variance).tolist()))
    return SiteModel(tuple(mean.tolist()), tuple(sd.tolist()), linear, effects)


def _shrink(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A site's shift and variance of each feature, drawn towards those of its other features: (n, D) -> (D,), (D,).

    Priors: shifts are normal, variances inverse gamma, with the moments found over the features (equations 3.1, 3.2).
    """
    n = (~np.isnan(z)).sum(0)
    usable = n > 1
    shift, variance = np.zeros(z.shape[1]), np.ones(z.shape[1])
    if not usable.any():
        return shift, variance
    z, n = z[:, usable], n[usable]
    raw_shift, raw_variance = np.nanmean(z, axis=0), np.nanvar(z, axis=0, ddof=1)
    center, spread = raw_shift.mean(), _variance(raw_shift)
    m, s2 = raw_variance.mean(), _variance(raw_variance)
    found_shift, found_variance = raw_shift, np.where(raw_variance > 0, raw_variance, 1.0)
    # Features that agree on the spread to the digit, or a single one, teach no prior: their own values stay.
    if spread > 0 and s2 > 0:
        a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
        for _ in range(MOST_ROUNDS):
            before = np.concatenate([found_shift, found_variance])
            found_shift = (n * spread * raw_shift + found_variance * center) / (n * spread + found_variance)
            found_variance = (0.5 * np.nansum((z - found_shift) ** 2, axis=0) + b) / (n / 2 + a - 1)
            now = np.concatenate([found_shift, found_variance])
            if np.abs(now - before).max() < TOLERANCE:
                break
    shift[usable], variance[usable] = found_shift, found_variance
    return shift, variance


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())
