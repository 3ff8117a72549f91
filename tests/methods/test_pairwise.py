"""The pairwise gain against TCGM, and against the gain of each pair by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import nan

import pytest
import torch

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.pairwise import PairwiseGain
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import MultimodalBatch
from adni_tcgm.tcgm.gain import total_correlation_gain


@pytest.mark.parametrize("gaps", [False, True])
def test_with_two_modalities_it_is_tcgm_to_the_last_bit(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch], gaps: bool
) -> None:
    spec = replace(spec, modalities=spec.modalities[:2])
    inputs = {name: batch.inputs[name] for name in ("view0", "view1")}
    batch = MultimodalBatch(batch.sample_ids, inputs, batch.present[:, :2], batch.labels)
    batch = with_gaps(batch, nan) if gaps else batch
    losses, gradients = [], []
    for method in (PairwiseGain(MLPConfig(), gain_weight=2.0), TCGM(MLPConfig(), gain_weight=2.0)):
        torch.manual_seed(0)
        model = method.build(spec)
        loss = method.unlabeled_loss(model, batch)
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    assert torch.equal(*losses)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_with_three_modalities_it_is_the_sum_of_three_gains_and_not_tcgm(spec: Spec, batch: MultimodalBatch) -> None:
    method = PairwiseGain(MLPConfig())
    model = method.build(spec)
    logs = model.log_posteriors(batch)
    gains = [total_correlation_gain(logs[list(pair)], spec.log_prior) for pair in combinations(range(3), 2)]
    torch.testing.assert_close(method.unlabeled_loss(model, batch), -sum(gains))
    assert not torch.isclose(sum(gains), total_correlation_gain(logs, spec.log_prior))


def test_an_absent_view_is_not_read_and_leaves_the_other_pair_whole(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    method = PairwiseGain(MLPConfig())
    model = method.build(spec)
    loss = method.unlabeled_loss(model, with_gaps(batch, 0.0))
    assert torch.equal(method.unlabeled_loss(model, with_gaps(batch, nan)), loss)
    logs, there = model.log_posteriors(batch), torch.arange(12) % 3 != 0
    whole = total_correlation_gain(logs[:2], spec.log_prior)
    partial = [total_correlation_gain(logs[[m, 2]][:, there], spec.log_prior) * 8 / 12 for m in (0, 1)]
    torch.testing.assert_close(loss, -(whole + sum(partial)))


def test_a_gain_weight_of_zero_takes_no_unlabeled_step(spec: Spec, batch: MultimodalBatch) -> None:
    method = PairwiseGain(MLPConfig(), gain_weight=0)
    assert method.unlabeled_loss(method.build(spec), batch) is None


def test_unlabeled_samples_take_it_above_the_baseline(accuracy: Callable[..., float]) -> None:
    assert accuracy(PairwiseGain(MLPConfig())) > accuracy(CrossEntropy(MLPConfig())) + 0.05
