"""Folds over groups: every group tests once, and nobody is in two splits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from adni_tcgm.datasets.adni import AdniConfig, load
from adni_tcgm.datasets.folds import fold_splits
from adni_tcgm.datasets.splitting import LEFT_OUT
from adni_tcgm.tcgm.batch import UNLABELED

# Twenty anatomies of 15 people each, then two unlabeled people of the first and one of none of them.
GROUPS = np.array([f"anatomy{i % 20:02d}" for i in range(300)] + ["anatomy00", "anatomy00", "nobody else"])
LABELS = np.array([(i // 20) % 2 for i in range(300)] + [UNLABELED] * 3)


def splits_of(seeds: range, folds: int = 5) -> list[np.ndarray]:
    return [fold_splits(LABELS, GROUPS, folds, seed, classes=2) for seed in seeds]


@pytest.mark.parametrize("first", [0, 5])
def test_the_seeds_of_one_dealing_test_and_validate_every_labeled_sample_once(first):
    dealt = np.stack(splits_of(range(first, first + 5)))[:, LABELS != UNLABELED]
    for part in ("test", "validation"):
        assert ((dealt == part).sum(0) == 1).all()
    assert Counter(dealt[0].tolist()) == {"train": 180, "validation": 60, "test": 60}


def test_the_next_seeds_deal_anew_and_the_same_seed_never_does():
    (early,), (late,), (again,) = splits_of(range(1)), splits_of(range(5, 6)), splits_of(range(1))
    assert (early != late).any() and (early == again).all()


def test_groups_stay_whole_and_their_unlabeled_members_only_train():
    for split in splits_of(range(5)):
        labeled = LABELS != UNLABELED
        homes = {(group, home) for group, home in zip(GROUPS[labeled], split[labeled], strict=True)}
        assert len(homes) == 20
        home = split[GROUPS == "anatomy00"][0]
        assert set(split[300:302]) == {"train" if home == "train" else LEFT_OUT}
        assert split[302] == "train"


def test_a_fold_without_a_class_is_refused_and_so_are_two_folds():
    with pytest.raises(ValueError, match="left a fold without one of the 2 classes"):
        fold_splits(np.array([0, 0, 0, 1]), np.array(list("abcd")), 3, 0, classes=2)
    with pytest.raises(ValueError, match="folds is 2"):
        AdniConfig("somewhere", folds=2)


def test_a_cohort_is_tested_whole_by_as_many_seeds_as_folds(prepared):
    parts = [load(AdniConfig(str(prepared.path), features="regions", folds=5), seed) for seed in range(5)]
    tested = [name for splits in parts for name in splits.test.sample_ids]
    labeled = prepared.manifest[
        prepared.manifest.label.isin(["stable", "converter"]) & (prepared.manifest.qc == "pass")
    ]
    assert sorted(tested) == sorted(labeled.participant_id + "_ses-M000")
    assert [sum(row.label_visible for row in splits.rows if row.split == "train") for splits in parts] == [2] * 5
