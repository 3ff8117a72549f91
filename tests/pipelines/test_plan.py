"""The cost that a dry run prints follows the counts."""

from __future__ import annotations

import pytest

from pipelines.plan import Plan


def test_twice_the_people_cost_twice_and_two_jobs_half() -> None:
    one = Plan(raw=10, prepared=100, simulated=True, reports=20, jobs=1).seconds()
    two = Plan(raw=20, prepared=200, simulated=True, reports=40, jobs=2).seconds()
    assert one == pytest.approx(two)
    assert Plan(10, 100, False, 20, 1).seconds()["preprocessing"] < one["preprocessing"]
