"""AUC and accuracies with their intervals, ROC curve and reliability, from labels and probabilities alone.

How often each interval misses the true value is measured by `benchmarks.single_figures`.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

Z = float(norm.ppf(0.975))


def _comparisons(converter: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """(converters, stable): 1 where the converter scores higher, .5 at a tie."""
    positive, negative = probability[converter][:, None], probability[~converter][None, :]
    return (positive > negative) + 0.5 * (positive == negative)


def _shares(converter: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Of each class what its people count, in sum 1."""
    weight = np.ones(len(converter)) if weight is None else np.asarray(weight, float)
    return tuple(part / part.sum() if len(part) else part for part in (weight[converter], weight[~converter]))


def auc(converter: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Probability that a converter scores above a stable person, ties half; NaN where a class is empty.

    converter: (n,) bool; probability: (n,), or any score; weight: (n,) of how much each person counts.

    >>> round(auc(np.array([True, False, False]), np.array([0.5, 0.4, 0.6]), weight=[1, 1, 0.5]), 3)
    0.667
    """
    wins = _comparisons(converter, probability)
    positive, negative = _shares(converter, weight)
    return float(positive @ wins @ negative) if wins.size else float("nan")


def auc_interval(
    converter: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, float] | None:
    """95 % interval of the AUC; None where a class has fewer than two people. Arguments as of `auc`.

    The variance of DeLong et al. (Biometrics 1988) on the logit scale (Qin & Hotilovac, Statistical Methods in Medical
    Research 2008). It is 0 where the classes are separated: then the score interval with the variance of Hanley and
    McNeil (Newcombe, Statistics in Medicine 2006, method 5).

    >>> converter = np.arange(60) % 2 == 0
    >>> score = np.random.default_rng(0).normal(size=60) + converter
    >>> f"{auc(converter, score):.2f} ({', '.join(f'{limit:.2f}' for limit in auc_interval(converter, score))})"
    '0.68 (0.53, 0.80)'
    """
    wins = _comparisons(converter, probability)
    if min(wins.shape) < 2:
        return None
    positive, negative = _shares(converter, weight)
    value = float(positive @ wins @ negative)
    variance = _variance(positive, wins @ negative) + _variance(negative, positive @ wins)
    if variance < 1e-12:
        return _score_limits(value, 1 / (positive @ positive), 1 / (negative @ negative))
    half = Z * variance**0.5 / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


def _variance(shares: np.ndarray, values: np.ndarray) -> float:
    """Of the mean of values (n,) of people who count `shares` (n,)."""
    n = len(shares)
    return float(shares**2 @ (values - shares @ values) ** 2 * n / (n - 1))


def _score_limits(value: float, positives: float, negatives: float) -> tuple[float, float]:
    """What AUCs are no more than Z standard errors of their own away from `value`."""

    def excess(auc: float) -> float:
        pairs = (positives + negatives) / 2 - 1
        spread = 1 + pairs * ((1 - auc) / (2 - auc) + auc / (1 + auc))
        return (value - auc) ** 2 - Z**2 * auc * (1 - auc) * spread / (positives * negatives)

    edge = 1e-9
    low = brentq(excess, 0, min(value, 1 - edge)) if value > edge else 0.0
    high = brentq(excess, max(value, edge), 1) if value < 1 - edge else 1.0
    return float(low), float(high)


def accuracy_interval(right: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of the share of `right` (n,) bool by Wilson; None of nobody.

    >>> [round(limit, 3) for limit in accuracy_interval(np.arange(60) < 45)]
    [0.628, 0.842]
    """
    return tuple(map(float, proportion_confint(np.sum(right), len(right), method="wilson"))) if len(right) else None


def balanced_accuracy(converter: np.ndarray, right: np.ndarray) -> float | None:
    """Mean of sensitivity and specificity; None where a class is empty. converter, right: (n,) bool.

    >>> balanced_accuracy(np.array([True, True, False]), np.array([True, False, True]))
    0.75
    """
    if not 0 < np.sum(converter) < len(converter):
        return None
    return float((right[converter].mean() + right[~converter].mean()) / 2)


def balanced_accuracy_interval(converter: np.ndarray, right: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of `balanced_accuracy`, which is half of 1 + sensitivity - share of false alarms: that of a
    difference of two proportions by Newcombe (Statistics in Medicine 1998, method 10). None where a class is empty.

    >>> [round(v, 2) for v in balanced_accuracy_interval(np.arange(60) % 2 == 0, np.arange(60) < 45)]
    [0.62, 0.84]
    """
    if not 0 < np.sum(converter) < len(converter):
        return None
    hits, alarms = right[converter], ~right[~converter]
    limits = confint_proportions_2indep(hits.sum(), len(hits), alarms.sum(), len(alarms), method="newcomb")
    return tuple(float((1 + limit) / 2) for limit in limits)


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
