"""Gaussian log-likelihood-ratio minimizing flow: mean and covariance of a site become those of the reference.

Usman, Sud, Dufour, Saenko, Log-likelihood ratio minimizing flows, NeurIPS 2020. With a Gaussian density and an affine
map the loss is 0 where both moments agree. Of all such maps the symmetric positive one moves people least (the Monge
map); any rotation after it leaves the loss at 0 and mixes the features up, so nothing else is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adni_tcgm.alignment.alignment import Affine
from adni_tcgm.alignment.moments import Gaussian, fit_gaussian, monge_matrix
from adni_tcgm.alignment.onto_reference import OntoReference


def monge_map(a: Gaussian, b: Gaussian) -> Affine:
    """The affine map with a symmetric positive matrix under which a becomes b.

    A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2 for covariances A and B (Olkin and Pukelsheim, 1982).

    >>> import torch
    >>> a = Gaussian(torch.zeros(1), torch.eye(1))
    >>> monge_map(a, Gaussian(torch.tensor([5.0]), 9 * torch.eye(1)))(torch.tensor([[1.0]])).tolist()  # 5 + 3 * 1
    [[8.0]]
    """
    return Affine(len(a.mean)).set(monge_matrix(a.covariance, b.covariance), a.mean, b.mean)


@dataclass(eq=False)
class GaussianFlow(OntoReference):
    """shrink: covariances of few people are drawn towards equal, uncorrelated features (`fit_gaussian`).

    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> values = torch.randn(60, 2, generator=generator)
    >>> sites = ["011"] * 30 + ["027"] * 30
    >>> values[30:] = 2 * values[30:] + 5
    >>> flow = GaussianFlow(measure_remaining=False).fit(values, sites, reference="011")
    >>> (flow.transform(values, sites)[30:].mean(0) - values[:30].mean(0)).abs().max().item() < 0.01
    True
    """

    name: ClassVar[str] = "gaussian_flow"
    shrink: bool = True

    def fit_map(self, a: Tensor, b: Tensor, seed: int) -> Affine:
        return monge_map(fit_gaussian(a, self.shrink), fit_gaussian(b, self.shrink))
