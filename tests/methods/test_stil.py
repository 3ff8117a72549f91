"""STiL: contrast, independence, consensus and prototypes, each by hand, and what a training gains by them."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import torch
from torch import nn
from torch.nn import functional as F

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.stil import STiL, consensus, contrastive_loss, independence_loss
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import MultimodalBatch
from tests.methods.conftest import half_labeled

OFF = {"contrastive_weight": 0.0, "independence_weight": 0.0, "pseudo_weight": 0.0, "prototype_weight": 0.0}


def test_the_contrast_draws_the_two_views_of_a_sample_together() -> None:
    torch.manual_seed(0)
    f, g = (torch.randn(20, 4, requires_grad=True) for _ in range(2))
    before = F.cosine_similarity(f, g).mean()
    optimizer = torch.optim.Adam([f, g], 0.05)
    for _ in range(50):
        optimizer.zero_grad()
        contrastive_loss(f, g, 0.1).backward()
        optimizer.step()
    assert F.cosine_similarity(f, g).mean() > before + 0.8
    similarity = F.normalize(f) @ F.normalize(g).T / 0.1
    own = similarity.diagonal()
    expected = ((similarity.logsumexp(1) - own).mean() + (similarity.logsumexp(0) - own).mean()) / 2
    torch.testing.assert_close(contrastive_loss(f, g, 0.1), expected)


def test_the_bound_takes_correlation_out_of_the_parts_and_its_error_fits_the_estimator() -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 2)
    split, estimator = nn.Linear(2, 2, bias=False), nn.Linear(1, 1)
    split.weight.data = torch.tensor([[1.0, 0.3], [1.0, 0.0]])

    def correlation() -> float:
        return torch.corrcoef(split(x).T.detach())[0, 1].abs().item()

    before = correlation()
    optimizer = torch.optim.Adam([*split.parameters(), *estimator.parameters()], 0.1)
    for _ in range(400):
        optimizer.zero_grad()
        independence_loss(estimator, *split(x).chunk(2, 1)).backward()
        optimizer.step()
    assert before > 0.9 and correlation() < 0.15


def test_consensus_averages_those_that_agree_and_teaches_as_published() -> None:
    joint = torch.tensor([[0.8, 0.2]] * 4).log()
    mri = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5]]).log()
    pet = torch.tensor([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9]]).log()
    present = torch.tensor([[True, True], [True, True], [True, True], [False, True]])
    picked = set()
    for seed in range(12):
        torch.manual_seed(seed)
        pseudo, taught = consensus(torch.stack([mri, pet]), joint, present)
        # All agree: all learn. One agrees: the other learns. Nobody: one of those present.
        assert taught[:, 0].tolist() == [True, True, True]
        assert taught[:, 1].tolist() == [False, True, False]
        assert taught[:2, 2].sum() == 1 and not taught[2, 2]
        assert taught[:, 3].tolist() == [False, True, False]
        picked.add(int(taught[:, 2].nonzero()))
    assert picked == {0, 1}
    members = [[joint, mri, pet], [joint, mri], [joint], [joint]]
    for row, of in enumerate(members):
        torch.testing.assert_close(pseudo[row], torch.stack([values[row] for values in of]).mean(0).softmax(0))


def test_pseudo_labels_count_from_their_step_and_where_they_are_sure(spec: Spec, batch: MultimodalBatch) -> None:
    batch = half_labeled(batch)

    def loss(start_steps: int, threshold: float, share: float = 1.0) -> torch.Tensor:
        torch.manual_seed(0)
        method = STiL(
            MLPConfig(),
            **OFF | {"pseudo_weight": 1.0},
            start_steps=start_steps,
            threshold=threshold,
            consensus_share=share,
        )
        model = method.build(spec)
        torch.manual_seed(1)
        found = method.unlabeled_loss(model, batch)
        outputs = model(batch)
        torch.manual_seed(1)
        pseudo, taught = consensus(outputs.log_posteriors, outputs.log_joint, batch.present)
        # Before their first step prototypes lie at 0 and favor no class.
        pseudo = share * pseudo + (1 - share) / 3
        torch.testing.assert_close(pseudo.sum(1), torch.ones(12))
        sure = (share * outputs.log_joint.exp() + (1 - share) / 3).amax(1) >= threshold
        rows = [*outputs.log_posteriors, outputs.log_joint]
        terms = [-(pseudo * row).sum(1) * sure * learns for row, learns in zip(rows, taught, strict=True)]
        return found, sum(term[6:].mean() for term in terms)

    for threshold, share in ((0.0, 1.0), (0.4, 1.0), (0.0, 0.7)):
        found, expected = loss(0, threshold, share)
        torch.testing.assert_close(found, expected)
        assert expected > 0
    assert loss(0, 1.1)[0] == 0 == loss(1, 0.0)[0]


def test_prototypes_are_running_means_of_their_class(spec: Spec, batch: MultimodalBatch) -> None:
    model = STiL(MLPConfig(), dimension=2).build(spec)
    first, second = torch.randn(3, 8), torch.randn(2, 8)
    model.move_prototypes(first, torch.tensor([0, 0, 2]), momentum=0.9)
    torch.testing.assert_close(model.prototypes, torch.stack([first[:2].mean(0), torch.zeros(8), first[2]]))
    model.move_prototypes(second, torch.tensor([0, 1]), momentum=0.9)
    expected = torch.stack([0.9 * first[:2].mean(0) + 0.1 * second[0], second[1], first[2]])
    torch.testing.assert_close(model.prototypes, expected)
    assert {"prototypes", "unlabeled_steps"} <= set(model.state_dict())


def test_the_joint_representation_is_the_mean_shared_part_of_those_present_and_each_part_alone(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    outputs = STiL(MLPConfig(), dimension=2).build(spec)(with_gaps(batch, nan))
    shared, alone = outputs.representations.chunk(2, -1)
    torch.testing.assert_close(outputs.joint[0], torch.cat([shared[:2, 0].mean(0), *alone[:2, 0], torch.zeros(2)]))
    torch.testing.assert_close(outputs.joint[1], torch.cat([shared[:, 1].mean(0), *alone[:, 1]]))


def test_unlabeled_samples_take_it_above_the_baseline(accuracy: Callable[..., float]) -> None:
    assert accuracy(STiL(MLPConfig())) > accuracy(CrossEntropy(MLPConfig())) + 0.05


def test_the_contrast_is_summed_over_pairs_of_modalities_among_those_who_have_both(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    method, gaps = STiL(MLPConfig(), **OFF | {"contrastive_weight": 0.5}), with_gaps(batch, nan)
    model = method.build(spec)
    shared = model(gaps).representations.chunk(2, -1)[0]
    have = gaps.present[:, 2]
    first, second, third = (
        contrastive_loss(shared[a][rows], shared[b][rows], 0.1)
        for a, b, rows in ((0, 1, slice(None)), (0, 2, have), (1, 2, have))
    )
    torch.testing.assert_close(method.unlabeled_loss(model, gaps), 0.5 * (first + second + third))
