"""Self-adaptive thresholds and fairness against the paper's equations, worked by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import log, nan

import pytest
import torch
from torch import Tensor

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.freematch import AdaptiveThreshold, FreeMatch, fairness_loss, strong_view
from adni_tcgm.methods.method import Spec
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import MultimodalBatch

POSTERIORS = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])


def test_running_means_and_thresholds_follow_the_equations() -> None:
    threshold = AdaptiveThreshold(2)
    threshold.update(POSTERIORS, momentum=0.9)
    torch.testing.assert_close(threshold.confidence, torch.tensor(0.9 * 0.5 + 0.1 * 0.75))  # .525
    torch.testing.assert_close(threshold.posterior, torch.tensor([0.51, 0.49]))
    torch.testing.assert_close(threshold.histogram, torch.tensor([0.525, 0.475]))
    # Class 0 needs more than .525, class 1 more than .49 / .51 · .525 = .5044.
    sure = threshold.passes(torch.tensor([[0.52, 0.48], [0.53, 0.47], [0.49, 0.51], [0.498, 0.502]]))
    assert sure.tolist() == [False, True, True, False]


def test_the_fairness_term_is_the_published_negative_cross_entropy() -> None:
    threshold = AdaptiveThreshold(2)
    threshold.posterior, threshold.histogram = torch.tensor([0.6, 0.4]), torch.tensor([0.75, 0.25])
    # p̃/h̃ = (.8, 1.6) -> (1/3, 2/3); p̄ = (.6, .4) over h̄ = (.75, .25) is the same.
    expected = log(1 / 3) / 3 + 2 * log(2 / 3) / 3
    assert fairness_loss(POSTERIORS, threshold).item() == pytest.approx(expected, abs=1e-5)


def test_the_loss_is_the_cross_entropy_of_sure_pseudo_labels_over_all_samples(
    spec: Spec, batch: MultimodalBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adni_tcgm.methods.freematch.strong_view", lambda inputs, *_: inputs / 2)
    method = FreeMatch(MLPConfig(), fairness_weight=0.0, momentum=0.0)
    model = method.build(spec)
    expected = torch.zeros(())
    for name, x in batch.inputs.items():
        weak, strong = (model.classifiers[name](v).softmax(-1) for v in (x, x / 2))
        threshold = AdaptiveThreshold(3)
        threshold.update(weak.detach(), 0.0)
        sure = threshold.passes(weak)
        assert 0 < sure.sum() < 12
        expected = expected - sum(strong[i, weak[i].argmax()].log() for i in range(12) if sure[i]) / 12
    torch.testing.assert_close(method.unlabeled_loss(model, batch), expected)
    assert any(name.startswith("thresholds.view0") for name in model.state_dict())


def test_the_strong_view_keeps_the_mean_of_vectors_and_adds_noise_to_images() -> None:
    torch.manual_seed(0)
    vectors = strong_view(torch.ones(50, 200), dropout=0.4, noise=0.5)
    assert (vectors == 0).float().mean().item() == pytest.approx(0.4, abs=0.02)
    torch.testing.assert_close(vectors[vectors > 0], torch.full((int((vectors > 0).sum()),), 1 / 0.6))
    images = torch.randn(20, 3, 20, 20)
    noise = strong_view(images, dropout=0.0, noise=0.5) - images
    assert noise.std().item() == pytest.approx(0.5, abs=0.02)


def test_what_stands_in_absent_rows_changes_nothing(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    method, found = FreeMatch(MLPConfig()), []
    for filling in (0.0, nan):
        torch.manual_seed(3)
        model = method.build(spec)
        loss = method.unlabeled_loss(model, with_gaps(batch, filling))
        found.append([loss, *model.state_dict().values()])
    assert found[0][0].isfinite()
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_weights_of_zero_take_no_unlabeled_step_and_predict_as_the_baseline(spec: Spec, batch: MultimodalBatch) -> None:
    def build(method: FreeMatch | CrossEntropy) -> tuple[Tensor | None, Tensor]:
        torch.manual_seed(0)
        model = method.build(spec)
        return method.unlabeled_loss(model, batch), method.predict(model, batch)["all"]

    loss, posterior = build(FreeMatch(MLPConfig(), pseudo_weight=0, fairness_weight=0))
    assert loss is None
    assert torch.equal(posterior, build(CrossEntropy(MLPConfig()))[1])


def test_unlabeled_samples_take_it_above_the_baseline(accuracy: Callable[..., float]) -> None:
    assert accuracy(FreeMatch(MLPConfig())) > accuracy(CrossEntropy(MLPConfig())) + 0.05
