"""Means and covariances, of one sample or of many at once, and the maps that match them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """mean (…, D), covariance (…, D, D)

    >>> round(Gaussian(torch.zeros(1), torch.eye(1)).log_density(torch.zeros(1, 1)).item(), 3)  # -log sqrt(2 pi)
    -0.919
    """

    mean: Tensor
    covariance: Tensor

    def log_density(self, x: Tensor) -> Tensor:
        """(N, D) -> (N,) nats, of a single Gaussian"""
        root = torch.linalg.cholesky(self.covariance)
        z = torch.linalg.solve_triangular(root, (x - self.mean).T, upper=False)
        logs = root.diagonal().log().sum()
        return -0.5 * z.square().sum(0) - logs - 0.5 * len(self.mean) * math.log(2 * math.pi)


def fit_gaussian(x: Tensor, shrink: bool = True) -> Gaussian:
    """Mean and covariance of x (N, D), or of many samples at once, (…, N, D).

    shrink: the covariance is drawn towards a multiple of the unit matrix by the oracle approximating shrinkage of Chen
    et al. (IEEE Trans. Signal Processing 2010), without which one of few people has no inverse. As maximum likelihood
    would have it otherwise.

    >>> fit_gaussian(torch.tensor([[0.0], [2.0]]), shrink=False).mean.tolist()
    [1.0]
    """
    count, width = x.shape[-2:]
    mean = x.mean(-2)
    apart = x - mean[..., None, :]
    covariance = apart.mT @ apart / count
    if not shrink:
        return Gaussian(mean, covariance)
    trace, of_square = covariance.diagonal(dim1=-2, dim2=-1).sum(-1), covariance.square().sum((-2, -1))
    above = (1 - 2 / width) * of_square + trace**2
    below = (count + 1 - 2 / width) * (of_square - trace**2 / width)
    share = torch.where(below > 0, (above / below).clamp(max=1), 1.0)[..., None, None]
    unit = torch.eye(width, dtype=x.dtype) * (trace / width).clamp_min(1e-12)[..., None, None]
    return Gaussian(mean, (1 - share) * covariance + share * unit)


def monge_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Of covariances (…, D, D): the symmetric positive matrix T with T a T = b.

    >>> monge_matrix(torch.eye(2), torch.diag(torch.tensor([4.0, 9.0]))).round(decimals=3).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """
    root, inverse = _power(a, 0.5), _power(a, -0.5)
    return inverse @ _power(root @ b @ root, 0.5) @ inverse


def match_moments(a: Tensor, b: Tensor) -> Tensor:
    """Many samples (R, N, D), each mapped to have the mean and covariance of its (R, M, D).

    >>> a, b = torch.randn(1, 30, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 30, 2)
    >>> b[0, ::2, 0], b[0, ::3, 1] = 4, 1
    >>> match_moments(a, b).mean(1).round(decimals=3).tolist() == b.mean(1).round(decimals=3).tolist()
    True
    """
    one, other = fit_gaussian(a), fit_gaussian(b)
    matrix = monge_matrix(one.covariance, other.covariance)
    return (a - one.mean[:, None]) @ matrix.mT + other.mean[:, None]


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    return vectors * (values.clamp_min(1e-12) ** exponent)[..., None, :] @ vectors.mT


def match_scales(a: Tensor, b: Tensor) -> Tensor:
    """Many samples (R, N, D), each mapped to have the mean and SD of each feature of its (R, M, D).

    >>> match_scales(torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[10.0], [14.0]]])).tolist()
    [[[10.0], [14.0]]]
    """
    ratio = b.std(-2, keepdim=True) / a.std(-2, keepdim=True)
    ratio = torch.where(ratio.isfinite() & (ratio > 0), ratio, 1.0)
    return (a - a.mean(-2, keepdim=True)) * ratio + b.mean(-2, keepdim=True)
