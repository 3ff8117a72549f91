"""The virtual adversarial perturbation against what can be computed by hand, and what it does for learning."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import torch
from torch import nn
from torch.nn import functional as F

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.vat import VAT, smoothness_loss
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import MultimodalBatch


def test_a_linear_classifier_of_two_classes_is_attacked_along_the_difference_of_its_weights() -> None:
    torch.manual_seed(0)
    net, x = nn.Linear(5, 2), torch.randn(7, 5)
    difference = net.weight[1] - net.weight[0]
    direction = 0.8 * difference / difference.norm()
    clean = net(x).softmax(-1)
    # One power iteration finds that line, and leaves the sign open.
    divergences = [(clean * (clean.log() - net(x + s * direction).log_softmax(-1))).sum(1) for s in (-1, 1)]
    measured = torch.stack([smoothness_loss(net, x[i : i + 1], xi=1e-2, epsilon=0.8) for i in range(7)])
    nearest = torch.stack([(measured - d).abs() for d in divergences]).amin(0)
    assert nearest.max() < 1e-5


def test_it_is_worse_than_any_of_many_random_directions_where_the_input_is_long() -> None:
    torch.manual_seed(0)
    net, x = nn.Linear(2000, 3), torch.rand(4, 2000)
    clean = net(x).log_softmax(-1)

    def divergence(r: torch.Tensor) -> torch.Tensor:
        return F.kl_div(net(x + r).log_softmax(-1), clean, log_target=True, reduction="batchmean")

    random = max(divergence(2 * F.normalize(torch.randn_like(x))) for _ in range(50))
    assert smoothness_loss(net, x, xi=1e-2, epsilon=2.0) > 20 * random


def test_the_norm_runs_over_all_axes_of_an_input_and_the_same_dropout_mask_is_used_throughout() -> None:
    torch.manual_seed(0)
    seen: list[torch.Tensor] = []
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, 2))
    net[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach().clone()))
    x = torch.randn(6, 2, 3, 4)
    assert smoothness_loss(net, x, xi=1e-2, epsilon=1e-3) < 1e-5  # other masks alone would give far more
    torch.testing.assert_close((seen[2] - x).flatten(1).norm(dim=1), torch.full((6,), 1e-3), rtol=1e-2, atol=0)
    torch.testing.assert_close((seen[1] - x).flatten(1).norm(dim=1), torch.full((6,), 1e-2), rtol=1e-3, atol=0)


def test_the_loss_itself_leaves_gradients_alone_and_the_clean_posterior_is_a_constant(
    spec: Spec, batch: MultimodalBatch
) -> None:
    method = VAT(MLPConfig(), epsilon=0.0)
    model = method.build(spec)
    loss = method.unlabeled_loss(model, batch)
    assert all(p.grad is None for p in model.parameters())
    loss.backward()
    # Without a perturbation the divergence is 0, and so is its slope in the perturbed posterior.
    assert abs(loss.item()) < 1e-6
    assert all(p.grad.abs().max() < 1e-6 for p in model.parameters())


def test_what_stands_in_absent_rows_changes_nothing(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    method = VAT(MLPConfig(), epsilon=1.0)
    model = method.build(spec)
    losses = []
    for filling in (0.0, nan):
        torch.manual_seed(3)
        losses.append(method.unlabeled_loss(model, with_gaps(batch, filling)))
    assert losses[0].isfinite() and torch.equal(*losses)


def test_a_weight_of_zero_takes_no_unlabeled_step(spec: Spec, batch: MultimodalBatch) -> None:
    method = VAT(MLPConfig(), weight=0)
    assert method.unlabeled_loss(method.build(spec), batch) is None


def test_unlabeled_samples_take_it_above_the_baseline(accuracy: Callable[..., float]) -> None:
    assert accuracy(VAT(MLPConfig(), epsilon=2.0)) > accuracy(CrossEntropy(MLPConfig())) + 0.03
