"""Predictions for labeled training samples from models that were not trained on them (cross-fitting).

With few labels there is none to spare for calibration, and a model is overconfident on the samples that trained it. So
the visible labels are split into folds, and each fold is predicted by a model that saw none of its samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold

from adni_tcgm.evaluation.calibration import Calibration, Rescaling, fit_calibration
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import Fitted, predict

FOLDS = 5
# Fewer labels may all be right by luck, and would make a model sure of everything.
FEWEST_TO_SHARPEN = 30
# They may all be wrong by bad luck, too: the prior's precision of a log temperature that may only rise.
SOFTENING_RIDGE = 3.0


@dataclass(frozen=True)
class HeldOut:
    """n labeled samples, their log-posteriors by models trained without them (modality or "all" -> (n, C)), and the
    fold of each, (n,)."""

    samples: MultimodalBatch
    log_posteriors: dict[str, np.ndarray]
    fold: np.ndarray


def cross_predict(fit: Callable[[Splits], Fitted], splits: Splits, folds: int = FOLDS, seed: int = 0) -> HeldOut | None:
    """Split the labeled samples of `splits.train` into folds stratified by class, no group in two; train without each.

    fit: trains on the splits that it is given. All samples of a held-out group leave the training, unlabeled ones, too.
    None where a class has fewer than two labeled groups: nobody could be held out.
    """
    train = splits.train
    labeled = (train.labels != UNLABELED).nonzero().squeeze(1)
    labels = train.labels[labeled].numpy()
    groups = np.array(train.groups or train.sample_ids)
    belongs = groups[labeled.numpy()]
    fewest = min(len(set(belongs[labels == c])) for c in range(len(splits.classes)))
    folds = min(folds, fewest)
    if folds < 2:
        return None
    parted = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold = np.zeros(len(labeled), int)
    found: dict[str, np.ndarray] = {}
    for number, (_, here) in enumerate(parted.split(labels, labels, belongs)):
        stays = ~np.isin(groups, belongs[here])
        fitted = fit(replace(splits, train=train.select(torch.from_numpy(stays))))
        for name, values in predict(fitted, train.select(labeled[torch.from_numpy(here)])).items():
            found.setdefault(name, np.zeros((len(labeled), values.shape[1])))[here] = values.numpy()
        fold[here] = number
    return HeldOut(train.select(labeled), found, fold)


def calibrate_held_out(
    held_out: HeldOut | None, modalities: Sequence[str], log_prior: np.ndarray
) -> tuple[Calibration, dict[str, object]]:
    """A calibration fitted on the held-out samples, and a record of its effect; the identity where none is good.

    Each fold is calibrated by the other folds, and the log-loss (nats) of "all" compared with that of no calibration;
    the margin is one standard error of the samples' paired differences. From FEWEST_TO_SHARPEN labels on, temperature
    and intercepts are free, if that lowers the log-loss by more than the margin. Otherwise the model only becomes less
    sure (`fit_rescaling`, only_soften), unless that raises the log-loss by more than the margin.
    modalities: those of which the method gives a posterior; log_prior: (C,).

    >>> calibration, record = calibrate_held_out(None, ["mri"], np.log([0.5, 0.5]))  # nobody could be held out
    >>> calibration.rescalings["mri"].temperature
    1.0
    """
    prior = tuple(map(float, log_prior))
    none = Calibration({name: Rescaling(1.0, (0.0,) * len(log_prior), 0) for name in (*modalities, "all")}, prior)
    if held_out is None:
        return none, {"samples": 0, "applied": False, "why": "a class has fewer than two labels to hold out"}
    labels, present = held_out.samples.labels.numpy(), held_out.samples.present.numpy()

    def fit(rows: np.ndarray, only_soften: bool) -> Calibration:
        found = {name: values[rows] for name, values in held_out.log_posteriors.items()}
        ridge = SOFTENING_RIDGE if only_soften else 1.0
        return fit_calibration(found, labels[rows], present[rows], log_prior, ridge, only_soften)

    def losses(calibration_of: Callable[[np.ndarray], Calibration]) -> np.ndarray:
        found = np.zeros(len(labels))
        for number in np.unique(held_out.fold):
            here = held_out.fold == number
            said = {name: values[here] for name, values in held_out.log_posteriors.items()}
            calibrated = calibration_of(~here).apply(said, present[here])["all"]
            found[here] = -calibrated[np.arange(len(calibrated)), labels[here]]
        return found

    without = losses(lambda _: none)
    for only_soften in (False, True) if len(labels) >= FEWEST_TO_SHARPEN else (True,):
        with_it = losses(partial(fit, only_soften=only_soften))
        gains = without - with_it
        margin = float(gains.std(ddof=1) / len(gains) ** 0.5)
        applied = bool(gains.mean() >= -margin if only_soften else gains.mean() > margin)
        if applied:
            break
    calibration = fit(np.full(len(labels), True), only_soften) if applied else none
    log_loss = {"without": float(without.mean()), "with": float(with_it.mean())}
    about = {"samples": len(labels), "applied": applied, "only_softened": only_soften}
    return calibration, about | {"log_loss": log_loss, "margin": margin}
