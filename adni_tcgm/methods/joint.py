"""A representation of each modality, and classifiers of each one and of all of them together: what several peers share.

A representation is a linear map of the network's last features, so any network will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adni_tcgm.methods.method import ClassifierConfig, ModalityClassifiers, Spec
from adni_tcgm.tcgm.batch import MultimodalBatch
from adni_tcgm.tcgm.execution import in_pieces


class Outputs(NamedTuple):
    """Of M modalities and B samples.

    representations: (M, B, k), zeros where a modality is absent. joint: (B, J), of all modalities together.
    log_posteriors: (M, B, C), the log prior where a modality is absent. log_joint: (B, C), from `joint`.
    """

    representations: Tensor
    joint: Tensor
    log_posteriors: Tensor
    log_joint: Tensor


class JointClassifiers(ModalityClassifiers):
    """Linear classifiers on k numbers of each modality, and one on the J numbers that `join` makes of all of them.

    Here these are the representations side by side, J = M k.

    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> from adni_tcgm.tcgm.batch import Modality
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> [tuple(value.shape) for value in JointClassifiers(spec, MLPConfig(), 5)(batch)]
    [(2, 4, 5), (4, 10), (2, 4, 2), (4, 2)]
    """

    def __init__(
        self, spec: Spec, classifier: ClassifierConfig | Mapping[str, ClassifierConfig], dimension: int
    ) -> None:
        # Signs are known of inputs, and these classifiers see representations.
        super().__init__(replace(spec, orientation=0.0), projected(classifier, dimension))
        self.joint_head = nn.Linear(self.joint_size(len(spec.modalities), dimension), len(spec.classes))
        nn.init.zeros_(self.joint_head.bias)

    @staticmethod
    def joint_size(modalities: int, dimension: int) -> int:
        return modalities * dimension

    def join(self, representations: Tensor, present: Tensor) -> Tensor:
        """(M, B, k), (B, M) bool -> (B, J)."""
        return representations.transpose(0, 1).flatten(1)

    def forward(self, batch: MultimodalBatch) -> Outputs:
        found = representations(self, batch)
        joint = self.join(found, batch.present)
        heads = [self.classifiers[name].head for name in batch.inputs]
        rows = torch.stack([head(row).log_softmax(-1) for head, row in zip(heads, found, strict=True)])
        rows = torch.where(batch.present.T.unsqueeze(-1), rows, self.log_prior)
        return Outputs(found, joint, rows, self.joint_head(joint).log_softmax(-1))


def joint_cross_entropy(model: JointClassifiers, batch: MultimodalBatch) -> Tensor:
    """Cross-entropy of the joint classifier, plus that of each modality's on the samples that have it."""
    outputs = model(batch)
    loss = F.nll_loss(outputs.log_joint, batch.labels)
    for row, seen in zip(outputs.log_posteriors, batch.present.T, strict=True):
        loss = loss + masked_mean(F.nll_loss(row, batch.labels, reduction="none"), seen)
    return loss


def predict_jointly(model: JointClassifiers, batch: MultimodalBatch) -> dict[str, Tensor]:
    """Log-posteriors (B, C) by modality, and "all" by the joint classifier."""
    outputs = model(batch)
    return {**dict(zip(batch.inputs, outputs.log_posteriors, strict=True)), "all": outputs.log_joint}


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask`; 0 where that is nowhere.

    >>> masked_mean(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, False, True])).item()
    3.5
    """
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def representations(model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor:
    """(M, B, k) of a model built with `projected`; zeros where a modality is absent."""
    size = model.micro_batch if model.training else None
    rows = []
    for name, inputs in batch.inputs.items():
        net = model.classifiers[name]
        if batch.complete and len(batch):  # to look for gaps where none is would wait for a GPU
            rows.append(in_pieces(net.features, inputs, size).float())
            continue
        index = model.seen(batch, name).nonzero().squeeze(1)
        row = net.head.weight.new_zeros(len(batch), net.head.in_features)
        if len(index):
            row = row.index_copy(0, index, in_pieces(net.features, inputs[index], size).float())
        rows.append(row)
    return torch.stack(rows)


def projected(
    classifier: ClassifierConfig | Mapping[str, ClassifierConfig], dimension: int
) -> ClassifierConfig | Mapping[str, ClassifierConfig]:
    """The same networks, whose last layer yields `dimension` features instead of logits, with a linear head behind it.

    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> projected(MLPConfig(), 5).build((3,), 2).head
    Linear(in_features=5, out_features=2, bias=True)
    """
    if isinstance(classifier, Mapping):
        return {name: _ProjectedConfig(config, dimension) for name, config in classifier.items()}
    return _ProjectedConfig(classifier, dimension)


@dataclass(frozen=True)
class _ProjectedConfig:
    net: ClassifierConfig
    dimension: int

    def build(self, shape: tuple[int, ...], classes: int) -> _Projected:
        return _Projected(self.net.build(shape, self.dimension), self.dimension, classes)


class _Projected(nn.Module):
    def __init__(self, net: nn.Module, dimension: int, classes: int) -> None:
        super().__init__()
        self.features = net
        self.head = nn.Linear(dimension, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits
