from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn import metrics as sklearn_metrics

from adni_tcgm.evaluation.metrics import METRICS, binary_auc, classification_metrics, evaluate_modalities


def random_posteriors(samples: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    return log_softmax(rng.normal(size=(samples, classes)) + np.eye(classes)[labels], axis=1), labels


def test_two_classes_match_scikit_learn():
    log_posterior, labels = random_posteriors(200, 2)
    posterior = np.exp(log_posterior)
    found = classification_metrics(log_posterior, labels)
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, posterior[:, 1]))
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(labels, posterior))
    assert found["brier"] == pytest.approx(sklearn_metrics.brier_score_loss(labels, posterior[:, 1]))
    assert found["accuracy"] == pytest.approx(np.mean(posterior.argmax(1) == labels))
    assert found["balanced_accuracy"] == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(labels, posterior.argmax(1))
    )


def test_four_classes_match_scikit_learn():
    log_posterior, labels = random_posteriors(200, 4)
    posterior = np.exp(log_posterior)
    found = classification_metrics(log_posterior, labels)
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, posterior, multi_class="ovr"))
    assert found["brier"] == pytest.approx(np.mean(((posterior - np.eye(4)[labels]) ** 2).sum(1)))


def test_one_class_has_no_auc_but_the_rest():
    log_posterior, _ = random_posteriors(20, 2)
    found = classification_metrics(log_posterior, np.ones(20, int))
    assert found["auc"] is None
    assert found["balanced_accuracy"] == pytest.approx(found["accuracy"])


def test_no_sample_has_no_metric():
    assert classification_metrics(np.zeros((0, 2)), np.zeros(0, int)) == dict.fromkeys(METRICS)


def test_an_impossible_event_keeps_the_log_loss_finite():
    with np.errstate(divide="ignore"):
        log_posterior = np.log([[1.0, 0.0], [0.0, 1.0]])
    found = classification_metrics(log_posterior, np.array([1, 0]))
    assert found["log_loss"] == pytest.approx(-np.log(1e-15)) and found["auc"] == 0


def test_posteriors_that_round_to_one_are_still_ranked():
    log_posterior = log_softmax([[0, 50.0], [0, 60.0]], axis=1)
    assert classification_metrics(log_posterior, np.array([0, 1]))["auc"] == 1


def test_a_label_outside_the_classes_is_refused():
    with pytest.raises(ValueError, match=r"0\.\.1"):
        classification_metrics(np.zeros((2, 2)), np.array([0, -1]))


def test_the_fast_auc_equals_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 300), rng.integers(0, 9, 300)
    assert binary_auc(labels, scores) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores))
    assert binary_auc(np.zeros(3), np.arange(3)) is None


def test_a_modality_is_judged_on_the_labeled_samples_that_have_it():
    log_posterior, labels = random_posteriors(60, 2)
    labels[:10] = -1
    present = np.ones((60, 2), bool)
    present[40:, 1] = False
    found = evaluate_modalities({"a": log_posterior, "b": log_posterior, "all": log_posterior}, labels, present)
    assert found["a"] == found["all"] == classification_metrics(log_posterior[10:], labels[10:])
    assert found["b"] == classification_metrics(log_posterior[10:40], labels[10:40])


@pytest.mark.parametrize("classes", [2, 3])
def test_posteriors_that_are_no_number_are_refused_where_they_would_be_ranked(classes: int) -> None:
    log_posterior = np.log(np.full((6, classes), 1 / classes))
    log_posterior[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        classification_metrics(log_posterior, np.arange(6) % classes)
