"""What a clinician asks of a probability: is it right, is it worth acting on, who converts when.

labels: (n,) 0 or 1; probability: (n,) of class 1.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm
from statsmodels.duration.survfunc import CumIncidenceRight, survdiff
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning
from statsmodels.tools.tools import add_constant

# Beyond these a probability has no finite log-odds to regress on.
SMALLEST, LARGEST = 1e-6, 1 - 1e-6
INCIDENCE_DRAWS = 200


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    >>> Estimate(0.81, low=0.74, high=0.88).value
    0.81
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CalibrationLine:
    """Observed against predicted log-odds. A right probability has intercept 0 and slope 1.

    intercept: what is added to every log-odds at slope 1 (calibration in the large); below 0 the probabilities are too
    high. slope: below 1 they are too extreme.

    >>> CalibrationLine(intercept=Estimate(0.0, -0.2, 0.2), slope=Estimate(0.6, 0.4, 0.8)).slope.value  # too extreme
    0.6
    """

    intercept: Estimate
    slope: Estimate


def calibration_line(labels: np.ndarray, probability: np.ndarray) -> CalibrationLine | None:
    """Logistic recalibration (Cox, Biometrika 1958; Van Calster et al., J. Clin. Epidemiol. 2016), Wald intervals.

    None where a class is missing, all probabilities are equal, or they separate the classes without error.

    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.05, 0.95, 4000)
    >>> line = calibration_line(rng.uniform(size=4000) < p, p)  # right probabilities
    >>> line.slope.low < 1 < line.slope.high
    True
    """
    labels = np.asarray(labels)
    odds = logit(np.clip(probability, SMALLEST, LARGEST))
    if len(np.unique(labels)) < 2 or np.ptp(odds) == 0:
        return None
    if odds[labels == 1].min() >= odds[labels == 0].max() or odds[labels == 1].max() <= odds[labels == 0].min():
        return None
    family = Binomial()
    with warnings.catch_warnings():
        warnings.simplefilter("error", PerfectSeparationWarning)
        level = GLM(labels, np.ones((len(labels), 1)), family=family, offset=odds).fit()
        line = GLM(labels, add_constant(odds), family=family).fit()
    return CalibrationLine(
        Estimate(float(level.params[0]), *map(float, level.conf_int()[0])),
        Estimate(float(line.params[1]), *map(float, line.conf_int()[1])),
    )


def recalibrate_intercept(labels: np.ndarray, probability: np.ndarray, folds: int = 10) -> np.ndarray | None:
    """(n,): the probabilities with one intercept added to their log-odds, each fitted on the people of other folds.

    The intercept is the maximum-likelihood one at slope 1, by which the mean probability is the observed share
    (Steyerberg et al., Statistics in Medicine 2004). Folds hold both classes, in the order of the people. None where a
    class has fewer than two people.

    >>> shifted = recalibrate_intercept([0, 0, 0, 1] * 50, np.full(200, 0.5))  # a quarter converted, half was predicted
    >>> shifted.mean().round(2).item()
    0.25
    """
    labels, odds = np.asarray(labels), logit(np.clip(probability, SMALLEST, LARGEST))
    if min((labels == 0).sum(), (labels == 1).sum()) < 2:
        return None
    fold = np.empty(len(labels), int)
    for value in (0, 1):
        fold[labels == value] = np.arange((labels == value).sum()) % folds
    shifted = odds.copy()
    for number in np.unique(fold):
        others = fold != number
        shifted[~others] += _intercept(labels[others], odds[others])
    return expit(shifted)


def _intercept(labels: np.ndarray, odds: np.ndarray) -> float:
    # The mean of expit(odds + b) rises from 0 to 1 with b: with both classes there is one root.
    reach = np.abs(odds).max() + logit(LARGEST) + np.log(len(odds))
    return float(brentq(lambda b: expit(odds + b).mean() - labels.mean(), -reach, reach))


def net_benefit(labels: np.ndarray, probability: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(T,): true positives less false positives weighted by the odds of the threshold, per person.

    Vickers & Elkin, Medical Decision Making 2006. Treating nobody has 0 everywhere; treating all is a probability of 1.

    >>> net_benefit(np.array([0, 1]), np.array([0.2, 0.9]), np.array([0.5])).tolist()  # one found, none in vain
    [0.5]
    """
    labels, called = np.asarray(labels), np.asarray(probability)[None, :] >= np.asarray(thresholds)[:, None]
    weight = thresholds / (1 - np.asarray(thresholds))
    return (called & (labels == 1)).mean(1) - weight * (called & (labels == 0)).mean(1)


@dataclass(frozen=True)
class Discordance:
    """People whom only one of two classifiers gets right, and the exact two-sided p-value of McNemar's test.

    >>> Discordance(first_only=7, second_only=2, p_value=0.18).first_only
    7
    """

    first_only: int
    second_only: int
    p_value: float


def compare_decisions(first_right: np.ndarray, second_right: np.ndarray) -> Discordance:
    """first_right, second_right: (n,) bool, of the same people.

    >>> compare_decisions(np.array([1, 1, 0], bool), np.array([1, 0, 0], bool)).first_only
    1
    """
    first, second = np.asarray(first_right, bool), np.asarray(second_right, bool)
    counts = [[int((a & b).sum()) for b in (second, ~second)] for a in (first, ~first)]
    return Discordance(counts[0][1], counts[1][0], float(mcnemar(counts, exact=True).pvalue))


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> tuple[float | None, float | None]:
    """PPV and NPV where a share `prevalence` has the outcome (Bayes); None where nobody is called that way.

    >>> [round(value, 3) for value in predictive_values(0.8, 0.8, prevalence=0.17)]
    [0.45, 0.951]
    """
    hits, alarms = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    misses, clears = (1 - sensitivity) * prevalence, specificity * (1 - prevalence)
    ppv = hits / (hits + alarms) if hits + alarms > 0 else None
    npv = clears / (clears + misses) if clears + misses > 0 else None
    return ppv, npv


def risk_thirds(probability: np.ndarray) -> np.ndarray:
    """(n,) 0, 1 or 2: lowest, middle and highest third by rank, as equal in size as n allows.

    >>> risk_thirds(np.array([0.1, 0.9, 0.5])).tolist()
    [0, 2, 1]
    """
    ranks = np.argsort(np.argsort(probability, kind="stable"), kind="stable")
    return ranks * 3 // max(len(ranks), 1)


@dataclass(frozen=True)
class Incidence:
    """Aalen–Johansen estimate as steps: share that has had the event by each month, with a 95 % interval.

    >>> Incidence(np.array([0.0]), np.array([0.0]), np.array([0.0]), np.array([0.0]), n=10, events=0).n
    10
    """

    months: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: int
    events: int


def cumulative_incidence(
    months: np.ndarray, event: np.ndarray, weights: np.ndarray | None = None, draws: int = INCIDENCE_DRAWS
) -> Incidence:
    """Share with event 1 by each month where event 2 competes with it: who has had that can have the other no more.

    months: (n,) to the event or to the end of observation; event: (n,) 0 censored, 1 the event, 2 the competing one;
    weights: (n,) of how much each counts. Aalen & Johansen, Scandinavian Journal of Statistics 1978. The interval has
    the standard error of a bootstrap over people, for weights as well, on the logit scale: percentiles would miss the
    truth twice as often as they say with 20 people.

    >>> cumulative_incidence([6, 12, 24], [1, 2, 1]).share.round(2).tolist()  # of three, one can convert no more
    [0.0, 0.33, 0.33, 0.67]
    """
    months, event = np.asarray(months, float), np.asarray(event, int)
    weights = np.ones(len(months)) if weights is None else np.asarray(weights, float)
    times = np.concatenate([[0.0], np.unique(months[event > 0])])
    share = _incidence_at(times, months, event, weights)
    people = np.random.default_rng(0).integers(0, len(months), (draws, len(months)))
    drawn = [_incidence_at(times, months[chosen], event[chosen], weights[chosen]) for chosen in people]
    error = np.std(drawn, axis=0, ddof=1)
    inside = np.clip(share, 0.5 / len(months), 1 - 0.5 / len(months))
    half = norm.ppf(0.975) * error / (inside * (1 - inside))
    low, high = (np.where(error > 0, expit(logit(inside) + side), share) for side in (-half, half))
    return Incidence(
        times, share, np.minimum(low, share), np.maximum(high, share), len(months), int((event == 1).sum())
    )


def _incidence_at(times: np.ndarray, months: np.ndarray, event: np.ndarray, weights: np.ndarray) -> np.ndarray:
    if not (event == 1).any():
        return np.zeros(len(times))
    found = CumIncidenceRight(months, event, freq_weights=weights)
    steps = np.searchsorted(np.asarray(found.times), times, side="right")
    return np.concatenate([[0.0], found.cinc[0]])[steps]


def count_at_risk(months: np.ndarray, weights: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(T,): weight of those who are still observed, without the event, just before each time.

    >>> count_at_risk(np.array([6, 12, 24]), np.ones(3), np.array([0, 12, 13])).tolist()
    [3.0, 2.0, 1.0]
    """
    return (np.asarray(weights)[None, :] * (np.asarray(months)[None, :] >= np.asarray(times)[:, None])).sum(1)


def log_rank(months: np.ndarray, converted: np.ndarray, groups: np.ndarray) -> float | None:
    """p-value of the log-rank test over all groups, of the event's own hazard: whoever had a competing one counts as
    no longer observed. None with fewer than two groups or no event.

    >>> log_rank(np.arange(1, 41), np.ones(40), np.repeat(["a", "b"], 20)) < 0.001  # all of a before any of b
    True
    """
    if len(np.unique(groups)) < 2 or not np.any(converted):
        return None
    return float(survdiff(np.asarray(months, float), np.asarray(converted, int), np.asarray(groups))[1])
