from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from adni_tcgm.evaluation.calibration import (
    Calibration,
    Rescaling,
    draw_calibrations,
    fit_calibration,
    fit_rescaling,
    probability_intervals,
    shift_prevalence,
)
from adni_tcgm.evaluation.metrics import classification_metrics
from adni_tcgm.tcgm.aggregator import aggregate

UNIFORM = np.log([0.5, 0.5])


def honest(samples: int, classes: int = 2, spread: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-posteriors and labels drawn from them: nothing to correct."""
    rng = np.random.default_rng(seed)
    log_posterior = log_softmax(rng.normal(0, spread, (samples, classes)), axis=1)
    labels = (rng.random((samples, 1)) > np.exp(log_posterior).cumsum(1)).sum(1)
    return log_posterior, np.minimum(labels, classes - 1)


def test_a_known_temperature_and_intercept_are_recovered():
    log_posterior, labels = honest(20000, classes=3)
    shift = np.array([0.5, 0.0, -0.5])
    distorted = log_softmax((log_posterior - shift) * 3, axis=1)
    found = fit_rescaling(distorted, labels)
    assert found.temperature == pytest.approx(3, rel=0.05)
    assert np.array(found.intercept) - np.mean(found.intercept) == pytest.approx(shift, abs=0.05)


def test_overconfident_posteriors_get_a_lower_log_loss_on_new_samples():
    log_posterior, labels = honest(60)
    fitted = fit_rescaling(log_softmax(4 * log_posterior, axis=1), labels)
    new, new_labels = honest(2000, seed=1)
    new = log_softmax(4 * new, axis=1)
    before, after = (classification_metrics(values, new_labels) for values in (new, fitted.apply(new)))
    assert after["log_loss"] < 0.8 * before["log_loss"]
    assert after["auc"] == pytest.approx(before["auc"])


def test_without_labels_nothing_changes():
    log_posterior, _ = honest(10)
    found = fit_rescaling(log_posterior[:0], np.zeros(0, int))
    assert found.temperature == 1 and found.samples == 0
    assert found.apply(log_posterior) == pytest.approx(log_posterior)


def test_few_labels_change_little_where_without_ridge_they_would_change_everything():
    log_posterior = log_softmax([[0, 1.0], [1.0, 0]], axis=1)
    labels = np.array([1, 0])
    assert 0.5 < fit_rescaling(log_posterior, labels).temperature < 1
    assert fit_rescaling(log_posterior, labels, ridge=1e-6).temperature < 0.2


def two_modalities(samples: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """A two-sided signal with noise of its own in each; the first is four times too sure of itself."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, samples)
    log_odds = {name: rng.normal((2 * labels - 1) * d**2 / 2, d) for name, d in (("mri", 0.75), ("pet", 1.1))}
    log_odds["mri"] *= 4
    present = np.ones((samples, 2), bool)
    present[::4, 1] = False
    return {k: log_softmax(np.stack([0 * v, v], axis=1), axis=1) for k, v in log_odds.items()}, labels, present


def test_calibrating_each_modality_first_improves_the_combined_ranking():
    log_posteriors, labels, present = two_modalities(4000)
    calibrated = fit_calibration(log_posteriors, labels, present, UNIFORM).apply(log_posteriors, present)
    raw = aggregate(torch.tensor(np.stack(list(log_posteriors.values()))), torch.tensor(UNIFORM), torch.tensor(present))
    before, after = (classification_metrics(values, labels) for values in (raw.numpy(), calibrated["all"]))
    assert after["auc"] > before["auc"] + 0.02
    assert after["log_loss"] < before["log_loss"]


def test_severity_that_both_modalities_share_is_not_counted_twice():
    (log_posteriors, labels), present = honest(4000), np.ones((4000, 2), bool)
    twice = {"mri": log_posteriors, "pet": log_posteriors}
    calibration = fit_calibration(twice, labels, present, UNIFORM)
    assert calibration.rescalings["all"].temperature == pytest.approx(2, rel=0.1)
    posterior = np.exp(calibration.apply(twice, present)["all"])
    assert np.abs(posterior - np.exp(log_posteriors)).mean() < 0.03


def test_what_an_absent_modality_holds_is_never_read():
    log_posteriors, labels, present = two_modalities(200)
    spoiled = {
        **log_posteriors,
        "pet": np.where(present[:, [1]], log_posteriors["pet"], log_softmax([[9.0, 0]], axis=1)),
    }
    first, second = (fit_calibration(values, labels, present, UNIFORM) for values in (log_posteriors, spoiled))
    assert first == second
    assert np.array_equal(first.apply(log_posteriors, present)["all"], second.apply(spoiled, present)["all"])


def test_unlabeled_samples_play_no_part():
    log_posteriors, labels, present = two_modalities(200)
    hidden = np.where(np.arange(200) < 100, labels, -1)
    half = {name: values[:100] for name, values in log_posteriors.items()}
    whole = fit_calibration(log_posteriors, hidden, present, UNIFORM)
    assert whole == fit_calibration(half, labels[:100], present[:100], UNIFORM)


def test_a_method_with_only_a_combined_posterior_is_calibrated_on_that():
    log_posterior, labels = honest(500)
    present = np.ones((500, 0), bool)
    calibration = fit_calibration({"all": log_softmax(3 * log_posterior, axis=1)}, labels, present, UNIFORM)
    assert list(calibration.rescalings) == ["all"]
    assert calibration.rescalings["all"].temperature > 2


def test_calibrated_posteriors_sum_to_one_even_from_impossible_ones():
    with np.errstate(divide="ignore"):
        certain = np.log([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    calibration = fit_calibration({"a": certain}, np.array([0, 1, 1]), np.ones((3, 1), bool), UNIFORM)
    for values in calibration.apply({"a": certain}, np.ones((3, 1), bool)).values():
        assert np.exp(values).sum(1) == pytest.approx(1)


def test_calibration_survives_json():
    log_posteriors, labels, present = two_modalities(100)
    calibration = fit_calibration(log_posteriors, labels, present, UNIFORM)
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


def test_tensors_are_as_good_as_arrays():
    log_posteriors, labels, present = two_modalities(100)
    tensors = {name: torch.tensor(values) for name, values in log_posteriors.items()}
    from_tensors = fit_calibration(tensors, torch.tensor(labels), torch.tensor(present), torch.tensor(UNIFORM))
    assert from_tensors == fit_calibration(log_posteriors, labels, present, UNIFORM)


def test_a_presence_mask_of_another_shape_is_refused():
    log_posterior, labels = honest(10)
    with pytest.raises(ValueError, match=r"expected \(10, 1\)"):
        fit_calibration({"a": log_posterior}, labels, np.ones((10, 2), bool), UNIFORM)


def test_with_one_modality_the_combination_is_that_modality():
    """A temperature fitted to people with both scans corrects what they share; who has one scan shares nothing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    # The same evidence twice: the combination is overconfident and its temperature must be above 1.
    evidence = rng.normal(2 * labels - 1, 1.5)
    log_posterior = np.stack([np.zeros(300), evidence], axis=1)
    log_posterior -= np.logaddexp(log_posterior[:, :1], log_posterior[:, 1:])
    present = np.ones((300, 2), bool)
    present[:20, 1] = False
    both = {"mri": log_posterior, "pet": log_posterior}
    calibration = fit_calibration(both, labels, present, np.log([0.5, 0.5]))
    assert calibration.rescalings["all"].temperature > 1.3
    assert calibration.rescalings["all"].samples == 280
    found = calibration.apply(both, present)
    np.testing.assert_allclose(found["all"][:20], found["mri"][:20], atol=1e-9)


def test_intervals_narrow_with_more_labels_and_hold_the_estimate():
    widths = []
    for samples in (60, 1500):
        log_posteriors, labels, present = two_modalities(samples)
        calibration = fit_calibration(log_posteriors, labels, present, UNIFORM)
        drawn = draw_calibrations(log_posteriors, labels, present, UNIFORM, draws=60)
        limits = probability_intervals(drawn, log_posteriors, present)["all"]
        estimate = np.exp(calibration.apply(log_posteriors, present)["all"])
        assert np.mean((limits[..., 0] <= estimate) & (estimate <= limits[..., 1])) > 0.95
        widths.append((limits[..., 1] - limits[..., 0]).mean())
    assert widths[1] < 0.4 * widths[0]


def test_drawn_rescalings_spread_as_the_curvature_of_the_fit_says():
    """Against numerical second differences of the penalized log-loss of 60 samples and three classes."""
    rng, ridge = np.random.default_rng(0), 1.0
    x = rng.normal(size=(60, 3))
    x -= np.logaddexp.reduce(x, axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=p) for p in np.exp(x)])
    given = {"all": x}, labels, np.ones((60, 0), bool), np.log(np.ones(3) / 3)
    fitted = fit_calibration(*given, ridge).rescalings["all"]
    center, step = np.array([-np.log(fitted.temperature), *fitted.intercept]), 1e-3 * np.eye(4)

    def objective(theta):
        rescaled = Rescaling(np.exp(-theta[0]), tuple(theta[1:]), 60).apply(x)
        return -rescaled[np.arange(60), labels].sum() + ridge / 2 * theta @ theta

    def slope(theta):
        return np.array([(objective(theta + a) - objective(theta - a)) / 2e-3 for a in step])

    curvature = np.array([(slope(center + a) - slope(center - a)) / 2e-3 for a in step])
    drawn = [calibration.rescalings["all"] for calibration in draw_calibrations(*given, draws=2000)]
    thetas = np.array([[-np.log(found.temperature), *found.intercept] for found in drawn])
    np.testing.assert_allclose(np.cov(thetas.T), np.linalg.inv(curvature), atol=0.08)
    np.testing.assert_allclose(thetas.mean(0), center, atol=0.08)


def test_last_bits_of_the_posteriors_move_the_draws_by_no_more():
    rng = np.random.default_rng(1)
    for _ in range(5):
        x = rng.normal(size=(2, 18, 2))
        x -= np.logaddexp.reduce(x, axis=2, keepdims=True)
        drawn = []
        for mri, pet in (x, x + 3e-7 * rng.normal(size=x.shape)):
            given = {"mri": mri, "pet": pet}, np.arange(18) % 2, np.ones((18, 2), bool), np.log([0.5, 0.5])
            found = draw_calibrations(*given, draws=20)
            drawn.append([one.intercept for each in found for one in each.rescalings.values()])
        np.testing.assert_allclose(*drawn, atol=1e-4)


def test_without_labels_no_calibration_is_drawn():
    log_posteriors, labels, present = two_modalities(20)
    assert draw_calibrations(log_posteriors, np.full_like(labels, -1), present, UNIFORM) == []


def test_the_same_evidence_means_less_where_fewer_convert():
    assert shift_prevalence(0.48, 0.48, 0.17) == pytest.approx(0.17)
    assert shift_prevalence(0.7, 0.4, 0.4) == pytest.approx(0.7)
    # Odds 3 times the prior odds: .25 becomes .5.
    assert shift_prevalence(0.75, 0.5, 0.25) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="prevalence is 1"):
        shift_prevalence(0.5, 0.5, 1.0)
