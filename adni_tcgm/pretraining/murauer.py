"""MURAUER: labels of a simulated source for unlabeled samples of a real target.

Reference: Poier et al., MURAUER: Mapping Unlabeled Real Data for Label AUstERity, WACV 2019 (arXiv 1811.09497). For
each modality, f encodes a sample, p classifies it from its latent representation z = f(x), and g predicts the other
modalities from z. Samples of the target pass a residual mapping first, z' = m(f(x)), which learns without labels that
z' predicts the other modalities (Eq. 9, 10) and that a discriminator h cannot tell z' from the z of the source (Eq. 11
to 13), and, where the same sample is in both, that z' equals z (Eq. 8). Other than in the paper, the other view is
given by its targets, sums are means, and the adversarial loss trains m alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from tqdm import tqdm

from adni_tcgm.pretraining.loop import ANYWHERE, Place
from adni_tcgm.pretraining.pretext import (
    Encoder,
    Network,
    standardize,
    target_widths,
    task_columns,
    task_loss,
    with_targets,
)
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, join
from adni_tcgm.tcgm.encoders import Encoders, encode
from adni_tcgm.tcgm.execution import arithmetic
from adni_tcgm.tcgm.trainer import Augmentation, choose_device, sample_batches, viewed_modalities

TASKS = ("cross_modal",)
REAL, SOURCE = 1.0, 0.0  # what the discriminator should say (below Eq. 11)


@dataclass(frozen=True)
class Murauer:
    """Where the source lies, and how f, m, p, g and h train.

    source: paths of labeled data sets of the same kind as the target; all their samples and labels are used.
    lambda_g, lambda_m, lambda_c: weights of view prediction, of the adversarial loss and of the correspondence loss
        (Eq. 1). The latter needs samples of the source with the id of a labeled sample of the target.
    latent, hidden: widths of z, and of the hidden layers of m and h.
    source_steps, steps: training of f, p and g on the source alone, and of everything on both.

    >>> Murauer(source=("simulated/prepared",)).latent
    32
    """

    source: tuple[str, ...]
    lambda_g: float = 1.0
    lambda_m: float = 0.1
    lambda_c: float = 0.0
    latent: int = 32
    hidden: int = 64
    components: int = 16
    source_steps: int = 400
    steps: int = 200
    batch_size: int = 16
    rate: float = 1e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("source names no data set; MURAUER learns from the labels of at least one")
        for name in ("latent", "hidden", "source_steps", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if min(self.lambda_g, self.lambda_m, self.lambda_c) < 0:
            raise ValueError("lambda_g, lambda_m and lambda_c must be 0 or more")


class Mapped(nn.Module):
    """f, m, p, g and h of one modality; says, of a sample of the target, its class scores and its other views."""

    def __init__(self, f: nn.Module, config: Murauer, classes: int, views: int) -> None:
        super().__init__()
        z, hidden = config.latent, config.hidden
        self.f = f
        last = nn.Linear(hidden, z)
        self.residual = nn.Sequential(nn.Linear(z, hidden), nn.ReLU(), last)
        # At first m leaves everything as it is.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.p, self.g = nn.Linear(z, classes), nn.Linear(z, views)
        self.h = nn.Sequential(nn.Linear(z, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def m(self, z: Tensor) -> Tensor:
        """Eq. 6: a latent representation of the target in the space of the source's."""
        moved: Tensor = self.residual(z)
        return z + moved

    def forward(self, x: Tensor) -> Tensor:
        mapped = self.m(self.f(x))
        scores = self.p(mapped)
        return torch.cat([scores - scores.mean(1, keepdim=True), self.g(mapped)], 1)


def pretrain_murauer(
    config: Murauer,
    network: Network,
    modalities: Sequence[Modality],
    source: MultimodalBatch,
    target: MultimodalBatch,
    *,
    seed: int = 0,
    place: Place = ANYWHERE,
    augment: Augmentation | None = None,
    progress: str | None = None,
) -> Encoders:
    """Encoders for the target: the class scores of each sample and its predicted other views, standardized.

    source: every label known. target: the training samples; of their labels, the visible ones train p.
    All of it is computed in float32. Raises ValueError where the source has an unlabeled sample, or no pair although
    lambda_c asks for them.
    """
    if (source.labels == UNLABELED).any():
        raise ValueError("a sample of the source has no label; MURAUER's source knows all of them")
    source, target = with_shared_targets(source, target, config.components)
    labeled = target.select(target.labels != UNLABELED)
    device, size = choose_device(place.device), config.batch_size
    pairs = None
    if config.lambda_c:
        here, there = ((augment.center(b) if augment else b).to(device) for b in find_pairs(labeled, source))
        pairs = here, there
    total = config.source_steps + config.steps
    with (
        torch.random.fork_rng(),
        arithmetic(device, place.deterministic),
        tqdm(total=total, desc=progress, disable=progress is None) as bar,
    ):
        torch.manual_seed(seed)
        seen, classes = viewed_modalities(modalities, target, augment), int(source.labels.max()) + 1
        nets = build_mapped(config, network, seen, target_widths(target), classes).to(device).train()
        judges = {p for net in _each(nets).values() for p in net.h.parameters()}
        others = [p for p in nets.parameters() if p not in judges]
        optimizer, optimizer_h = (
            Adam(part, lr=config.rate, weight_decay=config.weight_decay) for part in (others, list(judges))
        )
        samplers = [sample_batches(b, size, augment, seed=-2 - 3 * seed - i) for i, b in enumerate((source, target))]
        few = sample_batches(labeled, size, augment, seed=-4 - 3 * seed) if len(labeled) else None
        for step in range(total):
            batch = next(samplers[0]).to(device)
            if step < config.source_steps:
                _step(optimizer, source_loss(nets, batch, config))
            else:
                real = next(samplers[1]).to(device)
                shown = next(few).to(device) if few else real.select(torch.arange(0))
                loss, loss_h = joint_losses(nets, batch, real, shown, pairs, config)
                _step(optimizer, loss)
                _step(optimizer_h, loss_h)
            bar.update()
    widths = {name: net.p.out_features + net.g.out_features for name, net in _each(nets).items()}
    encoders = Encoders({name: Encoder(net, widths[name]).to(device) for name, net in _each(nets).items()}, widths)
    encoders.made_by = config, network
    standardize(encoders, encode(encoders, target, augment))
    return encoders


def build_mapped(
    config: Murauer, network: Network, modalities: Sequence[Modality], views: Mapping[str, int], classes: int
) -> nn.ModuleDict:
    """Modality -> its networks, with freshly drawn weights. views: modality -> how many targets it has."""
    nets = nn.ModuleDict()
    for modality in modalities:
        others = sum(views[of] for _, of in task_columns(TASKS, modality.name, list(views)))
        f = network.build(modality.shape, config.latent)
        nets[modality.name] = Mapped(f, config, classes, others)
    return nets


def with_shared_targets(
    source: MultimodalBatch, target: MultimodalBatch, components: int
) -> tuple[MultimodalBatch, MultimodalBatch]:
    """Both with targets of every modality; principal components, where there are none, are those of both together."""
    if all(name in batch.targets for batch in (source, target) for name in batch.inputs):
        return source, target
    bare = [replace(batch, targets={}) for batch in (source, target)]
    targets = with_targets(join(bare), components).targets
    halves = {name: values.split([len(source), len(target)]) for name, values in targets.items()}
    first, second = (
        replace(batch, targets={name: values[i] for name, values in halves.items()}) for i, batch in enumerate(bare)
    )
    return first, second


def source_loss(nets: nn.ModuleDict, source: MultimodalBatch, config: Murauer) -> Tensor:
    """Cross-entropy and view prediction on the source alone."""
    losses = []
    for net, name, (part,), (z,) in _latents(nets, source):
        losses.append(F.cross_entropy(net.p(z), part.labels) + config.lambda_g * task_loss(net.g(z), part, name, TASKS))
    return torch.stack(losses).sum()


def joint_losses(
    nets: nn.ModuleDict,
    source: MultimodalBatch,
    real: MultimodalBatch,
    labeled: MultimodalBatch,
    pairs: tuple[MultimodalBatch, MultimodalBatch] | None,
    config: Murauer,
) -> tuple[Tensor, Tensor]:
    """Eq. 1 for f, m, p and g: target loss + lambda_g view prediction + lambda_m adversarial loss + lambda_c
    correspondence; and Eq. 12 for h. labeled: of the target, perhaps nobody."""
    loss, loss_h = (torch.zeros((), device=source.labels.device) for _ in range(2))
    for net, name, (made, there, shown), (z, raw, raw_shown) in _latents(nets, source, real, labeled):
        mapped = net.m(raw)
        loss = loss + F.cross_entropy(net.p(z), made.labels)
        if len(shown):
            loss = loss + F.cross_entropy(net.p(net.m(raw_shown)), shown.labels)
        views = task_loss(net.g(z), made, name, TASKS) + task_loss(net.g(mapped), there, name, TASKS)
        # Eq. 13: the mapping deceives the discriminator; f does not lend itself to that.
        fooled = 0.5 * (net.h(net.m(raw.detach())) - SOURCE).square().mean()
        loss = loss + config.lambda_g * views + config.lambda_m * fooled
        real_error, source_error = net.h(mapped.detach()) - REAL, net.h(z.detach()) - SOURCE
        loss_h = loss_h + 0.5 * real_error.square().mean() + 0.5 * source_error.square().mean()
    if pairs is not None:
        for net, _, _, (raw, z) in _latents(nets, *pairs):
            # Eq. 8; it is the mapping that gives way.
            loss = loss + config.lambda_c * (net.m(raw) - z.detach()).square().mean()
    return loss, loss_h


def find_pairs(labeled: MultimodalBatch, source: MultimodalBatch) -> tuple[MultimodalBatch, MultimodalBatch]:
    """Labeled samples of the target and the samples of the source with their ids, in the same order, of those who have
    the same modalities in both."""
    place = {name: row for row, name in enumerate(source.sample_ids)}
    rows = [(i, place[name]) for i, name in enumerate(labeled.sample_ids) if name in place]
    rows = [(i, j) for i, j in rows if torch.equal(labeled.present[i], source.present[j])]
    if len(rows) < 2:
        raise ValueError(
            f"lambda_c asks for pairs, but {len(rows)} of {len(labeled)} labeled samples have their id in the source"
        )
    here, there = torch.tensor(rows).T
    return labeled.select(here), source.select(there)


def _each(nets: nn.ModuleDict) -> dict[str, Mapped]:
    return {name: cast(Mapped, net) for name, net in nets.items()}


def _latents(
    nets: nn.ModuleDict, *batches: MultimodalBatch
) -> Iterator[tuple[Mapped, str, list[MultimodalBatch], list[Tensor]]]:
    """Each modality's networks, its name, the samples of each batch that have it, and f of them.

    f sees all batches as one, so that batch normalization does not know which sample is of which.
    """
    for column, (name, net) in enumerate(_each(nets).items()):
        parts = [batch.select(batch.present[:, column]) for batch in batches]
        z = net.f(torch.cat([part.inputs[name] for part in parts]))
        yield net, name, parts, list(z.split([len(part) for part in parts]))


def _step(optimizer: Adam, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
