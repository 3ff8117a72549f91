"""Encoders that learned before the labels came in, and any method on top of what they say.

An encoder is a network for each modality whose outputs are its representation: a few numbers that mean something, since
they were trained to predict something (`tcgm.warm_start`). A method then learns from these numbers instead of the
inputs: frozen encoders are asked once, slowly moving ones in every round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from adni_tcgm.tcgm.batch import Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.state import Journal
from adni_tcgm.tcgm.trainer import Augmentation, Fitted, Method, Spec, TrainConfig, fit

CHUNK = 32
# What joins the rounds as a further loss: (encoders, batch) -> a scalar.
AuxiliaryLoss = Callable[["Encoders", MultimodalBatch], Tensor]


class Encoders(nn.Module):
    """Modality -> its encoder: (B, *shape) -> (B, widths[modality])."""

    rate_factor: float

    def __init__(self, nets: Mapping[str, nn.Module], widths: Mapping[str, int]) -> None:
        super().__init__()
        self.nets = nn.ModuleDict(nets)
        self.widths = dict(widths)

    @property
    def modalities(self) -> list[Modality]:
        """What a method on top of the encoders sees."""
        return [Modality(name, (width,)) for name, width in self.widths.items()]

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
        chunks.append(encoders((augment.center(part) if augment else part).to(device)).to("cpu").inputs)
    empty = {name: torch.zeros(0, width) for name, width in encoders.widths.items()}
    return batch.with_inputs({name: torch.cat([empty[name], *(c[name] for c in chunks)]) for name in batch.inputs})


class EncodedModel(nn.Module):
    """Encoders and the model of a method on top of them.

    The encoders stay in evaluation mode, so that what they say does not depend on who else is in a batch.
    rate_factor: the share of the learning rates by which they move.
    """

    def __init__(self, encoders: Encoders, model: nn.Module, rate_factor: float) -> None:
        super().__init__()
        self.encoders, self.model = encoders, model
        self.encoders.rate_factor = rate_factor
        self.encoders.requires_grad_(rate_factor > 0)
        self.train(self.training)

    def train(self, mode: bool = True) -> EncodedModel:
        super().train(mode)
        self.encoders.eval()
        return self


@dataclass(frozen=True)
class Encoded:
    """Any method, learning from what encoders say instead of the inputs; itself a method.

    rate_factor: the share of the learning rates by which the encoders move; 0 freezes them. beside: a loss on each
    unlabeled batch that keeps them at their task; it makes an unlabeled step even for a method that takes none.
    """

    method: Method
    encoders: Encoders
    rate_factor: float = 0.0
    beside: AuxiliaryLoss | None = None

    def build(self, spec: Spec) -> EncodedModel:
        model = self.method.build(replace(spec, modalities=self.encoders.modalities))
        return EncodedModel(deepcopy(self.encoders), model, self.rate_factor)

    def labeled_loss(self, model: EncodedModel, batch: MultimodalBatch) -> Tensor:
        return self.method.labeled_loss(model.model, model.encoders(batch))

    def unlabeled_loss(self, model: EncodedModel, batch: MultimodalBatch) -> Tensor | None:
        loss = self.method.unlabeled_loss(model.model, model.encoders(batch))
        if self.beside is None:
            return loss
        auxiliary = self.beside(model.encoders, batch)
        return auxiliary if loss is None else loss + auxiliary

    def after_step(self, model: EncodedModel) -> None:
        self.method.after_step(model.model)

    def predict(self, model: EncodedModel, batch: MultimodalBatch) -> dict[str, Tensor]:
        return self.method.predict(model.model, model.encoders(batch))


def fit_encoded(
    method: Encoded,
    splits: Splits,
    config: TrainConfig,
    augment: Augmentation | None = None,
    progress: str | None = None,
    fit_method: Callable[[Splits, TrainConfig], Fitted] | None = None,
    journal: Journal | None = None,
) -> Fitted:
    """`trainer.fit` of a method on encoders. Frozen ones are asked once, of the fixed view of each sample.

    fit_method: for a method that is not trained by `fit`; it needs frozen encoders.
    Raises ValueError where encoders should move under such a method.
    """
    if method.rate_factor > 0:
        if fit_method is not None:
            raise ValueError("this method is not trained by gradients; its encoders can only be frozen")
        # A method sees models of its own making only, here an `EncodedModel`.
        return fit(method, splits, config, augment, progress, journal)  # type: ignore[arg-type]
    train, validation = (encode(method.encoders, batch, augment) for batch in (splits.train, splits.validation))
    represented = replace(splits, modalities=method.encoders.modalities, train=train, validation=validation)
    inner = method.method
    fitted = fit_method(represented, config) if fit_method else fit(inner, represented, config, None, progress, journal)
    model = EncodedModel(deepcopy(method.encoders).to(next(fitted.model.parameters()).device), fitted.model, 0.0)
    found = replace(fitted, model=model.eval(), modalities=splits.modalities, augment=augment)
    return replace(found, method=method)  # type: ignore[arg-type]
