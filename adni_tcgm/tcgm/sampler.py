"""Batches without end, drawn by generators of their own, that can be stopped anywhere and taken up again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Generator, Tensor

from adni_tcgm.tcgm.batch import MultimodalBatch


class Augmentation(Protocol):
    """Random views for training, one fixed view for evaluation."""

    def __call__(self, batch: MultimodalBatch, generator: Generator) -> MultimodalBatch: ...

    def center(self, batch: MultimodalBatch) -> MultimodalBatch: ...


class BatchSampler(Iterator[MultimodalBatch]):
    """An endless iterator whose generators are its own, so that one sampler never depends on another being read.

    The order is drawn anew in each pass. What is left of a pass and fills no batch is dropped: the samples of a batch
    are distinct, as the gain requires. With fewer than `size` samples, a batch holds all of them.
    Draws are made on the CPU whatever device holds the samples, so they are the same everywhere.
    rows: int64, the places of the samples to draw from; None: all of them. A copy of them might not fit.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> train = load(GaussianConfig(samples=10, test_samples=4), 0).train
    >>> len(next(BatchSampler(train, size=4, augment=None, seed=0)))
    4
    """

    def __init__(
        self,
        samples: MultimodalBatch,
        size: int,
        augment: Augmentation | None,
        seed: int,
        rows: Tensor | None = None,
    ) -> None:
        self.rows = torch.arange(len(samples)) if rows is None else rows
        self.samples, self.size, self.augment = samples, min(size, len(self.rows)), augment
        self.orders, self.views = (Generator().manual_seed(2 * seed + i) for i in range(2))
        self.order, self.position = torch.zeros(0, dtype=torch.int64), 0

    def __next__(self) -> MultimodalBatch:
        if self.position + self.size > len(self.order):
            self.order, self.position = torch.randperm(len(self.rows), generator=self.orders), 0
        batch = self.samples.select(self.rows[self.order[self.position : self.position + self.size]])
        self.position += self.size
        # First cut to size, then widened.
        return (self.augment(batch, self.views) if self.augment else batch).in_float32()

    def state(self) -> dict[str, Tensor]:
        """Everything that decides the batches to come."""
        return {
            "order": self.order,
            "position": torch.tensor(self.position),
            "orders": self.orders.get_state(),
            "views": self.views.get_state(),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.order, self.position = state["order"], int(state["position"])
        self.orders.set_state(state["orders"])
        self.views.set_state(state["views"])


def sample_batches(
    samples: MultimodalBatch, size: int, augment: Augmentation | None, seed: int
) -> Iterator[MultimodalBatch]:
    """Batches without end; see `BatchSampler`.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> train = load(GaussianConfig(samples=10, test_samples=4), 0).train
    >>> batches = sample_batches(train, 5, None, seed=0)
    >>> sorted(next(batches).sample_ids + next(batches).sample_ids) == sorted(train.sample_ids)  # one pass
    True
    """
    return BatchSampler(samples, size, augment, seed)
