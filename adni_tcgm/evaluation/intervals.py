"""How sure a difference is: paired differences by the design of the runs, Holm's correction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

# (labels, scores) -> value, or None where the resample has no answer, e.g. an AUC with one class only
Metric = Callable[[np.ndarray, np.ndarray], float | None]

NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class PairedRun:
    """Two methods judged on the same people after training with the same seed; arrays run over those people.

    subjects: a name for each person; a name that occurs in several runs is the same person. train_size: how many people
    trained, unlabeled ones included; needed where the runs re-split one data set. groups: what each person belongs to
    (a head, a site), where people of one group are not independent.

    >>> PairedRun(["a", "b"], np.array([0, 1]), first=np.array([0.2, 0.9]), second=np.array([0.4, 0.6])).subjects
    ['a', 'b']
    """

    subjects: Sequence[str]
    labels: np.ndarray
    first: np.ndarray
    second: np.ndarray
    train_size: int | None = None
    groups: Sequence[str] | None = None


@dataclass(frozen=True)
class Difference:
    """The mean over seeds of metric(first) - metric(second), its interval, and a two-sided p-value.

    >>> Difference(0.02, low=-0.01, high=0.05, p_value=0.2, seeds=5).estimate
    0.02
    """

    estimate: float
    low: float
    high: float
    p_value: float
    seeds: int


DESIGNS = ("independent", "shared", "resplits")


def paired_difference(metric: Metric, runs: Sequence[PairedRun], design: str, *, level: float = 0.95) -> Difference:
    """A t interval whose variance is that of the design. With J seeds, d their differences, s² the variance of these:

    independent: each seed has training and test people of its own: s²/J, J - 1 degrees of freedom.
    shared: all seeds are tested on the same people: s²/J + V, with V the variance of the mean over seeds among sets of
        test people; degrees of freedom by Satterthwaite. V by the jackknife over people, or over whole groups where the
        runs name them; for an AUC and single people it is that of DeLong et al. (Biometrics 1988).
    resplits: seeds part one data set anew: s² (1/J + n_test/n_train), J - 1 degrees of freedom (Nadeau and Bengio,
        Machine Learning 2003). Too wide where few of those who train have a label: with 18 of 180, the labels of two
        seeds are mostly of different people, and 20 seeds miss the true difference in 2 % of cases, not 5.

    With one seed, the variance between seeds is unknown: the interval is then that of V alone, for every design, and
    holds for these two trained models. Read as one of the methods, it misses their true difference in 12 % of cases.
    Raises ValueError when there is no run, or none in which the metric has a value, or a design lacks what it needs.

    >>> from adni_tcgm.evaluation.metrics import binary_auc
    >>> rng, y = np.random.default_rng(0), np.arange(200) % 2
    >>> names = [f"p{i}" for i in range(200)]
    >>> runs = [PairedRun(names, y, y + rng.normal(size=200), rng.normal(size=200)) for _ in range(3)]
    >>> paired_difference(binary_auc, runs, "shared").low > 0  # the first knows the label, the second nothing
    True
    """
    if design not in DESIGNS:
        raise ValueError(f"design is {design!r}; choose one of {', '.join(DESIGNS)}")
    pairs = [(run, _difference(metric, run, slice(None))) for run in runs]
    kept = [(run, value) for run, value in pairs if value is not None]
    if not kept:
        raise ValueError(f"paired difference over {len(runs)} runs: the metric has no value in any of them")
    runs, values = [run for run, _ in kept], np.array([value for _, value in kept])
    seeds = len(values)
    between = float(values.var(ddof=1)) if seeds > 1 else 0.0
    if design == "shared" or seeds == 1:
        of_people, units = _variance_of_test_people(metric, runs)
        parts = [(between / seeds, seeds - 1), (of_people, units - 1)]
    elif design == "independent":
        parts = [(between / seeds, seeds - 1)]
    else:
        missing = [run for run in runs if not run.train_size]
        if missing:
            raise ValueError("re-splits of one data set: every run needs train_size, how many people trained")
        ratio = np.mean([len(run.subjects) / run.train_size for run in runs])
        parts = [(between * (1 / seeds + float(ratio)), seeds - 1)]
    return _t_interval(float(values.mean()), parts, level, len(kept))


def _t_interval(estimate: float, parts: Sequence[tuple[float, int]], level: float, seeds: int) -> Difference:
    """parts: variances that add up, with their degrees of freedom."""
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Difference(estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0, seeds)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts if part > 0)
    error = variance**0.5
    half = float(student.ppf((1 + level) / 2, freedom)) * error
    p_value = float(2 * student.sf(abs(estimate) / error, freedom))
    return Difference(estimate, estimate - half, estimate + half, p_value, seeds)


def _variance_of_test_people(metric: Metric, runs: Sequence[PairedRun]) -> tuple[float, int]:
    """Jackknife variance of the mean over seeds, leaving out one test person, or one group, of all seeds at a time; and
    the number of people or groups."""
    names: dict[str, list[np.ndarray]] = {}
    for number, run in enumerate(runs):
        units = np.array(run.subjects if run.groups is None else run.groups)
        for name in np.unique(units):
            names.setdefault(name, [np.ones(len(r.subjects), bool) for r in runs])[number][units == name] = False
    without = []
    for rows in names.values():
        values = [_difference(metric, run, kept) for run, kept in zip(runs, rows, strict=True)]
        there = [value for value in values if value is not None]
        if there:
            without.append(np.mean(there))
    count = len(without)
    if count < 2:
        return 0.0, 2
    return float((count - 1) / count * np.square(np.array(without) - np.mean(without)).sum()), count


def _difference(metric: Metric, run: PairedRun, rows: np.ndarray | slice) -> float | None:
    labels = np.asarray(run.labels)[rows]
    first, second = metric(labels, np.asarray(run.first)[rows]), metric(labels, np.asarray(run.second)[rows])
    return None if first is None or second is None else first - second


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the order given (Holm, Scand. J. Statist. 1979).

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def verdicts(differences: Mapping[str, Difference], alpha: float = 0.05) -> dict[str, str]:
    """What each comparison shows, Holm-corrected over all of them: "above", "below" or "no difference shown".

    >>> verdicts({"a": Difference(0.1, 0.05, 0.15, 0.001, 5), "b": Difference(0.01, -0.02, 0.04, 0.4, 5)})
    {'a': 'above', 'b': 'no difference shown'}
    """
    adjusted = holm([difference.p_value for difference in differences.values()])
    return {
        name: NO_DIFFERENCE if p >= alpha else ("above" if difference.estimate > 0 else "below")
        for (name, difference), p in zip(differences.items(), adjusted, strict=True)
    }
