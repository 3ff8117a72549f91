"""When a CUDA graph may be replayed, with a stand-in that keeps in fixed memory what a graph keeps there."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from adni_tcgm.datasets.gaussian import GaussianConfig, load
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.densenet3d import DenseNet3D, DenseNet3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm import graphs
from adni_tcgm.tcgm.execution import frozen_running_statistics
from adni_tcgm.tcgm.graphs import MOST, CapturedForward, capture_networks, release_networks
from adni_tcgm.tcgm.trainer import TrainConfig, Training, fit

TINY = DenseNet3DConfig(blocks=(1, 1), growth=2, init=2)


class Replay(torch.autograd.Function):
    """Inputs, activations and gradients in one place each, overwritten by the next call, as a graph's are."""

    @staticmethod
    def forward(ctx, fixed: dict[str, object], inputs: Tensor, *parameters: Tensor) -> Tensor:
        ctx.fixed = fixed
        with torch.enable_grad():
            fixed["activations"] = fixed["run"](inputs.detach())
        fixed["outputs"].copy_(fixed["activations"].detach())
        return fixed["outputs"].detach()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found = torch.autograd.grad(ctx.fixed["activations"], ctx.fixed["parameters"], gradient)
        for place, value in zip(ctx.fixed["gradients"], found, strict=True):
            place.copy_(value)
        return None, None, *(place.detach() for place in ctx.fixed["gradients"])


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.Size]]:
    """Shapes that were captured, on a machine that passes for one with a GPU."""
    shapes: list[torch.Size] = []

    def capture(part: nn.Module, inputs: tuple[Tensor]):
        shapes.append(inputs[0].shape)
        parameters = list(part.parameters())
        fixed = {"run": part.forward, "parameters": parameters, "outputs": part.forward(*inputs).detach().clone()}
        fixed["gradients"] = [torch.empty_like(parameter) for parameter in parameters]
        return lambda x: Replay.apply(fixed, x, *parameters)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    monkeypatch.setattr(graphs, "_on_gpu", lambda _: True)
    yield shapes


@pytest.fixture
def nets() -> tuple[DenseNet3D, DenseNet3D]:
    """The same network twice: captured, and as it is."""
    torch.manual_seed(0)
    plain = TINY.build((8, 8, 8), 2)
    captured = copy.deepcopy(plain)
    capture_networks(captured)
    return captured, plain


def draw(samples: int, seed: int = 0) -> Tensor:
    return torch.randn(samples, 1, 8, 8, 8, generator=torch.Generator().manual_seed(seed))


def assert_same(captured: nn.Module, plain: nn.Module) -> None:
    for (name, one), other in zip(captured.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    for (name, one), other in zip(captured.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, other), name


def test_replays_give_the_gradients_and_running_statistics_of_the_network(captures, nets) -> None:
    for seed in range(3):
        for net in nets:
            net.zero_grad()
            net(draw(4, seed)).square().sum().backward()
        assert_same(*nets)
    assert captures == [(4, 1, 8, 8, 8)]


def test_two_passes_before_a_gradient_do_not_share_their_activations(captures, nets) -> None:
    for net in nets:
        (net(draw(4, 0)).square() * net(draw(4, 1))).sum().backward()
    assert_same(*nets)
    assert len(captures) == 1


def test_gradients_of_one_shape_that_are_summed_are_each_counted_once(captures, nets) -> None:
    for net in nets:
        for _ in range(2):
            net.zero_grad()
            for seed in range(3):
                net(draw(4, seed)).square().sum().backward()
    assert_same(*nets)
    assert len(captures) == 1


def test_a_labeled_and_an_unlabeled_batch_have_graphs_of_their_own(captures, nets) -> None:
    """Their running statistics differ: those of the unlabeled one stay as they are."""
    for net in nets:
        for _ in range(2):
            net.zero_grad()
            net(draw(4, 0)).square().sum().backward()
            with frozen_running_statistics(net):
                net(draw(4, 1)).square().sum().backward()
    assert_same(*nets)
    assert len(captures) == 2


def test_evaluation_and_gradients_of_inputs_need_no_graph(captures, nets) -> None:
    net, plain = nets
    assert torch.equal(net.eval()(draw(2)), plain.eval()(draw(2)))
    with torch.no_grad():
        net.train()(draw(2))
    net(draw(2).requires_grad_()).sum().backward()
    assert captures == []


def test_batches_of_many_sizes_do_not_fill_the_memory(captures, nets) -> None:
    for samples in range(2, MOST + 6):
        nets[0].zero_grad()
        nets[0](draw(samples)).sum().backward()
    assert len(captures) == MOST


def test_a_captured_network_is_copied_only_after_its_release(captures, nets) -> None:
    with pytest.raises(TypeError, match="release_networks comes first"):
        copy.deepcopy(nets[0])
    release_networks(nets[0])
    assert not isinstance(copy.deepcopy(nets[0]).forward, CapturedForward)


def test_without_a_gpu_the_setting_changes_nothing_and_execution_says_so() -> None:
    splits = load(GaussianConfig(samples=40, test_samples=10, label_rate=0.2), seed=0)
    config = TrainConfig(steps=3, supervised_steps=0, device="cpu", cuda_graphs=True)
    assert fit(TCGM(MLPConfig()), splits, config).execution["cuda_graphs"] is False


def test_where_memory_runs_out_the_graphs_go_first_and_then_half_of_the_batch() -> None:
    splits = load(GaussianConfig(samples=40, test_samples=10, label_rate=0.2), seed=0)
    training = Training(TCGM(MLPConfig()), splits, TrainConfig(device="cpu"), None)
    training.execution["cuda_graphs"] = True
    error = torch.OutOfMemoryError("no room")
    training._shrink(12, error)
    assert training.execution["cuda_graphs"] is False and training.micro_batch is None
    training._shrink(12, error)
    assert training.micro_batch == 6


def test_compiled_and_captured_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="compile and cuda_graphs are both on"):
        TrainConfig(compile=True, cuda_graphs=True)
