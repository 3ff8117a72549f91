"""Which precision a training computes in, and whether this processor computes in it correctly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import isnan

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from adni_tcgm.tcgm.processes import largest, sharing

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# bfloat16 keeps 8 bits: correct gradients lie within 1 % of those in float32, wrong ones differ by 100 % or are NaN.
TOLERANCE = 0.05
REPEATS = 3


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """ "auto": bfloat16 on a GPU that computes in it, else float32. Raises ValueError for a name that is unknown.

    >>> choose_precision("auto", torch.device("cpu"))
    torch.float32
    >>> choose_precision("float16", torch.device("cpu"))
    Traceback (most recent call last):
        ...
    ValueError: precision is 'float16'; choose one of auto, float32, bfloat16
    """
    if name == "auto":
        # Older GPUs emulate it, and are slower with it than without.
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; choose one of auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


@dataclass(frozen=True)
class Probe:
    """What a check of bfloat16 found. `fault`: the first layer that is wrong, in words; None: all are right.

    repeatable: whether every layer gave the same bits each time.

    >>> Probe().fault is None
    True
    """

    fault: str | None = None
    repeatable: bool = True


def probe_bfloat16(model: nn.Module, forward: Callable[[], object]) -> Probe:
    """Whether convolutions and linear layers of `model` compute output and gradients in bfloat16 as in float32.

    `forward` runs the model once; each layer is then tried with random values of the shapes that it met there. On some
    processors the gradients of bfloat16 convolutions on small maps are wrong, and differ from call to call. The global
    random state and the model stay as they are.
    """
    repeatable = True
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        for name, layer, shape in list(_layers_in_use(model, forward)):
            torch.manual_seed(0)
            x = torch.randn(shape)
            exact = _output_and_gradients(layer, x, torch.float32)
            tries = []
            for _ in range(REPEATS):
                _leave_nan_behind(shape)
                tries.append(_output_and_gradients(layer, x, torch.bfloat16))
            errors = [_relative_error(rough, exact) for rough in tries]
            worst = float("nan") if any(isnan(e) for e in errors) else max(errors)
            # `not <=` and not `>`: NaN is wrong, too.
            if not worst <= TOLERANCE:
                maps = " x ".join(str(n) for n in shape)
                return Probe(f"{name} ({type(layer).__name__} of {maps}) {_amount(worst)}", False)
            repeatable &= all(torch.equal(a, b) for rough in tries[1:] for a, b in zip(rough, tries[0], strict=True))
    return Probe(repeatable=repeatable)


def probe_batches(model: nn.Module, forward: Callable[[int], object], sizes: Iterable[int]) -> Probe:
    """`probe_bfloat16` with batches of each of these sizes; `forward` is given the size. Processes that share a
    training agree: what one of them finds wrong is wrong for all.
    """
    probes = [probe_bfloat16(model, partial(forward, size)) for size in sorted(set(sizes))]
    fault = next((probe.fault for probe in probes if probe.fault), None)
    with sharing():
        if largest(fault is not None) and fault is None:
            fault = "found by another process"
    return Probe(fault, all(probe.repeatable for probe in probes))


def _layers_in_use(model: nn.Module, forward: Callable[[], object]) -> Iterator[tuple[str, nn.Module, tuple[int, ...]]]:
    """Name, layer and shape of its input; of several layers with the same shapes, the first."""
    met: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], object], None]:
        return lambda layer, inputs, _: met.setdefault(name, (layer, tuple(inputs[0].shape))) and None

    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, _ConvNd | nn.Linear)]
    hooks = [layer.register_forward_hook(remember(name)) for name, layer in layers]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()
            forward()
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    seen = set()
    for name, (layer, shape) in met.items():
        kind = (repr(layer), shape)
        if kind not in seen:
            seen.add(kind)
            yield name, layer, shape


def _output_and_gradients(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Output, gradient of the input and of each parameter, for a random gradient of the output; in float32."""
    twin = copy.deepcopy(layer).to(dtype).requires_grad_(True)
    inputs = x.to(dtype).requires_grad_(True)
    output = twin(inputs)
    torch.manual_seed(1)
    wanted = [inputs, *twin.parameters()]
    gradients = torch.autograd.grad(output, wanted, torch.randn(output.shape).to(dtype))
    return [value.detach().float() for value in (output, *gradients)]


def _relative_error(rough: list[Tensor], exact: list[Tensor]) -> float:
    """The largest of |rough - exact| / |exact| over the tensors; NaN where there is one."""
    errors = torch.stack([(a - b).norm() / b.norm().clamp(min=1e-12) for a, b in zip(rough, exact, strict=True)])
    return float("nan") if errors.isnan().any() else float(errors.max())


def _amount(error: float) -> str:
    return "gives NaN" if isnan(error) else f"differs by {100 * error:.0f} %"


def _leave_nan_behind(shape: tuple[int, ...]) -> None:
    """Fill memory with NaN and free it, so that a kernel that reads what it never wrote is found out."""
    for scale in (1, 4, 16):
        torch.full((scale * torch.Size(shape).numel(),), torch.nan)
