"""The grid of shared severity and shared nuisance: what its people share, and what its repairs take out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from adni_tcgm.evaluation.metrics import binary_auc
from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch
from adni_tcgm.tcgm.trainer import fit, predict
from benchmarks import nuisance
from benchmarks.nuisance import (
    EFFECTS,
    METHODS,
    VALIDATION,
    Design,
    combine,
    compare,
    draw,
    draw_splits,
    log_posteriors,
    stack_runs,
    take_means_out,
    train,
)


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
def test_without_the_means_of_nuisance_groups_little_of_the_nuisance_is_left(kind: str) -> None:
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


@pytest.mark.parametrize("method, scheme", [("CE", CrossEntropy), ("TCGM", TCGM), ("TCGM within groups", TCGM)])
@pytest.mark.parametrize("choice", ["validation", "last step"])
def test_runs_side_by_side_are_the_runs_of_the_trainer(
    monkeypatch: pytest.MonkeyPatch, method: str, scheme: type, choice: str
) -> None:
    config = replace(nuisance.TRAIN, steps=40, supervised_steps=5, lr_labeled=5e-2, lr_unlabeled=5e-2)
    monkeypatch.setattr(nuisance, "TRAIN", config)
    designs = [Design(r, "scanner", people=60, labels=config.batch_size_labeled, judges=50) for r in (0.0, 0.3)]
    runs = stack_runs(designs, range(2))
    place = runs.names.index((designs[1], 1, method))
    weights, biases = train(runs)[choice]
    found = log_posteriors(weights, biases, runs.test)

    splits = draw_splits(designs[1], 1, VALIDATION if choice == "validation" else 0)
    learner = scheme(MLPConfig(), within_nuisance_groups=True) if "groups" in method else scheme(MLPConfig())
    expected = predict(fit(learner, splits, replace(config, seed=1)), splits.test)
    for modality, values in zip(EFFECTS, found[place], strict=True):
        torch.testing.assert_close(values, expected[modality], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(combine(found, runs.log_prior)[place, 0], expected["all"], atol=1e-4, rtol=1e-4)


def test_methods_of_a_seed_begin_alike_and_only_two_of_them_see_centered_inputs() -> None:
    runs = stack_runs([Design(nuisance="scanner", people=40, judges=20)], range(1))
    assert (runs.weights == runs.weights[0]).all() and (runs.test_labels == runs.test_labels[0]).all()
    same = [bool((inputs == runs.x[0]).all()) for inputs in runs.x]
    assert dict(zip(METHODS, same, strict=True)) == {name: not way.means_out for name, way in METHODS.items()}


def test_differences_are_those_of_the_same_seed() -> None:
    rows = [
        {"chosen by": "validation", "nuisance": "none", "r": 0.0, "modality": modality, "seed": seed}
        | {"method": method, "auc": 0.5 + seed / 100 + (modality == "all") * number / 10}
        for seed in range(4)
        for number, method in enumerate(METHODS)
        for modality in ("mri", "all")
    ]
    found = compare(pd.DataFrame(rows), draws=50).set_index("comparison")
    for first, second in nuisance.COMPARISONS:
        row = found.loc[f"{first} - {second}"]
        expected = (list(METHODS).index(first) - list(METHODS).index(second)) / 10
        assert [row.difference, row.low, row.high] == pytest.approx([expected] * 3)
