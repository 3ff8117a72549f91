"""The cost that a dry run prints follows the counts."""

from __future__ import annotations

import pytest

from pipelines.config import load_settings
from pipelines.plan import Plan


def test_twice_the_people_cost_twice_and_two_jobs_half() -> None:
    one = Plan(raw=10, prepared=100, simulated=True, reports=20, jobs=1).seconds([], [])
    two = Plan(raw=20, prepared=200, simulated=True, reports=40, jobs=2).seconds([], [])
    assert one == pytest.approx(two)
    assert Plan(10, 100, False, 20, 1).seconds([], [])["preprocessing"] < one["preprocessing"]


def test_tcgm_costs_more_than_ce_by_its_unlabeled_steps() -> None:
    settings = load_settings("adni_voxels_cpu", {"pretrainings.none.train.supervised_steps": 0, "pretraining": "none"})
    plan = Plan(0, 0, False, 0, 1)
    ce, tcgm = (plan.seconds([settings], [method])["training"] for method in ("ce", "tcgm"))
    assert tcgm == pytest.approx(2 * ce)


def test_pretraining_of_the_grid_costs_a_tenth_of_a_densenet_from_scratch() -> None:
    plan, costs = Plan(0, 0, False, 0, 1), {}
    for name in ("none", "both"):
        settings = load_settings("adni_voxels_cpu", {"pretraining": name})
        costs[name] = plan.seconds([settings], ["tcgm"])["training"]
    assert 0 < costs["both"] < costs["none"] / 8
