"""Where a training stands: all that decides how it goes on, as named tensors and plain values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class Checkpoint:
    """tensors: by name; values: what JSON can hold.

    >>> Checkpoint({"w": torch.ones(1)}, {"step": 3}).values["step"]
    3
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]


class CheckpointStore(Protocol):
    """Keeps the last checkpoint of one training, and what it reports, while it goes on."""

    def restore(self) -> Checkpoint | None:
        """The checkpoint that was saved last; None where this training has none."""

    def record(self, row: Mapping[str, float]) -> None:
        """One more row of the history."""

    def is_due(self) -> bool:
        """Whether a checkpoint should be saved now."""

    def save(self, checkpoint: Checkpoint) -> None: ...


def put_below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with `prefix/` before each name.

    >>> list(put_below("model", {"w": torch.ones(1)}))
    ['model/w']
    """
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def take_below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with `prefix/`, without it.

    >>> list(take_below("model", {"model/w": torch.ones(1), "other/w": torch.ones(1)}))
    ['w']
    """
    return {name.removeprefix(f"{prefix}/"): v for name, v in tensors.items() if name.startswith(f"{prefix}/")}


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Step counts and moments; the rates are settings and stay with them.

    >>> x = torch.ones(1, requires_grad=True)
    >>> adam = torch.optim.Adam([x])
    >>> x.sum().backward()
    >>> adam.step()
    >>> sorted(optimizer_tensors(adam))
    ['0/exp_avg', '0/exp_avg_sq', '0/step']
    """
    state = optimizer.state_dict()["state"]
    return {f"{index}/{key}": value for index, values in state.items() for key, value in values.items()}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """What `optimizer_tensors` took, put back.

    >>> x = torch.ones(1, requires_grad=True)
    >>> adam = torch.optim.Adam([x])
    >>> x.sum().backward()
    >>> adam.step()
    >>> again = torch.optim.Adam([x])
    >>> restore_optimizer(again, optimizer_tensors(adam))
    >>> again.state_dict()["state"][0]["step"].item()
    1.0
    """
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        index, key = name.split("/")
        state[int(index)][key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if value.shape == parameter.shape:
                # In the parameter's own memory layout, as if it had never been in a file.
                values[key] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Of the global generators; the learner draws from no others but those of its samplers.

    >>> list(random_state(torch.device("cpu")))
    ['cpu']
    """
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random(state: Mapping[str, Tensor], device: torch.device) -> None:
    """What `random_state` took, put back.

    >>> state = random_state(torch.device("cpu"))
    >>> first = torch.rand(1)
    >>> restore_random(state, torch.device("cpu"))
    >>> torch.equal(torch.rand(1), first)
    True
    """
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


@dataclass
class Losses:
    """Of one kind of step since the last row of the history.

    On a GPU they are read only when somebody asks, so that no step waits for the one before it.

    >>> losses = Losses("labeled loss")
    >>> losses.add(1, torch.tensor(0.5))
    >>> losses.add(2, torch.tensor(1.5))
    >>> losses.take_mean()
    1.0
    """

    title: str
    values: list[float] = field(default_factory=list)
    pending: list[tuple[int, Tensor]] = field(default_factory=list)

    def add(self, step: int, loss: Tensor) -> None:
        self.pending.append((step, loss.detach()))
        if loss.device.type == "cpu":
            self.read()

    def read(self) -> list[float]:
        """All of them; raises FloatingPointError naming the first step whose loss is not finite."""
        for step, loss in self.pending:
            value = loss.item()
            if not isfinite(value):
                what = f"{self.title} loss of step {step} is {value}"
                raise FloatingPointError(f"{what}; lower the learning rate or look for missing values in the inputs")
            self.values.append(value)
        self.pending.clear()
        return self.values

    def take_mean(self) -> float:
        values, self.values = self.read(), []
        return sum(values) / len(values) if values else nan


class Best:
    """The weights with the lowest validation loss so far.

    >>> model = nn.Linear(1, 1)
    >>> best = Best()
    >>> best.update(model, step=10, loss=0.4)
    >>> best.update(model, step=20, loss=0.5)
    >>> best.load_into(model, otherwise=20)
    10
    """

    def __init__(self) -> None:
        self.loss, self.step, self.waited = inf, 0, 0
        self.weights: dict[str, Tensor] | None = None

    def update(self, model: nn.Module, step: int, loss: float) -> None:
        self.waited += 1
        if loss < self.loss:
            weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
            self.loss, self.step, self.weights, self.waited = loss, step, weights, 0

    def load_into(self, model: nn.Module, otherwise: int) -> int:
        """Load them and return their step, or leave the model as it is and return `otherwise`."""
        if self.weights is None:
            return otherwise
        model.load_state_dict(self.weights)
        return self.step

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.weights or {}, {"loss": self.loss, "step": self.step, "waited": self.waited})

    def restore(self, tensors: dict[str, Tensor], values: Mapping[str, Any]) -> None:
        self.loss, self.step, self.waited = values["loss"], values["step"], values["waited"]
        self.weights = tensors or None
