"""Splits by group, and labels shown at a rate."""

from __future__ import annotations

import numpy as np
import pytest

from adni_tcgm.datasets.splitting import LEFT_OUT, draw_splits, draw_visible
from adni_tcgm.tcgm.batch import UNLABELED


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_samples_of_their_own_are_split_60_20_20_exactly():
    labels = np.arange(200) % 4
    split = draw_splits(labels, np.arange(200).astype(str), rng())
    assert [(split == name).sum() for name in ("train", "validation", "test")] == [120, 40, 40]
    assert (split != draw_splits(labels, np.arange(200).astype(str), rng(1))).any()


def test_a_group_is_never_separated_and_its_unlabeled_members_follow_it_only_into_training():
    groups = np.repeat([f"speaker{i}" for i in range(30)], 5)
    labels = np.tile([0, 1, 0, 1, UNLABELED], 30)
    split = draw_splits(labels, groups, rng())
    for name in set(groups):
        home = set(split[(groups == name) & (labels != UNLABELED)])
        assert len(home) == 1
        unlabeled = split[(groups == name) & (labels == UNLABELED)]
        assert set(unlabeled) == ({"train"} if home == {"train"} else {LEFT_OUT})


def test_an_unlabeled_group_of_its_own_trains():
    labels = np.array([0, 1] * 10 + [UNLABELED])
    assert draw_splits(labels, np.array([str(i) for i in range(21)]), rng())[-1] == "train"


def test_too_few_groups_for_every_class_in_every_split_is_an_error():
    with pytest.raises(ValueError, match="2 groups .* one of the 2 classes"):
        draw_splits(np.array([0, 1]), np.array(["a", "b"]), rng())


def test_visible_labels_are_drawn_at_random_and_not_by_class():
    labels = np.repeat([0, 1, UNLABELED], [20, 20, 10])
    draws = np.array([draw_visible(labels, np.ones(50, dtype=bool), 0.25, rng(seed)) for seed in range(400)])
    assert not draws[:, labels == UNLABELED].any()
    # Ten of forty without replacement: five of class 1 on average, SD 1.4; each sample with chance 1/4, SE .022.
    ones = draws[:, labels == 1].sum(1)
    assert ones.mean() == pytest.approx(5, abs=0.3) and ones.std() == pytest.approx(1.39, abs=0.2)
    assert np.abs(draws[:, labels != UNLABELED].mean(0) - 0.25).max() < 0.09


def test_every_class_shows_a_label_even_when_two_are_rare_and_the_count_stays():
    labels = np.array([0] * 97 + [1, 2, 2])
    for seed in range(20):
        visible = draw_visible(labels, np.ones(100, dtype=bool), 0.05, rng(seed))
        assert visible.sum() == 5 and set(labels[visible]) == {0, 1, 2}


def test_only_candidates_show_a_label_and_a_higher_rate_adds_to_them():
    labels, candidates = np.arange(60) % 3, np.arange(60) < 40
    low, high = (draw_visible(labels, candidates, rate, rng(3)) for rate in (0.3, 0.6))
    assert low.sum() == 12 and high.sum() == 24 and (high | ~low).all() and not high[~candidates].any()
