from __future__ import annotations

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from adni_tcgm.evaluation.baselines import LinearKernel, baseline_row, logistic_scores, mean_z_scores, svm_scores


def toy(samples: int, features: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, samples)
    values = rng.normal(5, 2, (samples, features)).astype(np.float32)
    values[:, 0] += 4 * labels
    return values, labels


def all_of(values: np.ndarray) -> np.ndarray:
    return np.ones(len(values), bool)


def test_the_kernel_machine_is_the_linear_svm_on_standardized_features():
    (train, labels), (new, _) = toy(80), toy(50, seed=1)
    kernel = LinearKernel(train, all_of(train), measured=all_of(train))
    gram = kernel.products(kernel.training)
    scores = svm_scores(gram, labels, [kernel.products(kernel.standardize(new, all_of(new)))])[0]
    # C is per unit of the scaled kernel, which is smaller by the number of features.
    peer = make_pipeline(StandardScaler(), SVC(kernel="linear", C=1 / train.shape[1])).fit(train, labels)
    assert scores == pytest.approx(peer.decision_function(new), abs=2e-3)
    assert np.diag(gram).mean() == pytest.approx(1, abs=1e-5)


def test_labels_that_are_not_given_play_no_part():
    train, labels = toy(80)
    kernel = LinearKernel(train, all_of(train), measured=all_of(train))
    gram = kernel.products(kernel.training)
    hidden = np.where(np.arange(80) < 40, labels, -1)
    part = svm_scores(gram[:40, :40], labels[:40], [gram[:, :40]])[0]
    assert svm_scores(gram, hidden, [gram])[0] == pytest.approx(part)


def test_an_absent_sample_and_a_constant_feature_add_nothing():
    train, _ = toy(20)
    train[:, 3] = 1
    present = np.arange(20) > 4
    kernel = LinearKernel(train, present, measured=all_of(train))
    spoiled = train.copy()
    spoiled[~present] = 99
    assert kernel.features == 29
    assert (kernel.training[~present] == 0).all()
    again = LinearKernel(spoiled, present, measured=all_of(train))
    assert np.array_equal(kernel.training, again.training)


def test_samples_that_are_not_measured_do_not_move_the_scale():
    train, _ = toy(20)
    measured = np.arange(20) < 10
    alone = LinearKernel(train[:10], all_of(train[:10]), measured=all_of(train[:10]))
    both = LinearKernel(train, all_of(train), measured=measured)
    assert np.array_equal(alone.training, both.training[:10])


def test_one_class_alone_gives_no_scores():
    train, _ = toy(10)
    ones = np.ones(10, int)
    assert svm_scores(train @ train.T, ones, [train @ train.T]) == [None]
    assert logistic_scores(train, ones, [train, train]) == [None, None]


def test_logistic_regression_finds_the_signal_and_takes_missing_values_as_the_mean():
    (train, labels), (new, new_labels) = toy(200, 3), toy(200, 3, seed=1)
    train[::7, 1] = np.nan
    filled, missing = new.copy(), new.copy()
    filled[:, 1], missing[:, 1] = np.nanmean(train[:, 1]), np.nan
    first, second = logistic_scores(train, labels, [filled, missing])
    assert first == pytest.approx(second, abs=1e-5)
    assert np.mean((second > 0) == new_labels) > 0.75


def test_the_zero_label_score_rises_as_the_measurements_fall():
    train = np.array([[8.0, 1.0], [10.0, 2.0]])
    # Means 9 and 1.5, SDs 1 and .5.
    scores = mean_z_scores(train, (-1, -1), [np.array([[7.0, 1.0], [7.0, np.nan], [9.0, 1.5]])])[0]
    assert scores == pytest.approx([1.5, 2.0, 0.0])


def test_a_row_judges_the_labeled_samples_that_have_the_modality():
    labels = np.array([1, 0, -1, 1])
    row = baseline_row(labels, np.array([2.0, -1, 5, -3]), {"baseline": "x"}, np.array([True, True, True, False]))
    assert row == {"baseline": "x", "n": 2, "auc": 1.0, "accuracy": 1.0, "balanced_accuracy": 1.0}


def test_a_bar_without_scores_keeps_its_row():
    assert baseline_row(np.array([1, 0]), None, {"baseline": "x"})["auc"] is None
