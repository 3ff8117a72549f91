"""Alignments that map each site onto one fixed reference site."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from adni_tcgm.alignment.alignment import Affine, Alignment, fit_linear, match_means_and_scales, rows_of
from adni_tcgm.alignment.mixture import fit_mixture
from adni_tcgm.alignment.moments import match_moments
from adni_tcgm.alignment.remaining import remaining_loss

# Below this many training people a site gets means and scales only: covariances are not to be learned from so few.
FEWEST_FOR_A_MAP = 20


@dataclass(eq=False)
class OntoReference(Alignment):
    """What covariates explain within sites is set aside; the rest, in SDs within sites, is mapped; then it comes back.

    A subclass says which map brings a site's people (N, D) to those of the reference (M, D): `fit_map`, and which
    empty one its tensors fill: `blank_map`. Missing values stand at their site's mean while a map is fitted.

    measure_remaining: the remaining loss is measured, for which each map is fitted twice more.
    """

    measure_remaining: bool = True
    reference: str = field(init=False, default="")
    center: Tensor = field(init=False, default=None)
    scale: Tensor = field(init=False, default=None)
    maps: dict[str, nn.Module] = field(init=False, default_factory=dict)
    means: dict[str, Tensor] = field(init=False, default_factory=dict)

    @abstractmethod
    def fit_map(self, a: Tensor, b: Tensor, seed: int) -> nn.Module: ...

    @staticmethod
    def rematch(a: Tensor, b: Tensor) -> Tensor:
        """What is matched once more before the remaining loss is tested (`remaining_loss`): what the maps match."""
        return match_moments(a, b)

    def blank_map(self, width: int) -> nn.Module:
        return Affine(width)

    def fit(
        self,
        values: Tensor,
        sites: Sequence[str],
        covariates: Tensor | None = None,
        *,
        reference: str = "",
        seed: int = 0,
    ) -> Self:
        self._choose_sites(sites)
        self.reference = reference or max(self.sites, key=self.sites.__getitem__)
        if self.reference not in self.sites:
            raise ValueError(f"reference is {self.reference!r}; sites with enough training people: {list(self.sites)}")
        values = values.double()
        member = torch.stack([rows_of(sites, name) for name in self.sites], 1)
        rows = member.any(1)
        member, values = member[rows], values[rows]
        covariates = None if covariates is None else covariates[rows]
        self.linear, levels = fit_linear(values, covariates, member)
        self.center = levels[list(self.sites).index(self.reference)]
        residuals = values - self.linear.explain(covariates, len(values)) - self.center
        self.scale = _spread(residuals - member.double() @ (levels - self.center))
        z = residuals / self.scale
        of_site = {name: _filled(z[member[:, column]]) for column, name in enumerate(self.sites)}
        b = of_site.pop(self.reference)
        with torch.random.fork_rng(devices=[]):
            for site, a in of_site.items():
                self.means[site] = a.mean(0)
                self.maps[site] = self._fit_site(site, a, b, seed)
        return self

    def _has_few(self, site: str) -> bool:
        return min(self.sites[site], self.sites[self.reference]) < FEWEST_FOR_A_MAP

    def _fit_site(self, site: str, a: Tensor, b: Tensor, seed: int) -> nn.Module:
        if self._has_few(site):
            return match_means_and_scales(a, b)
        if self.measure_remaining:
            densities, maps = lambda x: fit_mixture(x, seed=seed), lambda a, b: self.fit_map(a, b, seed)
            self.remaining[site] = remaining_loss(a, b, maps, densities, self.rematch, seed=seed)
        return self.fit_map(a, b, seed)

    @torch.no_grad()
    def transform(self, values: Tensor, sites: Sequence[str], covariates: Tensor | None = None) -> Tensor:
        result = values.double().clone()
        for site, mapped in self.maps.items():
            rows = rows_of(sites, site)
            explained = self.linear.explain(None if covariates is None else covariates[rows], int(rows.sum()))
            z = (result[rows] - explained - self.center) / self.scale
            missing = z.isnan()
            found = mapped(torch.where(missing, self.means[site], z)).masked_fill(missing, torch.nan)
            result[rows] = found * self.scale + self.center + explained
        return result

    def describe(self) -> dict:
        return super().describe() | {"reference": self.reference}

    def tensors(self) -> dict[str, Tensor]:
        found = {"linear.center": self.linear.center, "linear.slopes": self.linear.slopes}
        found |= {"center": self.center, "scale": self.scale}
        for site, mapped in self.maps.items():
            found[f"means.{site}"] = self.means[site]
            found |= {f"maps.{site}.{key}": value for key, value in mapped.state_dict().items()}
        return found

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        self.center, self.scale = tensors["center"], tensors["scale"]
        for site in self.sites:
            if site == self.reference:
                continue
            width = len(self.center)
            mapped = Affine(width) if self._has_few(site) else self.blank_map(width)
            start = f"maps.{site}."
            mapped.load_state_dict({key.removeprefix(start): tensors[key] for key in tensors if key.startswith(start)})
            self.maps[site], self.means[site] = mapped, tensors[f"means.{site}"]

    def restore(self, content: Mapping, tensors: Mapping[str, Tensor]) -> Self:
        self.reference = content["reference"]
        return super().restore(content, tensors)


def _filled(z: Tensor) -> Tensor:
    """Missing values at the mean of their feature, or at 0 where nobody has it."""
    return torch.where(z.isnan(), z.nanmean(0).nan_to_num(), z)


def _spread(residuals: Tensor) -> Tensor:
    """SD of each feature within sites; 1 for a feature that never varies."""
    sd = residuals.square().nanmean(0).sqrt().nan_to_num()
    return torch.where(sd > 0, sd, torch.ones_like(sd))
