"""Samples of several populations, each with a class prior of its own: the gain against brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch import Generator, Tensor

from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.tcgm import TCGM, move_to_prior
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch

CLASSES = ("no", "yes", "maybe")
PRIOR = torch.tensor([0.5, 0.3, 0.2])
OTHER = (0.1, 0.2, 0.7)
NAMES = ["here", "there", "there", "here", "here", "there", "there", "here", "here"]


def draw_batch(modalities: int, seed: int = 0) -> MultimodalBatch:
    generator = Generator().manual_seed(seed)
    inputs = {f"m{m}": 2 * torch.randn((len(NAMES), 4), generator=generator) for m in range(modalities)}
    nobody = torch.full((len(NAMES),), UNLABELED)
    present = torch.ones(len(NAMES), modalities, dtype=torch.bool)
    return MultimodalBatch([str(i) for i in range(len(NAMES))], inputs, present, nobody, nuisance_groups=NAMES)


def spec_for(modalities: int) -> Spec:
    shapes = [Modality(f"m{m}", (4,)) for m in range(modalities)]
    return Spec(shapes, CLASSES, PRIOR.log(), {name: PRIOR.log() for name in set(NAMES)})


def brute_force(posteriors: Tensor, prior: Tensor) -> Tensor:
    """Paper Eq. 6, word for word, of (M, B, C) posteriors."""
    modalities, size, _ = posteriors.shape

    def ratio(samples: tuple[int, ...]) -> Tensor:
        product = torch.stack([posteriors[m, i] for m, i in enumerate(samples)]).prod(0)
        return (product / prior ** (modalities - 1)).sum()

    same = torch.stack([ratio((i,) * modalities).log() for i in range(size)])
    distinct = torch.stack([ratio(samples) for samples in permutations(range(size), modalities)])
    return 1 + same.mean() - distinct.mean()


@pytest.mark.parametrize("modalities", [2, 3])
def test_two_prior_groups_gain_the_weighted_mean_of_brute_force_under_the_prior_of_each(modalities: int) -> None:
    batch, method = draw_batch(modalities), TCGM(MLPConfig(), within_nuisance_groups=True, priors={"there": OTHER})
    model = method.build(spec_for(modalities))
    h = model.log_posteriors(batch).exp().detach()
    there, other = torch.tensor([name == "there" for name in NAMES]), torch.tensor(OTHER)
    moved = h[:, there] * other / PRIOR
    moved = moved / moved.sum(-1, keepdim=True)
    expected = 5 / 9 * brute_force(h[:, ~there], PRIOR) + 4 / 9 * brute_force(moved, other)
    torch.testing.assert_close(method.unlabeled_loss(model, batch).detach(), -expected, atol=1e-5, rtol=1e-5)


def test_a_group_with_the_prior_of_the_labels_is_a_nuisance_group_like_any_other() -> None:
    batch = draw_batch(2)
    plain = TCGM(MLPConfig(), within_nuisance_groups=True)
    named = replace(plain, priors={"there": tuple(PRIOR.tolist())})
    losses = [method.unlabeled_loss(method.build(spec_for(2)), batch) for method in (plain, named)]
    torch.testing.assert_close(*losses)


def test_moved_to_another_prior_the_exact_posterior_is_that_of_the_other_population() -> None:
    likelihood = torch.rand((20, 3), generator=Generator().manual_seed(0)).double()
    p, q = PRIOR.double(), torch.tensor(OTHER).double()
    under_p, under_q = ((likelihood * prior).log().log_softmax(-1) for prior in (p, q))
    torch.testing.assert_close(move_to_prior(under_p, p.log(), q.log()), under_q)


def test_classifiers_that_say_the_prior_of_the_labels_gain_nothing_in_either_group() -> None:
    method, batch = TCGM(MLPConfig(), within_nuisance_groups=True, priors={"there": OTHER}), draw_batch(2)
    model = method.build(spec_for(2))
    for classifier in model.classifiers.values():
        for parameter in classifier.parameters():
            parameter.data.zero_()
        classifier.head.bias.data.copy_(PRIOR.log())
    assert method.unlabeled_loss(model, batch).item() == pytest.approx(0, abs=1e-6)


def test_priors_need_not_sum_to_one() -> None:
    batch, losses = draw_batch(2), []
    for values in (OTHER, [7 * value for value in OTHER]):
        method = TCGM(MLPConfig(), within_nuisance_groups=True, priors={"there": values})
        losses.append(method.unlabeled_loss(method.build(spec_for(2)), batch))
    torch.testing.assert_close(*losses)


def test_priors_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ValueError, match="within_nuisance_groups is off"):
        TCGM(MLPConfig(), priors={"there": OTHER})
    with pytest.raises(ValueError, match="the prior of 'there' is \\[1, 0\\]; each class needs more than 0"):
        TCGM(MLPConfig(), within_nuisance_groups=True, priors={"there": [1, 0]})
    with pytest.raises(ValueError, match="has 2 numbers; there are 3 classes"):
        TCGM(MLPConfig(), within_nuisance_groups=True, priors={"there": [0.5, 0.5]}).build(spec_for(2))
