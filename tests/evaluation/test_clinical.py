from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from adni_tcgm.evaluation.clinical import (
    calibration_line,
    compare_decisions,
    count_at_risk,
    kaplan_meier,
    log_rank,
    net_benefit,
    predictive_values,
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


def test_without_censoring_the_estimate_is_the_share_still_free():
    found = kaplan_meier(np.array([6, 12, 12, 24]), np.ones(4, bool))
    assert found.months.tolist() == [0, 6, 12, 24]
    assert found.free == pytest.approx([1, 0.75, 0.25, 0])


def test_a_censored_person_leaves_the_risk_set_without_an_event():
    found = kaplan_meier(np.array([6, 12, 24]), np.array([1, 0, 1], bool))
    assert found.free == pytest.approx([1, 2 / 3, 0])
    assert (found.n, found.events) == (3, 2)
    assert (found.low <= found.free).all() and (found.free <= found.high).all()


def test_groups_that_convert_alike_are_not_told_apart():
    months, groups = np.tile([6, 12, 18, 36], 10), np.repeat([0, 1], 20)
    assert log_rank(months, months < 36, groups) == pytest.approx(1)
    assert log_rank(np.where(groups == 1, 6, 36), groups == 1, groups) < 1e-6


def test_equal_weights_change_nothing_but_the_formula_of_the_interval():
    months, converted = np.array([6, 12, 12, 24, 30]), np.array([1, 0, 1, 1, 0], bool)
    plain, weighted = kaplan_meier(months, converted), kaplan_meier(months, converted, np.full(5, 0.2))
    assert weighted.free == pytest.approx(plain.free)
    assert (weighted.high - weighted.low >= plain.high - plain.low - 1e-9).all()


def test_people_of_half_the_weight_count_as_half_as_many():
    months, converted = np.array([6, 12, 12, 24]), np.array([1, 0, 0, 1], bool)
    halved = kaplan_meier(months, converted, np.array([1, 0.5, 0.5, 1]))
    assert halved.free == pytest.approx(kaplan_meier(np.array([6, 12, 24]), np.array([1, 0, 1], bool)).free)
    assert count_at_risk(months, np.array([1, 0.5, 0.5, 1]), np.array([0, 12, 13])).tolist() == [3, 2, 1]


def test_standard_error_with_unit_weights_is_tsiatis():
    found = kaplan_meier(np.array([6.0, 12, 18, 24]), np.array([1, 1, 0, 0], bool), np.ones(4))
    error = np.sqrt(1 / 4**2 + 1 / 3**2)  # of log(free) after the second event
    free = 0.5
    assert found.low[-1] == pytest.approx(free ** np.exp(1.959964 * error / abs(np.log(free))))
