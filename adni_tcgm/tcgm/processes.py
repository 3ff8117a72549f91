"""Several processes that train one model, each on its share of every batch (started by torchrun).

Every process draws the same batches, takes its share, and holds the same weights. What a loss needs of the whole batch
are a few sums (`add_up`): of the gain the subset sums, of cross-entropy a sum and a count. So every process knows the
loss of the whole batch, and the mean of their gradients is its gradient.

Not DistributedDataParallel: its forward is that of one module, a method's loss goes through several. The convention is
the same, gradients are averaged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from adni_tcgm.tcgm.batch import MultimodalBatch

_SHARING: ContextVar[bool] = ContextVar("sharing", default=False)


@contextmanager
def joined(device: str = "auto") -> Iterator[int]:
    """Join the processes that torchrun started, and yield the number of this one; 0 where there are no others.

    NCCL between GPUs, gloo between CPUs. The processes of one machine take one GPU each.

    >>> with joined("cpu") as number:
    ...     number
    0
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield rank()
        return
    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if gpu else "gloo")
    try:
        yield rank()
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process; 0 where nobody was joined.

    >>> rank()
    0
    """
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes train together; 1 where nobody was joined.

    >>> world()
    1
    """
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def sharing(shared: bool | None = None) -> Iterator[None]:
    """In here a batch is one share of a larger one; all processes must be here with the shares of the same batch.

    shared: as it was where something is computed again (`is_sharing`): gradients on a GPU come from threads of their
    own, which know of no context.

    >>> with sharing(True):
    ...     is_sharing()
    True
    """
    token = _SHARING.set(world() > 1 if shared is None else shared)
    try:
        yield
    finally:
        _SHARING.reset(token)


def is_sharing() -> bool:
    """Whether a batch is one share of a larger one here.

    >>> is_sharing()
    False
    """
    return _SHARING.get()


def share(batch: MultimodalBatch) -> MultimodalBatch:
    """This process's part of the batch: the whole of it where there are no others.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> batch = load(GaussianConfig(samples=8, test_samples=4), 0).test
    >>> len(share(batch))  # there are no others
    4
    """
    if world() == 1:
        return batch
    if len(batch) < world():
        raise ValueError(f"a batch of {len(batch)} samples cannot be shared by {world()} processes")
    return batch.select(torch.arange(len(batch)).tensor_split(world())[rank()])


def add_up(values: Tensor) -> Tensor:
    """The sum over all processes, with its gradient, while they share a batch; otherwise the values as they are.

    >>> add_up(torch.tensor(3.0)).item()
    3.0
    """
    return _Sum.apply(values) if _SHARING.get() else values


class _Sum(torch.autograd.Function):
    """What a process gives away comes back as a part of every sum, so the gradients of all of them count."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(_, gradient)


def largest(value: int) -> int:
    """The largest over all processes, while they share a batch: what they must all do equally often.

    >>> largest(3)
    3
    """
    if not _SHARING.get():
        return value
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    most = torch.tensor(value, device=device)
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    return int(most)


def average_gradients(model: nn.Module) -> None:
    """As one tensor, since many small messages would take longer. A parameter that no share has used keeps no gradient.

    Whether a parameter was used is the same in all processes: losses ask the whole batch (`add_up`).
    """
    if world() == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= world()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def seed_step(seed: int, step: int) -> None:
    """Dropout must not be the same in every share. The first process keeps the one generator that resuming restores."""
    if rank() > 0:
        torch.manual_seed(hash((seed, step, rank())) % 2**63)


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization by the statistics of the whole batch; any number of spatial axes, on any device.

    >>> SharedBatchNorm(2).eval()(torch.ones(3, 2)).shape
    torch.Size([3, 2])
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any (B, C, …)."""

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and is_sharing()):
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        x = input.float()
        total = add_up(torch.cat([x.sum(axes), x.new_full((1,), x.numel() / x.shape[1])]))
        mean, count = total[:-1] / total[-1], total[-1].detach()
        centered = x - mean.view(shape)
        variance = add_up(centered.square().sum(axes)) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None and self.momentum is not None  # all of them, or none
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        normalized = centered * (variance + self.eps).rsqrt().view(shape)
        return (normalized * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)


def share_statistics(model: nn.Module) -> None:
    """Put `SharedBatchNorm` in the place of every batch normalization, with the same weights under the same names.

    >>> net = nn.Sequential(nn.BatchNorm1d(2))
    >>> share_statistics(net)
    >>> type(net[0]).__name__
    'SharedBatchNorm'
    """
    for name, child in model.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.affine:
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared.weight, shared.bias = child.weight, child.bias
            shared.running_mean, shared.running_var = child.running_mean, child.running_var
            shared.num_batches_tracked = child.num_batches_tracked
            shared.train(child.training)
            setattr(model, name, shared)
        else:
            share_statistics(child)
