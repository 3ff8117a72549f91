"""Partial view consistency: closed forms against brute force, and the search over the label matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch.nn import functional as F

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.pvcc import PVCC, LinearViews, View, objective, optimize_labels, project_to_simplex
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import TrainConfig, predict


def labels_on_simplex(count: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(count, 3, dtype=torch.float64).softmax(1)


def test_the_ridge_loss_is_the_least_over_weights_and_bias(batch: MultimodalBatch) -> None:
    view, labels = View(batch, "view0", ridge=0.3), labels_on_simplex(12)
    x = torch.cat([view.inputs, torch.ones(12, 1)], 1)
    penalty = 0.3 * torch.diag(torch.tensor([1.0, 1, 1, 1, 0], dtype=torch.float64))
    solution = torch.linalg.solve(x.T @ x + penalty, x.T @ labels)
    expected = 0.5 * (x @ solution - labels).square().sum() + 0.15 * solution[:-1].square().sum()
    assert abs(view.ridge_loss(labels)[0] - expected.item()) < 1e-9


def test_the_similarity_loss_is_the_least_over_transforms_up_to_a_constant(batch: MultimodalBatch) -> None:
    view, labels = View(batch, "view0", ridge=1.0), labels_on_simplex(12)
    similarity = view.cosines @ view.cosines.T
    design = torch.kron(labels, labels)  # vec(F T Fᵀ) = (F ⊗ F) vec(T)
    solution = torch.linalg.lstsq(design, similarity.reshape(-1, 1)).solution
    least = 0.5 * (design @ solution - similarity.reshape(-1, 1)).square().sum() / 12
    constant = 0.5 * similarity.square().sum() / 12
    assert abs(view.similarity_loss(labels)[0] + constant.item() - least.item()) < 1e-9


def test_the_gradient_is_that_of_the_loss(batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]) -> None:
    batch = with_gaps(batch, 0.0)
    views, labels = [View(batch, name, ridge=0.5) for name in batch.inputs], labels_on_simplex(12)
    _, gradient = objective(labels, views, consistency=2.0)
    for i, c in ((0, 0), (4, 2), (11, 1)):
        change = torch.zeros_like(labels)
        change[i, c] = 1e-5
        up, down = (objective(labels + s * change, views, 2.0)[0] for s in (1, -1))
        assert abs((up - down) / 2e-5 - gradient[i, c].item()) < 1e-6


def test_the_projection_is_the_nearest_point_of_the_simplex() -> None:
    torch.manual_seed(0)
    points = 2 * torch.randn(20, 3, dtype=torch.float64)
    projected = project_to_simplex(points)
    torch.testing.assert_close(projected.sum(1), torch.ones(20, dtype=torch.float64))
    assert projected.min() >= 0
    others = torch.rand(5000, 3, dtype=torch.float64)
    others = others / others.sum(1, keepdim=True)
    nearest = torch.cdist(points, others).amin(1)
    assert ((points - projected).norm(dim=1) <= nearest + 1e-12).all()


def test_known_labels_stay_and_the_objective_falls(batch: MultimodalBatch) -> None:
    views = [View(batch, name, ridge=0.1) for name in batch.inputs]
    labels = torch.where(torch.arange(12) < 6, batch.labels, UNLABELED)
    prior = torch.tensor([0.5, 0.3, 0.2])
    losses = []
    for iterations in (0, 5, 200):
        found = optimize_labels(views, labels, prior, 0.5, iterations)
        assert torch.equal(found[:6].argmax(1), labels[:6]) and torch.equal(found[:6].amax(1), torch.ones(6).double())
        losses.append(objective(found, views, 0.5)[0])
    assert losses[0] > losses[1] > losses[2]


def test_the_solution_in_the_sample_space_is_the_usual_ridge_regression(batch: MultimodalBatch) -> None:
    labels = labels_on_simplex(12)
    model = LinearViews([Modality("view0", (4,))], torch.full((3,), 1 / 3).log())
    view = View(batch, "view0", ridge=0.3)
    model.solve([view], labels)
    x = view.inputs
    weights = torch.linalg.solve(x.T @ x + 0.3 * torch.eye(4), x.T @ (labels - labels.mean(0)))
    with torch.no_grad():
        scores = model.views["view0"](batch.inputs["view0"])
    torch.testing.assert_close(scores, (x @ weights).float())


def test_a_left_out_score_is_that_of_a_regression_without_the_sample(batch: MultimodalBatch) -> None:
    """The centers, of inputs and of labels, stay those of all samples."""
    view, labels = View(batch, "view0", ridge=0.3), labels_on_simplex(12)
    rows, found = labels - labels.mean(0), view.left_out(labels)
    for i in range(12):
        x, y = (torch.cat([values[:i], values[i + 1 :]]) for values in (view.inputs, rows))
        weights = torch.linalg.solve(x.T @ x + 0.3 * torch.eye(4), x.T @ y)
        torch.testing.assert_close(found[i], view.inputs[i] @ weights)


def test_what_stands_in_absent_rows_changes_nothing_and_they_get_the_prior(
    gaussian_toy: Callable[..., Splits], with_gaps: Callable[..., MultimodalBatch]
) -> None:
    splits, method = gaussian_toy(labeled=20), PVCC(MLPConfig(), ridge=(1.0,), consistency=(0.1,), iterations=10)
    found = []
    for filling in (0.0, nan):
        gaps = {part: with_gaps(getattr(splits, part), filling) for part in ("train", "validation", "test")}
        fitted = method.fit(replace(splits, **gaps), TrainConfig())
        found.append(predict(fitted, gaps["test"]))
    assert all(value.isfinite().all() for value in found[0].values())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    torch.testing.assert_close(found[0]["view2"][::3], fitted.prior.expand(134, 4))


def test_the_model_is_all_that_is_stored(gaussian_toy: Callable[..., Splits], tmp_path: Path) -> None:
    splits, method = gaussian_toy(labeled=20), PVCC(MLPConfig(), ridge=(1.0,), consistency=(0.1,), iterations=10)
    fitted = method.fit(splits, TrainConfig())
    save_model(fitted.model, str(tmp_path / "w.safetensors"))
    loaded = LinearViews(splits.modalities, torch.zeros(4))
    load_model(loaded, str(tmp_path / "w.safetensors"))
    expected = predict(fitted, splits.test)
    found = method.predict(loaded, splits.test)
    assert list(found) == ["view0", "view1", "view2", "all"]
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in found)


def test_it_fits_without_any_validation_label(gaussian_toy: Callable[..., Splits]) -> None:
    splits = gaussian_toy(labeled=20)
    nobody = replace(splits.validation, labels=torch.full_like(splits.validation.labels, UNLABELED))
    fitted = PVCC(MLPConfig(), iterations=2).fit(replace(splits, validation=nobody), TrainConfig())
    said = predict(fitted, splits.test)["all"]
    assert (said.argmax(1) == splits.test.labels).float().mean() > 0.5  # of four classes
    assert (fitted.history, fitted.best_step) == ([], 0)


def test_without_validation_labels_the_scores_outweigh_an_unequal_prior(gaussian_toy: Callable[..., Splits]) -> None:
    """A scale of 1 leaves the shrunk scores of few labels below the shares of the classes among these."""
    splits = gaussian_toy(labeled=20)
    nobody = replace(splits.validation, labels=torch.full_like(splits.validation.labels, UNLABELED))
    fitted = PVCC(None, (1.0,), (0.0,)).fit(replace(splits, validation=nobody), TrainConfig())
    assert fitted.model.scales["all"] > 2


def test_it_keeps_the_settings_with_the_lowest_loss_on_validation_and_draws_nothing(
    gaussian_toy: Callable[..., Splits],
) -> None:
    splits, state = gaussian_toy(labeled=20), torch.get_rng_state()

    def validation_loss(ridge: tuple[float, ...], consistency: tuple[float, ...]) -> float:
        fitted = PVCC(None, ridge, consistency, iterations=10).fit(splits, TrainConfig())
        return F.nll_loss(predict(fitted, splits.validation)["all"], splits.validation.labels).item()

    single = [validation_loss((r,), (c,)) for r in (0.1, 10.0) for c in (0.0, 1.0)]
    assert validation_loss((0.1, 10.0), (0.0, 1.0)) == min(single) < max(single)
    assert validation_loss((10.0, 0.1), (1.0, 0.0)) == min(single)
    assert torch.equal(torch.get_rng_state(), state)


def test_unlabeled_samples_take_it_above_the_baseline(accuracy: Callable[..., float]) -> None:
    assert accuracy(PVCC(MLPConfig(), ridge=(1.0,))) > accuracy(CrossEntropy(MLPConfig())) + 0.1
