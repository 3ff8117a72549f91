"""Do the intervals of single figures, and the tests that reports print, hold what they say?

`python -m benchmarks.single_figures OUT`: people are drawn from a population whose figure is known, thousands of times,
and counted is how often the 95 % interval misses it, or how often a test at 5 % finds something where nothing is. These
intervals are of one trained model or one cohort; those of differences between methods are in `benchmarks.statistics`.
Writes `OUT/single_figures.tsv`: `figure truth people replicates size_percent error_percent` and prints it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm
from tqdm import tqdm

from adni_tcgm.evaluation.agreement import explain_agreement
from adni_tcgm.evaluation.calibration import draw_calibrations, probability_intervals
from adni_tcgm.evaluation.clinical import calibration_line, compare_decisions, cumulative_incidence, log_rank
from reports.drift import standardized_difference
from reports.intervals import accuracy_interval, auc_interval, balanced_accuracy_interval
from reports.tables import SMALLEST_CELL

REPLICATES = 2000
CONVERTERS = 0.4  # share of them
HAZARDS = np.array([0.02, 0.005])  # a month: of conversion, of death
HORIZON = 36

Limits = tuple[float, float] | None


@dataclass(frozen=True)
class Figure:
    """draw: (generator, people, truth) -> the interval, or None where these people have none; or, of a test, its
    p-value. truths: values that the interval should hold. people: how many."""

    draw: Callable[[np.random.Generator, int, float], Limits | float]
    truths: tuple[float, ...]
    people: tuple[int, ...] = (60, 120)


def classes(rng: np.random.Generator, people: int) -> np.ndarray:
    """(n,) bool: who converts. Fewer than SMALLEST_CELL of a class are drawn anew: reports show no interval of them."""
    while True:
        converter = rng.random(people) < CONVERTERS
        if min(converter.sum(), (~converter).sum()) >= SMALLEST_CELL:
            return converter


def scores(rng: np.random.Generator, converter: np.ndarray, auc: float) -> np.ndarray:
    """(n,): normal in each class, so far apart that the population has this AUC."""
    return rng.normal(size=len(converter)) + 2**0.5 * norm.ppf(auc) * converter


def draw_auc(rng: np.random.Generator, people: int, auc: float) -> Limits:
    converter = classes(rng, people)
    return auc_interval(converter, scores(rng, converter, auc))


def draw_weighted_auc(rng: np.random.Generator, people: int, auc: float) -> Limits:
    """Half of the people count a fifth, as those who have a label by another rule only."""
    converter = classes(rng, people)
    weight = np.where(np.arange(people) % 2, 1, 0.2)
    return auc_interval(converter, scores(rng, converter, auc), weight)


def draw_accuracy(rng: np.random.Generator, people: int, accuracy: float) -> Limits:
    return accuracy_interval(rng.random(people) < accuracy)


def draw_balanced_accuracy(rng: np.random.Generator, people: int, accuracy: float) -> Limits:
    """A sensitivity .1 below the balanced accuracy and a specificity .1 above."""
    converter = classes(rng, people)
    return balanced_accuracy_interval(converter, rng.random(people) < accuracy + np.where(converter, -0.1, 0.1))


def _line(rng: np.random.Generator, people: int):
    log_odds = rng.normal(0, 1.2, people)
    return calibration_line(rng.random(people) < expit(log_odds), expit(log_odds))


def draw_calibration_intercept(rng: np.random.Generator, people: int, intercept: float) -> Limits:
    line = _line(rng, people)
    return line and (line.intercept.low, line.intercept.high)


def draw_calibration_slope(rng: np.random.Generator, people: int, slope: float) -> Limits:
    line = _line(rng, people)
    return line and (line.slope.low, line.slope.high)


def draw_incidence(rng: np.random.Generator, people: int, months: float) -> Limits:
    """Its last step before `months`; people are lost from sight at any time up to twice the horizon."""
    times = rng.exponential(1 / HAZARDS, (people, 2))
    end = np.minimum(rng.uniform(0, 2 * HORIZON, people), HORIZON)
    event = np.where(times.min(1) > end, 0, times.argmin(1) + 1)
    found = cumulative_incidence(np.minimum(times.min(1), end), event)
    step = np.searchsorted(found.months, months, side="right") - 1
    return found.low[step], found.high[step]


def true_incidence(months: float) -> float:
    return float(HAZARDS[0] / HAZARDS.sum() * (1 - np.exp(-months * HAZARDS.sum())))


def draw_standardized_difference(rng: np.random.Generator, people: int, difference: float) -> Limits:
    """Half as many other people as training people, and these of another spread."""
    return standardized_difference(rng.normal(size=people), rng.normal(difference, 1.3, people // 2))[1:]


def draw_probability(rng: np.random.Generator, people: int, slope: float) -> Limits:
    """P(converter) by both modalities of somebody drawn from the population, from calibration on `people` labels.

    Each modality's log odds are right but for a factor of 1 / slope; given the class the modalities are independent.
    """
    labels = np.append(classes(rng, people), rng.random() < CONVERTERS).astype(int)
    d = 1.1
    log_odds = d * rng.normal(size=(2, people + 1)) + d**2 * (labels - 0.5)
    log_prior = np.log([1 - CONVERTERS, CONVERTERS])
    prior = log_prior[1] - log_prior[0]
    truth = expit(log_odds.sum(0) + prior)[-1]
    raw = (log_odds + prior) / slope
    posteriors = {name: -np.logaddexp(0, np.stack([x, -x], 1)) for name, x in zip(("mri", "pet"), raw, strict=True)}
    present = np.ones((people, 2), bool)
    drawn = draw_calibrations({name: p[:-1] for name, p in posteriors.items()}, labels[:-1], present, log_prior)
    person = {name: p[-1:] for name, p in posteriors.items()}
    low, high = probability_intervals(drawn, person, present[:1])["all"][0, 1]
    # As a distance, so that the truth that it should hold does not depend on the person.
    return (low - truth + slope, high - truth + slope)


def draw_log_rank(rng: np.random.Generator, people: int, _: float) -> float:
    """Thirds of equal risk."""
    times = rng.exponential(1 / HAZARDS[0], people)
    found = log_rank(np.minimum(times, HORIZON), times <= HORIZON, np.arange(people) % 3)
    return 1.0 if found is None else found


def draw_mcnemar(rng: np.random.Generator, people: int, accuracy: float) -> float:
    return compare_decisions(*(rng.random((2, people)) < accuracy)).p_value


def draw_agreement(rng: np.random.Generator, people: int, _: float) -> float:
    """Of three nuisances that the agreement does not follow the smallest p-value, after Holm."""
    nuisances = {"site": rng.integers(0, 4, people).astype(str), "age": rng.normal(size=people)}
    nuisances["sex"] = rng.integers(0, 2, people).astype(str)
    rows = explain_agreement(rng.normal(size=people), nuisances, np.full(1, np.nan), np.zeros(1, int))
    return min(row.p_value for row in rows)


FIGURES = {
    "AUC": Figure(draw_auc, (0.7, 0.8, 0.9, 0.95), (20, 60, 120)),
    "AUC, people weighted": Figure(draw_weighted_auc, (0.7, 0.8, 0.9)),
    "accuracy": Figure(draw_accuracy, (0.7, 0.8, 0.9), (60, 100, 120)),
    "balanced accuracy": Figure(draw_balanced_accuracy, (0.6, 0.7, 0.8), (60, 100, 120)),
    "calibration intercept": Figure(draw_calibration_intercept, (0.0,)),
    "calibration slope": Figure(draw_calibration_slope, (1.0,)),
    "cumulative incidence at": Figure(draw_incidence, (12, 24, 36), (20, 40, 100)),
    "standardized difference": Figure(draw_standardized_difference, (0.0, 0.5, 1.0), (20, 60, 120)),
    "a person's probability": Figure(draw_probability, (1.0, 0.5), (18, 60)),
    "log-rank test": Figure(draw_log_rank, (0.0,)),
    "McNemar's exact test": Figure(draw_mcnemar, (0.7,)),
    "test of the agreement": Figure(draw_agreement, (0.0,), (60, 180)),
}


def misses(found: Limits | float, truth: float) -> bool:
    """An interval that does not hold the truth, or a p-value below .05."""
    return not found[0] <= truth <= found[1] if isinstance(found, tuple) else found < 0.05


def size_of(name: str, people: int, truth: float, replicates: int) -> dict[str, object]:
    """How often it misses, in %, of the replicates that have an interval at all, and the standard error of this."""
    missed, figure = [], FIGURES[name]
    value = true_incidence(truth) if figure.draw is draw_incidence else truth
    for replicate in tqdm(range(replicates), desc=f"{name}, {people} people", disable=None, leave=False):
        found = figure.draw(np.random.default_rng([replicate, people]), people, truth)
        if found is not None:
            missed.append(misses(found, value))
    share, count = np.mean(missed), len(missed)
    error = 100 * (share * (1 - share) / count) ** 0.5
    row = {"figure": name, "truth": truth, "people": people, "replicates": count}
    return row | {"size_percent": round(100 * share, 2), "error_percent": round(error, 2)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--replicates", type=int, default=REPLICATES)
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=list(FIGURES))
    arguments = parser.parse_args(argv)
    rows = []
    for name in arguments.figures:
        for people in FIGURES[name].people:
            for truth in FIGURES[name].truths:
                rows.append(size_of(name, people, truth, arguments.replicates))
                print(
                    "{figure:24} {truth:5} {people:4} people  {size_percent:5.2f} ± {error_percent:.2f} %".format(
                        **rows[-1]
                    ),
                    flush=True,
                )
    arguments.out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(arguments.out / "single_figures.tsv", sep="\t", index=False)


if __name__ == "__main__":
    main()
