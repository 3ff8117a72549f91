"""Log-likelihood-ratio minimizing flow with RealNVP: as density and, begun from matched moments, as the map.

Usman, Sud, Dufour, Saenko, Log-likelihood ratio minimizing flows, NeurIPS 2020; couplings after Dinh et al., ICLR 2017.
Where two distributions lie far apart, the loss does not know in which direction they would meet (its gradient vanishes
with exp(-distance squared)); so the map starts as the Monge map of the moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import LBFGS

from adni_tcgm.alignment.alignment import Affine
from adni_tcgm.alignment.gaussian import monge_map
from adni_tcgm.alignment.moments import fit_gaussian
from adni_tcgm.alignment.onto_reference import OntoReference


class RealNVP(nn.Module):
    """Affine couplings, at first the identity: every second one changes the features that its neighbor lets through.

    >>> net = RealNVP(3, couplings=2, hidden=4)
    >>> x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    >>> y, log_determinant = net.flow(x)
    >>> torch.allclose(net.inverse(y), x), log_determinant.shape
    (True, torch.Size([5]))
    """

    # A coupling stretches by e^-1 to e at most: four of them are free enough, and one cannot explode.
    LARGEST_LOG_SCALE = 1.0

    def __init__(self, width: int, couplings: int, hidden: int) -> None:
        super().__init__()
        even = (torch.arange(width) % 2 == 0).double()
        self.register_buffer("kept", torch.stack([even if i % 2 == 0 else 1 - even for i in range(couplings)]))
        # Of all couplings in one tensor each: many small parameters would cost more time than what they compute.
        drawn = torch.randn(couplings, width, hidden, dtype=torch.float64) / width**0.5
        self.first, self.first_bias = nn.Parameter(drawn), nn.Parameter(drawn.new_zeros(couplings, hidden))
        self.last = nn.Parameter(drawn.new_zeros(couplings, hidden, 2 * width))
        self.last_bias = nn.Parameter(drawn.new_zeros(couplings, 2 * width))

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(x)[0]

    def flow(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D) and log|det| of the Jacobian, (N,)."""
        logs = x.new_zeros(len(x))
        for coupling in range(len(self.kept)):
            scale, shift = self._coefficients(x, coupling)
            x, logs = x * scale.exp() + shift, logs + scale.sum(1)
        return x, logs

    def inverse(self, y: Tensor) -> Tensor:
        for coupling in reversed(range(len(self.kept))):
            scale, shift = self._coefficients(y, coupling)
            y = (y - shift) * (-scale).exp()
        return y

    def _coefficients(self, x: Tensor, coupling: int) -> tuple[Tensor, Tensor]:
        """Log factor and shift of each feature, 0 for those that are kept; those alone decide the others'."""
        kept = self.kept[coupling]
        inner = torch.addmm(self.first_bias[coupling], x * kept, self.first[coupling]).tanh()
        scale, shift = torch.addmm(self.last_bias[coupling], inner, self.last[coupling]).chunk(2, 1)
        return self.LARGEST_LOG_SCALE * scale.tanh() * (1 - kept), shift * (1 - kept)


class FlowDensity(nn.Module):
    """A Gaussian whose space a RealNVP has bent; at first the Gaussian of the sample.

    >>> people = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).double()
    >>> FlowDensity(people, 2, 4)(torch.zeros(3, 2).double()).shape
    torch.Size([3])
    """

    def __init__(self, x: Tensor, couplings: int, hidden: int) -> None:
        super().__init__()
        gaussian = fit_gaussian(x)
        self.mean, self.root = gaussian.mean, torch.linalg.cholesky(gaussian.covariance)
        self.net = RealNVP(x.shape[1], couplings, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N,) log-density in nats"""
        z = torch.linalg.solve_triangular(self.root, (x - self.mean).T, upper=False).T
        z, logs = self.net.flow(z)
        constant = self.root.diagonal().log().sum() + 0.5 * x.shape[1] * math.log(2 * math.pi)
        return logs - 0.5 * z.square().sum(1) - constant


def _minimize(loss: Callable[[], Tensor], module: nn.Module, steps: int, weight_decay: float) -> None:
    """By L-BFGS on everybody at once: a fifth of the time of Adam, to the same loss."""
    parameters = list(module.parameters())
    optimizer = LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss() + weight_decay * sum(p.square().sum() for p in parameters)
        value.backward()
        return value

    optimizer.step(closure)


@dataclass(eq=False)
class RealNVPFlow(OntoReference):
    """couplings, hidden: of the map and of the shared density. steps: of L-BFGS over both, with `weight_decay`."""

    name: ClassVar[str] = "real_nvp_flow"
    couplings: int = 4
    hidden: int = 16
    steps: int = 60
    weight_decay: float = 1e-3

    def fit_map(self, a: Tensor, b: Tensor, seed: int) -> nn.Module:
        """Minimizes -log|det T'| - log p_S(T(a)) - log p_S(b) over T and p_S; the private fits are a constant."""
        torch.manual_seed(seed)
        start = monge_map(fit_gaussian(a), fit_gaussian(b))
        moved = start(a)
        mapped = RealNVP(a.shape[1], self.couplings, self.hidden)
        shared = FlowDensity(torch.cat([moved, b]), self.couplings, self.hidden)

        def loss() -> Tensor:
            aligned, logs = mapped.flow(moved)
            explained = shared(torch.cat([aligned, b]))
            return -(logs + explained[: len(a)]).mean() - explained[len(a) :].mean()

        _minimize(loss, nn.ModuleList([mapped, shared]), self.steps, self.weight_decay)
        return nn.Sequential(start, mapped).requires_grad_(False)

    def blank_map(self, width: int) -> nn.Module:
        return nn.Sequential(Affine(width), RealNVP(width, self.couplings, self.hidden).requires_grad_(False))
