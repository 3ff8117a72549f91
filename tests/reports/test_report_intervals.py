from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from reports.intervals import (
    accuracy_interval,
    auc,
    auc_interval,
    balanced_accuracy,
    balanced_accuracy_interval,
    reliability,
    roc_curve,
)
from reports.tables import auc_standard_error


def people(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    converter = np.arange(n) % 2 == 0
    return converter, np.round(generator.normal(0.9 * converter, 1), 1)  # rounded: with ties


def test_auc_agrees_with_scikit_learn():
    assert auc(*people()) == pytest.approx(roc_auc_score(*people()))


def test_the_area_under_the_drawn_curve_is_the_auc():
    x, y = roc_curve(*people())
    assert np.trapezoid(y, x) == pytest.approx(auc(*people()))


def test_equal_weights_change_nothing_and_doubling_a_weight_doubles_the_person():
    converter, score = people(12)
    assert auc(converter, score, np.full(12, 0.3)) == pytest.approx(auc(converter, score))
    assert auc_interval(converter, score, np.full(12, 0.3)) == pytest.approx(auc_interval(converter, score))
    twice = auc(np.append(converter, converter[0]), np.append(score, score[0]))
    assert auc(converter, score, [2.0, *[1.0] * 11]) == pytest.approx(twice)


def test_the_interval_has_the_variance_of_a_jackknife_on_the_logit_scale():
    converter, score = people()
    without = [auc(np.delete(converter, i), np.delete(score, i)) for i in range(60)]
    parts = [np.array(without)[member] for member in (converter, ~converter)]
    error = sum((len(p) - 1) / len(p) * ((p - p.mean()) ** 2).sum() for p in parts) ** 0.5
    value = auc(converter, score)
    half = 1.96 * error / (value * (1 - value))
    assert auc_interval(converter, score) == pytest.approx(expit(logit(value) + np.array([-half, half])), abs=1e-4)


def test_separated_classes_have_an_interval_that_more_people_narrow():
    lows = []
    for n in (10, 40):
        low, high = auc_interval(np.arange(n) % 2 == 0, 1 - np.arange(n) % 2)
        exchanged = auc_interval(np.arange(n) % 2 == 1, 1 - np.arange(n) % 2)
        assert high == 1 and exchanged == pytest.approx((0, 1 - low))
        lows.append(low)
    assert 0.5 < lows[0] < lows[1] < 1


def test_the_interval_of_an_accuracy_is_that_of_wilson():
    n, p, z = 60, 45 / 60, 1.959964
    center, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    wilson = (np.array([center - half, center + half]) / (1 + z**2 / n)).tolist()
    assert accuracy_interval(np.arange(n) < 45) == pytest.approx(wilson)
    assert accuracy_interval(np.array([], bool)) is None


def test_the_interval_of_a_balanced_accuracy_adds_the_distances_of_both_rates_in_squares():
    converter, right = np.arange(50) < 20, np.arange(50) % 4 > 0
    rates = [right[converter], right[~converter]]
    limits = np.array([accuracy_interval(rate) for rate in rates])
    value = np.mean([rate.mean() for rate in rates])
    distances = [np.linalg.norm([r.mean() - end for r, end in zip(rates, ends, strict=True)]) for ends in limits.T]
    found = balanced_accuracy_interval(converter, right)
    assert found == pytest.approx((value - distances[0] / 2, value + distances[1] / 2))
    assert balanced_accuracy(converter, right) == pytest.approx(value)


def test_without_both_classes_there_is_no_balanced_accuracy():
    assert balanced_accuracy(np.ones(3, bool), np.ones(3, bool)) is None
    assert balanced_accuracy_interval(np.ones(3, bool), np.ones(3, bool)) is None


def test_one_person_of_a_class_gives_no_interval():
    assert auc_interval(np.array([True, False, False]), np.array([0.3, 0.2, 0.1])) is None


def test_sixty_people_have_a_standard_error_of_six_points():
    assert auc_standard_error(0.75, 29, 31) == pytest.approx(0.063, abs=0.002)


def test_reliability_groups_hold_everybody_once():
    converter, score = people()
    predicted, observed, size = reliability(converter, score)
    assert size.sum() == 60
    assert (observed * size).sum() == converter.sum()
    assert (np.diff(predicted) > 0).all()
