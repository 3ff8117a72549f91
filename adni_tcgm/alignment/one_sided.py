"""From one modality's features to another's, for people who lack the other: without pairs, and with those there are.

Benaim & Wolf, One-sided unsupervised domain mapping, NIPS 2017 (DistanceGAN). A synthetic scan says nothing about a
person that their own scan did not; what it can do is let people with one scan take part where two are asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.optim import Adam

from adni_tcgm.alignment.alignment import take_step


@dataclass(eq=False)
class OneSided(ABC):
    """A map of standardized features; after `fit`, `center` and `scale` of both modalities and the map's `net`."""

    name: ClassVar[str]
    paired: ClassVar[bool] = True
    center: dict[str, Tensor] = field(init=False, default_factory=dict)
    scale: dict[str, Tensor] = field(init=False, default_factory=dict)
    net: nn.Module | None = field(init=False, default=None)

    def fit(self, source: Tensor, target: Tensor, *, seed: int = 0) -> Self:
        """source: (N, D) and target: (K, E) of training people, none missing. Where `paired`, rows are the same people
        in both. Raises ValueError where they cannot be."""
        if self.paired and len(source) != len(target):
            raise ValueError(f"{self.name} learns from pairs; there are {len(source)} and {len(target)} people")
        for key, values in (("source", source.double()), ("target", target.double())):
            self.center[key], sd = values.mean(0), values.std(0)
            self.scale[key] = torch.where(sd > 0, sd, torch.ones_like(sd))
        x, y = ((v.double() - self.center[k]) / self.scale[k] for k, v in (("source", source), ("target", target)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = self.blank_net(x.shape[1], y.shape[1])
            self.train(x, y)
        self.net.requires_grad_(False)
        return self

    def transform(self, source: Tensor) -> Tensor:
        """(N, D) -> (N, E)"""
        z = (source.double() - self.center["source"]) / self.scale["source"]
        return self.net(z) * self.scale["target"] + self.center["target"]

    def blank_net(self, width: int, out: int) -> nn.Module:
        return nn.Linear(width, out).double()

    @abstractmethod
    def train(self, x: Tensor, y: Tensor) -> None:
        """Fills `net` from standardized features."""

    def tensors(self) -> dict[str, Tensor]:
        found = {f"{kind}.{key}": v for kind in ("center", "scale") for key, v in getattr(self, kind).items()}
        return found | {f"net.{key}": value for key, value in self.net.state_dict().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> Self:
        """As it was when `tensors` gave these."""
        for kind in ("center", "scale"):
            setattr(self, kind, {key: tensors[f"{kind}.{key}"] for key in ("source", "target")})
        self.net = self.blank_net(len(self.center["source"]), len(self.center["target"])).requires_grad_(False)
        self.net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        return self


@dataclass(eq=False)
class Ridge(OneSided):
    """Least squares on pairs, with `penalty` times the sum of squared slopes.

    >>> mri = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> pet = mri @ torch.tensor([[1.0], [2.0]]) + 3
    >>> made = Ridge(penalty=0.01).fit(mri, pet).transform(mri)
    >>> (made - pet).abs().max().item() < 0.01
    True
    """

    name: ClassVar[str] = "ridge"
    penalty: float = 10.0

    def train(self, x: Tensor, y: Tensor) -> None:
        slopes = torch.linalg.solve(x.T @ x + self.penalty * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)
        with torch.no_grad():
            self.net.weight.copy_(slopes.T), self.net.bias.zero_()


@dataclass(eq=False)
class PairedNetwork(OneSided):
    """The network of `DistanceMapping`, trained on pairs by squared error.

    >>> mri = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    >>> PairedNetwork(steps=5).fit(mri, mri.sum(1, keepdim=True)).transform(mri[:4]).shape
    torch.Size([4, 1])
    """

    name: ClassVar[str] = "paired_network"
    hidden: int = 32
    steps: int = 200
    lr: float = 3e-3
    weight_decay: float = 1e-2

    def blank_net(self, width: int, out: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, self.hidden), nn.LeakyReLU(0.2), nn.Linear(self.hidden, out)).double()

    def train(self, x: Tensor, y: Tensor) -> None:
        optimizer = Adam(self.net.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        for _ in range(self.steps):
            take_step(optimizer, (self.net(x) - y).square().mean())


@dataclass(eq=False)
class DistanceMapping(PairedNetwork):
    """No pairs: outputs look like the target to a least-squares discriminator, and two people who are far apart in the
    source lie as far apart in the target (`distance` times the additive loss of the paper). Both a map and its mirror
    image do that; which of them is found, nobody decides.

    >>> mri = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    >>> DistanceMapping(steps=5).fit(mri, mri[:20, :1]).transform(mri[:4]).shape  # no pairs
    torch.Size([4, 1])
    """

    name: ClassVar[str] = "distance"
    paired: ClassVar[bool] = False
    steps: int = 400
    lr: float = 1e-3
    lr_discriminator: float = 3e-3
    distance: float = 1.0

    def train(self, x: Tensor, y: Tensor) -> None:
        discriminator = self.blank_net(y.shape[1], 1)
        optimizer = Adam(self.net.parameters(), lr=self.lr)
        optimizer_d = Adam(discriminator.parameters(), lr=self.lr_discriminator, weight_decay=1e-4)
        apart_y = _pairwise(y)
        mean_x, sd_x = _pairwise(x).mean(), _pairwise(x).std()
        for _ in range(self.steps):
            told = (
                0.5 * discriminator(self.net(x).detach()).square().mean() + 0.5 * (discriminator(y) - 1).square().mean()
            )
            take_step(optimizer_d, told)
            order = torch.randperm(len(x))
            apart_x = _distances(x, x[order])
            made = self.net(x)
            apart = _distances(made, made[order])
            kept = ((apart_x - mean_x) / sd_x - (apart - apart_y.mean()) / apart_y.std()).abs().mean()
            take_step(optimizer, 0.5 * (discriminator(made) - 1).square().mean() + self.distance * kept)


def _distances(x: Tensor, other: Tensor) -> Tensor:
    return (x - other).abs().sum(1)


def _pairwise(x: Tensor) -> Tensor:
    """L1 distances of all pairs."""
    return torch.pdist(x, p=1)
