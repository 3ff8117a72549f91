"""The benchmark of the gap to all labels: what its learners see, on a tiny cohort of measurements."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from adni_tcgm.tcgm.batch import MultimodalBatch
from benchmarks import label_gap
from benchmarks.label_gap import DRAWS, TCGM, draw_labels, explain, halves


def batch(people: int) -> MultimodalBatch:
    inputs = {"mri": torch.arange(people).float()[:, None]}
    labels = torch.arange(people) % 2
    return MultimodalBatch([str(i) for i in range(people)], inputs, torch.ones(people, 1, dtype=torch.bool), labels)


def test_drawn_labels_follow_each_persons_own_probability() -> None:
    drawn = draw_labels(batch(3), np.array([0.0, 1.0, 0.5]), np.random.default_rng(0))
    by_person = {name: drawn.labels[drawn.inputs["mri"][:, 0] == name].float() for name in range(3)}
    assert [len(labels) for labels in by_person.values()] == [DRAWS] * 3
    assert [by_person[0].mean(), by_person[1].mean()] == [0, 1]
    assert 0.2 < by_person[2].mean() < 0.8


def test_nobody_who_may_train_is_tested() -> None:
    more, tested = halves(batch(10))
    assert not set(more.sample_ids) & set(tested.sample_ids)
    assert len(more) == len(tested) == 5


def test_effects_and_the_correlation_within_class_are_those_of_the_scores() -> None:
    rng, labels = np.random.default_rng(0), np.arange(20_000) % 2
    common = rng.normal(size=len(labels))
    scores = {"mri": common + 1.5 * labels, "pet": 0.6 * common + 0.8 * rng.normal(size=len(labels)) - labels}
    found = explain(labels, scores)
    assert list(found.values()) == pytest.approx([1.5, -1.0, 0.6], abs=0.03)


def test_the_command_compares_with_tcgm_over_cohorts(tmp_path, monkeypatch, capsys) -> None:
    names = [TCGM, label_gap.MORE, label_gap.ALL, label_gap.TAUGHT, label_gap.BEST]
    monkeypatch.setattr(label_gap, "prepare", lambda out, seed, response: (out, out))
    monkeypatch.setattr(label_gap.Response, "read", lambda file: None)
    (tmp_path / "response.npz").touch()

    def judge(cohort, external, seed):
        return {name: 0.7 + 0.01 * i + 0.001 * seed * i for i, name in enumerate(names)} | {"d": float(seed)}

    monkeypatch.setattr(label_gap, "judge_seed", judge)
    label_gap.main([str(tmp_path), "--full", "nothing", "--seeds", "0-3"])
    table = pd.read_csv(tmp_path / "table.tsv", sep="\t")
    assert table.seed.tolist() == [0, 1, 2, 3] and set(names) < set(table.columns)
    out = capsys.readouterr().out
    # All labels: .02 and .002 more a seed, mean .023; and it grows with d.
    assert f"{label_gap.ALL:48} +0.023" in out and "+1.00 (p 0.00)" in out
