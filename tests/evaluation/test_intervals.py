from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from adni_tcgm.evaluation.intervals import (
    NO_DIFFERENCE,
    Difference,
    PairedRun,
    holm,
    paired_difference,
    verdicts,
)
from adni_tcgm.evaluation.metrics import binary_auc


def accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(np.mean((scores > 0) == labels))


def toy_run(rng: np.random.Generator, effect: float, cohort: str, people: int = 40) -> PairedRun:
    """`first` is right with chance .6 + effect, `second` with .6, each seed with a shift of its own."""
    labels = rng.integers(0, 2, people)
    shift = rng.normal(0, 0.05)
    right = [rng.random(people) < 0.6 + effect + shift, rng.random(people) < 0.6]
    first, second = (np.where(r, labels, 1 - labels) - 0.5 for r in right)
    return PairedRun([f"{cohort}-{i}" for i in range(people)], labels, first, second)


def test_independent_seeds_give_the_t_interval_of_their_differences():
    runs = [toy_run(np.random.default_rng(seed), 0.1, str(seed)) for seed in range(6)]
    values = [accuracy(run.labels, run.first) - accuracy(run.labels, run.second) for run in runs]
    found, wanted = paired_difference(accuracy, runs, "independent"), ttest_1samp(values, 0)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval(0.95)))
    assert found.p_value == pytest.approx(wanted.pvalue) and found.seeds == 6


def test_one_seed_has_the_interval_of_delong_over_its_judges():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    first, second = rng.normal(size=40) + labels, rng.normal(size=40) + labels
    found = paired_difference(binary_auc, [PairedRun(range(40), labels, first, second)], "resplits")

    def placements(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wins = (scores[labels == 1][:, None] > scores[labels == 0]).astype(float)
        return wins.mean(1), wins.mean(0)

    gains = [one - other for one, other in zip(placements(first), placements(second), strict=True)]
    delong = sum(gain.var(ddof=1) / len(gain) for gain in gains)
    half = student.ppf(0.975, 39) * delong**0.5
    assert found.high - found.estimate == pytest.approx(half, rel=0.02)


def test_shared_judges_count_once_however_many_seeds_they_judge():
    run = toy_run(np.random.default_rng(1), 0.1, "same people")
    one, ten = (paired_difference(accuracy, [run] * count, "shared") for count in (1, 10))
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high))
    right = ((run.first > 0) == run.labels).astype(float) - ((run.second > 0) == run.labels)
    error = (right.var(ddof=1) / len(right)) ** 0.5
    assert one.high - one.estimate == pytest.approx(student.ppf(0.975, 39) * error)


def test_the_variance_of_shared_judges_adds_to_that_of_seeds():
    """Half of the seeds differ by 1, half by 0, for every person alike: only seeds vary."""
    ones = np.ones(30, int)
    runs = [PairedRun(range(30), ones, ones, ones - 2 * (seed % 2)) for seed in range(10)]
    shared, independent = (paired_difference(accuracy, runs, design) for design in ("shared", "independent"))
    assert shared == independent
    noisy = [toy_run(np.random.default_rng(0), 0.1, "same people") for _ in range(2)]
    noisy[1] = PairedRun(noisy[1].subjects, noisy[1].labels, noisy[1].second, noisy[1].first)
    found = paired_difference(accuracy, noisy, "shared")
    values = [accuracy(run.labels, run.first) - accuracy(run.labels, run.second) for run in noisy]
    # The mean over the two seeds is the same for everybody, so that judges add nothing: one degree of freedom.
    assert found.high - found.estimate == pytest.approx(student.ppf(0.975, 1) * np.std(values, ddof=1) / 2**0.5)


def test_people_of_one_head_are_one_judge():
    run = toy_run(np.random.default_rng(2), 0.1, "a")
    fivefold = {name: np.repeat(getattr(run, name), 5) for name in ("labels", "first", "second")}
    copies = PairedRun(range(200), **fivefold, groups=[f"head{i // 5}" for i in range(200)])
    one, five = (paired_difference(accuracy, [r], "shared") for r in (run, copies))
    assert (five.low, five.high) == pytest.approx((one.low, one.high))


def test_re_splits_of_one_data_set_are_not_taken_for_new_data():
    runs = [toy_run(np.random.default_rng(seed), 0.1, "a") for seed in range(5)]
    sized = [PairedRun(r.subjects, r.labels, r.first, r.second, train_size=120) for r in runs]
    found, naive = paired_difference(accuracy, sized, "resplits"), paired_difference(accuracy, runs, "independent")
    wider = ((1 / 5 + 40 / 120) / (1 / 5)) ** 0.5
    assert found.high - found.low == pytest.approx(wider * (naive.high - naive.low))
    with pytest.raises(ValueError, match="every run needs train_size"):
        paired_difference(accuracy, runs, "resplits")
    with pytest.raises(ValueError, match="design is 'guess'"):
        paired_difference(accuracy, runs, "guess")


@pytest.mark.parametrize("design", ["independent", "shared"])
def test_the_same_scores_differ_by_exactly_nothing(design):
    run = toy_run(np.random.default_rng(0), 0.0, "a")
    found = paired_difference(accuracy, [PairedRun(run.subjects, run.labels, run.first, run.first)] * 3, design)
    assert (found.estimate, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_metric_without_a_value_in_any_run_is_refused():
    run = PairedRun(["a", "b"], np.zeros(2), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="no value in any"):
        paired_difference(binary_auc, [run], "shared")


def test_holm_multiplies_the_smallest_by_all_and_never_steps_down():
    # Sorted: .01×4, .02×3, .03×2, .2×1; the third would be .06 and keeps it.
    assert holm([0.02, 0.2, 0.01, 0.03]) == pytest.approx([0.06, 0.2, 0.04, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])


def test_verdicts_are_corrected_over_all_comparisons():
    def difference(estimate: float, p_value: float) -> Difference:
        return Difference(estimate, estimate - 1, estimate + 1, p_value, 10)

    alone = verdicts({"a": difference(0.1, 0.03)})
    among = verdicts({"a": difference(0.1, 0.03), "b": difference(-0.1, 0.001), "c": difference(0.1, 0.9)})
    assert alone == {"a": "above"}
    assert among == {"a": NO_DIFFERENCE, "b": "below", "c": NO_DIFFERENCE}
