"""Dual adversarial distance: the discriminator's maximum written as a minimum, so that alignment is no saddle.

Usman, Saenko, Kulis, ICLR workshop 2018. A logistic discriminator w, b of a and b has the value

    d = max over w, b of  sum log sigma(w·a_i + b) + sum log sigma(-(w·b_j + b)) - (lambda / 2) |w|².

For every alpha in [0, 1], log sigma(u) <= alpha u + H(alpha), H(alpha) = alpha log alpha + (1 - alpha) log(1 - alpha),
with equality at alpha = sigma(-u). Put in, the maximum over w is at w = sum y_i alpha_i x_i / lambda, and that over the
bias asks for sum alpha_A = sum alpha_B; by convexity the two extremes may change places:

    d = min over alpha of  (alpha_A' K_AA alpha_A + alpha_B' K_BB alpha_B - 2 alpha_A' K_AB alpha_B) / (2 lambda)
        + sum H(alpha),  with sum alpha_A = sum alpha_B,

K the inner products or, for a discriminator of Gaussian kernels, theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

from adni_tcgm.alignment.alignment import Affine, match_means_and_scales
from adni_tcgm.alignment.onto_reference import OntoReference

NEWTON_STEPS, TOLERANCE = 100, 1e-10


def kernel(x: Tensor, y: Tensor, bandwidth: float | None) -> Tensor:
    """(N, D), (M, D) -> (N, M) inner products, or exp(-distance² / (2 bandwidth²)).

    >>> kernel(torch.tensor([[0.0], [1.0]]).double(), torch.zeros(1, 1).double(), 1.0).round(decimals=3).tolist()
    [[1.0], [0.607]]
    """
    if bandwidth is None:
        return x @ y.T
    squares = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T
    return (-squares.clamp_min(0) / (2 * bandwidth**2)).exp()


def signed_kernel(a: Tensor, b: Tensor, bandwidth: float | None) -> Tensor:
    """(N + M, N + M): y_i y_j k(x_i, x_j), with y 1 in a and -1 in b.

    >>> signed_kernel(torch.tensor([[1.0]]), torch.tensor([[2.0]]), None).tolist()
    [[1.0, -2.0], [-2.0, 4.0]]
    """
    x = torch.cat([a, b])
    y = torch.cat([a.new_ones(len(a)), -b.new_ones(len(b))])
    return y[:, None] * y * kernel(x, x, bandwidth)


def dual_value(alpha: Tensor, signed: Tensor, penalty: float) -> Tensor:
    """What is minimized over alpha (N + M,).

    >>> round(float(dual_value(torch.tensor([0.5, 0.5]), torch.zeros(2, 2), penalty=1.0)), 3)  # -2 log 2
    -1.386
    """
    entropy = torch.special.xlogy(alpha, alpha) + torch.special.xlogy(1 - alpha, 1 - alpha)
    return alpha @ signed @ alpha / (2 * penalty) + entropy.sum()


def solve_dual(signed: Tensor, count: int, penalty: float, alpha: Tensor | None = None) -> Tensor:
    """The minimizing alpha (N + M,) by Newton's method under sum alpha_A = sum alpha_B; the first `count` are of A.

    alpha: where to begin, with equal sums; by default at 1/2 of the smaller sample's size in both.

    >>> solve_dual(torch.zeros(4, 4, dtype=torch.double), 2, 1.0).tolist()  # nothing tells the two samples apart
    [0.5, 0.5, 0.5, 0.5]
    """
    total = len(signed)
    y = signed.new_ones(total)
    y[count:] = -1
    if alpha is None:
        smaller = min(count, total - count)
        alpha = torch.where(y > 0, 1 / count, 1 / (total - count)).to(signed) * smaller / 2
    for _ in range(NEWTON_STEPS):
        gradient = signed @ alpha / penalty + (alpha / (1 - alpha)).log()
        hessian = signed / penalty + (1 / (alpha * (1 - alpha))).diag()
        step, along = torch.linalg.solve(hessian, torch.stack([gradient, y], 1)).unbind(1)
        step = step - along * (y @ step) / (y @ along)
        decrease = float(gradient @ step)
        if decrease < TOLERANCE:
            break
        # Not over the border of [0, 1], and downhill.
        room = torch.where(step > 0, alpha / step, (alpha - 1) / step.clamp(max=-1e-300))
        size, before = min(1.0, 0.95 * float(room.min())), float(dual_value(alpha, signed, penalty))
        while float(dual_value(alpha - size * step, signed, penalty)) > before - 1e-4 * size * decrease and size > 1e-8:
            size /= 2
        alpha = alpha - size * step
    return alpha


def dual_distance(a: Tensor, b: Tensor, penalty: float = 1.0, bandwidth: float | None = None) -> float:
    """The distance d of a (N, D) and b (M, D) above, in nats; -(N + M) log 2 for equal samples of one size.

    penalty: lambda. bandwidth: of the Gaussian kernel; None: a linear discriminator.

    >>> near, far = torch.zeros(5, 1).double(), torch.full((5, 1), 3.0).double()
    >>> dual_distance(near, far) > dual_distance(near, near)
    True
    """
    signed = signed_kernel(a, b, bandwidth)
    return float(dual_value(solve_dual(signed, len(a), penalty), signed, penalty))


@dataclass(eq=False)
class DualAdversarial(OntoReference):
    """An affine map, from means and scales on, down the dual distance by Adam; alpha is solved anew at every step.

    penalty: lambda of the discriminator. bandwidth: of its Gaussian kernel, times the root of twice the number of
    features (the usual distance of two standardized people); 0: a linear discriminator, which sees means alone.

    >>> a, b = torch.zeros(20, 1).double(), torch.zeros(20, 1).double()
    >>> a[::2], b[::2], b[1::2] = 1, 6, 4
    >>> round(DualAdversarial(steps=5).fit_map(a, b, seed=0)(a).mean().item())
    5
    """

    name: ClassVar[str] = "dual"
    penalty: float = 1.0
    bandwidth: float = 1.0
    steps: int = 100
    lr: float = 2e-2

    def fit_map(self, a: Tensor, b: Tensor, seed: int) -> Affine:
        start = match_means_and_scales(a, b)
        moved, width = start(a), a.shape[1]
        bandwidth = self.bandwidth * (2 * width) ** 0.5 or None
        # The map of least change: a symmetric matrix, as far as the gradient turns it.
        matrix = nn.Parameter(torch.eye(width, dtype=a.dtype))
        shift = nn.Parameter(a.new_zeros(width))
        optimizer, alpha, center = Adam([matrix, shift], lr=self.lr), None, b.mean(0)
        for _ in range(self.steps):
            symmetric = (matrix + matrix.T) / 2
            signed = signed_kernel((moved - center) @ symmetric + center + shift, b, bandwidth)
            with torch.no_grad():
                alpha = solve_dual(signed, len(a), self.penalty, alpha)
            optimizer.zero_grad()
            dual_value(alpha, signed, self.penalty).backward()
            optimizer.step()
        symmetric = ((matrix + matrix.T) / 2).detach()
        # moved = start(a), once more around the reference's mean
        shifted = (start.shift - center) @ symmetric + center + shift.detach()
        return Affine(width).set(symmetric @ start.matrix, start.center, shifted)
