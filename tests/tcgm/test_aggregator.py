"""The aggregator and the class prior."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from adni_tcgm.tcgm.aggregator import aggregate, label_prior, nuisance_group_priors


def draw(modalities: int, size: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = Generator().manual_seed(0)
    logits = torch.randn((modalities + 1, size, classes), generator=generator, dtype=torch.float64)
    return logits[:-1].log_softmax(-1), logits[-1, 0].log_softmax(-1)


def test_the_aggregator_is_bayes_rule_for_conditionally_independent_modalities() -> None:
    # Three discrete modalities with known p(x|y): the combined posterior is computed from the joint table instead.
    generator = Generator().manual_seed(0)
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    likelihoods = torch.rand((3, 3, 4), generator=generator, dtype=torch.float64)  # modality, class, value
    likelihoods /= likelihoods.sum(-1, keepdim=True)
    values = torch.randint(4, (3, 10), generator=generator)
    seen = torch.stack([likelihoods[m, :, values[m]].T for m in range(3)])  # (M, B, C)
    joint = prior * seen.prod(0)
    posteriors = prior * seen / (prior * seen).sum(-1, keepdim=True)
    combined = aggregate(posteriors.log(), prior.log()).exp()
    torch.testing.assert_close(combined, joint / joint.sum(-1, keepdim=True), rtol=0, atol=1e-12)


def test_only_present_modalities_are_read() -> None:
    log_posteriors, log_prior = draw(3, 3, 4)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    expected = torch.stack(
        [
            aggregate(log_posteriors, log_prior)[0],
            aggregate(log_posteriors[[0, 2]], log_prior)[1],
            log_posteriors[1, 2],
        ]
    )
    log_posteriors[~present.T] = float("nan")
    torch.testing.assert_close(aggregate(log_posteriors, log_prior, present), expected, rtol=0, atol=1e-12)


def test_a_modality_that_outputs_the_prior_counts_like_an_absent_one() -> None:
    log_posteriors, log_prior = draw(3, 5, 4)
    log_posteriors[1] = log_prior
    torch.testing.assert_close(aggregate(log_posteriors, log_prior), aggregate(log_posteriors[[0, 2]], log_prior))


def test_the_prior_counts_visible_labels_with_smoothing() -> None:
    prior = label_prior(torch.tensor([0, 0, 0, 1, -1, -1]), classes=3, smoothing=1.0)
    torch.testing.assert_close(prior, torch.tensor([4 / 7, 2 / 7, 1 / 7]))


def test_the_prior_is_uniform_without_labels() -> None:
    torch.testing.assert_close(label_prior(torch.tensor([-1, -1]), classes=2), torch.tensor([0.5, 0.5]))


def test_a_prior_without_smoothing_or_with_an_unknown_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="smoothing is 0"):
        label_prior(torch.tensor([0, 1]), classes=2, smoothing=0)
    with pytest.raises(ValueError, match="label 2"):
        label_prior(torch.tensor([0, 2]), classes=2)


def test_a_nuisance_group_has_its_own_prior_shrunk_to_the_global_one() -> None:
    prior = torch.tensor([0.5, 0.5])
    found = nuisance_group_priors(torch.tensor([0] * 20 + [1, -1]), ["a"] * 20 + ["b", "c"], prior, strength=20)
    torch.testing.assert_close(found["a"], torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(found["b"], torch.tensor([10 / 21, 11 / 21]))
    torch.testing.assert_close(found["c"], prior)
    assert nuisance_group_priors(torch.tensor([0, 1]), (), prior) == {}


def test_unless_told_otherwise_one_is_added_to_each_class_and_a_nuisance_group_leans_on_20_samples() -> None:
    labels = torch.tensor([0, 0, 1])
    torch.testing.assert_close(label_prior(labels, 2), torch.tensor([3 / 5, 2 / 5]))
    found = nuisance_group_priors(labels, ["a", "a", "b"], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(found["a"], torch.tensor([12 / 22, 10 / 22]))
