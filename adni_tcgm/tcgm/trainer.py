"""Training with few labels: a labeled and an unlabeled loss in each step (paper section 4.3)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam
from tqdm import tqdm

from adni_tcgm.tcgm.aggregator import label_prior, nuisance_group_priors
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.checkpoint import (
    Best,
    Checkpoint,
    CheckpointStore,
    Losses,
    optimizer_tensors,
    put_below,
    random_state,
    restore_optimizer,
    restore_random,
    take_below,
)
from adni_tcgm.tcgm.execution import (
    arithmetic,
    choose_device,
    compile_networks,
    frozen_running_statistics,
    halved,
    lay_out,
    place,
    set_micro_batch,
)
from adni_tcgm.tcgm.graphs import capture_networks, release_networks
from adni_tcgm.tcgm.method import Fitted, Method, Spec
from adni_tcgm.tcgm.precision import Probe, choose_precision, probe_batches
from adni_tcgm.tcgm.processes import (
    average_gradients,
    rank,
    seed_step,
    share,
    share_statistics,
    sharing,
    world,
)
from adni_tcgm.tcgm.sampler import Augmentation, BatchSampler, sample_batches
from adni_tcgm.tcgm.train_config import TrainConfig
from adni_tcgm.tcgm.validation import predict, tempered_log_loss, validate

__all__ = [
    "Augmentation",
    "Fitted",
    "Method",
    "Spec",
    "TrainConfig",
    "Training",
    "choose_device",
    "fit",
    "frozen_running_statistics",
    "predict",
    "sample_batches",
    "tempered_log_loss",
    "validate",
    "viewed_modalities",
]


@dataclass(frozen=True)
class Part:
    """A part of the objective: a loss, the batches that it is taken of, and where its values are kept."""

    loss_of: Callable[[MultimodalBatch], Tensor | None]
    sampler: BatchSampler
    losses: Losses


def fit(
    method: Method,
    splits: Splits,
    config: TrainConfig,
    augment: Augmentation | None = None,
    progress: str | None = None,
    checkpoint: CheckpointStore | None = None,
) -> Fitted:
    """Train `method` on `splits.train` and keep the weights with the lowest validation loss: the mean, over "all" and
    each modality that the method predicts from, of the log-loss at its best temperature (`tempered_log_loss`). By "all"
    alone, single classifiers would be left half trained where together they are right early.

    Without a labeled validation sample the weights of the last step stay. `progress` titles a progress bar. The same
    seed gives the same weights on a CPU; the caller's global random state is left as it was.
    checkpoint: where the training is kept while it goes on. One that was killed goes on from there, and ends with the
    weights, to the bit, of one that never was (on a CPU).

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> from adni_tcgm.methods.ce import CrossEntropy
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> splits = load(GaussianConfig(samples=40, test_samples=10, label_rate=0.2), seed=0)
    >>> fit(CrossEntropy(MLPConfig()), splits, TrainConfig(steps=5, supervised_steps=0, device="cpu")).best_step
    5
    """
    own_fit: Callable[[Splits, TrainConfig], Fitted] | None = getattr(method, "fit", None)
    if own_fit is not None:
        return own_fit(splits, config)
    hidden = progress is None or rank() > 0
    with (
        torch.random.fork_rng(),
        arithmetic(choose_device(config.device), config.deterministic),
        tqdm(total=config.steps, desc=progress, disable=hidden) as bar,
    ):
        training = Training(method, splits, config, augment)
        saved = checkpoint.restore() if checkpoint else None
        if saved is not None:
            training.restore(saved)
            bar.update(training.step)
        while not training.done:
            row = training.run_step()
            bar.update()
            if checkpoint and row:
                checkpoint.record(row)
            if checkpoint and checkpoint.is_due():
                checkpoint.save(training.checkpoint())
        return training.finish()


class Training:
    """One training between two steps; `checkpoint` and `restore` hold everything that a step changes."""

    def __init__(self, method: Method, splits: Splits, config: TrainConfig, augment: Augmentation | None) -> None:
        self.method, self.config, self.device = method, config, choose_device(config.device)
        self.augment = augment
        self.precision = choose_precision(config.precision, self.device)
        if world() > 1 and not getattr(method, "shares_batches", False):
            raise ValueError(f"{type(method).__name__} as set cannot share its batches among {world()} processes")
        train, self.validation = splits.train, splits.validation
        if (splits.validation.labels == UNLABELED).any():
            self.validation = splits.validation.select(splits.validation.labels != UNLABELED)
        prior = label_prior(train.labels, len(splits.classes), config.prior_smoothing).log()
        by_group = {
            name: p.log() for name, p in nuisance_group_priors(train.labels, train.nuisance_groups, prior.exp()).items()
        }
        # A labeled sample is an unlabeled one too: the second sampler draws from all of the training samples.
        labeled, samples = (train.labels != UNLABELED).nonzero().squeeze(1), place(train, self.device)
        self.labeled_sampler = BatchSampler(
            samples, config.batch_size_labeled, augment, seed=2 * config.seed, rows=labeled
        )
        self.unlabeled_sampler = BatchSampler(samples, config.batch_size_unlabeled, augment, seed=2 * config.seed + 1)

        torch.manual_seed(config.seed)
        seen = viewed_modalities(splits.modalities, train, augment)
        spec = Spec(seen, splits.classes, prior, by_group, len(labeled), config.orientation)
        self.model = method.build(spec).to(self.device)
        self.micro_batch = config.micro_batch
        self._prepare_model()
        self.fitted = Fitted(method, self.model, splits.classes, splits.modalities, prior, [], config, 0, augment)
        weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        means = getattr(self.model, "weight_means", {})
        self.shrunk = [
            (p, means[name].to(p.device) if name in means else None)
            for name, p in self.model.named_parameters()
            if p.requires_grad and p.ndim > 1
        ]
        # Fused: all weights are updated by one call instead of a dozen for each.
        fused = True if self.device.type in ("cpu", "cuda") else None
        self.optimizer_l, self.optimizer_u = (
            Adam(weights, rate, weight_decay=config.weight_decay, fused=fused)
            for rate in (config.lr_labeled, config.lr_unlabeled)
        )
        self.source = self._source_parts(splits.source, prior.exp()) if splits.source is not None else []
        self.best, self.step, self.start = Best(), 0, perf_counter()
        self.losses_l, self.losses_u = Losses("labeled"), Losses("unlabeled")

    def _source_parts(self, source: MultimodalBatch, prior: Tensor) -> list[Part]:
        """One of each class: its samples' labeled loss, weighted by the class prior of the visible labels."""
        source, parts = place(source, self.device), []
        for index, share_of_class in enumerate(prior.tolist()):
            rows = (source.labels.cpu() == index).nonzero().squeeze(1)
            seed = -1000 - len(prior) * self.config.seed - index
            sampler = BatchSampler(source, self.config.batch_size_labeled, self.augment, seed=seed, rows=rows)
            weight = self.config.source_weight * share_of_class
            if len(rows) and weight:
                loss_of = partial(self._weighted_loss, weight)
                parts.append(Part(loss_of, sampler, Losses("source")))
        return parts

    def _weighted_loss(self, weight: float, batch: MultimodalBatch) -> Tensor:
        return weight * self.method.labeled_loss(self.model, batch)

    def _prepare_model(self) -> None:
        if world() > 1:
            share_statistics(self.model)
        if self.device.type == "cuda":
            lay_out(self.model)
        if self.config.compile:
            compile_networks(self.model)
        if self.micro_batch and not set_micro_batch(self.model, self.micro_batch):
            raise ValueError(
                f"micro_batch is {self.micro_batch}, but {type(self.method).__name__} knows no micro-batches"
            )
        captured = self.config.cuda_graphs and self.device.type == "cuda" and world() == 1 and not self.micro_batch
        if captured:
            capture_networks(self.model)
        probe = Probe()
        if self.device.type == "cpu" and self.precision == torch.bfloat16:
            sizes = [
                -(-sampler.size // world())
                for sampler in (self.labeled_sampler, self.unlabeled_sampler)
                if sampler.size
            ]
            probe = probe_batches(self.model, self._look_at, sizes)
        if probe.fault is not None:
            self.precision = torch.float32
            note = f"float32 instead of bfloat16, which this processor computes wrongly: {probe.fault}"
            warnings.warn(note, stacklevel=2)
        exact_cpu = self.device.type == "cpu" and (self.precision == torch.float32 or probe.repeatable)
        self.execution: dict[str, Any] = {
            "device": self.device.type,
            "precision": str(self.precision).removeprefix("torch."),
            "bfloat16_fault": probe.fault,
            "deterministic": exact_cpu or (self.device.type != "cpu" and self.config.deterministic),
            "processes": world(),
            "cuda_graphs": captured,
            "micro_batch": self.micro_batch,
            "out_of_memory": [],
        }

    def _look_at(self, size: int) -> None:
        """A forward pass of the first `size` training samples, cut to what the networks see."""
        batch = self.unlabeled_sampler.samples.select(torch.arange(size))
        if self.augment is not None:
            batch = self.augment.center(batch)
        with torch.autocast(self.device.type, self.precision):
            self.method.predict(self.model, batch.in_float32())

    @property
    def done(self) -> bool:
        patience = self.config.patience
        return self.step >= self.config.steps or (patience is not None and self.best.waited >= patience)

    def run_step(self) -> dict[str, float] | None:
        """A labeled update and, after the supervised steps, an unlabeled one; a row of the history where one is due."""
        self.step += 1
        if not self.model.training:
            self.model.train()
        seed_step(self.config.seed, self.step)
        labeled, unlabeled = [], []
        if len(self.labeled_sampler.rows):
            labeled.append(Part(self._labeled_loss, self.labeled_sampler, self.losses_l))
        labeled += self.source
        if self.step > self.config.supervised_steps:
            unlabeled.append(Part(self._unlabeled_loss, self.unlabeled_sampler, self.losses_u))
        if self.config.schedule == "joint":
            self._update(labeled + unlabeled, self.optimizer_l)
        else:
            self._update(labeled, self.optimizer_l)
            self._update(unlabeled, self.optimizer_u)
        if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
            return self._validate()
        return None

    def _labeled_loss(self, batch: MultimodalBatch) -> Tensor:
        loss = self.method.labeled_loss(self.model, batch)
        if self.config.ridge == 0:
            return loss
        squares = sum((p if mean is None else p - mean).square().sum() for p, mean in self.shrunk)
        return loss + self.config.ridge / len(self.labeled_sampler.rows) * squares

    def _unlabeled_loss(self, batch: MultimodalBatch) -> Tensor | None:
        return self.method.unlabeled_loss(self.model, batch)

    def _update(self, parts: Sequence[Part], optimizer: Adam) -> None:
        """One step of the optimizer on the sum of the parts' losses, each on a batch of its own."""
        batches = [share(next(part.sampler)).to(self.device) for part in parts]
        random = random_state(self.device)
        while True:
            try:
                losses = self._differentiate(parts, batches, optimizer)
                break
            except torch.OutOfMemoryError as error:
                self._shrink(max(map(len, batches)), error)
            # Outside of the handler: its traceback holds the tensors that are to be freed.
            restore_random(random, self.device)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        for part, loss in zip(parts, losses, strict=True):
            if loss is not None:
                part.losses.add(self.step, loss)
        if any(loss is not None for loss in losses):
            average_gradients(self.model)
            optimizer.step()
            self.method.after_step(self.model)

    def _differentiate(
        self, parts: Sequence[Part], batches: Sequence[MultimodalBatch], optimizer: Adam
    ) -> list[Tensor | None]:
        """The losses; the gradient of their sum in the parameters."""
        optimizer.zero_grad()
        losses = []
        for part, batch in zip(parts, batches, strict=True):
            # Backward inside, too: a method may compute its forward pass again there.
            frozen = part.sampler is self.unlabeled_sampler
            with sharing(), frozen_running_statistics(self.model) if frozen else nullcontext():
                with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                    loss = part.loss_of(batch)
                if loss is not None:
                    loss.backward()
                losses.append(loss)
        return losses

    def _shrink(self, batch_size: int, error: torch.OutOfMemoryError) -> None:
        """Go on without graphs, or with half the micro-batch. Running statistics may count what failed twice."""
        if self.execution["cuda_graphs"]:  # they hold the activations of several passes at once
            release_networks(self.model)
            self.execution["cuda_graphs"] = False
            return
        smaller = halved(self.micro_batch, batch_size)
        if smaller is None or world() > 1 or not set_micro_batch(self.model, smaller):
            raise error
        self.micro_batch = self.execution["micro_batch"] = smaller
        self.execution["out_of_memory"].append({"step": self.step, "micro_batch": smaller})

    def _validate(self) -> dict[str, float]:
        losses = {"loss_labeled": self.losses_l.take_mean(), "loss_unlabeled": self.losses_u.take_mean()}
        scores = validate(self.fitted, self.validation)
        rates = {"lr_l": self.config.lr_labeled, "lr_u": self.config.lr_unlabeled}
        seconds = perf_counter() - self.start
        # The contract of history.tsv calls a step a round.
        row = {"round": self.step, **losses, **scores, **rates, "seconds": seconds}
        self.fitted.history.append(row)
        self.best.update(self.model, self.step, scores["validation_loss"])
        return row

    def finish(self) -> Fitted:
        release_networks(self.model)
        self.fitted.execution = self.execution
        self.fitted.best_step = self.best.load_into(self.model.eval(), otherwise=self.step)
        return self.fitted

    def checkpoint(self) -> Checkpoint:
        best = self.best.checkpoint()
        parts = {
            "model": self.model.state_dict(),
            "best": best.tensors,
            "optimizer_l": optimizer_tensors(self.optimizer_l),
            "optimizer_u": optimizer_tensors(self.optimizer_u),
            "labeled_sampler": self.labeled_sampler.state(),
            "unlabeled_sampler": self.unlabeled_sampler.state(),
            "random": random_state(self.device),
        }
        parts |= {f"source{number}": part.sampler.state() for number, part in enumerate(self.source)}
        values = {
            "step": self.step,
            "seconds": perf_counter() - self.start,
            "history": self.fitted.history,
            "losses_l": self.losses_l.read(),
            "losses_u": self.losses_u.read(),
            "best": best.values,
            "execution": self.execution,
        }
        return Checkpoint({k: v for name, part in parts.items() for k, v in put_below(name, part).items()}, values)

    def restore(self, checkpoint: Checkpoint) -> None:
        tensors, values = checkpoint.tensors, checkpoint.values
        self.model.load_state_dict(take_below("model", tensors))
        # On the training's device: the optimizers see to that themselves.
        best = {name: value.to(self.device) for name, value in take_below("best", tensors).items()}
        self.best.restore(best, values["best"])
        restore_optimizer(self.optimizer_l, take_below("optimizer_l", tensors))
        restore_optimizer(self.optimizer_u, take_below("optimizer_u", tensors))
        self.labeled_sampler.restore(take_below("labeled_sampler", tensors))
        self.unlabeled_sampler.restore(take_below("unlabeled_sampler", tensors))
        for number, part in enumerate(self.source):
            part.sampler.restore(take_below(f"source{number}", tensors))
        restore_random(take_below("random", tensors), self.device)
        before, here = values["execution"], {name: self.execution[name] for name in ("precision", "bfloat16_fault")}
        same = before["precision"] == here["precision"]
        self.micro_batch = before["micro_batch"]
        set_micro_batch(self.model, self.micro_batch)
        if self.micro_batch:
            release_networks(self.model)
        here |= {"cuda_graphs": self.execution["cuda_graphs"] and not self.micro_batch, "processes": world()}
        self.execution = before | here | {"deterministic": before["deterministic"] and same}
        self.step, self.start = values["step"], perf_counter() - values["seconds"]
        self.fitted.history[:] = values["history"]
        self.losses_l.values, self.losses_u.values = values["losses_l"], values["losses_u"]


def viewed_modalities(
    modalities: Sequence[Modality], samples: MultimodalBatch, augment: Augmentation | None
) -> Sequence[Modality]:
    """With the shapes that networks see: an augmentation may cut a margin off.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> splits = load(GaussianConfig(samples=8, test_samples=4), 0)
    >>> viewed_modalities(splits.modalities, splits.train, None)[0].shape
    (10,)
    """
    if augment is None or not len(samples):
        return modalities
    view = augment.center(samples.select(torch.arange(1)))
    return [replace(modality, shape=tuple(view.inputs[modality.name].shape[1:])) for modality in modalities]
