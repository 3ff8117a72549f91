"""Pretraining: encoders that learn from all training samples, before any label, what is known of them without one.

Two tasks, alone or together. `targets`: an encoder predicts what is known of its own modality (for a volume, say,
measurements of it). `cross_modal`: it predicts what is known of the other modalities of the same sample, which it can
do only by what they share. The latter is the view prediction of Poier et al., MURAUER: Mapping Unlabeled Real Data for
Label AUstERity, WACV 2019, Eq. 9 and 10, with the other view given by its targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast
from zlib import crc32

import torch
from torch import Tensor, nn
from tqdm import tqdm

from adni_tcgm.choices import check_choices, choice
from adni_tcgm.pretraining.loop import ANYWHERE, Place, on_device, train_encoders
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
from adni_tcgm.tcgm.encoders import Encoders, encode
from adni_tcgm.tcgm.execution import place as kept_on
from adni_tcgm.tcgm.trainer import Augmentation, choose_device, sample_batches, viewed_modalities

TASKS = ("targets", "cross_modal")


class Network(Protocol):
    """The settings of a network: `build` draws its weights."""

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module: ...


@dataclass(frozen=True)
class Pretraining:
    """What encoders learn before the classifiers, and for how long.

    tasks: of "targets" and "cross_modal"; the outputs for all of them are the representation.
    components: where the data set gives no targets, a modality's are its leading principal components, so many.
    steps, batch_size, rate, weight_decay: of this training, whose rate falls to zero along half a cosine.

    >>> Pretraining(tasks=("targets", "cross_modal")).steps
    400
    """

    tasks: tuple[str, ...] = choice(("targets",), TASKS)
    components: int = 16
    steps: int = 400
    batch_size: int = 16
    rate: float = 3e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        check_choices(self)
        if not self.tasks:
            raise ValueError(f"tasks is empty; choose from {', '.join(TASKS)}")
        for name in ("components", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


class Encoder(nn.Module):
    """A network whose outputs are standardized.

    >>> Encoder(nn.Linear(4, 2), width=2)(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, net: nn.Module, width: int) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("sd", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.net(x)
        return (outputs - self.mean) / self.sd


def pretrain(
    pretraining: Pretraining,
    network: Network,
    modalities: Sequence[Modality],
    train: MultimodalBatch,
    *,
    seed: int = 0,
    place: Place = ANYWHERE,
    augment: Augmentation | None = None,
    progress: str | None = None,
) -> Encoders:
    """Encoders that predict the targets of `train`, labeled samples and unlabeled ones alike; no label is read.

    network: settings of the network of each modality; its outputs become the predictions. The same seed gives the same
    weights on a CPU; the caller's global random state is left as it was.
    """
    train = with_targets(train, pretraining.components)
    device = choose_device(place.device)
    with torch.random.fork_rng(), tqdm(total=pretraining.steps, desc=progress, disable=progress is None) as bar:
        encoders = blank_encoders(pretraining, network, modalities, train, augment, place.device, seed).train()
        batches = sample_batches(kept_on(train, device), pretraining.batch_size, augment, seed=-2 - seed)
        train_encoders(
            encoders, lambda batch: tasks_loss(encoders, batch, pretraining.tasks), batches, pretraining, place, bar
        )
    standardize(encoders, encode(encoders, train, augment))
    return encoders


def blank_encoders(
    pretraining: Pretraining,
    network: Network,
    modalities: Sequence[Modality],
    train: MultimodalBatch,
    augment: Augmentation | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Encoders:
    """The encoders of `pretrain` before their first step: (B, *shape) -> (B, width) of each modality. Shapes and widths
    are those of the samples and targets of `train`."""
    seen, targets = viewed_modalities(modalities, train, augment), with_targets(train, pretraining.components)
    widths = encoder_widths(pretraining.tasks, seen, target_widths(targets))
    encoders = build_encoders(network, seen, widths, seed)
    encoders.made_by = pretraining, network
    return on_device(encoders, device)


def standardize(encoders: Encoders, encoded: MultimodalBatch) -> None:
    """Mean 0 and SD 1 of every output over these samples. What is hard to predict is predicted close to its mean; a
    classifier with weight decay would else hardly look at it."""
    for column, (name, values) in enumerate(encoded.inputs.items()):
        seen = values[encoded.present[:, column]]
        encoder = cast(Encoder, encoders.nets[name])
        encoder.mean.copy_(seen.mean(0))
        encoder.sd.copy_(seen.std(0, correction=0).clamp(min=1e-6))


def encoder_widths(tasks: Sequence[str], modalities: Sequence[Modality], targets: Mapping[str, int]) -> dict[str, int]:
    """Modality -> how many numbers its encoder says. targets: modality -> how many targets it has.

    >>> encoder_widths(("cross_modal",), [Modality("mri", (9,)), Modality("pet", (9,))], {"mri": 9, "pet": 7})
    {'mri': 7, 'pet': 9}
    """
    return {m.name: sum(targets[of] for _, of in task_columns(tasks, m.name, list(targets))) for m in modalities}


def encoder_signs(
    tasks: Sequence[str], names: Sequence[str], target_signs: Mapping[str, tuple[float, ...]]
) -> dict[str, tuple[float, ...]]:
    """Modality -> signs of what its encoder says, which are those of the targets it predicts; empty where unknown."""
    if any(name not in target_signs for name in names):
        return {}
    return {name: sum((target_signs[of] for _, of in task_columns(tasks, name, names)), ()) for name in names}


def build_encoders(
    network: Network, modalities: Sequence[Modality], widths: Mapping[str, int], seed: int = 0
) -> Encoders:
    """With freshly drawn weights, one for each name of a modality. widths: of `encoder_widths`."""
    nets = {}
    for modality in modalities:
        name = modality.name
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(crc32(f"{seed} {name}".encode()))
            nets[name] = Encoder(network.build(modality.shape, widths[name]), widths[name])
    return Encoders(nets, {m.name: widths[m.name] for m in modalities})


def task_columns(tasks: Sequence[str], name: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """(task, whose targets) of each block of the outputs of the encoder `name`, in order.

    >>> task_columns(("targets", "cross_modal"), "mri", ["mri", "pet"])
    [('targets', 'mri'), ('cross_modal', 'pet')]
    """
    own = [("targets", name)] if "targets" in tasks else []
    return own + [("cross_modal", other) for other in names if other != name and "cross_modal" in tasks]


def tasks_loss(encoders: Encoders, batch: MultimodalBatch, tasks: Sequence[str]) -> Tensor:
    """Mean of the encoders' losses."""
    losses = []
    for net, name, seen in with_modality(encoders.nets, batch):
        part = batch if len(seen) == len(batch) else batch.select(seen)
        losses.append(task_loss(cast(Encoder, net).net(part.inputs[name]), part, name, tasks))
    return torch.stack(losses).mean()


def task_loss(outputs: Tensor, batch: MultimodalBatch, name: str, tasks: Sequence[str]) -> Tensor:
    """Mean squared error of the modality's own targets, mean absolute error of the others' (Eq. 10); unknown ones count
    nothing. outputs: (B, width) of the encoder `name`."""
    total, start = outputs.sum() * 0, 0
    for task, of in task_columns(tasks, name, list(batch.targets)):
        wanted = batch.targets[of]
        found, start = outputs[:, start : start + wanted.shape[1]], start + wanted.shape[1]
        known = ~wanted.isnan()
        if known.any():
            error = (found - wanted)[known]
            total = total + (error.square() if task == "targets" else error.abs()).mean()
    return total


def with_targets(batch: MultimodalBatch, components: int) -> MultimodalBatch:
    """The samples with targets of every modality: the data set's or, where it has none, principal components."""
    targets = {}
    for column, (name, inputs) in enumerate(batch.inputs.items()):
        given = batch.targets.get(name)
        targets[name] = principal_components(inputs, batch.present[:, column], components) if given is None else given
    return replace(batch, targets=targets)


def target_widths(batch: MultimodalBatch) -> dict[str, int]:
    """Modality -> how many targets it has."""
    return {name: values.shape[1] for name, values in batch.targets.items()}


def principal_components(inputs: Tensor, present: Tensor, components: int) -> Tensor:
    """(B, k) scores of (B, ...) inputs, each of variance 1 over the samples with the modality; NaN for the others.

    >>> principal_components(torch.randn(20, 5), torch.ones(20, dtype=torch.bool), 2).shape
    torch.Size([20, 2])
    """
    rows = inputs[present].flatten(1).double()
    rows = rows - rows.mean(0)
    k = min(components, *rows.shape)
    left, _, right = torch.linalg.svd(rows, full_matrices=False)
    # The sign of a component is arbitrary; that of its largest weight makes it the same on every machine.
    largest = right[:k].abs().argmax(1, keepdim=True)
    scores = left[:, :k] * right[:k].gather(1, largest).sign().T * len(rows) ** 0.5
    result = inputs.new_full((len(inputs), k), torch.nan)
    result[present] = scores.to(inputs.dtype)
    return result


def with_modality(nets: nn.ModuleDict, batch: MultimodalBatch) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """The network of each modality, its name, and the places of the samples that have it."""
    for column, (name, net) in enumerate(nets.items()):
        seen = batch.present[:, column].nonzero().squeeze(1)
        # Batch normalization needs two samples to tell them apart.
        if len(seen) > 1:
            yield net, name, seen
