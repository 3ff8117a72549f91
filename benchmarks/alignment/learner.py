"""CE and TCGM as the joint recipe trains linear classifiers, many runs side by side as one set of tensors.

The objective of `tcgm.trainer` with schedule "joint": mean cross-entropy of the n visible labels, ridge 10 / n, and for
TCGM 10 times the gain of all training people; 300 steps of Adam, rate .03, no label of anybody else anywhere. The
log-odds of a run trained by `tcgm.trainer.fit` correlated with these by 1 to 14 digits, CE and TCGM.
Shapes: R runs, M = 2 modalities, B people, F numbers, C = 2 classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.optim import Adam

RIDGE, GAIN, STEPS, RATE = 10.0, 10.0, 300, 0.03


@dataclass(frozen=True)
class Runs:
    """x: (R, M, B, F), standardized, 0 where absent. present: (R, M, B) bool. labels: (R, B), -1 hidden. gain: (R,)."""

    x: Tensor
    present: Tensor
    labels: Tensor
    gain: Tensor


def log_posteriors(weights: Tensor, biases: Tensor, x: Tensor) -> Tensor:
    """(R, M, B, C)"""
    return (torch.einsum("rmbf,rmcf->rmbc", x, weights) + biases[:, :, None]).log_softmax(-1)


def log_prior(labels: Tensor) -> Tensor:
    """(R, C): shares of the visible labels, smoothed by one of each."""
    counts = torch.stack([(labels == c).sum(1) for c in (0, 1)], 1).float() + 1
    return (counts / counts.sum(1, keepdim=True)).log()


def gains(found: Tensor, both: Tensor, prior: Tensor) -> Tensor:
    """(R,) gain of Eq. 6 over the people who have both modalities (R, B), weighted by their share of everybody."""
    h, seen = found.exp(), both[:, None, :, None].float()
    count = both.sum(1).float()
    joint = (found.sum(1) - prior[:, None]).logsumexp(-1)
    reward = (joint * both).sum(1) / count
    first, second = (h * seen).sum(2).unbind(1)
    alike = (h.prod(1) * seen[:, 0]).sum(1)
    penalty = ((first * second - alike) / prior.exp()).sum(1) / (count * (count - 1))
    return count / both.shape[1] * (1 + reward - penalty)


def train(runs: Runs, seed: int) -> tuple[Tensor, Tensor]:
    """Weights (R, M, C, F) and biases (R, M, C)."""
    count, modalities, _, width = runs.x.shape
    generator = torch.Generator().manual_seed(seed)
    weights = (0.1 * torch.randn(1, modalities, 2, width, generator=generator)).repeat(count, 1, 1, 1).requires_grad_()
    biases = torch.zeros(count, modalities, 2, requires_grad=True)
    optimizer = Adam([weights, biases], lr=RATE)
    visible = runs.present & (runs.labels >= 0)[:, None]
    target = one_hot(runs.labels.clamp_min(0), 2).float()[:, None]
    n, prior, both = (runs.labels >= 0).sum(1), log_prior(runs.labels), runs.present.all(1)
    for _ in range(STEPS):
        found = log_posteriors(weights, biases, runs.x)
        taught = -((found * target).sum(-1) * visible).sum(2) / visible.sum(2)
        loss = taught.sum(1) + RIDGE / n * weights.square().sum((1, 2, 3))
        loss = loss - GAIN * torch.where(runs.gain, gains(found, both, prior), 0.0)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    return weights.detach(), biases.detach()


def log_odds(weights: Tensor, biases: Tensor, x: Tensor, present: Tensor, prior: Tensor) -> Tensor:
    """(R, B) of a converter, from the modalities that each person has."""
    found = log_posteriors(weights, biases, x) - prior[:, None, None]
    combined = (found * present[..., None]).sum(1) + prior[:, None]
    return combined[..., 1] - combined[..., 0]
