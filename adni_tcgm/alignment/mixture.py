"""A mixture of Gaussians: the richer density that asks whether an alignment matched more than mean and covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adni_tcgm.alignment.moments import Gaussian, fit_gaussian
from adni_tcgm.alignment.remaining import Density

COMPONENTS, STEPS, STARTS = 3, 60, 4
# Each component's covariance counts as having been seen in this many people more, as a part of the whole's.
PRIOR_PEOPLE = 5.0


@dataclass(frozen=True)
class Mixture:
    """S fits of K components each: log_weight (S, K), mean (S, K, D), covariance (S, K, D, D).

    >>> one = Mixture(torch.zeros(1, 1), torch.zeros(1, 1, 2), torch.eye(2)[None, None])
    >>> one.log_joint(torch.zeros(3, 2)).shape
    torch.Size([1, 1, 3])
    """

    log_weight: Tensor
    mean: Tensor
    covariance: Tensor

    def log_joint(self, x: Tensor) -> Tensor:
        """(N, D) -> (S, K, N): log of weight times density"""
        root = torch.linalg.cholesky(self.covariance)
        z = torch.linalg.solve_triangular(root, (x - self.mean[..., None, :]).mT, upper=False)
        logs = root.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 0.5 * x.shape[1] * math.log(2 * math.pi)
        return (self.log_weight - logs)[..., None] - 0.5 * z.square().sum(-2)


def fit_mixture(x: Tensor, *, seed: int = 0) -> Density:
    """The log-density of COMPONENTS Gaussians fitted to x (N, D) by expectation and maximization, best of STARTS.

    >>> x = torch.cat([torch.randn(40, 1, generator=torch.Generator().manual_seed(0)) + m for m in (-5, 5)]).double()
    >>> density = fit_mixture(x)
    >>> bool(density(torch.tensor([[5.0]]).double()) > density(torch.tensor([[0.0]]).double()))
    True
    """
    generator = torch.Generator().manual_seed(seed)
    whole = fit_gaussian(x)
    starts = torch.stack([x[torch.randperm(len(x), generator=generator)[:COMPONENTS]] for _ in range(STARTS)])
    level = x.new_full((STARTS, COMPONENTS), -math.log(COMPONENTS))
    found = Mixture(level, starts, whole.covariance.expand(STARTS, COMPONENTS, -1, -1))
    for _ in range(STEPS):
        found = _maximize(x, found.log_joint(x).softmax(1), whole)
    best = found.log_joint(x).logsumexp(1).sum(1).argmax()
    chosen = Mixture(found.log_weight[best, None], found.mean[best, None], found.covariance[best, None])
    return lambda y: chosen.log_joint(y).logsumexp(1)[0]


def _maximize(x: Tensor, shares: Tensor, whole: Gaussian) -> Mixture:
    """shares: (S, K, N), of each component in each person."""
    count = shares.sum(-1)
    mean = (shares @ x + whole.mean) / (count + 1)[..., None]
    apart = x - mean[..., None, :]
    scatter = (shares[..., None] * apart).mT @ apart + PRIOR_PEOPLE / COMPONENTS**2 * whole.covariance
    log_weight = ((count + 1) / (len(x) + COMPONENTS)).log()
    return Mixture(log_weight, mean, scatter / (count + PRIOR_PEOPLE)[..., None, None])
