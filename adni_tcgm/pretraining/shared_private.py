"""Shared and private factors: what both modalities carry, apart from what one of them says alone.

Reference: Usman, Bashkirova and Saenko, RIFT: Disentangled Unsupervised Image Translation via Restricted Information
Flow. As there, each modality has a shared code c and a private code s, the private one passes a channel of bounded
capacity, and a decoder g draws the modality from both. There images of two domains have no pairs, and an honesty loss
keeps a translation from hiding in itself what its decoder needs. Here people have both modalities, so g draws a
modality from the shared code of *another* one, which cannot hide anything of the first; what is left of honesty is that
both modalities of a person give the same shared code. A modality is drawn as its targets, as in `pretext`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from adni_tcgm.pretraining.loop import ANYWHERE, Place, on_device, train_encoders
from adni_tcgm.pretraining.pretext import Encoder, Network, standardize, target_widths, with_targets
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
from adni_tcgm.tcgm.encoders import Encoders, encode
from adni_tcgm.tcgm.execution import place as kept_on
from adni_tcgm.tcgm.trainer import Augmentation, choose_device, sample_batches, viewed_modalities


@dataclass(frozen=True)
class SharedPrivate:
    """How c, s and g train; what the encoders then say is c alone.

    shared, private: widths of c and s. noise: SD of what is added to s, the channel's noise.
    capacity_weight, honesty_weight: of the bits that the private channel may carry, and of the difference between the
        shared codes of a person's modalities, beside the squared error of the targets.
    hidden: width of the hidden layer of g. components: where the data set gives no targets, a modality's are its
        leading principal components, so many.
    steps, batch_size, rate, weight_decay: of this training, whose rate falls to zero along half a cosine.
    """

    private: int
    shared: int = 4
    noise: float = 1.0
    capacity_weight: float = 0.1
    honesty_weight: float = 1.0
    hidden: int = 32
    components: int = 16
    steps: int = 600
    batch_size: int = 64
    rate: float = 3e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("private", "shared", "hidden", "components", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}; codes are standardized over a batch of 2 or more")
        if self.noise <= 0 or min(self.capacity_weight, self.honesty_weight) < 0:
            raise ValueError("noise must be above 0, capacity_weight and honesty_weight 0 or more")


class SharedCode(nn.Module):
    """(B, *shape) -> (B, shared): the first outputs of a network that says the private code after them."""

    def __init__(self, net: nn.Module, shared: int) -> None:
        super().__init__()
        self.net, self.shared = net, shared

    def forward(self, x: Tensor) -> Tensor:
        codes: Tensor = self.net(x)
        return codes[:, : self.shared]


def build_shared_encoders(config: SharedPrivate, network: Network, modalities: Sequence[Modality]) -> Encoders:
    """With freshly drawn weights, one for each modality."""
    width = config.shared + config.private
    nets = {
        m.name: Encoder(SharedCode(network.build(m.shape, width), config.shared), config.shared) for m in modalities
    }
    return Encoders(nets, {m.name: config.shared for m in modalities})


def capacity_bits(private: Tensor, noise: float) -> Tensor:
    """A scalar: the bits that codes can carry through noise, at most; RIFT's bound, (k/2) log2(1 + L / (k σ²)).

    private: (B, k) codes; L is their mean squared length over the batch. noise: σ, the SD of what is added to each of
    the k numbers. The bound is reached by k independent normal numbers of equal variance.

    >>> round(float(capacity_bits(torch.tensor([[3.0, -3.0], [-3.0, 3.0]]), noise=1.0)), 3)  # log2(10)
    3.322
    """
    width = private.shape[1]
    power = private.square().sum(1).mean()
    return width / 2 * torch.log2(1 + power / (width * noise**2))


def pretrain_shared(
    config: SharedPrivate,
    network: Network,
    modalities: Sequence[Modality],
    train: MultimodalBatch,
    *,
    seed: int = 0,
    place: Place = ANYWHERE,
    augment: Augmentation | None = None,
    progress: str | None = None,
) -> Encoders:
    """Encoders that say what modalities share, standardized; no label is read.

    network: settings of the network of each modality. Only samples with two modalities or more teach anything: raises
    ValueError where there are fewer than two of them. The same seed gives the same weights on a CPU; the caller's
    global random state is left as it was.
    """
    train = with_targets(train, config.components)
    paired = train.select(train.present.sum(1) > 1)
    if len(paired) < 2:
        raise ValueError(
            f"{len(paired)} of {len(train)} samples have two modalities; what is shared shows in these alone"
        )
    device = choose_device(place.device)
    with torch.random.fork_rng(), tqdm(total=config.steps, desc=progress, disable=progress is None) as bar:
        torch.manual_seed(seed)
        encoders = blank_shared(config, network, modalities, train, augment, place.device).train()
        decoders = build_decoders(config, target_widths(train)).to(device)
        batches = sample_batches(kept_on(paired, device), config.batch_size, augment, seed=-2 - seed)
        loss = partial(shared_private_loss, config, encoders, decoders)
        train_encoders(nn.ModuleList([encoders, decoders]), loss, batches, config, place, bar)
    standardize(encoders, encode(encoders, train, augment))
    return encoders


def blank_shared(
    config: SharedPrivate,
    network: Network,
    modalities: Sequence[Modality],
    train: MultimodalBatch,
    augment: Augmentation | None = None,
    device: str = "auto",
) -> Encoders:
    """The encoders of `pretrain_shared` before their first step: (B, *shape) -> (B, shared) of each modality."""
    encoders = build_shared_encoders(config, network, viewed_modalities(modalities, train, augment))
    encoders.made_by = config, network
    return on_device(encoders, device)


def build_decoders(config: SharedPrivate, targets: Mapping[str, int]) -> nn.ModuleDict:
    """Modality -> g: (B, shared + private) -> its targets. targets: modality -> how many it has."""
    codes, hidden = config.shared + config.private, config.hidden
    return nn.ModuleDict(
        {name: nn.Sequential(nn.Linear(codes, hidden), nn.ReLU(), nn.Linear(hidden, n)) for name, n in targets.items()}
    )


def shared_private_loss(
    config: SharedPrivate, encoders: Encoders, decoders: nn.ModuleDict, batch: MultimodalBatch
) -> Tensor:
    """Mean over ordered pairs of modalities (m, o): squared error of m's targets as g draws them from c of o and noisy
    s of m, honesty of both shared codes, and the capacity of s of m."""
    shared, private = {}, {}
    for column, (name, net) in enumerate(encoders.nets.items()):
        there = batch.present[:, column]
        found = cast(SharedCode, cast(Encoder, net).net).net(batch.inputs[name][there])
        codes = found.new_zeros(len(batch), found.shape[1]).index_copy(0, there.nonzero().squeeze(1), found)
        shared[name], private[name] = codes.split([config.shared, config.private], 1)
    columns = {name: column for column, name in enumerate(encoders.nets)}
    losses = []
    for name, other in permutations(columns, 2):
        both = batch.present[:, columns[name]] & batch.present[:, columns[other]]
        # Two samples at least, or there is no scale to standardize by.
        if both.sum() > 1:
            codes = unit_scale(shared[name][both]), unit_scale(shared[other][both]), private[name][both]
            losses.append(pair_loss(config, cast(nn.Module, decoders[name]), *codes, batch.targets[name][both]))
    if not losses:
        return sum((weight.sum() for weight in encoders.parameters()), torch.zeros(())) * 0
    return torch.stack(losses).mean()


def pair_loss(
    config: SharedPrivate, draw: nn.Module, own: Tensor, other: Tensor, private: Tensor, wanted: Tensor
) -> Tensor:
    """A scalar. own, other: (B, shared), the standardized shared codes of both modalities; private: (B, private);
    wanted: (B, T) targets, standardized, NaN where unknown, which counts nothing. draw: codes -> targets."""
    noisy = private + config.noise * torch.randn_like(private)
    known = ~wanted.isnan()
    error = (draw(torch.cat([other, noisy], 1)) - wanted)[known].square().mean() if known.any() else own.sum() * 0
    honesty = (own - other).square().mean()
    return error + config.honesty_weight * honesty + config.capacity_weight * capacity_bits(private, config.noise)


def unit_scale(codes: Tensor) -> Tensor:
    """(B, k) codes of mean 0 and SD 1: else they could agree by being small."""
    return (codes - codes.mean(0)) / (codes.std(0, correction=0) + 1e-6)
