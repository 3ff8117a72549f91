"""A network's passes captured as CUDA graphs: one launch in the place of thousands.

A 3D DenseNet of 121 layers computes each of its kernels faster than Python launches the next one, so a GPU waits. A
graph holds the launches of a forward and a backward pass on fixed memory and repeats them with one call. That is right
only while nothing else needs this memory; where something may, the network runs as it would without.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from adni_tcgm.tcgm.execution import kept_running_statistics

# Graphs of a network at most, each with memory of its own: batches with gaps come in many sizes.
MOST = 8

Pass = Callable[[Tensor], Tensor]


def capture_networks(model: nn.Module) -> None:
    """Each part of the model that says it gains by it (`worth_compiling`) is captured where it meets a new shape."""
    for module in list(model.modules()):
        if getattr(module, "worth_compiling", False):
            module.forward = CapturedForward(module)


def release_networks(model: nn.Module) -> None:
    """The networks as they were before `capture_networks`; their graphs give back their memory.

    >>> from adni_tcgm.nets.densenet3d import DenseNet3DConfig
    >>> net = DenseNet3DConfig(blocks=(1,), growth=2, init=2).build((8, 8, 8), 2)
    >>> capture_networks(net)
    >>> isinstance(net.forward, CapturedForward)
    True
    >>> release_networks(net)
    >>> isinstance(net.forward, CapturedForward)
    False
    """
    captured = [module for module in model.modules() if isinstance(vars(module).get("forward"), CapturedForward)]
    for module in captured:
        del module.forward
        for parameter in module.parameters():
            parameter.grad = None  # it lies in a graph's memory
    if captured and torch.cuda.is_available():
        gc.collect()  # graphs hold themselves in circles
        torch.cuda.empty_cache()


class CapturedForward:
    """`network.forward` in training, captured once for each shape of its inputs and replayed from then on.

    Activations and gradients of a graph lie in memory of its own, which its next replay fills anew. So the network runs
    without a graph while an earlier pass still waits for its gradient, or while gradients that this graph made are
    still being summed; also in evaluation, and where the inputs need a gradient.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network, self.plain = network, network.forward
        self.graphs: dict[tuple[Any, ...], Pass] = {}
        self.waiting = False
        self.summed: set[tuple[Any, ...]] = set()

    def __call__(self, inputs: Tensor) -> Tensor:
        if self._needs_plain(inputs):
            outputs: Tensor = self.plain(inputs)
            return outputs
        if next(self.network.parameters()).grad is None:
            self.summed.clear()
        key = (inputs.shape, inputs.dtype, torch.is_autocast_enabled(inputs.device.type), _tracks(self.network))
        if key in self.summed or (key not in self.graphs and len(self.graphs) >= MOST):
            return self.plain(inputs)  # type: ignore[no-any-return]
        if key not in self.graphs:
            self.graphs[key] = self._capture(inputs)
        self.summed.add(key)
        outputs = self.graphs[key](inputs)
        self.waiting = True
        outputs.register_hook(self._gradient_came)
        return outputs

    def _needs_plain(self, inputs: Tensor) -> bool:
        trained = self.network.training and torch.is_grad_enabled() and not inputs.requires_grad
        return not trained or not _on_gpu(inputs) or self.waiting

    def _gradient_came(self, _: Tensor) -> None:
        self.waiting = False

    def _capture(self, inputs: Tensor) -> Pass:
        kind = inputs.device.type
        # Captured on a stream of its own, which the sums of gradients will wait for; that is right, so no warning.
        if hasattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch"):  # since torch 2.11
            torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        # Casts of weights that autocast kept would be missing from the graph.
        with (
            kept_running_statistics(self.network),
            torch.autocast(
                kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
            ),
        ):
            captured = torch.cuda.make_graphed_callables(_Pass(self.network, self.plain), (inputs.clone(),))
        return cast(Pass, captured)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise TypeError("a captured network cannot be copied; release_networks comes first")


class _Pass(nn.Module):
    """What is captured: the network, whose own `forward` is the stand-in by then."""

    def __init__(self, network: nn.Module, plain: Pass) -> None:
        super().__init__()
        self.network, self.plain = network, plain

    def forward(self, inputs: Tensor) -> Tensor:
        return self.plain(inputs)


def _on_gpu(inputs: Tensor) -> bool:
    return inputs.is_cuda


def _tracks(network: nn.Module) -> bool:
    """Whether batch normalization counts the batch: `frozen_running_statistics` decides it for all of them."""
    norms = (module for module in network.modules() if hasattr(module, "track_running_stats"))
    first = next(norms, None)
    return first is not None and bool(first.track_running_stats)
