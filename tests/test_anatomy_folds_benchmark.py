"""The learners on real anatomies: who trains and who is tested, and how the folds of a cohort become one figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import anatomy_folds
from benchmarks.austere import TCGM, compare, mean_auc

LABELS = ("stable", "converter", "cn", "ad", "")


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Twenty people, five of each of four heads: one of each label."""
    people = pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(20)]})
    people["group_id"] = [f"anatomy{i % 4:02d}" for i in range(20)]
    people["label"] = [LABELS[i // 4] for i in range(20)]
    people.to_csv(tmp_path / "manifest.tsv", sep="\t", index=False)
    regions = people[["participant_id"]].merge(pd.DataFrame({"region": ["hippocampus", "amygdala"]}), how="cross")
    regions.to_csv(tmp_path / "regions.tsv", sep="\t", index=False)
    (tmp_path / anatomy_folds.DESCRIPTION).write_text("{}")
    return tmp_path


def test_nobody_of_a_tested_head_trains_and_everybody_with_an_outcome_is_tested_once(prepared: Path) -> None:
    manifest = pd.read_csv(prepared / "manifest.tsv", sep="\t")
    fold = dict(zip(manifest.participant_id, manifest.group_id.map(lambda head: 1 + int(head[-2:]) // 2), strict=True))
    tested = []
    for number in (1, 2):
        parts = [prepared / f"{name}{number}" for name in ("train", "test")]
        anatomy_folds.split(prepared, fold, number, *parts)
        train, test = (pd.read_csv(part / "manifest.tsv", sep="\t", keep_default_na=False) for part in parts)
        assert (train.group_id.nunique(), test.group_id.nunique()) == (2, 2)
        assert not set(train.group_id) & set(test.group_id)
        assert set(train.label) == set(LABELS) and set(test.label) == {"stable", "converter"}
        for part, people in zip(parts, (train, test), strict=True):
            measured = pd.read_csv(part / "regions.tsv", sep="\t")
            assert sorted(measured.participant_id) == sorted([*people.participant_id] * 2)
        tested += test.participant_id.tolist()
    assert sorted(tested) == sorted(manifest.participant_id[manifest.label.isin(["stable", "converter"])])


def test_heads_without_a_fold_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "another_head.nii.gz").touch()
    with pytest.raises(ValueError, match=r"another_head\.nii\.gz: not one of the twenty heads"):
        anatomy_folds.prepare(tmp_path / "out", 0, tmp_path)


def test_scores_of_different_folds_are_not_compared() -> None:
    asked = np.array([[0, 1], [1, 1], [0, 2], [1, 2], [1, 2]])
    # Ranked without a fault in fold 1, half wrong in fold 2, whose scores all lie higher.
    assert mean_auc(asked, np.array([0.1, 0.2, 5.0, 4.0, 6.0])) == pytest.approx((1 + 0.5) / 2)
    assert mean_auc(asked[:3], np.array([0.1, 0.2, 5.0])) is None


def test_a_cohorts_difference_is_the_mean_of_its_folds_with_t_over_cohorts() -> None:
    labels, right, wrong = np.array([0, 1]), np.array([0.0, 1.0]), np.array([1.0, 0.0])
    rows = [
        {"seed": seed, "fold": fold, "modality": "all", "labels": labels}
        | {"learner": name, "scores": right if name == TCGM or fold <= lost else wrong}
        for seed, lost in ((0, 0), (1, 1), (2, 2))
        for fold in (1, 2)
        for name in (TCGM, "other")
    ]
    found = compare(pd.DataFrame(rows).sample(frac=1, random_state=0), TCGM, ["other"]).iloc[0]
    # Differences 1, .5, 0: mean .5, SD .5, and t of 2 degrees of freedom is 4.303.
    assert found.estimate == pytest.approx(0.5)
    assert found.high - found.low == pytest.approx(2 * 4.303 * 0.5 / 3**0.5, rel=1e-3)
