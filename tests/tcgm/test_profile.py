"""The gain with the class weights profiled out."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from adni_tcgm.tcgm.gain import joint_marginal_log_ratio
from adni_tcgm.tcgm.profile import ProfilePrior

GENERATOR = Generator().manual_seed(0)
UNIFORM = torch.full((3,), 1 / 3).log()
EVERYTHING = torch.ones(40, 2, dtype=torch.bool)


def posteriors() -> Tensor:
    return torch.randn((2, 40, 3), generator=GENERATOR).log_softmax(-1)


def test_with_means_equal_to_the_prior_it_is_the_first_term_of_the_gain() -> None:
    prior = torch.tensor([0.5, 0.3, 0.2]).log()
    profile, log_posteriors = ProfilePrior(prior, 2, momentum=0.0), posteriors()
    found = profile.gain(log_posteriors, EVERYTHING)
    torch.testing.assert_close(found, joint_marginal_log_ratio(log_posteriors, prior).mean())


def test_over_the_whole_data_set_value_and_gradient_are_those_of_the_closed_form() -> None:
    profile, logits = ProfilePrior(UNIFORM, 2, momentum=1.0), posteriors().requires_grad_()
    found = profile.gain(logits.log_softmax(-1), EVERYTHING)
    slope = torch.autograd.grad(found, logits)[0]
    log_h = logits.log_softmax(-1)
    evidence = (log_h - log_h.exp().mean(1, keepdim=True).log()).sum(0)
    closed = (UNIFORM + evidence).logsumexp(-1).mean()
    torch.testing.assert_close(found, closed)
    torch.testing.assert_close(slope, torch.autograd.grad(closed, logits)[0])


def test_the_running_prior_finds_the_class_frequencies_from_uniform() -> None:
    frequencies = torch.tensor([0.7, 0.2, 0.1])
    labels = torch.multinomial(frequencies, 6000, replacement=True, generator=GENERATOR)
    likelihood = torch.full((6000, 3), 0.1).scatter_(1, labels.unsqueeze(1), 0.8)
    # Two views that err independently: each replaces the label by another one in a fifth of the samples.
    views = []
    for _ in range(2):
        seen = torch.multinomial(likelihood, 1, generator=GENERATOR).squeeze(1)
        given = torch.full((6000, 3), 0.1).scatter_(1, seen.unsqueeze(1), 0.8) * frequencies
        views.append((given / given.sum(1, keepdim=True)).log())
    profile, present = ProfilePrior(UNIFORM, 2, momentum=0.2), torch.ones(6000, 2, dtype=torch.bool)
    for _ in range(60):
        profile.gain(torch.stack(views), present)
    torch.testing.assert_close(profile.pi, frequencies, atol=0.03, rtol=0)


def test_absent_modalities_and_samples_with_a_single_one_play_no_part() -> None:
    log_posteriors, present = posteriors(), EVERYTHING.clone()
    present[30:, 1] = False
    log_posteriors[1, 30:] = float("nan")
    profile = ProfilePrior(UNIFORM, 2, momentum=0.0)
    found = profile.gain(log_posteriors, present)
    expected = joint_marginal_log_ratio(log_posteriors[:, :30], UNIFORM).sum() / 40
    torch.testing.assert_close(found, expected)


def test_two_modalities_of_two_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="leave the prior open"):
        ProfilePrior(torch.tensor([0.5, 0.5]).log(), 2)
