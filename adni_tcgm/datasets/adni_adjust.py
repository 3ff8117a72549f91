"""Regional measurements freed from site, head size, age and sex: fitted on training people, applied to everybody.

What MRI and PET share too strongly goes with them (`datasets.shared_directions`), once they are standardized.

A label enters nowhere. How sites are taken out is `adni_tcgm.alignment`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adni_tcgm.alignment import ALIGNMENTS, SMALLEST_SITE, Alignment, restore_alignment
from adni_tcgm.alignment.alignment import LinearPart, fit_linear
from adni_tcgm.datasets.shared_directions import SharedDirections

# The settings of `AdniConfig` that say what is taken out.
SETTINGS = ("harmonize", "adjust", "shared_limit")
# A site with fewer is no nuisance group of its own: it joins the other small ones of its field strength.
SMALLEST_GROUP = 20
# What site effects are separated from; and what `tiv_age_sex` removes. Uptake is a ratio that knows no head size.
COVARIATES = {"mri": ("age", "male", "tiv_ml"), "pet": ("age", "male")}


@dataclass(frozen=True)
class ModalityAdjustment:
    """What is done to one modality: sites first, then covariates. `unharmonized`: split -> people of other sites."""

    modality: str
    features: tuple[str, ...]
    site: Alignment | None
    linear: LinearPart | None
    unharmonized: dict[str, int]

    def apply(self, values: np.ndarray, people: pd.DataFrame) -> np.ndarray:
        """values: (N, D) as measured; people: from `read_covariates`."""
        covariates, found = self.covariates_of(people), torch.tensor(values, dtype=torch.float64)
        if self.site:
            found = self.site.transform(found, people.site.tolist(), covariates)
        if self.linear:
            found = found - self.linear.explain(covariates, len(found))
        return found.numpy()

    def covariates_of(self, people: pd.DataFrame) -> Tensor:
        return torch.tensor(people[list(COVARIATES[self.modality])].to_numpy(float))

    def count_unharmonized(self, people: pd.DataFrame) -> int:
        return int((~people.site.isin(self.site.sites)).sum()) if self.site else 0

    def describe(self) -> dict:
        about = {"features": list(self.features), "covariates": list(COVARIATES[self.modality])}
        site = self.site.describe() if self.site else None
        return about | {"site": site, "linear": self.linear is not None, "unharmonized": self.unharmonized}

    def tensors(self) -> dict[str, Tensor]:
        found = {f"site.{key}": value for key, value in (self.site.tensors() if self.site else {}).items()}
        if self.linear:
            found |= {"linear.center": self.linear.center, "linear.slopes": self.linear.slopes}
        return found


@dataclass(frozen=True)
class Adjustment:
    """`harmonize` (none, or an alignment's name) and `adjust` (none|tiv_age_sex) as fitted on training people.

    groups: site -> the group that is taken out (`group_sites`). A site that is not there stays as it is.
    shared: what is taken out of the standardized measurements after that, above `shared_limit`; None where nothing was
        looked for, or too few people have both scans.
    """

    harmonize: str
    adjust: str
    modalities: dict[str, ModalityAdjustment]
    groups: dict[str, str] = field(default_factory=dict)
    shared_limit: float | None = None
    shared: SharedDirections | None = None

    def covariates(self, people: pd.DataFrame) -> pd.DataFrame:
        """`read_covariates` of manifest rows, with the group in the place of the site; "" where there is none."""
        return in_groups(read_covariates(people), self.groups)

    def to_json(self) -> dict:
        """All but the numbers of `tensors`."""
        parts = {name: part.describe() for name, part in self.modalities.items()}
        about = {"harmonize": self.harmonize, "adjust": self.adjust, "groups": self.groups, "modalities": parts}
        shared = {"shared_limit": self.shared_limit, "shared": self.shared.describe() if self.shared else None}
        return {"smallest_site": SMALLEST_SITE, **about, **shared}

    def tensors(self) -> dict[str, Tensor]:
        matrices = self.shared.matrices if self.shared else {}
        found = {f"{name}.shared": torch.from_numpy(matrix) for name, matrix in matrices.items()}
        for name, part in self.modalities.items():
            found |= {f"{name}.{key}": value for key, value in part.tensors().items()}
        return found

    @staticmethod
    def restore(content: Mapping, tensors: Mapping[str, Tensor]) -> Adjustment:
        """As it was when `to_json` and `tensors` gave these. Raises ValueError where a tensor is missing."""
        modalities = {}
        try:
            for name, part in content["modalities"].items():
                site = part["site"]
                if site:
                    site = restore_alignment(content["harmonize"], site, _below(tensors, f"{name}.site."))
                own = _below(tensors, f"{name}.linear.")
                linear = LinearPart(own["center"], own["slopes"]) if part["linear"] else None
                modalities[name] = ModalityAdjustment(name, tuple(part["features"]), site, linear, part["unharmonized"])
            about, shared = content.get("shared"), None
            if about:
                matrices = {name: tensors[f"{name}.shared"].double().numpy() for name in modalities}
                shared = SharedDirections(tuple(about["correlations"]), about["people"], matrices)
        except KeyError as error:
            raise ValueError(f"the adjustment of the run lacks {error.args[0]!r}; train again") from error
        groups, limit = content["groups"], content.get("shared_limit")
        return Adjustment(content["harmonize"], content["adjust"], modalities, groups, limit, shared)


def _below(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


def read_covariates(people: pd.DataFrame) -> pd.DataFrame:
    """Manifest rows -> age (years), male (0 or 1), tiv_ml, NaN where unknown; site and field_strength (text).

    No other column is read.

    >>> row = {"age": "71.5", "sex": "M", "tiv_ml": "1500", "site": "011", "field_strength_t": "3"}
    >>> read_covariates(pd.DataFrame([row])).male.tolist()
    [1.0]
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

    >>> people = pd.DataFrame({"site": ["011"] * 20 + ["027"] * 3, "field_strength": ["3"] * 23})
    >>> group_sites(people)
    {'011': '011'}
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


def in_groups(covariates: pd.DataFrame, groups: Mapping[str, str]) -> pd.DataFrame:
    """The same with a site's group (`group_sites`) in the place of the site, "" where it has none.

    >>> in_groups(pd.DataFrame({"site": ["011", "027"]}), {"011": "011"}).site.tolist()
    ['011', '']
    """
    return covariates.assign(site=covariates.site.map(groups).fillna(""))


def fit_adjustment(
    modality: str,
    table: pd.DataFrame,
    covariates: pd.DataFrame,
    split: np.ndarray,
    harmonize: str,
    adjust: str,
    reference_site: str = "",
) -> ModalityAdjustment:
    """Fit on the people of `split` "train" alone, with a label and without; nobody's label is an argument.

    table: (N, D) features of the people who have the modality, NaN where one is missing; covariates: (N, ·), from
    `read_covariates`; split: (N,) names. Raises ValueError where fewer than two sites are large enough.
    """
    values, trains = table.to_numpy(float), split == "train"
    blank = ModalityAdjustment(modality, tuple(table.columns), None, None, {})
    seen = blank.covariates_of(covariates[trains])
    site, linear = None, None
    if harmonize != "none":
        people = torch.from_numpy(values[trains]), covariates.site[trains].tolist(), seen
        try:
            site = ALIGNMENTS[harmonize]().fit(*people, reference=reference_site)
        except ValueError as error:
            raise ValueError(f"harmonize is {harmonize!r}, modality {modality!r}: {error}") from error
    found = ModalityAdjustment(modality, blank.features, site, None, {})
    if adjust == "tiv_age_sex":
        # Of training people only: sums over more rows round otherwise.
        values = torch.from_numpy(found.apply(values[trains], covariates[trains]))
        linear = fit_linear(values, seen, torch.ones(len(values), 1))[0]
    unharmonized = {
        name: found.count_unharmonized(covariates[split == name])
        for name in (dict.fromkeys(split.tolist()) if site else ())
    }
    return ModalityAdjustment(modality, blank.features, site, linear, unharmonized)
