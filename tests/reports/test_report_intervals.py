from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reports.intervals import auc, auc_interval, reliability, roc_curve
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


def test_the_interval_agrees_with_resampling_person_by_person():
    converter, score = people()
    generator = np.random.default_rng(5)
    classes = [np.flatnonzero(converter), np.flatnonzero(~converter)]
    draws = [np.concatenate([generator.choice(c, len(c)) for c in classes]) for _ in range(1500)]
    slow = np.percentile([auc(converter[d], score[d]) for d in draws], [2.5, 97.5])
    assert auc_interval(converter, score) == pytest.approx(tuple(slow), abs=0.015)


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
