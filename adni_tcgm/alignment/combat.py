"""ComBat: shifts and factors of sites, feature by feature, each drawn towards those of the site's other features.

Johnson, Li & Rabinovic, Biostatistics 2007; for brain measures Fortin et al., NeuroImage 2018; the same as neuroCombat
0.2.12 to 3e-6 where nothing is missing. Written here because no kept library does it: neuroCombat cannot be applied to
new people, neuroHarmonize 2.5 needs numpy < 2, and combatlearn 2.3 takes its priors over sites instead of features,
refuses new sites and brings a plotting stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor

from adni_tcgm.alignment.alignment import Alignment, fit_linear, rows_of

TOLERANCE, MOST_ROUNDS = 1e-6, 1000


@dataclass(eq=False)
class ComBat(Alignment):
    """features = mean + covariates + sd * (shift of the site + factor of the site * noise)

    `mean`, `sd`: (D,). `shift`, `factor`: (sites, D) in the order of `sites`, in units of sd. There is no reference:
    the mean of all people stays where it was.

    >>> generator = torch.Generator().manual_seed(0)
    >>> values = torch.randn(60, 3, generator=generator)
    >>> sites = ["011"] * 30 + ["027"] * 30
    >>> values[30:] += 4  # what a scanner adds
    >>> aligned = ComBat().fit(values, sites).transform(values, sites)
    >>> bool((aligned[30:].mean(0) - aligned[:30].mean(0)).abs().max() < 0.5)
    True
    """

    name: ClassVar[str] = "site"
    mean: Tensor = field(init=False, default=None)
    sd: Tensor = field(init=False, default=None)
    shift: Tensor = field(init=False, default=None)
    factor: Tensor = field(init=False, default=None)

    def fit(
        self,
        values: Tensor,
        sites: Sequence[str],
        covariates: Tensor | None = None,
        *,
        reference: str = "",
        seed: int = 0,
    ) -> Self:
        """The steps and letters are those of Johnson et al., section 3.2. Raises ValueError for a reference, too."""
        if reference:
            raise ValueError(f"reference is {reference!r}; ComBat has none")
        self._choose_sites(sites)
        member = torch.stack([rows_of(sites, name) for name in self.sites], 1)
        rows = member.any(1)
        values, member = values.double()[rows], member[rows]
        covariates = None if covariates is None else covariates[rows]
        self.linear, levels = fit_linear(values, covariates, member)
        explained = self.linear.explain(covariates, len(values))
        # Each site's level counts as often as the site has people: the mean of all stays where it was.
        share = member.double().T @ (~values.isnan()).double()
        self.mean = (share * levels).sum(0) / share.sum(0).clamp_min(1)
        sd = (values - member.double() @ levels - explained).square().nanmean(0).sqrt().nan_to_num()
        # A feature that never varied has no spread to bring to one.
        self.sd = torch.where(sd > 0, sd, torch.ones_like(sd))
        z = (values - self.mean - explained) / self.sd
        found = [_shrink(z[column]) for column in member.T]
        self.shift = torch.stack([shift for shift, _ in found])
        self.factor = torch.stack([variance.sqrt() for _, variance in found])
        return self

    def transform(self, values: Tensor, sites: Sequence[str], covariates: Tensor | None = None) -> Tensor:
        result = values.double().clone()
        expected = self.mean + self.linear.explain(covariates, len(values))
        for site, shift, factor in zip(self.sites, self.shift, self.factor, strict=True):
            rows = rows_of(sites, site)
            noise = ((result[rows] - expected[rows]) / self.sd - shift) / factor
            result[rows] = expected[rows] + self.sd * noise
        return result

    def tensors(self) -> dict[str, Tensor]:
        found = {"linear.center": self.linear.center, "linear.slopes": self.linear.slopes}
        return found | {name: getattr(self, name) for name in ("mean", "sd", "shift", "factor")}

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        for name in ("mean", "sd", "shift", "factor"):
            setattr(self, name, tensors[name])


def _shrink(z: Tensor) -> tuple[Tensor, Tensor]:
    """A site's shift and variance of each feature, drawn towards those of its other features: (n, D) -> (D,), (D,).

    Priors: shifts are normal, variances inverse gamma, with the moments found over the features (equations 3.1, 3.2).
    """
    n = (~z.isnan()).sum(0)
    usable = n > 1
    shift, variance = z.new_zeros(z.shape[1]), z.new_ones(z.shape[1])
    if not usable.any():
        return shift, variance
    z, n = z[:, usable], n[usable]
    raw_shift = z.nanmean(0)
    raw_variance = (z - raw_shift).square().nansum(0) / (n - 1)
    center, spread = raw_shift.mean(), _variance(raw_shift)
    m, s2 = raw_variance.mean(), _variance(raw_variance)
    found_shift, found_variance = raw_shift, torch.where(raw_variance > 0, raw_variance, torch.ones_like(raw_variance))
    # Features that agree on the spread to the digit, or a single one, teach no prior: their own values stay.
    if spread > 0 and s2 > 0:
        a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
        for _ in range(MOST_ROUNDS):
            before = torch.cat([found_shift, found_variance])
            found_shift = (n * spread * raw_shift + found_variance * center) / (n * spread + found_variance)
            found_variance = (0.5 * (z - found_shift).square().nansum(0) + b) / (n / 2 + a - 1)
            if (torch.cat([found_shift, found_variance]) - before).abs().max() < TOLERANCE:
                break
    shift[usable], variance[usable] = found_shift, found_variance
    return shift, variance


def _variance(values: Tensor) -> float:
    return float(values.var()) if len(values) > 1 else 0.0
