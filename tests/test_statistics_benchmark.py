"""The benchmark of intervals: the true difference that it counts against."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics import FEATURES, People, auc, population_auc


def test_the_auc_of_known_weights_is_that_of_many_drawn_people() -> None:
    learned = np.array([[1.0] * FEATURES, [1.0, -0.5, 0.0, 0.2][:FEATURES]])
    people = People(np.random.default_rng(0), 6000)
    drawn = [auc(people.labels, people.x[method] @ learned[method]) for method in (0, 1)]
    assert population_auc(learned) == pytest.approx(drawn, abs=0.02)
