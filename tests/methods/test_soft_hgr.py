"""Soft-HGR against its formula, and one classifier on features of modalities that may be missing."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import torch
from torch.nn import functional as F

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.soft_hgr import SoftHGR, soft_hgr
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import MultimodalBatch


def test_the_objective_is_the_correlation_less_half_the_trace_of_the_covariances() -> None:
    torch.manual_seed(0)
    f, g = torch.randn(9, 3) + 5, torch.randn(9, 3) - 2
    centered = [(f[i] - f.mean(0)) @ (g[i] - g.mean(0)) for i in range(9)]
    expected = sum(centered) / 8 - 0.5 * torch.trace(torch.cov(f.T) @ torch.cov(g.T))
    torch.testing.assert_close(soft_hgr(f, g), expected)


def test_its_maximum_over_linear_features_is_half_the_sum_of_squared_canonical_correlations() -> None:
    torch.manual_seed(0)
    shared = torch.randn(400, 2)
    x, y = shared + torch.randn(400, 2), shared + 0.5 * torch.randn(400, 2)
    whiten = [torch.linalg.inv(torch.linalg.cholesky(torch.cov(v.T))) for v in (x, y)]
    cross = torch.cov(torch.cat([x @ whiten[0].T, y @ whiten[1].T], 1).T)[:2, 2:]
    expected = 0.5 * torch.linalg.svdvals(cross).square().sum()
    weights = [torch.randn(2, 2, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.LBFGS(weights, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = -soft_hgr(x @ weights[0], y @ weights[1])
        value.backward()
        return value

    optimizer.step(loss)
    torch.testing.assert_close(-loss().detach(), expected, rtol=1e-3, atol=0)


def test_heads_that_add_up_are_one_linear_classifier_on_the_concatenated_features(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    method, batch = SoftHGR(MLPConfig(hidden=(6,)), dimension=5), with_gaps(batch, nan)
    model = method.build(spec)
    nets = model.classifiers
    features = [nets[name].features(batch.inputs[name]) for name in batch.inputs]
    features[2] = torch.where(batch.present[:, 2:], features[2], 0.0)
    weight = torch.cat([nets[name].head.weight for name in batch.inputs], 1)
    logits = torch.cat(features, 1) @ weight.T + sum(nets[name].head.bias for name in batch.inputs)
    predicted = method.predict(model, batch)
    assert list(predicted) == ["all"]
    torch.testing.assert_close(predicted["all"], logits.log_softmax(-1))
    torch.testing.assert_close(method.labeled_loss(model, batch), F.cross_entropy(logits, batch.labels))


def test_only_samples_with_both_views_enter_a_pair(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    method = SoftHGR(MLPConfig(), dimension=5, weight=2.0)
    model = method.build(spec)
    gaps = with_gaps(batch, nan)
    f = [model.classifiers[name].features(batch.inputs[name]) for name in batch.inputs]
    there = gaps.present[:, 2]
    pairs = [soft_hgr(f[0], f[1]), soft_hgr(f[0][there], f[2][there]), soft_hgr(f[1][there], f[2][there])]
    torch.testing.assert_close(method.unlabeled_loss(model, gaps), -2 * sum(pairs))


def test_fewer_than_two_samples_with_both_views_give_a_loss_of_zero_that_can_be_stepped(
    spec: Spec, batch: MultimodalBatch
) -> None:
    method = SoftHGR(MLPConfig())
    model = method.build(spec)
    present = torch.eye(3, dtype=torch.bool).repeat(4, 1)
    present[0] = torch.tensor([True, True, False])
    loss = method.unlabeled_loss(model, MultimodalBatch(batch.sample_ids, batch.inputs, present, batch.labels))
    loss.backward()
    assert loss == 0


def test_a_weight_of_zero_takes_no_unlabeled_step(spec: Spec, batch: MultimodalBatch) -> None:
    method = SoftHGR(MLPConfig(), weight=0)
    assert method.unlabeled_loss(method.build(spec), batch) is None


def test_unlabeled_samples_take_it_above_the_baseline_and_above_itself_without_them(
    accuracy: Callable[..., float],
) -> None:
    found = accuracy(SoftHGR(MLPConfig(), dimension=2))
    assert found > accuracy(CrossEntropy(MLPConfig())) + 0.03
    assert found > accuracy(SoftHGR(MLPConfig(), dimension=2, weight=0)) + 0.03
