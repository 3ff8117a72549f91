"""Two processes that share a batch compute what one process computes of the whole of it."""

from __future__ import annotations

import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.methods.vat import VAT
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.gain import total_correlation_gain
from adni_tcgm.tcgm.processes import average_gradients, joined, rank, share, share_statistics, sharing, world
from adni_tcgm.tcgm.trainer import TrainConfig, fit, predict

NAMES = ("one", "two", "three")
LINEAR, VOLUMES = MLPConfig(hidden=(6,)), DenseNet3DConfig(blocks=(1, 1), growth=4, init=4, bottleneck=2)
CASES = {
    "vectors": (LINEAR, (5,), ()),
    "gaps": (LINEAR, (5,), (0, 1, 2, 3, 8)),
    "nobody on one side": (LINEAR, (5,), tuple(range(7))),
    "volumes": (VOLUMES, (8, 8, 8), ()),
    "volumes, nobody on one side": (VOLUMES, (8, 8, 8), tuple(range(7))),
}
METHODS = {"ce": CrossEntropy, "tcgm": TCGM}
STEPS = TrainConfig(steps=12, supervised_steps=2, validate_every=4, batch_size_labeled=7, batch_size_unlabeled=11)

# A fork imports nothing anew; a process that has used a GPU cannot be forked.
START = "spawn" if torch.cuda.is_available() else "fork"


def samples(size: int, shape: tuple[int, ...], without_last: tuple[int, ...], seed: int = 0) -> MultimodalBatch:
    """An odd number of samples makes unequal shares."""
    generator = Generator().manual_seed(seed)
    labels = torch.arange(size) % 3
    inputs = {name: torch.randn((size, *shape), generator=generator) for name in NAMES}
    for values in inputs.values():
        values.flatten(1)[:, 0] += labels
    present = torch.ones(size, 3, dtype=torch.bool)
    present[list(without_last), 2] = False
    return MultimodalBatch([f"{seed}-{i}" for i in range(size)], inputs, present, labels)


def losses_and_gradients(kind: str, case: str) -> dict[str, Tensor]:
    """Of both steps, from the same weights; in the shares of all processes where there are several."""
    net, shape, gaps = CASES[case]
    torch.manual_seed(0)
    prior = torch.tensor([0.5, 0.3, 0.2]).log()
    method = METHODS[kind](net)
    model = method.build(Spec([Modality(name, shape) for name in NAMES], tuple("abc"), prior))
    if world() > 1:
        share_statistics(model)
    found = {}
    for step in ("labeled_loss", "unlabeled_loss"):
        model.zero_grad()
        with sharing():
            loss = getattr(method, step)(model, share(samples(13, shape, gaps)))
            if loss is None:
                continue
            loss.backward()
        average_gradients(model)
        found[step] = loss.detach()
        found |= {f"{step} {name}": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    found |= {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    return found


def train() -> dict[str, Tensor]:
    train_, validation = samples(30, (5,), (3, 9, 20)), samples(12, (5,), (), seed=1)
    visible = torch.where(torch.arange(30) < 14, train_.labels, UNLABELED)
    splits = Splits([Modality(n, (5,)) for n in NAMES], tuple("abc"), replace(train_, labels=visible), validation, None)
    fitted = fit(TCGM(LINEAR), splits, STEPS)
    losses = torch.tensor([[row["loss_labeled"], row["loss_unlabeled"], row["gain"]] for row in fitted.history])
    return {**fitted.model.state_dict(), **predict(fitted, validation), "losses": losses}


def in_all_cases() -> dict[str, Tensor]:
    results = {
        f"{kind}, {case}: {name}": value
        for kind in METHODS
        for case in CASES
        for name, value in losses_and_gradients(kind, case).items()
    }
    return results | {f"training: {name}": value for name, value in train().items()}


def main(folder: str, number: int, port: int) -> None:
    """What each of the two processes runs."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number)}
    torch.set_num_threads(1)
    with joined("cpu"):
        results = in_all_cases()
        save_file({name: value.clone() for name, value in results.items()}, f"{folder}/{rank()}.safetensors")
        try:
            fit(VAT(LINEAR), Splits([], (), samples(4, (5,), ()), samples(4, (5,), ()), None), STEPS)
        except ValueError as error:
            Path(folder, f"{rank()}.txt").write_text(str(error))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context(START)
    children = [context.Process(target=main, args=(str(folder), number, port)) for number in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=200)
    assert [child.exitcode for child in children] == [0, 0]
    return folder


@pytest.fixture(scope="module")
def pair(folder) -> list[dict[str, Tensor]]:
    """What each of two processes found."""
    return [load_file(folder / f"{number}.safetensors") for number in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Tensor]:
    return in_all_cases()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", METHODS)
def test_two_processes_have_the_losses_and_gradients_of_one(kind, case, pair, alone) -> None:
    names = [name for name in alone if name.startswith(f"{kind}, {case}:")]
    assert len(names) > 6
    for found in pair:
        assert {name for name in found if name.startswith(f"{kind}, {case}:")} == set(names)
        for name in names:
            torch.testing.assert_close(
                found[name], alone[name], atol=1e-6, rtol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_two_processes_end_a_training_with_the_weights_and_predictions_of_one(pair, alone) -> None:
    names = [name for name in alone if name.startswith("training:")]
    for found in pair:
        for name in names:
            torch.testing.assert_close(found[name], alone[name], atol=1e-5, rtol=1e-5, equal_nan=True)
    assert all(torch.equal(pair[0][name], pair[1][name]) for name in names if "losses" not in name)


def test_the_mean_of_the_gains_of_two_halves_is_not_the_gain() -> None:
    """Why sums are exchanged and not gains."""
    generator = Generator().manual_seed(0)
    posteriors, prior = torch.randn((3, 12, 4), generator=generator).log_softmax(-1), torch.full((4,), 0.25).log()
    halves = [total_correlation_gain(half, prior) for half in posteriors.split(6, dim=1)]
    assert abs(sum(halves) / 2 - total_correlation_gain(posteriors, prior)) > 0.01


def test_a_method_that_cannot_share_batches_says_so(folder) -> None:
    assert (folder / "1.txt").read_text() == "VAT as set cannot share its batches among 2 processes"


def test_alone_nothing_is_shared_and_the_gradients_stay_as_they_are() -> None:
    batch, layer = samples(5, (5,), ()), nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    before = layer.weight.grad.clone()
    average_gradients(layer)
    assert share(batch) is batch and torch.equal(layer.weight.grad, before) and (rank(), world()) == (0, 1)
