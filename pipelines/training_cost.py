"""What a training will take, before it starts: two samples go through the real networks once, and the rest is counted.

Memory: weights, gradients, moments of two optimizers and the best weights so far; what the networks keep for the
gradient of a batch; and the samples, where they move to a GPU. Time: steps times the seconds of a sample. What volumes
take in main memory is said before they are read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from adni_tcgm.tcgm.batch import MultimodalBatch, Splits
from adni_tcgm.tcgm.execution import choose_device, set_micro_batch
from adni_tcgm.tcgm.sampler import Augmentation
from adni_tcgm.tcgm.trainer import Method, TrainConfig, Training
from preprocessing.cohort.preflight import available_memory_gb

# Copies of the weights: themselves, gradients, two moments of two optimizers, the best so far.
COPIES = 7
# What kernels need beside what is kept for the gradient; `benchmarks/train_step.py` measures the whole.
WORKSPACE = 1.25
# Of what is free, how much a training may plan to fill.
USABLE = 0.9
PROBED = 2


@dataclass(frozen=True)
class Estimate:
    """Bytes and seconds. free: of the device, None where it is unknown. seconds: of all steps, validation aside."""

    parameters: int
    data: int
    per_sample: float
    batch_size: int
    micro_batch: int | None
    seconds: float
    device: str
    free: float | None

    @property
    def fixed(self) -> float:
        return COPIES * 4 * self.parameters + self.data

    @property
    def needed(self) -> float:
        return self.fixed + WORKSPACE * self.per_sample * min(self.batch_size, self.micro_batch or self.batch_size)

    @property
    def fits(self) -> bool:
        return self.free is None or self.needed <= USABLE * self.free

    @property
    def fitting_micro_batch(self) -> int | None:
        """The largest one that fits, the current one where it does; at least 1."""
        if self.fits:
            return self.micro_batch
        return max(1, min(self.batch_size, int((USABLE * self.free - self.fixed) / (WORKSPACE * self.per_sample))))

    def __str__(self) -> str:
        there = "unknown" if self.free is None else f"{self.free / 1e9:.1f} GB free"
        lines = [
            f"memory    about {self.needed / 1e9:.2g} GB on the {self.device}, {there}: {self.parameters / 1e6:.1f} M "
            f"parameters, {self.per_sample / 1e6:.0f} MB a sample in a batch of {self.batch_size}",
            f"time      about {_duration(self.seconds)}, validation aside",
        ]
        if not self.fits:
            size = self.fitting_micro_batch
            lines.append(f"warning   memory may run out; --set train.micro_batch={size} takes less of it, and longer")
        return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def describe_volumes(needed: int, free: float | None) -> str:
    """What the volumes of all people will fill of the main memory. needed, free: bytes; free None: unknown."""
    there = "unknown" if free is None else f"{free / 1e9:.1f} GB free"
    line = f"volumes   {needed / 1e9:.2g} GB in main memory, {there}"
    if free is None or needed <= USABLE * free:
        return line
    return f"{line}\nwarning   memory may run out while they are read; fewer people or a smaller data.crop take less"


def estimate(method: Method, splits: Splits, config: TrainConfig, augment: Augmentation | None) -> Estimate:
    """Builds the model aside and takes two samples through both steps, without a step of an optimizer.

    The caller's random state is left as it was.
    """
    device = choose_device(config.device)
    # A CPU's memory holds the samples already; a GPU's will, and is asked before.
    free = free_bytes(device)
    with torch.random.fork_rng():
        training = Training(method, splits, replace(config, micro_batch=None), augment)
        set_micro_batch(training.model, None)
        training.model.train()
        samples = splits.train.select(torch.arange(min(PROBED, len(splits.train))))
        samples = augment.center(samples) if augment else samples
        # Every label is known in a labeled step; which one it is costs the same.
        samples = replace(samples, labels=torch.zeros_like(samples.labels)).to(device)
        labeled, unlabeled = (
            _probe(loss_of, training, samples) for loss_of in (method.labeled_loss, method.unlabeled_loss)
        )
    sizes = config.batch_size_labeled, min(config.batch_size_unlabeled, len(splits.train))
    steps = config.steps, max(0, config.steps - config.supervised_steps)
    return Estimate(
        parameters=sum(p.numel() for p in training.model.parameters()),
        data=sum(v.nbytes for v in training.unlabeled_sampler.samples.inputs.values() if v.device.type == "cuda"),
        per_sample=max(labeled[0], unlabeled[0]) / len(samples),
        batch_size=max(sizes),
        micro_batch=config.micro_batch,
        seconds=sum(
            r * size * s / len(samples) for r, size, (_, s) in zip(steps, sizes, (labeled, unlabeled), strict=True)
        ),
        device="GPU" if device.type == "cuda" else "CPU",
        free=free,
    )


def _probe(loss_of, training: Training, samples: MultimodalBatch) -> tuple[int, float]:
    """Bytes kept for the gradient, and seconds of forward and backward the second time; (0, 0) without such a step."""
    weights = {p.untyped_storage().data_ptr() for p in training.model.parameters()}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    precision = training.precision
    for counting in (True, False):
        start = perf_counter()
        with torch.autocast(training.device.type, precision, enabled=precision != torch.float32):
            if counting:
                with saved_tensors_hooks(keep, lambda value: value):
                    loss = loss_of(training.model, samples)
            else:
                loss = loss_of(training.model, samples)
        if loss is None:
            return 0, 0.0
        loss.backward()
        if training.device.type == "cuda":
            torch.cuda.synchronize()
    return sum(kept.values()), perf_counter() - start


def free_bytes(device: torch.device) -> float | None:
    """Of that device's memory; None where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = available_memory_gb()
    return None if free is None else free * 1e9
