"""AUC with its bootstrap interval, ROC curve and reliability, from labels and probabilities alone."""

from __future__ import annotations

import numpy as np


def _comparisons(converter: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """(converters, stable): 1 where the converter scores higher, .5 at a tie."""
    positive, negative = probability[converter][:, None], probability[~converter][None, :]
    return (positive > negative) + 0.5 * (positive == negative)


def auc(converter: np.ndarray, probability: np.ndarray) -> float:
    """Probability that a converter scores above a stable person; NaN where a class is empty."""
    wins = _comparisons(converter, probability)
    return float(wins.mean()) if wins.size else float("nan")


def auc_interval(
    converter: np.ndarray, probability: np.ndarray, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile interval over people drawn with replacement within each class; None where a class has < 2."""
    wins = _comparisons(converter, probability)
    if min(wins.shape) < 2:
        return None
    generator = np.random.default_rng(seed)
    positive, negative = (generator.multinomial(n, np.full(n, 1 / n), size=draws) / n for n in wins.shape)
    values = ((positive @ wins) * negative).sum(1)
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def roc_curve(converter: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 − specificity and sensitivity, from (0, 0) to (1, 1), a point per distinct probability."""
    order = np.argsort(-probability, kind="stable")
    last = np.append(np.diff(probability[order]) != 0, True)
    hits, alarms = (np.cumsum(flags)[last] for flags in (converter[order], ~converter[order]))
    return np.append(0, alarms / max(alarms[-1], 1)), np.append(0, hits / max(hits[-1], 1))


def reliability(converter: np.ndarray, probability: np.ndarray, bins: int = 5) -> tuple[np.ndarray, ...]:
    """Mean prediction, observed share and size of groups of equal size, sorted by prediction."""
    groups = [g for g in np.array_split(np.argsort(probability, kind="stable"), bins) if len(g)]
    columns = [(probability[g].mean(), converter[g].mean(), len(g)) for g in groups]
    return tuple(np.array(column) for column in zip(*columns, strict=True)) if columns else (np.array([]),) * 3
