"""Encoders that learned before the labels came in, and any method on top of what they say.

An encoder is a network for each modality whose outputs are its representation: a few numbers that mean something, since
they were trained to predict something (`pretraining.pretext`). A method then learns from these numbers instead of the
inputs. Encoders stay as they are, so they are asked once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from adni_tcgm.tcgm.batch import Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.checkpoint import CheckpointStore
from adni_tcgm.tcgm.trainer import Augmentation, Fitted, Method, TrainConfig, fit

CHUNK = 32


class Encoders(nn.Module):
    """Modality -> its encoder: (B, *shape) -> (B, widths[modality]).

    signs: modality -> of each output what `Modality.signs` is of a feature, where that is known. made_by: the settings
    of their pretraining and of their networks, from which they are built again.

    >>> encoders = Encoders({"mri": nn.Linear(4, 2)}, {"mri": 2})
    >>> encoders.modalities[0].shape
    (2,)
    """

    def __init__(self, nets: Mapping[str, nn.Module], widths: Mapping[str, int]) -> None:
        super().__init__()
        self.nets = nn.ModuleDict(nets)
        self.widths = dict(widths)
        self.signs: dict[str, tuple[float, ...]] = {}
        self.made_by: tuple[Any, Any] | None = None

    @property
    def modalities(self) -> list[Modality]:
        """What a method on top of the encoders sees."""
        return [Modality(name, (width,), self.signs.get(name, ())) for name, width in self.widths.items()]

    def forward(self, batch: MultimodalBatch) -> MultimodalBatch:
        """The same samples with (B, width) representations as inputs; zeros where a modality is absent."""
        encoded = {}
        for column, (name, inputs) in enumerate(batch.inputs.items()):
            index = batch.present[:, column].nonzero().squeeze(1)
            rows = inputs.new_zeros((len(batch), self.widths[name]))
            encoded[name] = rows.index_copy(0, index, self.nets[name](inputs[index]).float()) if len(index) else rows
        return batch.with_inputs(encoded)


@torch.no_grad()
def encode(encoders: Encoders, batch: MultimodalBatch, augment: Augmentation | None = None) -> MultimodalBatch:
    """What the encoders say of each sample's fixed view, on the CPU, a chunk of samples at a time."""
    device = next(encoders.parameters()).device
    encoders.eval()
    chunks = []
    for index in torch.arange(len(batch)).split(CHUNK):
        part = batch.select(index)
        chunks.append(encoders((augment.center(part) if augment else part).to(device).in_float32()).to("cpu").inputs)
    empty = {name: torch.zeros(0, width) for name, width in encoders.widths.items()}
    return batch.with_inputs({name: torch.cat([empty[name], *(c[name] for c in chunks)]) for name in batch.inputs})


class EncodedModel(nn.Module):
    """Encoders and the model of a method on top of them. The encoders stay as they are, in evaluation mode, so that
    what they say does not depend on who else is in a batch."""

    def __init__(self, encoders: Encoders, model: nn.Module) -> None:
        super().__init__()
        self.encoders, self.model = encoders.requires_grad_(False), model
        self.train(self.training)

    def train(self, mode: bool = True) -> EncodedModel:
        super().train(mode)
        self.encoders.eval()
        return self


@dataclass(frozen=True)
class Encoded:
    """A method that learned from what encoders say: it predicts from inputs as any other does."""

    method: Method

    def predict(self, model: EncodedModel, batch: MultimodalBatch) -> dict[str, Tensor]:
        return self.method.predict(model.model, model.encoders(batch))


def represent(encoders: Encoders, splits: Splits, augment: Augmentation | None = None) -> Splits:
    """The splits with what the encoders say of the fixed view of each sample as inputs; the test samples stay as they
    are."""
    train, validation = (encode(encoders, batch, augment) for batch in (splits.train, splits.validation))
    source = None if splits.source is None else encode(encoders, splits.source, augment)
    return replace(splits, modalities=encoders.modalities, train=train, validation=validation, source=source)


def fit_encoded(
    method: Method,
    encoders: Encoders,
    represented: Splits,
    modalities: Sequence[Modality],
    config: TrainConfig,
    augment: Augmentation | None = None,
    progress: str | None = None,
    checkpoint: CheckpointStore | None = None,
) -> Fitted:
    """Train a method on what the encoders say (`represent`). modalities: those that the encoders see."""
    fitted = fit(method, represented, config, None, progress, checkpoint)
    model = EncodedModel(deepcopy(encoders).to(next(fitted.model.parameters()).device), fitted.model)
    found = replace(fitted, model=model.eval(), modalities=modalities, augment=augment)
    return replace(found, method=Encoded(method))  # type: ignore[arg-type]
