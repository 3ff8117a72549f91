"""What training makes small: soft Dice, cross-entropy, and the relative error of volumes, against shares of classes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

FEW = 50  # voxels: of less, a relative error of volume says nothing
ROWS = 8192  # of a part that stays in a processor's cache


def loss_of(logits: Tensor, share: Tensor, volume: float) -> Tensor:
    """Of logits and shares (n, classes, i, j, k), the first class background. volume: weight of the error of volumes
    beside Dice and cross-entropy."""
    log_probability = functional.log_softmax(logits.float(), 1)
    probability = log_probability.exp()
    cross_entropy = -(share * log_probability).sum(1).mean()
    over = [axis for axis in range(share.ndim) if axis != 1]
    both, squares = (probability * share).sum(over), (probability**2).sum(over)
    return cross_entropy + _of_sums(both, squares, probability.sum(over), share.sum(over), (share**2).sum(over), volume)


def loss_of_rows(logits: Tensor, counts: Tensor, volume: float) -> Tensor:
    """`loss_of` for logits (n, voxels, classes) and how many looks at each voxel saw each class, of that shape, uint8.

    Passes through memory a part at a time on a CPU, which there takes a third of the time.
    """
    return _LossOfRows.apply(logits.float().flatten(0, 1), counts.flatten(0, 1), volume)


def _of_sums(both: Tensor, squares: Tensor, found: Tensor, true: Tensor, true_squares: Tensor, volume: float) -> Tensor:
    """Dice and volumes from each class's sums over voxels (classes,)."""
    dice = (2 * both + 1) / (squares + true_squares + 1)
    there = true[1:] > FEW
    error = ((found - true).abs() / true.clamp(min=FEW))[1:][there]
    return 1 - dice[1:].mean() + volume * (error.clamp(max=2).sum() / there.sum().clamp(min=1))


def _parts(values: Tensor) -> Iterator[slice]:
    size = ROWS if values.device.type == "cpu" else len(values)
    return (slice(first, first + size) for first in range(0, len(values), size))


class _LossOfRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, counts: Tensor, volume: float) -> Tensor:
        probability, sums, looks = torch.empty_like(logits), 0, counts[0].sum()
        cross_entropy = 0.0
        for rows in _parts(logits):
            log_probability, share = functional.log_softmax(logits[rows], 1), counts[rows] / looks
            cross_entropy -= (share * log_probability).sum()
            p = torch.exp(log_probability, out=probability[rows])
            sums = sums + torch.stack([(p * share).sum(0), (p * p).sum(0), p.sum(0), share.sum(0), (share**2).sum(0)])
        ctx.save_for_backward(probability, counts)
        with torch.enable_grad():
            sums = sums.requires_grad_()
            rest = _of_sums(*sums, volume)
            ctx.by_sums = torch.autograd.grad(rest, sums)[0]
        return cross_entropy / len(logits) + rest.detach()

    @staticmethod
    def backward(ctx, scale: Tensor) -> tuple[Tensor, None, None]:
        probability, counts = ctx.saved_tensors
        both, squares, found = ctx.by_sums[:3]
        gradient, looks = torch.empty_like(probability), counts[0].sum()
        for rows in _parts(probability):
            p, share = probability[rows], counts[rows] / looks
            by_p = both * share + 2 * squares * p + found
            by_logit = p * (by_p - (p * by_p).sum(1, keepdim=True)) + (p - share) / len(counts)
            torch.mul(by_logit, scale, out=gradient[rows])
        return gradient, None, None
