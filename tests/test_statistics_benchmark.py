"""The benchmarks of intervals: what is known of the populations that people are drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from adni_tcgm.evaluation.metrics import binary_auc
from benchmarks import single_figures
from benchmarks.single_figures import Figure, misses, scores, size_of, true_incidence
from benchmarks.statistics import FEATURES, People, auc, population_auc


def test_the_auc_of_known_weights_is_that_of_many_drawn_people() -> None:
    learned = np.array([[1.0] * FEATURES, [1.0, -0.5, 0.0, 0.2][:FEATURES]])
    people = People(np.random.default_rng(0), 6000)
    drawn = [auc(people.labels, people.x[method] @ learned[method]) for method in (0, 1)]
    assert population_auc(learned) == pytest.approx(drawn, abs=0.02)


def test_scores_have_the_auc_of_their_population() -> None:
    converter = np.arange(6000) % 2 == 0
    assert binary_auc(converter, scores(np.random.default_rng(0), converter, 0.9)) == pytest.approx(0.9, abs=0.01)


def test_the_incidence_is_that_of_many_people_who_are_all_followed() -> None:
    times = np.random.default_rng(0).exponential(1 / single_figures.HAZARDS, (50_000, 2))
    converted = (times.argmin(1) == 0) & (times.min(1) <= 24)
    assert true_incidence(24) == pytest.approx(converted.mean(), abs=0.01)


def test_an_interval_beside_the_truth_and_a_small_p_value_are_misses() -> None:
    assert [misses(found, 0.5) for found in ((0.4, 0.6), (0.6, 0.7), (0.3, 0.4), 0.2, 0.01)] == [0, 1, 1, 0, 1]


def test_replicates_without_an_interval_are_not_counted(monkeypatch) -> None:
    """One of four has none, and of the other three one misses."""
    drawn = iter([None, (0.0, 1.0), (0.9, 1.0), (0.2, 0.8)])
    monkeypatch.setitem(single_figures.FIGURES, "toy", Figure(lambda rng, people, truth: next(drawn), (0.5,)))
    row = size_of("toy", 60, 0.5, replicates=4)
    assert (row["replicates"], row["size_percent"]) == (3, 33.33)
