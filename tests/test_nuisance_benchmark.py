"""The grid of shared severity and shared nuisance: what its people share, and what its repairs take out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from adni_tcgm.evaluation.metrics import binary_auc
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch
from benchmarks import nuisance
from benchmarks.nuisance import Design, draw, draw_splits, grid, run_cell, take_means_out


def within_class(batch: MultimodalBatch, feature: int) -> float:
    """Correlation of one number of the two modalities, class means taken out."""
    columns = []
    for values in batch.inputs.values():
        column = values[:, feature].numpy().astype(float)
        columns.append(column - np.array([column[batch.labels == c].mean() for c in (0, 1)])[batch.labels])
    return np.corrcoef(columns)[0, 1]


@pytest.mark.parametrize("r", [0.0, 0.3])
@pytest.mark.parametrize("kind", nuisance.NUISANCES)
def test_modalities_share_severity_and_nuisance_as_designed_and_nothing_else(r: float, kind: str) -> None:
    found = draw(Design(severity_correlation=r, nuisance=kind), 20_000, np.random.default_rng(0))
    # The nuisance has a variance of 4 beside that of the noise, 1.
    shared = 0.8 if kind != "none" else 0.0
    assert [within_class(found, k) for k in range(5)] == pytest.approx([r, shared, 0, 0, 0], abs=0.03)


def test_the_limit_is_that_of_the_rule_that_knows_the_severities() -> None:
    design = Design(severity_correlation=0.3)
    people = draw(design, 50_000, np.random.default_rng(0))
    means, covariance = np.array(list(nuisance.EFFECTS.values())), np.array([[1, 0.3], [0.3, 1]])
    severities = np.stack([values[:, 0].numpy() for values in people.inputs.values()], axis=1)
    rule = severities @ np.linalg.solve(covariance, means)
    assert binary_auc(people.labels.numpy(), rule) == pytest.approx(design.bayes_auc, abs=0.005)
    # Half of the squared distance, .75² + 1.1² without a correlation.
    assert Design(severity_correlation=0).bayes_auc == pytest.approx(norm.cdf(np.sqrt((0.75**2 + 1.1**2) / 2)))


@pytest.mark.parametrize("kind", ["scanner", "age"])
def test_without_the_means_of_strata_little_of_the_nuisance_is_left(kind: str) -> None:
    splits = draw_splits(Design(nuisance=kind, people=4000), seed=0, validation=0)
    left = within_class(take_means_out(splits).test, 1)
    # Within a quartile, age still varies.
    assert left < (0.05 if kind == "scanner" else 0.45) < within_class(splits.test, 1)


def test_means_are_those_of_training_people_and_read_no_label() -> None:
    splits = draw_splits(Design(nuisance="scanner"), seed=0, validation=10)
    mixed = replace(splits.train, labels=torch.full_like(splits.train.labels, UNLABELED))
    shifted = splits.test.with_inputs({name: values + 5 for name, values in splits.test.inputs.items()})
    once, again = take_means_out(splits), take_means_out(replace(splits, train=mixed, test=shifted))
    for name, values in once.test.inputs.items():
        assert torch.allclose(values + 5, again.test.inputs[name], atol=1e-5)


def test_validation_people_change_nobody_else_and_labels_stay_hidden() -> None:
    with_them, without = (draw_splits(Design(), seed=3, validation=n) for n in (60, 0))
    assert torch.equal(with_them.test.inputs["mri"], without.test.inputs["mri"])
    assert (with_them.train.labels != UNLABELED).sum() == 18 and len(without.validation) == 0


def test_the_grid_has_every_nuisance_with_and_without_a_shared_severity() -> None:
    cells = {(d.severity_correlation, d.nuisance) for d in grid(5, 180)}
    assert cells == {(r, kind) for r in (0.0, 0.3) for kind in nuisance.NUISANCES}


def test_a_cell_pairs_methods_on_the_same_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuisance, "TRAIN", replace(nuisance.TRAIN, rounds=3, warm_up_rounds=1))
    rows, pairs = run_cell(Design(people=40, labels=6, judges=50), range(2), validation=8)
    assert len(rows) == 2 * len(nuisance.METHODS) * 3
    runs = pairs["TCGM - CE"]
    auc = {(row["method"], row["seed"]): row["auc"] for row in rows if row["modality"] == "all"}
    assert binary_auc(runs[1].labels, runs[1].first) == auc["TCGM", 1]
    assert binary_auc(runs[1].labels, runs[1].second) == auc["CE", 1]
    assert not set(runs[0].subjects) & set(runs[1].subjects)
