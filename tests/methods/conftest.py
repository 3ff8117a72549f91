"""Toy data with several views of few labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Generator

from adni_tcgm.methods.method import Method, Spec
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import TrainConfig, fit, predict

TOY = {"steps": 100, "batch_size_unlabeled": 64, "lr_labeled": 1e-2, "lr_unlabeled": 1e-2}


def draw_toy(
    labeled: int, *, seed: int = 0, views: int = 3, classes: int = 4, length: int = 10, spread: float = 0.7
) -> Splits:
    """Classes through views that are independent given the class: means N(0, spread²), noise N(0, 1)."""
    generator = Generator().manual_seed(seed)
    means = spread * torch.randn((views, classes, length), generator=generator)

    def draw(size: int, shown: int) -> MultimodalBatch:
        labels = torch.randint(classes, (size,), generator=generator)
        inputs = {f"view{m}": means[m][labels] + torch.randn((size, length), generator=generator) for m in range(views)}
        visible = torch.where(torch.arange(size) < shown, labels, UNLABELED)
        present = torch.ones(size, views, dtype=torch.bool)
        return MultimodalBatch([str(i) for i in range(size)], inputs, present, visible)

    modalities = [Modality(f"view{m}", (length,)) for m in range(views)]
    return Splits(modalities, tuple("abcdefgh"[:classes]), draw(400, labeled), draw(100, 100), draw(400, 400))


@pytest.fixture
def gaussian_toy() -> Callable[..., Splits]:
    return draw_toy


@pytest.fixture
def spec() -> Spec:
    """Three views of four numbers, three classes, an uneven prior."""
    modalities = [Modality(f"view{m}", (4,)) for m in range(3)]
    return Spec(modalities, tuple("abc"), torch.tensor([0.5, 0.3, 0.2]).log())


@pytest.fixture
def batch() -> MultimodalBatch:
    """Twelve samples for `spec`, all labeled and complete."""
    generator = Generator().manual_seed(1)
    inputs = {f"view{m}": torch.randn((12, 4), generator=generator) for m in range(3)}
    return MultimodalBatch(
        [str(i) for i in range(12)], inputs, torch.ones(12, 3, dtype=torch.bool), torch.arange(12) % 3
    )


@pytest.fixture
def with_gaps() -> Callable[[MultimodalBatch, float], MultimodalBatch]:
    """The batch without its last view in every third sample, and `filling` where it would be."""

    def make(batch: MultimodalBatch, filling: float) -> MultimodalBatch:
        present = batch.present.clone()
        present[::3, -1] = False
        inputs = {name: values.clone() for name, values in batch.inputs.items()}
        list(inputs.values())[-1][::3] = filling
        return MultimodalBatch(batch.sample_ids, inputs, present, batch.labels, batch.groups)

    return make


@cache
def mean_accuracy(method: Method) -> float:
    """Mean test accuracy of "all" over three toys of two classes and six labels, which no method solves by labels.

    Kept, because every method is compared with the same baseline.
    """
    found = []
    for seed in range(3):
        splits = draw_toy(labeled=6, seed=seed, views=2, classes=2, length=30, spread=0.45)
        settings = TrainConfig(**TOY, seed=seed)
        fitted = method.fit(splits, settings) if hasattr(method, "fit") else fit(method, splits, settings)
        predicted = predict(fitted, splits.test)["all"].argmax(1)
        found.append((predicted == splits.test.labels).float().mean().item())
    return sum(found) / len(found)


@pytest.fixture
def accuracy() -> Callable[..., float]:
    return mean_accuracy


def half_labeled(batch: MultimodalBatch) -> MultimodalBatch:
    """Twelve samples, of which the first six keep their labels."""
    return replace(batch, labels=torch.where(torch.arange(12) < 6, batch.labels, UNLABELED))
