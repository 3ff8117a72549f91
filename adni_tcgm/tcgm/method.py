"""What the trainer asks of a method, and the trained model that comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any, Protocol

from torch import Tensor, nn

from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
from adni_tcgm.tcgm.sampler import Augmentation
from adni_tcgm.tcgm.train_config import TrainConfig


@dataclass(frozen=True)
class Spec:
    """What a method must know to build its model.

    log_prior: (C,) log class prior from the visible labels; group_log_prior: the same within each nuisance group.
    labels: how many are visible. orientation: as in `TrainConfig`.

    >>> import torch
    >>> Spec([Modality("mri", (3,))], ("stable", "converter"), torch.tensor([0.5, 0.5]).log(), labels=18).labels
    18
    """

    modalities: Sequence[Modality]
    classes: Sequence[str]
    log_prior: Tensor
    group_log_prior: Mapping[str, Tensor] = field(default_factory=dict)
    labels: int = 0
    orientation: float = 0.0


class Method(Protocol):
    """A way to learn from few labels: the functions that the trainer calls.

    A method that is not trained by gradients has a `fit(splits, config) -> Fitted` of its own, which `fit` then calls.
    """

    def build(self, spec: Spec) -> nn.Module:
        """All that is trained, with freshly drawn weights."""

    def labeled_loss(self, model: nn.Module, batch: MultimodalBatch) -> Tensor:
        """To be minimized on a batch in which every label is known."""

    def unlabeled_loss(self, model: nn.Module, batch: MultimodalBatch) -> Tensor | None:
        """To be minimized on a batch whose labels are not read; None: this method takes no unlabeled step."""

    def after_step(self, model: nn.Module) -> None:
        """Called after each step of an optimizer, for a teacher or a moving average."""

    def predict(self, model: nn.Module, batch: MultimodalBatch) -> dict[str, Tensor]:
        """Modality name -> (B, C) log-posterior (the log prior where it is absent); "all" -> that of all present."""


@dataclass
class Fitted:
    """A trained model, in evaluation mode. All that its weights are is `model.state_dict()`.

    prior: (C,) log class prior. augment: its fixed view is what `predict` shows the model.
    history: rows of `history.tsv`, one for each validation; losses are means since the row before, `gain` is the
    total correlation gain of the classifiers on the validation samples, and seconds count from the start.
    execution: how it was computed: device, precision, processes, micro-batch, and each time that memory ran out.
    """

    method: Method
    model: nn.Module
    classes: Sequence[str]
    modalities: Sequence[Modality]
    prior: Tensor
    history: list[dict[str, float]]
    config: TrainConfig
    best_step: int
    augment: Augmentation | None = None
    execution: dict[str, Any] = field(default_factory=dict)

    @property
    def unlabeled_from(self) -> int | None:
        """The first step with an unlabeled loss; weights of an earlier one are those of labels alone. None: none."""
        took_one = any(not isnan(row["loss_unlabeled"]) for row in self.history)
        return self.config.supervised_steps + 1 if took_one else None
