"""The loop in which encoders learn before any label comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import tqdm

from adni_tcgm.tcgm.batch import MultimodalBatch
from adni_tcgm.tcgm.encoders import Encoders
from adni_tcgm.tcgm.execution import arithmetic, choose_device, lay_out
from adni_tcgm.tcgm.graphs import capture_networks, release_networks
from adni_tcgm.tcgm.precision import choose_precision


class Schedule(Protocol):
    """Settings that every pretraining has: steps of the optimizer, its first learning rate, its weight decay."""

    @property
    def steps(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


@dataclass(frozen=True)
class Place:
    """Where and how encoders are computed; the trainer's settings of the same names (`TrainConfig`) say more.

    On a CPU it is float32 whatever `precision` says.

    >>> Place("cpu").device
    'cpu'
    """

    device: str = "auto"
    precision: str = "auto"
    deterministic: bool = False
    cuda_graphs: bool = False


ANYWHERE = Place()


def on_device(encoders: Encoders, device: str) -> Encoders:
    """The encoders on that device; on a GPU with the channels of their weights last, as they are trained there, since
    another layout may give other bits."""
    place = choose_device(device)
    if place.type == "cuda":
        lay_out(encoders)
    return encoders.to(place)


def train_encoders(
    model: nn.Module,
    loss_of: Callable[[MultimodalBatch], Tensor],
    batches: Iterator[MultimodalBatch],
    settings: Schedule,
    place: Place,
    bar: tqdm,
) -> None:
    """Train `model`, which is on the place's device, by Adam, whose rate falls to zero along half a cosine.

    loss_of: a batch on that device -> its loss, a scalar.
    """
    device = choose_device(place.device)
    on_gpu = device.type == "cuda"
    precision = choose_precision(place.precision, device) if on_gpu else torch.float32
    optimizer = Adam(
        model.parameters(), settings.rate, weight_decay=settings.weight_decay, fused=True if on_gpu else None
    )
    schedule = CosineAnnealingLR(optimizer, settings.steps)
    if on_gpu and place.cuda_graphs:
        capture_networks(model)
    with arithmetic(device, place.deterministic):
        for _ in range(settings.steps):
            batch = next(batches).to(device)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
    release_networks(model)
