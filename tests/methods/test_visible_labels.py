"""What a training knows beside a few visible labels: which way features point, and labels of another population."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import Spec, TrainConfig, fit, predict

SIGNS = (-1.0, 1.0, -1.0)
CONFIG = TrainConfig(
    schedule="joint", steps=60, supervised_steps=0, batch_size_labeled=999, batch_size_unlabeled=999, lr_labeled=0.05
)


def people(count: int, seed: int, shift: float = 1.0) -> MultimodalBatch:
    """Half of each class, whose signed features lie `shift` apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    inputs = {
        name: torch.randn(count, 3, generator=generator) + shift * torch.tensor(SIGNS) * (labels[:, None] - 0.5)
        for name in ("mri", "pet")
    }
    return MultimodalBatch(
        [f"{seed}-{i}" for i in range(count)], inputs, torch.ones(count, 2, dtype=torch.bool), labels
    )


def splits(shown: int, signs: tuple[float, ...] = SIGNS, source: MultimodalBatch | None = None) -> Splits:
    train = people(60, seed=0)
    train = replace(train, labels=torch.where(torch.arange(60) < shown, train.labels, UNLABELED))
    modalities = [Modality(name, (3,), signs) for name in train.inputs]
    empty = train.select(torch.arange(0))
    return Splits(modalities, ("a", "b"), train, empty, people(400, seed=1), source=source)


def accuracy(fitted, batch: MultimodalBatch) -> float:
    return (predict(fitted, batch)["all"].argmax(1) == batch.labels).float().mean().item()


def test_an_oriented_classifier_begins_as_the_mean_of_signed_features():
    spec = Spec(splits(2).modalities, ("a", "b"), torch.tensor([0.5, 0.5]).log(), labels=2, orientation=2.0)
    batch = people(5, seed=3)
    logits = CrossEntropy(MLPConfig()).build(spec).logits("mri", batch.inputs["mri"])
    expected = 2.0 * (batch.inputs["mri"] * torch.tensor(SIGNS)).mean(1)
    assert torch.allclose(logits[:, 1] - logits[:, 0], expected, atol=1e-6)


def test_a_strong_ridge_leaves_an_oriented_classifier_where_it_began():
    method, config = CrossEntropy(MLPConfig()), replace(CONFIG, orientation=1.0, ridge=1e5)
    fitted = fit(method, splits(2), config)
    weight = fitted.model.classifiers["mri"].head.weight
    assert torch.allclose(weight[1] - weight[0], torch.tensor(SIGNS) / 3, atol=1e-2)


def test_orientation_is_nothing_where_no_signs_are_named():
    method = CrossEntropy(MLPConfig())
    plain, oriented = (fit(method, splits(6, signs=()), replace(CONFIG, orientation=o)) for o in (0.0, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), oriented.model.parameters(), strict=True))


def test_the_gain_counts_half_where_labels_are_as_many_as_gain_half():
    method = TCGM(MLPConfig(), gain_weight=8.0, gain_half=20.0)
    spec = Spec(splits(2).modalities, ("a", "b"), torch.tensor([0.5, 0.5]).log(), labels=20)
    assert method.build(spec).gain_weight == pytest.approx(4.0)
    with pytest.raises(ValueError, match="gain_half is 0"):
        TCGM(MLPConfig(), gain_half=0)


def test_labels_of_another_population_teach_where_there_are_hardly_any_own():
    source = people(80, seed=7, shift=3.0)
    method, config = CrossEntropy(MLPConfig()), replace(CONFIG, ridge=1.0)
    alone, helped = (fit(method, splits(2, source=batch), config) for batch in (None, source))
    assert accuracy(helped, splits(2).test) > accuracy(alone, splits(2).test) + 0.03


def test_a_source_whose_classes_are_unequal_does_not_move_the_prior():
    source = people(80, seed=7, shift=0.0)
    few = source.select(torch.cat([torch.arange(0, 80, 2), torch.tensor([1, 3])]))  # 40 of one class, 2 of the other
    config = replace(CONFIG, ridge=1e3, steps=200)
    fitted = fit(CrossEntropy(MLPConfig()), splits(20, source=few), config)
    share = predict(fitted, splits(2).test)["all"].exp().mean(0)
    assert share[1].item() == pytest.approx(0.5, abs=0.05)
