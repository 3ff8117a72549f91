"""What the learner learns from: samples seen through several modalities, some of them labeled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

UNLABELED = -1


@dataclass(frozen=True)
class Modality:
    """One way of seeing a sample. `shape` is that of a single input, without the batch axis.

    signs: of a vector whose features are known to point one way: for each, 1 where a high value speaks for the last of
        two classes, -1 where a low one does, 0 where nobody knows; or empty.

    >>> Modality("mri", (48, 32, 32)).shape
    (48, 32, 32)
    """

    name: str
    shape: tuple[int, ...]
    signs: tuple[float, ...] = ()


@dataclass(frozen=True)
class MultimodalBatch:
    """B samples in M modalities.

    sample_ids: B names.
    inputs: modality name -> (B, *shape) float32; rows of an absent modality hold zeros and are never read. A data set
        may be kept in float16 to take half the memory: networks see float32 all the same (`in_float32`).
    present: (B, M) bool, columns in the order of `inputs`; every sample has at least one modality.
    labels: (B,) int64, class index or UNLABELED.
    groups: B names; samples of one group (a person, an anatomy, a speaker) never straddle two splits.
    nuisance_groups: B names of a nuisance that samples share (a site, a scanner, a speaker), or empty.
    targets: modality name -> (B, T) float32, what is known of that modality without any label, standardized over the
        training samples, NaN where unknown; or empty. Pretraining learns to predict them (`pretraining.pretext`).

    >>> present, labels = torch.ones(2, 1, dtype=torch.bool), torch.tensor([0, UNLABELED])
    >>> batch = MultimodalBatch(["a", "b"], {"mri": torch.zeros(2, 3)}, present, labels)
    >>> len(batch), batch.complete, batch.select(torch.tensor([1])).sample_ids
    (2, True, ['b'])
    """

    sample_ids: Sequence[str]
    inputs: dict[str, Tensor]
    present: Tensor
    labels: Tensor
    groups: Sequence[str] = field(default=())
    nuisance_groups: Sequence[str] = field(default=())
    targets: dict[str, Tensor] = field(default_factory=dict)
    # Whether every sample is known to have every modality; to look it up on a GPU would wait for what is queued there.
    complete: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        size = len(self.sample_ids)
        for name, values in (*self.inputs.items(), *self.targets.items()):
            if len(values) != size:
                raise ValueError(f"modality {name!r} has {len(values)} rows; the batch has {size} sample ids")
        if self.present.shape != (size, len(self.inputs)):
            raise ValueError(f"present has shape {tuple(self.present.shape)}; expected {(size, len(self.inputs))}")
        if self.labels.shape != (size,):
            raise ValueError(f"labels have shape {tuple(self.labels.shape)}; expected {(size,)}")
        if self.present.device.type != "cpu":
            return  # checked before it went there
        object.__setattr__(self, "complete", bool(self.present.all()))
        if size and not self.present.any(1).all():
            absent = self.sample_ids[int((~self.present.any(1)).nonzero()[0])]
            raise ValueError(f"sample {absent!r} has no modality at all; every sample needs at least one")

    def __len__(self) -> int:
        return len(self.sample_ids)

    def select(self, index: Tensor) -> MultimodalBatch:
        """The samples at `index` ((n,) int64 or (B,) bool), in that order."""
        if index.dtype == torch.bool:
            index = index.nonzero().squeeze(1)
        order = index.tolist()
        index = index.to(self.labels.device, non_blocking=True)
        chosen = MultimodalBatch(
            sample_ids=[self.sample_ids[i] for i in order],
            inputs={name: values[index] for name, values in self.inputs.items()},
            present=self.present[index],
            labels=self.labels[index],
            groups=[self.groups[i] for i in order] if self.groups else (),
            nuisance_groups=[self.nuisance_groups[i] for i in order] if self.nuisance_groups else (),
            targets={name: values[index] for name, values in self.targets.items()},
        )
        return chosen._known_complete(self.complete)

    def with_inputs(self, inputs: dict[str, Tensor]) -> MultimodalBatch:
        return replace(self, inputs=inputs)._known_complete(self.complete)

    def in_float32(self) -> MultimodalBatch:
        return self.with_inputs({name: values.float() for name, values in self.inputs.items()})

    def to(self, device: torch.device | str) -> MultimodalBatch:
        if self.labels.device == torch.device(device):
            return self
        moved = replace(
            self,
            inputs={name: values.to(device) for name, values in self.inputs.items()},
            present=self.present.to(device),
            labels=self.labels.to(device),
            targets={name: values.to(device) for name, values in self.targets.items()},
        )
        return moved._known_complete(self.complete)

    def _known_complete(self, known: bool) -> MultimodalBatch:
        object.__setattr__(self, "complete", self.complete or known)
        return self


def join(batches: Sequence[MultimodalBatch]) -> MultimodalBatch:
    """One batch after the other; modalities and targets are those of the first, and the others must have them too.

    >>> def one(name: str) -> MultimodalBatch:
    ...     present = torch.ones(1, 1, dtype=torch.bool)
    ...     return MultimodalBatch([name], {"mri": torch.zeros(1, 3)}, present, torch.tensor([0]))
    >>> join([one("a"), one("b")]).sample_ids
    ['a', 'b']
    """
    first = batches[0]
    return MultimodalBatch(
        sample_ids=[name for batch in batches for name in batch.sample_ids],
        inputs={name: torch.cat([batch.inputs[name] for batch in batches]) for name in first.inputs},
        present=torch.cat([batch.present for batch in batches]),
        labels=torch.cat([batch.labels for batch in batches]),
        groups=[name for batch in batches for name in batch.groups],
        nuisance_groups=[name for batch in batches for name in batch.nuisance_groups],
        targets={name: torch.cat([batch.targets[name] for batch in batches]) for name in first.targets},
    )


@dataclass(frozen=True)
class SplitRow:
    """One line of `splits.tsv`. `label` is a class name or "" where nobody knows it.

    >>> SplitRow("sub-01_ses-M000", "sub-01", "train", "stable", label_visible=False).split
    'train'
    """

    sample_id: str
    group_id: str
    split: str
    label: str
    label_visible: bool


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set.

    `train.labels` holds only the labels that the label rate shows; all others are UNLABELED. `validation` and `test`
    keep theirs. `rows` is the record written to `splits.tsv`; training never reads it. `fitted_on`: what the inputs
    were changed by (norms, a transform) -> the samples that it was fitted on. `nuisances`: what is recorded of the
    training samples beside label and inputs, a value each (text: a group, "" unknown; a number, NaN unknown).
    source: samples of another population whose labels are known and mean nearly the same, of classes in the same order.
    target_signs: modality -> of each of its targets what `Modality.signs` is of a feature.
    transforms: modality -> what turned its values, as measured, into inputs (`adni_tcgm.transforms`).
    outside: sample -> group of samples in no split that something was fitted on, too, without their labels.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> splits = load(GaussianConfig(samples=100, test_samples=20, label_rate=0.1), seed=0)
    >>> len(splits.train), int((splits.train.labels != UNLABELED).sum()), len(splits.test)
    (100, 10, 20)
    """

    modalities: Sequence[Modality]
    classes: Sequence[str]
    train: MultimodalBatch
    validation: MultimodalBatch
    test: MultimodalBatch
    rows: Sequence[SplitRow] = ()
    fitted_on: Mapping[str, Sequence[str]] = field(default_factory=dict)
    nuisances: Mapping[str, Sequence[str] | Sequence[float]] = field(default_factory=dict)
    source: MultimodalBatch | None = None
    target_signs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    transforms: Mapping[str, Any] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=dict)
