from __future__ import annotations

import numpy as np

from adni_tcgm.evaluation.out_of_distribution import score_out_of_distribution


def training(n: int = 200) -> np.ndarray:
    return np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], n)


def test_somebody_at_the_mean_is_not_flagged():
    found = score_out_of_distribution(training(), np.zeros(2))
    assert found.share < 0.05 and not found.flagged


def test_an_odd_combination_of_usual_values_is_flagged():
    assert score_out_of_distribution(training(), np.array([1.8, -1.8])).flagged
    assert not score_out_of_distribution(training(), np.array([1.8, 1.8])).flagged


def test_what_a_person_lacks_is_not_compared():
    found = score_out_of_distribution(training(), np.array([np.nan, 9.0]))
    assert found.flagged and found.n == 200
    assert score_out_of_distribution(training(), np.full(2, np.nan)) is None


def test_few_training_people_judge_nobody():
    assert score_out_of_distribution(training(19), np.zeros(2)) is None


def test_training_people_who_lack_a_measurement_are_left_out():
    people = training()
    people[:50, 0] = np.nan
    assert score_out_of_distribution(people, np.zeros(2)).n == 150
