"""How sure a number is: bootstrap intervals, paired differences over seeds and subjects, Holm's correction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# (labels, scores) -> value, or None where the resample has no answer, e.g. an AUC with one class only
Metric = Callable[[np.ndarray, np.ndarray], float | None]

NO_DIFFERENCE = "no difference shown"


def bootstrap_interval(
    metric: Metric, labels: np.ndarray, scores: np.ndarray, *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Percentile interval of `metric(labels, scores)` over resampled rows; None if no resample has a value."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    if not len(labels):
        return None
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        rows = rng.integers(0, len(labels), len(labels))
        values.append(metric(labels[rows], scores[rows]))
    return _percentiles([value for value in values if value is not None], level)


def _percentiles(values: Sequence[float], level: float) -> tuple[float, float] | None:
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class PairedRun:
    """Two methods judged on the same people after training with the same seed; arrays run over those people.

    `subjects` names each person. A name that occurs in several runs is the same person, drawn or left out in all of
    them together; where seeds make cohorts of their own, the names must tell the cohorts apart.
    """

    subjects: Sequence[str]
    labels: np.ndarray
    first: np.ndarray
    second: np.ndarray


@dataclass(frozen=True)
class Difference:
    """The mean over seeds of metric(first) - metric(second), its interval, and a two-sided bootstrap p-value."""

    estimate: float
    low: float
    high: float
    p_value: float
    seeds: int


def paired_difference(
    metric: Metric, runs: Sequence[PairedRun], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Difference:
    """Bootstrap the paired difference over seeds (runs) and subjects at once.

    Each draw takes as many seeds as there are, with replacement, and as many subjects as there are, with replacement;
    a subject drawn twice counts twice in every seed that judged it.

    Raises ValueError when there is no run, or no run in which both metrics have a value.
    """
    names = {name: position for position, name in enumerate(dict.fromkeys(s for run in runs for s in run.subjects))}
    positions = [np.array([names[name] for name in run.subjects]) for run in runs]
    estimates = [_difference(metric, run, np.arange(len(run.subjects))) for run in runs]
    if not any(value is not None for value in estimates):
        raise ValueError(f"paired difference over {len(runs)} runs: the metric has no value in any of them")
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        seeds, repeats = np.unique(rng.integers(0, len(runs), len(runs)), return_counts=True)
        values = [_difference(metric, runs[s], _repeat(times[positions[s]])) for s in seeds]
        pairs = [(value, weight) for value, weight in zip(values, repeats, strict=True) if value is not None]
        if pairs:
            drawn.append(np.average([value for value, _ in pairs], weights=[weight for _, weight in pairs]))
    drawn = np.array(drawn)
    low, high = _percentiles(drawn, level)
    # One is added above and below, as for a permutation test, so that no p-value is exactly 0.
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return Difference(
        estimate=float(np.mean([value for value in estimates if value is not None])),
        low=low,
        high=high,
        p_value=float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1))),
        seeds=len(runs),
    )


def _repeat(times: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(times)), times)


def _difference(metric: Metric, run: PairedRun, rows: np.ndarray) -> float | None:
    labels = np.asarray(run.labels)[rows]
    first, second = metric(labels, np.asarray(run.first)[rows]), metric(labels, np.asarray(run.second)[rows])
    return None if first is None or second is None else first - second


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the order given (Holm, Scand. J. Statist. 1979)."""
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def verdicts(differences: Mapping[str, Difference], alpha: float = 0.05) -> dict[str, str]:
    """What each comparison shows, Holm-corrected over all of them: "above", "below" or "no difference shown"."""
    adjusted = holm([difference.p_value for difference in differences.values()])
    return {
        name: NO_DIFFERENCE if p >= alpha else ("above" if difference.estimate > 0 else "below")
        for (name, difference), p in zip(differences.items(), adjusted, strict=True)
    }
