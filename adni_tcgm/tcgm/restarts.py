"""Several trainings from different weights, and the choice of one by its gain on all training samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import nan, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch, Splits
from adni_tcgm.tcgm.gain import joint_marginal_log_ratio, total_correlation_gain
from adni_tcgm.tcgm.trainer import Fitted, TrainConfig, predict

# Restarts whose gains lie closer than this many standard errors are not told apart by them.
STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Restart:
    """One training and what speaks for it.

    gain: over the training samples, in nats. labeled_loss: cross-entropy of their visible labels, 0 without any.
    behind: how far gain - labeled_loss lies below the best one; standard_error: that of this difference, from the
    spread of the gain over samples. validation_loss: of the weights that were kept.
    """

    seed: int
    gain: float
    labeled_loss: float
    behind: float
    standard_error: float
    validation_loss: float
    chosen: bool


def fit_restarts(
    fit: Callable[[TrainConfig], Fitted], splits: Splits, config: TrainConfig, restarts: int
) -> tuple[Fitted, list[Restart]]:
    """Train with seeds `restarts * seed, restarts * seed + 1, …` and keep the best.

    fit: trains with a config. The best has the highest gain on `splits.train` less the cross-entropy of its visible
    labels (the gain alone cannot tell classes from permuted classes); among all that lie within two standard errors of
    it, the one with the lowest validation loss. One restart is `fit` itself.
    Raises ValueError if a method predicts no posterior per modality, as its gain is then not defined.
    """
    if restarts == 1:
        return fit(config), []
    trained = [fit(replace(config, seed=restarts * config.seed + i)) for i in range(restarts)]
    gains, labeled, ratios = zip(*(_judge(fitted, splits.train) for fitted in trained), strict=True)
    objective = [gain - loss for gain, loss in zip(gains, labeled, strict=True)]
    best = max(range(restarts), key=lambda i: objective[i])
    losses = [_kept_loss(fitted) for fitted in trained]
    behind = [objective[best] - value for value in objective]
    errors = [_standard_error(ratios[best] - ratio) for ratio in ratios]
    close = [i for i in range(restarts) if behind[i] <= STANDARD_ERRORS * errors[i]]
    chosen = min(close, key=lambda i: (losses[i] if losses[i] == losses[i] else 0.0, behind[i]))
    rows = [
        Restart(trained[i].config.seed, gains[i], labeled[i], behind[i], errors[i], losses[i], i == chosen)
        for i in range(restarts)
    ]
    return trained[chosen], rows


def _judge(fitted: Fitted, batch: MultimodalBatch) -> tuple[float, float, Tensor]:
    """Gain, labeled loss, and log R of each sample with all modalities: its spread is most of the gain's error."""
    log_posteriors = predict(fitted, batch)
    missing = [name for name in batch.inputs if name not in log_posteriors]
    if missing:
        raise ValueError(f"restarts are chosen by the gain, but this method has no posterior for {missing[0]!r} alone")
    stacked = torch.stack([log_posteriors[name] for name in batch.inputs])
    complete = batch.present.all(1)
    ratios = joint_marginal_log_ratio(stacked[:, complete], fitted.prior)
    visible = batch.labels != UNLABELED
    labeled = F.nll_loss(log_posteriors["all"][visible], batch.labels[visible]).item() if visible.any() else 0.0
    return total_correlation_gain(stacked, fitted.prior, batch.present).item(), labeled, ratios


def _standard_error(differences: Tensor) -> float:
    return differences.std().item() / sqrt(len(differences)) if len(differences) > 1 else 0.0


def _kept_loss(fitted: Fitted) -> float:
    return next((row["validation_loss"] for row in fitted.history if row["round"] == fitted.best_round), nan)


def describe(rows: Sequence[Restart]) -> list[dict[str, object]]:
    """Plain values for `metrics.json`."""
    return [vars(row) for row in rows]
