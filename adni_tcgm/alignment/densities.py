"""Densities that explain a sample: a Gaussian, and a mixture of them, which also knows modes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adni_tcgm.alignment.remaining import Density

COMPONENTS, STEPS, STARTS = 3, 60, 4
# Each component's covariance counts as having been seen in this many people more, all with the whole sample's.
PRIOR_PEOPLE = 10.0


@dataclass(frozen=True)
class Gaussian:
    """mean (D,), covariance (D, D)"""

    mean: Tensor
    covariance: Tensor

    def log_density(self, x: Tensor) -> Tensor:
        """(N, D) -> (N,) nats"""
        root = torch.linalg.cholesky(self.covariance)
        z = torch.linalg.solve_triangular(root, (x - self.mean).T, upper=False)
        logs = root.diagonal().log().sum()
        return -0.5 * z.square().sum(0) - logs - 0.5 * len(self.mean) * math.log(2 * math.pi)


def fit_gaussian(x: Tensor, shrink: bool = True) -> Gaussian:
    """Mean and covariance of x (N, D).

    shrink: the covariance is drawn towards a multiple of the unit matrix by the oracle approximating shrinkage of Chen
    et al. (IEEE Trans. Signal Processing 2010), without which one of few people has no inverse. As maximum likelihood
    would have it otherwise.
    """
    mean = x.mean(0)
    covariance = (x - mean).T @ (x - mean) / len(x)
    if not shrink:
        return Gaussian(mean, covariance)
    count, width = x.shape
    trace, of_square = covariance.trace(), (covariance @ covariance).trace()
    above = (1 - 2 / width) * of_square + trace**2
    below = (count + 1 - 2 / width) * (of_square - trace**2 / width)
    share = float((above / below).clamp(max=1)) if below > 0 else 1.0
    unit = torch.eye(width, dtype=x.dtype) * (trace / width).clamp_min(1e-12)
    return Gaussian(mean, (1 - share) * covariance + share * unit)


def fit_mixture(x: Tensor, *, seed: int = 0) -> Density:
    """The log-density of COMPONENTS Gaussians fitted to x (N, D) by expectation and maximization, best of STARTS."""
    generator = torch.Generator().manual_seed(seed)
    whole = fit_gaussian(x)
    found = [_fit_once(x, whole, generator) for _ in range(STARTS)]
    parts = max(found, key=lambda parts: float(_log_joint(x, parts).logsumexp(0).sum()))
    return lambda y: _log_joint(y, parts).logsumexp(0)


Parts = list[tuple[float, Gaussian]]


def _fit_once(x: Tensor, whole: Gaussian, generator: torch.Generator) -> Parts:
    chosen = x[torch.randperm(len(x), generator=generator)[:COMPONENTS]]
    parts = [(-math.log(COMPONENTS), Gaussian(center, whole.covariance)) for center in chosen]
    for _ in range(STEPS):
        shares = _log_joint(x, parts).softmax(0)
        parts = [_component(x, share, whole) for share in shares]
    return parts


def _component(x: Tensor, share: Tensor, whole: Gaussian) -> tuple[float, Gaussian]:
    count = share.sum()
    mean = (share @ x + whole.mean) / (count + 1)
    apart = x - mean
    covariance = ((share[:, None] * apart).T @ apart + PRIOR_PEOPLE * _narrow(whole)) / (count + PRIOR_PEOPLE)
    return math.log((float(count) + 1) / (len(x) + COMPONENTS)), Gaussian(mean, covariance)


def _narrow(whole: Gaussian) -> Tensor:
    """What a component may be expected to spread: a part of the whole."""
    return whole.covariance / COMPONENTS


def _log_joint(x: Tensor, parts: Parts) -> Tensor:
    """(components, N) log of weight times density."""
    return torch.stack([weight + part.log_density(x) for weight, part in parts])
