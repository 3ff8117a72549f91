"""The gain against brute force over all distinct tuples, and the identities that it must obey."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Generator, Tensor

from adni_tcgm.tcgm import processes
from adni_tcgm.tcgm.aggregator import aggregate
from adni_tcgm.tcgm.gain import joint_marginal_log_ratio, mean_over_distinct_tuples, subset_sums, total_correlation_gain

EXACT = {"rtol": 0, "atol": 1e-12}


def draw(modalities: int, size: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random log-posteriors (M, B, C) and a log prior (C,), float64."""
    generator = Generator().manual_seed(seed)
    logits = 2 * torch.randn((modalities, size, classes), generator=generator, dtype=torch.float64)
    prior = torch.rand(classes, generator=generator, dtype=torch.float64) + 0.2
    return logits.log_softmax(-1), (prior / prior.sum()).log()


def brute_force(log_posteriors: Tensor, log_prior: Tensor) -> Tensor:
    """Paper Eq. 6, word for word."""
    posteriors, prior = log_posteriors.exp(), log_prior.exp()
    modalities, size, _ = posteriors.shape

    def ratio(samples: tuple[int, ...]) -> Tensor:
        product = torch.stack([posteriors[m, i] for m, i in enumerate(samples)]).prod(0)
        return (product / prior ** (modalities - 1)).sum()

    same = torch.stack([ratio((i,) * modalities).log() for i in range(size)])
    distinct = torch.stack([ratio(samples) for samples in permutations(range(size), modalities)])
    return 1 + same.mean() - distinct.mean()


@pytest.mark.parametrize("modalities, size", [(2, 7), (3, 6), (4, 6), (3, 3), (5, 6)])
def test_gain_equals_brute_force_over_distinct_tuples(modalities: int, size: int) -> None:
    log_posteriors, log_prior = draw(modalities, size, classes=3)
    expected = brute_force(log_posteriors, log_prior)
    torch.testing.assert_close(total_correlation_gain(log_posteriors, log_prior), expected, **EXACT)
    single = total_correlation_gain(log_posteriors.float(), log_prior.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=3e-6)


def test_gain_stays_in_float32_under_autocast() -> None:
    log_posteriors, log_prior = draw(3, 16, 3)
    outside = total_correlation_gain(log_posteriors.float(), log_prior.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = total_correlation_gain(log_posteriors.float(), log_prior.float())
        from_half = total_correlation_gain(log_posteriors.bfloat16(), log_prior.float())
    assert torch.equal(inside, outside)
    assert from_half.dtype == torch.float32


def test_classifiers_that_output_the_prior_gain_nothing() -> None:
    _, log_prior = draw(3, 8, 4)
    gain = total_correlation_gain(log_prior.expand(3, 8, 4), log_prior)
    torch.testing.assert_close(gain, torch.zeros_like(gain), **EXACT)


@pytest.mark.parametrize("modalities", [3, 4])
def test_perfect_agreement_gains_m_minus_1_label_entropies_on_average(modalities: int) -> None:
    # The mean over batches is taken exactly, over every label sequence of the batch weighted by its probability.
    prior = torch.tensor([0.7, 0.3], dtype=torch.float64)
    size, expected_gain = 5, 0.0
    for code in range(2**size):
        labels = torch.tensor([(code >> i) & 1 for i in range(size)])
        log_posteriors = torch.nn.functional.one_hot(labels, 2).double().log().clamp(min=-1e3)
        gain = total_correlation_gain(log_posteriors.expand(modalities, size, 2), prior.log())
        expected_gain += float(prior[labels].prod() * gain)
    entropy = float(-(prior * prior.log()).sum())
    assert expected_gain == pytest.approx((modalities - 1) * entropy, abs=1e-12)


def test_two_perfect_classifiers_with_the_frequencies_of_the_batch_gain_the_entropy_and_the_finite_batch_term() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
    log_posteriors = torch.nn.functional.one_hot(labels, 3).double().log().clamp(min=-1e3).expand(2, 10, 3)
    frequencies = labels.bincount().double() / 10
    entropy = -(frequencies * frequencies.log()).sum()
    gain = total_correlation_gain(log_posteriors, frequencies.log())
    torch.testing.assert_close(gain, entropy + (3 - 1) / (10 - 1), **EXACT)


def test_a_modality_that_always_outputs_the_prior_changes_nothing() -> None:
    log_posteriors, log_prior = draw(3, 9, 4)
    extended = torch.cat([log_posteriors, log_prior.expand(1, 9, 4)])
    torch.testing.assert_close(
        total_correlation_gain(extended, log_prior), total_correlation_gain(log_posteriors, log_prior), **EXACT
    )


def test_the_order_of_samples_modalities_and_classes_does_not_matter() -> None:
    log_posteriors, log_prior = draw(4, 9, 3)
    expected = total_correlation_gain(log_posteriors, log_prior)
    samples, modalities, classes = torch.randperm(9), [2, 0, 3, 1], [1, 2, 0]
    for reordered, prior in [
        (log_posteriors[:, samples], log_prior),
        (log_posteriors[modalities], log_prior),
        (log_posteriors[:, :, classes], log_prior[classes]),
    ]:
        torch.testing.assert_close(total_correlation_gain(reordered, prior), expected, **EXACT)


def test_the_gradient_of_the_reward_is_the_combined_posterior_minus_that_of_the_classifier() -> None:
    log_posteriors, log_prior = draw(3, 5, 4)
    logits = log_posteriors.clone().requires_grad_()
    joint_marginal_log_ratio(logits.log_softmax(-1), log_prior).sum().backward()
    expected = aggregate(log_posteriors, log_prior).exp() - log_posteriors.exp()
    torch.testing.assert_close(logits.grad, expected, **EXACT)


def test_the_penalty_has_no_bias_where_the_mean_over_all_tuples_has_one() -> None:
    # Over independent uniform one-hot posteriors the truth is E R = 1; M = 3, C = 10, B = 32.
    generator = Generator().manual_seed(0)
    log_prior = torch.full((10,), 0.1, dtype=torch.float64).log()
    distinct, factorized = [], []
    for _ in range(2000):
        labels = torch.randint(10, (32,), generator=generator)
        posteriors = torch.nn.functional.one_hot(labels, 10).double().expand(3, 32, 10)
        distinct.append(mean_over_distinct_tuples(subset_sums(posteriors), log_prior))
        factorized.append((posteriors.mean(1).prod(0) * 100).sum())
    assert torch.stack(distinct).mean().item() == pytest.approx(1.0, abs=0.03)
    assert torch.stack(factorized).mean().item() == pytest.approx(1.90, abs=0.03)


def test_subset_sums_of_two_halves_add_up_to_the_gain_of_the_whole_batch() -> None:
    log_posteriors, log_prior = draw(3, 10, 4)
    halves = subset_sums(log_posteriors[:, :4].exp()) + subset_sums(log_posteriors[:, 4:].exp())
    reward = joint_marginal_log_ratio(log_posteriors, log_prior).mean()
    gain = 1 + reward - mean_over_distinct_tuples(halves, log_prior)
    torch.testing.assert_close(gain, total_correlation_gain(log_posteriors, log_prior), **EXACT)


def test_two_modalities_and_two_classes_do_not_identify_the_scale_of_a_modality_nor_the_prior() -> None:
    # R = 1 + (h1-p)(h2-p) / (p(1-p)): deviations a·(h1-p) and (h2-p)/a leave it unchanged, and another prior q does
    # too, once both deviations are scaled by sqrt(q(1-q) / (p(1-p))).
    generator = Generator().manual_seed(0)
    first, second = 0.4 + 0.3 * (torch.rand((2, 8), generator=generator, dtype=torch.float64) - 0.5)
    p, q, a = 0.4, 0.55, 1.6
    scale = (q * (1 - q) / (p * (1 - p))) ** 0.5

    def gain(h1: Tensor, h2: Tensor, prior: float) -> Tensor:
        posteriors = torch.stack([torch.stack([h, 1 - h], -1) for h in (h1, h2)])
        return total_correlation_gain(posteriors.log(), torch.tensor([prior, 1 - prior], dtype=torch.float64).log())

    expected = gain(first, second, p)
    rescaled = gain(q + a * scale * (first - p), q + scale / a * (second - p), q)
    torch.testing.assert_close(rescaled, expected, **EXACT)
    assert abs(float(expected)) > 1e-3


def test_gain_and_gradient_stay_finite_for_extreme_logits() -> None:
    logits = torch.tensor([[[1e4, -1e4], [-1e4, 1e4], [1e4, -1e4]], [[-1e4, 1e4], [1e4, -1e4], [0.0, 0.0]]])
    logits.requires_grad_()
    gain = total_correlation_gain(logits.log_softmax(-1), torch.tensor([0.01, 0.99]).log())
    gain.backward()
    assert gain.isfinite()
    assert logits.grad.isfinite().all()


def test_missing_modalities_form_one_weighted_gain_for_each_presence_pattern() -> None:
    log_posteriors, log_prior = draw(3, 14, 3)
    patterns = [(1, 1, 1)] * 5 + [(1, 0, 1)] * 4 + [(0, 1, 1)] * 1 + [(1, 0, 0)] * 2 + [(1, 1, 0)] * 2
    order = torch.randperm(14, generator=Generator().manual_seed(1))
    present = torch.tensor(patterns, dtype=torch.bool)[order]
    log_posteriors[~present.T] = float("nan")  # absent entries are never read

    expected = torch.zeros((), dtype=torch.float64)
    for pattern, count in [((1, 1, 1), 5), ((1, 0, 1), 4), ((1, 1, 0), 2)]:  # (0, 1, 1) has one sample, too few
        seen = (present == torch.tensor(pattern, dtype=torch.bool)).all(1)
        chosen = log_posteriors[torch.tensor(pattern, dtype=torch.bool)][:, seen]
        expected += count / 14 * brute_force(chosen, log_prior)
    torch.testing.assert_close(total_correlation_gain(log_posteriors, log_prior, present), expected, **EXACT)


def test_absent_entries_receive_no_gradient() -> None:
    log_posteriors, log_prior = draw(2, 6, 2)
    present = torch.tensor([[True, True]] * 4 + [[True, False]] * 2)
    log_posteriors.requires_grad_()
    total_correlation_gain(log_posteriors, log_prior, present).backward()
    assert (log_posteriors.grad[:, 4:] == 0).all()
    assert (log_posteriors.grad[:, :4] != 0).all()


def test_a_full_presence_mask_gives_exactly_the_plain_gain() -> None:
    log_posteriors, log_prior = draw(3, 7, 3)
    full = torch.ones(7, 3, dtype=torch.bool)
    assert torch.equal(
        total_correlation_gain(log_posteriors, log_prior, full), total_correlation_gain(log_posteriors, log_prior)
    )


def test_samples_with_one_modality_gain_zero_and_can_be_differentiated() -> None:
    log_posteriors, log_prior = draw(2, 4, 2)
    present = torch.tensor([[True, False]] * 3 + [[False, True]])
    log_posteriors.requires_grad_()
    gain = total_correlation_gain(log_posteriors, log_prior, present)
    gain.backward()
    assert gain == 0
    assert (log_posteriors.grad == 0).all()


def test_a_batch_too_small_for_distinct_tuples_is_an_error_that_names_both_numbers() -> None:
    log_posteriors, log_prior = draw(3, 2, 2)
    with pytest.raises(ValueError, match="B=2 .*M=3"):
        total_correlation_gain(log_posteriors, log_prior)


def test_shapes_that_disagree_are_errors() -> None:
    log_posteriors, log_prior = draw(3, 4, 2)
    with pytest.raises(ValueError, match="2 classes"):
        total_correlation_gain(log_posteriors, log_prior[:1])
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        total_correlation_gain(log_posteriors, log_prior, torch.ones(3, 4, dtype=torch.bool))


@pytest.mark.parametrize("gaps", [False, True])
def test_the_path_of_shared_batches_gives_the_same_gain_where_one_process_has_it_all(monkeypatch, gaps: bool) -> None:
    """The sums cross to nobody here; between processes they are tested in test_processes.py."""
    log_posteriors, log_prior = draw(3, 12, 4)
    present = torch.rand(12, 3, generator=Generator().manual_seed(1)) < (0.7 if gaps else 2.0)
    alone = log_posteriors.clone().requires_grad_()
    gain = total_correlation_gain(alone, log_prior, present)
    gain.backward()
    monkeypatch.setattr(processes.distributed, "all_reduce", lambda *_: None)
    token = processes._SHARING.set(True)
    try:
        shared = log_posteriors.clone().requires_grad_()
        again = total_correlation_gain(shared, log_prior, present)
        again.backward()
    finally:
        processes._SHARING.reset(token)
    torch.testing.assert_close(again, gain, **EXACT)
    torch.testing.assert_close(shared.grad, alone.grad, **EXACT)
