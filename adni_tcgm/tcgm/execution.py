"""How a step is computed: on which device, in which precision, and in how many pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adni_tcgm.tcgm.batch import MultimodalBatch
from adni_tcgm.tcgm.processes import is_sharing, largest, sharing

# Of the free memory of a GPU, what the volumes may fill: the rest is for weights and activations.
RESIDENT_SHARE = 0.4


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


@contextmanager
def arithmetic(device: torch.device, deterministic: bool) -> Iterator[None]:
    """On a GPU: only kernels that repeat to the bit, or whichever is fastest. A CPU repeats to the bit in float32.

    >>> with arithmetic(torch.device("cpu"), deterministic=True):
    ...     torch.ones(2).sum().item()
    2.0
    """
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    filling = torch.utils.deterministic
    filled = filling.fill_uninitialized_memory  # type: ignore[attr-defined]
    # Read when cuBLAS starts, so it must be there before the first product.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # Nothing here reads memory that was never written; to fill it all the same is traffic for nothing.
    filling.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        filling.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def lay_out(model: nn.Module) -> None:
    """Weights of 3D convolutions with the channels last: the layout in which a GPU's bfloat16 kernels are fastest."""
    for parameter in model.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


def compile_networks(model: nn.Module) -> None:
    """Compile each part of the model that says it gains by it."""
    for module in model.modules():
        if getattr(module, "worth_compiling", False):
            module.compile()


def place(samples: MultimodalBatch, device: torch.device) -> MultimodalBatch:
    """The samples on the device for good, or as they are where they would fill too much of it.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> batch = load(GaussianConfig(samples=8, test_samples=4), 0).test
    >>> place(batch, torch.device("cpu")) is batch
    True
    """
    if device.type != "cuda":
        return samples
    size = sum(values.nbytes for values in (*samples.inputs.values(), *samples.targets.values()))
    return samples.to(device) if size < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0] else samples


def set_micro_batch(model: nn.Module, size: int | None) -> bool:
    """Let at most so many samples go through a network at a time; whether any part of the model can do that.

    >>> set_micro_batch(torch.nn.Linear(2, 2), 4)  # no part of it knows what that is
    False
    """
    parts = [module for module in model.modules() if hasattr(module, "micro_batch")]
    for part in parts:
        setattr(part, "micro_batch", size)  # noqa: B010 (not every module has one)
    return bool(parts)


def halved(micro_batch: int | None, batch_size: int) -> int | None:
    """The next smaller micro-batch after a batch did not fit; None where there is none.

    >>> halved(None, 12), halved(6, 12), halved(1, 12)
    (6, 3, None)
    """
    size = min(micro_batch or batch_size, batch_size)
    return (size + 1) // 2 if size > 1 else None


@contextmanager
def frozen_running_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalization normalizes by its batch, as in training, but leaves its running statistics alone.

    >>> norm = torch.nn.BatchNorm1d(1)
    >>> with frozen_running_statistics(norm):
    ...     _ = norm(torch.tensor([[1.0], [3.0]]))
    >>> norm.running_mean.tolist()
    [0.0]
    """
    norms = [module for module in model.modules() if getattr(module, "track_running_stats", False)]
    try:
        for norm in norms:
            setattr(norm, "track_running_stats", False)  # noqa: B010 (not every module has one)
        yield
    finally:
        for norm in norms:
            setattr(norm, "track_running_stats", True)  # noqa: B010


@contextmanager
def kept_running_statistics(model: nn.Module) -> Iterator[None]:
    """What is computed in here a second time does not count a second time.

    >>> norm = torch.nn.BatchNorm1d(1)
    >>> with kept_running_statistics(norm):
    ...     _ = norm(torch.tensor([[1.0], [3.0]]))
    >>> norm.running_mean.tolist()
    [0.0]
    """
    norms = [module for module in model.modules() if getattr(module, "track_running_stats", False)]
    before = [[value.clone() for value in norm.buffers()] for norm in norms]
    try:
        yield
    finally:
        with torch.no_grad():
            for norm, values in zip(norms, before, strict=True):
                for buffer, value in zip(norm.buffers(), values, strict=True):
                    buffer.copy_(value)


def in_pieces(network: nn.Module, inputs: Tensor, size: int | None) -> Tensor:
    """`network(inputs)`, `size` samples at a time. Activations of a piece are computed again when its gradient is due.

    The outputs of all pieces meet in one tensor, so a loss of the whole batch (the gain) stays exactly that. Batch
    normalization then normalizes by pieces.

    >>> in_pieces(torch.nn.Linear(3, 2), torch.ones(5, 3), size=2).shape
    torch.Size([5, 2])
    """
    # Pieces of nearly equal size: a last one of a single sample would have no variance.
    pieces = 1 if size is None else largest(-(-len(inputs) // size))
    if pieces <= 1:
        whole: Tensor = network(inputs)
        return whole

    @contextmanager
    def again(shared: bool) -> Iterator[None]:
        with sharing(shared), kept_running_statistics(network):
            yield

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), again(is_sharing())

    parts = inputs.tensor_split(pieces)
    return torch.cat([checkpoint(network, part, use_reentrant=False, context_fn=contexts) for part in parts])
