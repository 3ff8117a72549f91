"""What a method is, and the model that most methods share: one classifier for each modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from adni_tcgm.tcgm.aggregator import aggregate
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
from adni_tcgm.tcgm.execution import in_pieces
from adni_tcgm.tcgm.processes import add_up, is_sharing, largest

# The contract itself lives beside the trainer, the only one that relies on it.
from adni_tcgm.tcgm.trainer import Method, Spec

__all__ = [
    "ClassifierConfig",
    "ClassifierPerModality",
    "Method",
    "ModalityClassifiers",
    "Spec",
    "fading_weight",
    "labeled_cross_entropy",
    "network_of",
]


class ClassifierConfig(Protocol):
    """The settings of a network in `nets`; the network gives (B, classes) logits. Some methods need it to be
    `head(features(x))`, as ours are."""

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module: ...


def network_of(classifier: ClassifierConfig | Mapping[str, ClassifierConfig], modality: str) -> ClassifierConfig:
    """The settings of that modality's network. Raises ValueError where they are given by name and not for this one.

    >>> network_of({"mri": "a network", "pet": "another one"}, "pet")
    'another one'
    """
    if not isinstance(classifier, Mapping):
        return classifier
    if modality not in classifier:
        raise ValueError(f"no network for modality {modality!r}; there are settings for {', '.join(classifier)}")
    return classifier[modality]


class ModalityClassifiers(nn.Module):
    """One classifier for each modality, and the class prior that they share and that combines them.

    Weights are drawn by the seed and by the names of modality and class, so that their order plays no part.

    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> ModalityClassifiers(spec, MLPConfig()).log_posteriors(batch).shape  # modalities, samples, classes
    torch.Size([2, 4, 2])
    """

    def __init__(self, spec: Spec, classifier: ClassifierConfig | Mapping[str, ClassifierConfig]) -> None:
        super().__init__()
        self.classifiers = nn.ModuleDict()
        # Samples that go through a network at a time; the trainer lowers it where memory is short.
        self.micro_batch: int | None = None
        # Where the ridge draws weights to, if not to 0: parameter name -> (C, k).
        self.weight_means: dict[str, Tensor] = {}
        for modality in spec.modalities:
            config = network_of(classifier, modality.name)
            with torch.random.fork_rng(devices=[]):
                seed = torch.initial_seed()
                torch.manual_seed(crc32(f"{seed} {modality.name}".encode()))
                self.classifiers[modality.name] = config.build(modality.shape, len(spec.classes))
                head = getattr(self.classifiers[modality.name], "head", None)
                if isinstance(head, nn.Linear):  # a network of somebody else's may end in anything
                    _draw_by_class(head, spec.classes, f"{seed} {modality.name}")
            if spec.orientation and modality.signs and isinstance(head, nn.Linear):
                self._orient(modality, head, spec.orientation)
        self.register_buffer("log_prior", spec.log_prior.clone())

    def _orient(self, modality: Modality, head: nn.Linear, orientation: float) -> None:
        """Start a linear classifier of two classes at log odds of `orientation` times the mean of signed features."""
        signs = torch.tensor(modality.signs)
        if head.weight.shape != (2, len(signs)) or not signs.any():
            return
        mean = orientation / 2 * torch.stack([-signs, signs]) / signs.abs().sum()
        self.weight_means[f"classifiers.{modality.name}.head.weight"] = mean
        head.weight.data.copy_(mean)

    def seen(self, batch: MultimodalBatch, name: str) -> Tensor:
        """(B,) bool: which samples have that modality. Absent inputs never reach a classifier, nor its statistics."""
        return batch.present[:, list(batch.inputs).index(name)]

    def logits(self, name: str, inputs: Tensor) -> Tensor:
        """(n, C) float32 logits of one modality."""
        return in_pieces(self.classifiers[name], inputs, self.micro_batch if self.training else None).float()

    def log_posteriors(self, batch: MultimodalBatch) -> Tensor:
        """log h: (M, B, C), modalities in the order of `batch.inputs`; the log prior where a modality is absent."""
        # Of a shared batch another share may have gaps, and all processes must go the same way.
        if batch.complete and len(batch) and not is_sharing():
            return torch.stack([self.logits(name, inputs).log_softmax(-1) for name, inputs in batch.inputs.items()])
        rows = []
        for name, inputs in batch.inputs.items():
            index = self.seen(batch, name).nonzero().squeeze(1)
            log_posterior = self.log_prior.repeat(len(batch), 1)
            # Whether anybody in the whole batch has it: networks may exchange statistics, so all processes must ask.
            if largest(len(index)):
                logits = self.logits(name, inputs[index])
                log_posterior = log_posterior.index_copy(0, index, logits.log_softmax(-1))
            rows.append(log_posterior)
        return torch.stack(rows)


def _draw_by_class(head: nn.Linear, classes: Sequence[str], name: str) -> None:
    """The distribution that PyTorch draws a linear layer's weights from, one class at a time."""
    bound = head.in_features**-0.5
    for row, label in zip(head.weight.data, classes, strict=True):
        row.uniform_(-bound, bound, generator=Generator().manual_seed(crc32(f"{name} {label}".encode())))
    if head.bias is not None:
        nn.init.zeros_(head.bias)


@dataclass(frozen=True)
class ClassifierPerModality:
    """Base of the methods whose model is `ModalityClassifiers`.

    classifier: settings of the network, the same for every modality or one for each name.

    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> method = ClassifierPerModality(MLPConfig())
    >>> list(method.predict(method.build(spec), batch))
    ['left', 'right', 'all']
    """

    classifier: ClassifierConfig | Mapping[str, ClassifierConfig]

    def build(self, spec: Spec) -> ModalityClassifiers:
        return ModalityClassifiers(spec, self.classifier)

    def after_step(self, model: ModalityClassifiers) -> None:
        """Nothing follows a step."""

    def predict(self, model: ModalityClassifiers, batch: MultimodalBatch) -> dict[str, Tensor]:
        log_posteriors = model.log_posteriors(batch)
        combined = aggregate(log_posteriors, model.log_prior, batch.present)
        return {**dict(zip(batch.inputs, log_posteriors, strict=True)), "all": combined}


def fading_weight(weight: float, half: float | None, labels: int) -> float:
    """weight / (1 + n / half) with n visible labels: the more labels, the less there is that only agreement can tell.

    half: how many labels halve the weight; None: it does not depend on n. Raises ValueError unless half > 0.

    >>> fading_weight(15, half=36, labels=18), fading_weight(15, None, 18)
    (10.0, 15)
    """
    if half is not None and half <= 0:
        raise ValueError(f"gain_half is {half}; it must be more than 0 labels, or None")
    return weight if half is None else weight / (1 + labels / half)


def labeled_cross_entropy(model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor:
    """Cross-entropy of each classifier on the samples that have its modality (paper section 4.3), summed over them.

    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> labeled_cross_entropy(ModalityClassifiers(spec, MLPConfig()), batch.select(torch.arange(2))).shape
    torch.Size([])
    """
    loss = torch.zeros((), device=batch.labels.device)
    for name, inputs in batch.inputs.items():
        labels = batch.labels
        if not batch.complete or is_sharing():
            seen = model.seen(batch, name)
            inputs, labels = inputs[seen], labels[seen]
        if not largest(len(labels)):
            continue
        if is_sharing():
            total = F.cross_entropy(model.logits(name, inputs), labels, reduction="sum")
            loss = loss + add_up(total) / add_up(torch.tensor(float(len(labels)), device=labels.device))
        else:
            loss = loss + F.cross_entropy(model.logits(name, inputs), labels)
    return loss
