"""MMatch: smoothing, alignment and the graph term by hand, and what a training gains from unlabeled samples."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import torch
from torch.nn import functional as F

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.mmatch import MMatch, aligned, alike, graph_loss, with_labels
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch
from tests.methods.conftest import half_labeled


def test_likeness_is_a_distribution_over_the_others() -> None:
    torch.manual_seed(0)
    points = torch.randn(7, 3)
    shares = alike(points, 0.5).exp()
    torch.testing.assert_close(shares.sum(1), torch.ones(7))
    assert (shares.diagonal() == 0).all()
    torch.testing.assert_close(shares, alike(3 * points, 0.5).exp())  # cosines know no length
    expected = (F.cosine_similarity(points[0], points[1:]) / 0.5).softmax(0)
    torch.testing.assert_close(shares[0, 1:], expected)
    assert alike(points[:1], 0.5).exp().item() == 1  # alone it is like itself


def test_aligned_posteriors_are_distributions_that_lean_to_the_prior() -> None:
    posteriors, prior = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]), torch.tensor([0.3, 0.7])
    found = aligned(posteriors, prior)
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    assert abs(found.mean(0)[1] - 0.7) < abs(posteriors.mean(0)[1] - 0.7)
    torch.testing.assert_close(aligned(posteriors, posteriors.mean(0)), posteriors)


def test_known_labels_replace_posteriors() -> None:
    found = with_labels(torch.full((3, 2), 0.5), torch.tensor([1, UNLABELED, 0]))
    assert found.tolist() == [[0, 1], [0.5, 0.5], [1, 0]]


def test_the_graph_draws_neighbors_together_and_leaves_out_who_has_none() -> None:
    torch.manual_seed(0)
    points = torch.randn(5, 3, requires_grad=True)
    posteriors = torch.tensor([[1.0, 0.0], [0.95, 0.05], [0.0, 1.0], [0.1, 0.9], [0.5, 0.5]])
    loss = graph_loss(points, posteriors, 0.5, threshold=0.8)
    likeness = alike(points, 0.5)
    expected = -(likeness[0, 1] + likeness[1, 0] + likeness[2, 3] + likeness[3, 2]) / 4
    torch.testing.assert_close(loss, expected)
    loss.backward()
    closer = points.detach() - 0.1 * points.grad
    for a, b in ((0, 1), (2, 3)):
        assert F.cosine_similarity(closer[a], closer[b], 0) > F.cosine_similarity(points[a], points[b], 0)


def test_sure_pseudo_labels_alone_teach_each_modality(spec: Spec, batch: MultimodalBatch) -> None:
    batch = half_labeled(batch)
    found = []
    for threshold in (0.0, 0.45, 1.1):
        torch.manual_seed(0)
        method = MMatch(MLPConfig(), graph_weight=0, threshold=threshold)
        model = method.build(spec)
        outputs = model(batch)
        own = with_labels(aligned(outputs.log_joint.exp(), model.log_prior.exp()), batch.labels)
        smoothed = 0.9 * own + 0.1 * alike(outputs.joint, 0.2).exp() @ own
        confidence, label = smoothed[6:].max(1)
        sure = confidence >= threshold
        losses = [F.nll_loss(row[6:], label, reduction="none") for row in outputs.log_posteriors]
        expected = sum((loss * sure).mean() for loss in losses)
        loss = method.unlabeled_loss(model, batch)
        torch.testing.assert_close(loss, expected)
        loss.backward()
        assert model.joint_head.weight.grad is None  # the joint classifier teaches and is not taught
        found.append(int(sure.sum()))
    assert found[0] == 6 > found[1] > found[2] == 0


def test_unlabeled_samples_take_it_above_the_baseline(accuracy: Callable[..., float]) -> None:
    assert accuracy(MMatch(MLPConfig())) > accuracy(CrossEntropy(MLPConfig())) + 0.05


def test_whoever_lacks_a_modality_is_no_neighbor_in_it(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    method, gaps = MMatch(MLPConfig(), pseudo_weight=0, graph_threshold=0.5), with_gaps(batch, nan)
    model = method.build(spec)
    posteriors = with_labels(torch.zeros(12, 3), gaps.labels)
    expected = sum(
        graph_loss(values[seen], posteriors[seen], 0.2, 0.5)
        for values, seen in zip(model(gaps).representations, gaps.present.T, strict=True)
    )
    torch.testing.assert_close(method.unlabeled_loss(model, gaps), expected)


def test_micro_batches_give_the_loss_of_the_whole_batch(spec: Spec, batch: MultimodalBatch) -> None:
    method, rows = MMatch(MLPConfig(), threshold=0.4), []
    model = method.build(spec)
    whole = method.unlabeled_loss(model, half_labeled(batch))
    model.micro_batch = 5
    model.classifiers["view0"].features.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    torch.testing.assert_close(method.unlabeled_loss(model, half_labeled(batch)), whole)
    assert max(rows) <= 5 and sum(rows) == 12
