from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from adni_tcgm.evaluation.clinical import (
    calibration_line,
    compare_decisions,
    count_at_risk,
    cumulative_incidence,
    log_rank,
    net_benefit,
    predictive_values,
    recalibrate_intercept,
    risk_thirds,
)


def honest(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probability = expit(rng.normal(0, 1.2, n))
    return (rng.random(n) < probability).astype(int), probability


def test_an_honest_probability_has_intercept_zero_and_slope_one():
    line = calibration_line(*honest())
    assert line.intercept.low < 0 < line.intercept.high
    assert line.slope.low < 1 < line.slope.high


def test_probabilities_twice_too_extreme_have_slope_one_half():
    labels, probability = honest()
    assert calibration_line(labels, expit(2 * logit(probability))).slope.value == pytest.approx(0.5, abs=0.04)


def test_probabilities_that_are_too_high_have_an_intercept_below_zero():
    labels, probability = honest()
    assert calibration_line(labels, expit(logit(probability) + 1)).intercept.value == pytest.approx(-1, abs=0.1)


def test_intervals_hold_the_truth_nineteen_times_in_twenty():
    lines = [calibration_line(*honest(200, seed)) for seed in range(200)]
    assert 0.9 <= np.mean([line.slope.low <= 1 <= line.slope.high for line in lines]) <= 0.99


def test_classes_that_are_separated_without_error_have_no_line():
    assert calibration_line(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])) is None
    assert calibration_line(np.array([1, 1]), np.array([0.1, 0.2])) is None


def test_a_recalibrated_intercept_brings_the_mean_to_the_observed_share_and_leaves_the_slope():
    labels, probability = honest()
    extreme = expit(1.5 * logit(probability) + 1)
    shifted = recalibrate_intercept(labels, extreme)
    assert shifted.mean() == pytest.approx(labels.mean(), abs=0.002)
    before, after = (calibration_line(labels, p).slope.value for p in (extreme, shifted))
    assert after == pytest.approx(before, abs=0.01)


def test_nobodys_own_label_shifts_that_persons_probability():
    labels, probability = np.array([0, 1] * 20), np.linspace(0.2, 0.7, 40) ** 2
    first = np.isin(np.arange(40), [0, 1, 20, 21])  # the first fold: the first and the eleventh of each class
    shift = logit(recalibrate_intercept(labels, probability)[first]) - logit(probability[first])
    assert shift == pytest.approx(calibration_line(labels[~first], probability[~first]).intercept.value, abs=1e-6)


def test_without_two_people_of_each_class_there_is_no_intercept():
    assert recalibrate_intercept(np.array([0, 0, 0, 1]), np.full(4, 0.5)) is None
    assert recalibrate_intercept(np.array([]), np.array([])) is None


def test_treating_all_has_the_net_benefit_that_prevalence_and_threshold_give():
    labels = np.array([1, 0, 0, 0])
    found = net_benefit(labels, np.ones(4), np.array([0.2, 0.5]))
    assert found == pytest.approx([0.25 - 0.75 * 0.25, 0.25 - 0.75])


def test_both_discordant_counts_are_given_in_order():
    first = np.array([1, 1, 1, 1, 0, 1], bool)
    second = np.array([0, 0, 0, 1, 1, 1], bool)
    found = compare_decisions(first, second)
    assert (found.first_only, found.second_only) == (3, 1)
    assert found.p_value == pytest.approx(2 * (1 + 4) / 16)  # binomial(4, 1/2): P(X <= 1), two sides


def test_predictive_values_follow_bayes():
    ppv, npv = predictive_values(0.8, 0.7, 0.17)
    assert ppv == pytest.approx(0.8 * 0.17 / (0.8 * 0.17 + 0.3 * 0.83))
    assert npv == pytest.approx(0.7 * 0.83 / (0.7 * 0.83 + 0.2 * 0.17))
    assert predictive_values(0.0, 1.0, 0.5)[0] is None


def test_thirds_are_equal_in_size_and_ordered_by_risk():
    thirds = risk_thirds(np.array([0.9, 0.1, 0.5, 0.2, 0.8, 0.6]))
    assert thirds.tolist() == [2, 0, 1, 0, 2, 1]


def test_without_censoring_or_death_the_estimate_is_the_share_that_converted():
    found = cumulative_incidence(np.array([6, 12, 12, 24]), np.ones(4, int))
    assert found.months.tolist() == [0, 6, 12, 24]
    assert found.share == pytest.approx([0, 0.25, 0.75, 1])


def test_a_censored_person_leaves_the_risk_set_without_an_event():
    found = cumulative_incidence(np.array([6, 12, 24]), np.array([1, 0, 1]))
    assert found.share == pytest.approx([0, 1 / 3, 1])
    assert (found.n, found.events) == (3, 2)
    assert (found.low <= found.share).all() and (found.share <= found.high).all()


def test_whoever_dies_can_convert_no_more_and_does_not_count_as_unseen():
    months = np.array([6, 12, 24, 36])
    died, censored = (cumulative_incidence(months, np.array([1, event, 1, 0])).share[-1] for event in (2, 0))
    assert died == pytest.approx(0.5)
    assert censored == pytest.approx(1 / 4 + 3 / 4 * 1 / 2)  # as if the censored one went on like the others


def test_groups_that_convert_alike_are_not_told_apart():
    months, groups = np.tile([6, 12, 18, 36], 10), np.repeat([0, 1], 20)
    assert log_rank(months, months < 36, groups) == pytest.approx(1)
    assert log_rank(np.where(groups == 1, 6, 36), groups == 1, groups) < 1e-6


def test_equal_weights_change_no_estimate():
    months, event = np.array([6, 12, 12, 24, 30]), np.array([1, 0, 2, 1, 0])
    plain, weighted = (cumulative_incidence(months, event, weights) for weights in (None, np.full(5, 0.2)))
    assert weighted.share == pytest.approx(plain.share)


def test_people_of_half_the_weight_count_as_half_as_many():
    months, event = np.array([6, 12, 12, 24]), np.array([1, 0, 0, 1])
    halved = cumulative_incidence(months, event, np.array([1, 0.5, 0.5, 1]))
    assert halved.share == pytest.approx(cumulative_incidence([6, 12, 24], [1, 0, 1]).share)
    assert count_at_risk(months, np.array([1, 0.5, 0.5, 1]), np.array([0, 12, 13])).tolist() == [3, 2, 1]


def test_the_interval_covers_the_true_incidence_as_often_as_it_says():
    """Two exponential hazards: by month 24 the first event has come to a share that is known in closed form."""
    rng, inside, hazards = np.random.default_rng(0), [], np.array([0.02, 0.01])
    true = hazards[0] / hazards.sum() * (1 - np.exp(-24 * hazards.sum()))
    for _ in range(60):
        times = rng.exponential(1 / hazards, (80, 2))
        event = np.where(times.min(1) > 24, 0, times.argmin(1) + 1)
        found = cumulative_incidence(np.minimum(times.min(1), 24), event, draws=100)
        inside.append(found.low[-1] <= true <= found.high[-1])
    assert 0.85 < np.mean(inside) <= 1
