"""The Gaussian test bed: what was asked for is what is drawn, and its Bayes limit is exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from adni_tcgm.datasets.gaussian import GaussianConfig, bayes_accuracy, draw, load, population
from adni_tcgm.tcgm.batch import UNLABELED

SMALL = GaussianConfig(samples=200, test_samples=50, dimensions=3, label_rate=0.05)


def test_any_two_class_means_of_a_modality_are_the_separation_apart() -> None:
    means = population(GaussianConfig(classes=5, dimensions=4, separation=1.7), seed=3).means
    for modality in means:
        distances = np.linalg.norm(modality[:, None] - modality, axis=-1)
        np.testing.assert_allclose(distances, 1.7 * (1 - np.eye(5)), atol=1e-12)


def test_the_modalities_of_a_population_are_turned_differently() -> None:
    first, second, _ = population(SMALL, seed=0).means
    assert np.abs(first - second).max() > 0.1


def test_within_a_class_only_the_nuisance_correlates_modalities() -> None:
    for nuisance in (0.0, 1.5):
        config = replace(SMALL, samples=100_000, nuisance=nuisance)
        source = population(config, seed=1)
        labels, inputs = draw(config, 1, "train")
        residuals = (inputs - source.means[:, labels].swapaxes(0, 1)).reshape(len(labels), -1)
        direction = source.directions.ravel()
        expected = np.eye(len(direction)) + nuisance**2 * np.outer(direction, direction)
        np.testing.assert_allclose(np.cov(residuals.T), expected, atol=0.05)
        assert np.allclose(np.linalg.norm(source.directions, axis=1), 1)


@pytest.mark.parametrize("modalities", [[0], [2], [0, 2], None])
@pytest.mark.parametrize("nuisance", [0.0, 1.3])
def test_log_posterior_equals_bayes_rule_on_the_densities(modalities: list[int] | None, nuisance: float) -> None:
    config = replace(SMALL, nuisance=nuisance)
    source = population(config, seed=0)
    _, inputs = draw(config, 0, "test")
    chosen = modalities or [0, 1, 2]
    direction = np.concatenate([source.directions[m] for m in chosen])
    covariance = np.eye(len(direction)) + nuisance**2 * np.outer(direction, direction)
    values = np.concatenate([inputs[:, m] for m in chosen], axis=1)
    densities = np.stack(
        [
            multivariate_normal(np.concatenate([source.means[m, c] for m in chosen]), covariance).pdf(values)
            for c in range(config.classes)
        ],
        axis=1,
    )
    expected = np.log(densities / densities.sum(1, keepdims=True))
    np.testing.assert_allclose(source.log_posterior(inputs, modalities), expected, atol=1e-10)


@pytest.mark.parametrize("nuisance", [0.0, 2.0])
def test_the_posterior_is_as_often_right_as_it_says(nuisance: float) -> None:
    config = replace(SMALL, test_samples=40_000, separation=1.5, nuisance=nuisance)
    _, inputs = draw(config, 0, "test")
    confidence = np.exp(population(config, 0).log_posterior(inputs)).max(1).mean()
    assert bayes_accuracy(config, 0)["all"] == pytest.approx(confidence, abs=0.008)


def test_bayes_accuracy_is_chance_without_separation_and_higher_for_all_than_for_one() -> None:
    config = replace(SMALL, test_samples=20_000)
    assert bayes_accuracy(replace(config, separation=0.0), 0)["all"] == pytest.approx(1 / 4, abs=0.015)
    accuracy = bayes_accuracy(config, 0)
    assert set(accuracy) == {"m1", "m2", "m3", "all"}
    assert accuracy["all"] > max(accuracy[name] for name in ("m1", "m2", "m3")) + 0.1


def test_training_shows_the_labels_of_the_label_rate_alone() -> None:
    splits = load(SMALL, seed=0)
    visible = splits.train.labels != UNLABELED
    assert int(visible.sum()) == 10
    assert set(splits.train.labels[visible].tolist()) == {0, 1, 2, 3}
    rows = {row.sample_id: row for row in splits.rows}
    truth = torch.tensor([int(rows[sample].label) for sample in splits.train.sample_ids])
    assert torch.equal(truth[visible], splits.train.labels[visible])
    assert [rows[sample].label_visible for sample in splits.train.sample_ids] == visible.tolist()


def test_a_lower_label_rate_hides_labels_and_changes_nothing_else() -> None:
    low, high = load(replace(SMALL, label_rate=0.1), 0), load(replace(SMALL, label_rate=0.3), 0)
    shown = low.train.labels != UNLABELED
    assert torch.equal(low.train.labels[shown], high.train.labels[shown])
    for name in low.train.inputs:
        assert torch.equal(low.train.inputs[name], high.train.inputs[name])
        assert torch.equal(low.test.inputs[name], high.test.inputs[name])


def test_validation_and_test_keep_their_labels_and_are_drawn_apart() -> None:
    splits = load(replace(SMALL, validation_samples=50), seed=0)
    assert len(splits.validation) == len(splits.test) == 50
    assert (splits.validation.labels >= 0).all() and (splits.test.labels >= 0).all()
    assert not torch.equal(splits.validation.inputs["m1"], splits.test.inputs["m1"])
    assert len(load(SMALL, seed=0).validation) == 0


def test_the_number_of_training_samples_leaves_the_test_samples_alone() -> None:
    few, many = load(SMALL, 0), load(replace(SMALL, samples=400), 0)
    assert torch.equal(few.test.inputs["m2"], many.test.inputs["m2"])


def test_the_same_seed_gives_the_same_population_and_samples_and_another_seed_others() -> None:
    assert np.abs(population(SMALL, 4).means - population(SMALL, 5).means).max() > 0.1
    first, again, other = load(SMALL, 4), load(SMALL, 4), load(SMALL, 5)
    assert torch.equal(first.train.inputs["m1"], again.train.inputs["m1"])
    assert torch.equal(first.train.labels, again.train.labels)
    assert not torch.equal(first.train.inputs["m1"], other.train.inputs["m1"])


def test_another_separation_moves_the_same_samples() -> None:
    residuals = []
    for separation in (1.0, 3.0):
        config = replace(SMALL, separation=separation)
        labels, inputs = draw(config, 0, "train")
        residuals.append(inputs - population(config, 0).means[:, labels].swapaxes(0, 1))
    np.testing.assert_allclose(residuals[0], residuals[1], atol=1e-12)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dimensions": 2}, "dimensions is 2"),
        ({"classes": 1}, "1 classes"),
        ({"samples": 3}, "samples is 3"),
        ({"separation": -1.0}, "separation -1.0"),
        ({"label_rate": 0.0}, "label_rate is 0"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)
