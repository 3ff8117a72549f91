from __future__ import annotations

import numpy as np
import pytest

from adni_tcgm.evaluation.intervals import (
    NO_DIFFERENCE,
    Difference,
    PairedRun,
    bootstrap_interval,
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


def test_the_interval_of_an_accuracy_is_close_to_the_normal_one():
    labels = np.ones(400)
    scores = np.where(np.arange(400) < 300, 1, -1)
    low, high = bootstrap_interval(accuracy, labels, scores)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.01)


def test_resamples_without_an_answer_are_skipped():
    assert bootstrap_interval(binary_auc, np.zeros(5), np.arange(5)) is None
    assert bootstrap_interval(binary_auc, np.array([0, 0, 1]), np.arange(3)) == (1, 1)


def test_the_paired_interval_covers_the_true_difference_about_as_often_as_it_says():
    covered = 0
    for trial in range(60):
        rng = np.random.default_rng(trial)
        runs = [toy_run(rng, 0.1, f"cohort{seed}") for seed in range(10)]
        found = paired_difference(accuracy, runs, draws=200)
        covered += found.low <= 0.1 <= found.high
    # 95 % of 60 is 57; fewer than 52 has a chance below 2 %.
    assert covered >= 52


def test_a_large_difference_is_shown_and_none_is_not():
    rng = np.random.default_rng(0)
    above = paired_difference(accuracy, [toy_run(rng, 0.3, str(seed)) for seed in range(10)], draws=500)
    equal = paired_difference(accuracy, [toy_run(rng, 0.0, str(seed)) for seed in range(10)], draws=500)
    assert above.low > 0 and above.p_value < 0.01 and above.seeds == 10
    assert equal.low < 0 < equal.high and equal.p_value > 0.05


def test_the_same_scores_differ_by_exactly_nothing():
    run = toy_run(np.random.default_rng(0), 0.0, "a")
    found = paired_difference(accuracy, [PairedRun(run.subjects, run.labels, run.first, run.first)] * 3, draws=50)
    assert (found.estimate, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_swapping_the_two_methods_mirrors_the_interval():
    runs = [toy_run(np.random.default_rng(seed), 0.1, "same people") for seed in range(4)]
    swapped = [PairedRun(run.subjects, run.labels, run.second, run.first) for run in runs]
    there, back = paired_difference(accuracy, runs, draws=300), paired_difference(accuracy, swapped, draws=300)
    assert (back.estimate, back.low, back.high) == pytest.approx((-there.estimate, -there.high, -there.low))
    assert back.p_value == there.p_value


def test_people_shared_by_the_seeds_do_not_become_more_people():
    """Ten copies of one run know no more than that run: drawing people independently for each would say so."""
    run = toy_run(np.random.default_rng(1), 0.1, "same people")
    one, ten = (paired_difference(accuracy, [run] * count, draws=1000) for count in (1, 10))
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.1)


def test_seeds_that_disagree_widen_the_interval():
    """Half of the seeds differ by 1, half by 0, for every person alike: only the draw of seeds varies, SD .5 / √10."""
    ones = np.ones(30, int)
    runs = [PairedRun(range(30), ones, ones, ones - 2 * (seed % 2)) for seed in range(10)]
    found = paired_difference(accuracy, runs, draws=2000)
    assert found.estimate == 0.5
    assert (found.low, found.high) == pytest.approx((0.2, 0.8), abs=0.1)


def test_a_metric_without_a_value_in_any_run_is_refused():
    run = PairedRun(["a", "b"], np.zeros(2), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="no value in any"):
        paired_difference(binary_auc, [run])


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
