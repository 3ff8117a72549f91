"""The head network: drawing, folding, loss and training, on a head made here."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from preprocessing.networks.head_drawing import HEAD_RANGE, HeadDrawing
from preprocessing.networks.labels import HEAD_CLASSES, LabelMap
from preprocessing.networks.loss import loss_of, loss_of_rows
from preprocessing.networks.train import Plan, train
from preprocessing.networks.unet import FoldedUNet, fold, load_network, save_network

NAMES = list(HEAD_CLASSES)
SMALL = replace(HEAD_RANGE, shape=(32, 40, 32))
STILL = replace(SMALL, shift_mm=0.0, turn=0.0, scale=0.0, shear=0.0, bend_mm=0.0, bell=(0.0, 0.0), strip=0.0)


def unfolded(rows: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """(voxels, classes) in the order of `FoldedUNet.folded` as (*shape, classes)."""
    cubes = rows.view(*(size // 2 for size in shape), 2, 2, 2, -1)
    return cubes.permute(0, 3, 1, 4, 2, 5, 6).reshape(*shape, -1)


@pytest.fixture(scope="module")
def ball():
    """White matter within cortex, fluid, and skull; a ventricle in front."""
    numbers = np.zeros((64, 74, 68), np.int16)
    away = np.linalg.norm(np.indices(numbers.shape) - np.reshape((32, 36, 34), (3, 1, 1, 1)), axis=0)
    for number, radius in ((515, 29), (24, 24), (3, 21), (2, 16)):
        numbers[away < radius] = number
    front = np.linalg.norm(np.indices(numbers.shape) - np.reshape((32, 42, 34), (3, 1, 1, 1)), axis=0)
    numbers[front < 6] = 4
    return LabelMap("ball", numbers)


def test_an_unchanged_head_is_drawn_with_its_own_volumes(ball):
    _, counts = HeadDrawing([ball], STILL).draw(1, 0)
    assert (counts.sum(-1) == 4).all()
    for name in ("outer_csf", "cortex", "white_matter", "lateral_ventricle"):
        true = np.isin(ball.numbers, HEAD_CLASSES[name]).sum()
        assert counts[0, :, NAMES.index(name)].sum() * 8 / 4 == pytest.approx(true, rel=0.03)


def test_image_and_target_lie_on_each_other(ball):
    image, counts = HeadDrawing([ball], replace(SMALL, strip=0.0, like_t1=1.0)).draw(1, 4)
    classes = unfolded(counts[0], SMALL.shape).argmax(-1)
    white, fluid = (image[0, 0][classes == NAMES.index(name)].mean() for name in ("white_matter", "lateral_ventricle"))
    assert white > fluid + 0.5  # turned or mirrored on one of the two, they would be alike


def test_the_same_seed_draws_the_same_head_and_another_seed_another(ball):
    drawing = HeadDrawing([ball], SMALL)
    first, again, other = drawing.draw(1, 5), drawing.draw(1, 5), drawing.draw(1, 6)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_taking_off_the_skull_leaves_brain_and_a_little_of_what_is_around(ball):
    _, bare = HeadDrawing([ball], replace(STILL, strip=1.0)).draw(1, 2)
    _, whole = HeadDrawing([ball], STILL).draw(1, 2)
    outer = NAMES.index("outer_csf")
    assert torch.equal(bare[..., 2:], whole[..., 2:])
    assert 0 < bare[..., outer].sum() <= whole[..., outer].sum()


def test_what_is_far_from_the_brain_is_dark_without_the_skull(ball):
    image, _ = HeadDrawing([ball], replace(STILL, strip=1.0, like_t1=1.0)).draw(1, 2)
    whole, _ = HeadDrawing([ball], replace(STILL, like_t1=1.0)).draw(1, 2)
    skull = (16, 20, 30)  # 28 mm above the middle
    assert image[0, 0][skull] < whole[0, 0][skull]


def test_folding_keeps_every_voxel_at_its_place():
    image = torch.arange(4 * 6 * 8.0).view(1, 1, 4, 6, 8)
    rows = fold(image).movedim(1, -1).reshape(-1, 1)
    assert torch.equal(unfolded(rows, (4, 6, 8))[..., 0], image[0, 0])


def test_the_folded_networks_rows_are_its_voxels():
    torch.manual_seed(0)
    network = FoldedUNet(("a", "b", "c"), (8, 16))
    image = torch.randn(1, 1, 8, 12, 8)
    rows = unfolded(network.folded(image)[0], (8, 12, 8))
    assert torch.allclose(network(image)[0], rows.movedim(-1, 0))


def test_a_saved_head_network_says_what_it_said_before(tmp_path):
    torch.manual_seed(0)
    network = FoldedUNet(("a", "b"), (8, 16)).eval()
    save_network(network, tmp_path / "n.safetensors", {})
    again, image = load_network(tmp_path / "n.safetensors"), torch.randn(1, 1, 8, 8, 8)
    assert isinstance(again, FoldedUNet)
    assert torch.allclose(again(image), network(image), atol=0.02)  # half precision in the file


def test_the_loss_is_least_at_the_truth():
    share = torch.nn.functional.one_hot(torch.randint(3, (1, 4, 4, 4)), 3).movedim(-1, 1).float()
    right, wrong = loss_of(20 * share, share, 0.1), loss_of(-20 * share, share, 0.1)
    assert right < 0.01 < 1 < wrong


def test_the_loss_of_rows_and_its_gradient_are_those_of_the_plain_loss(monkeypatch):
    monkeypatch.setattr("preprocessing.networks.loss.ROWS", 100)
    torch.manual_seed(0)
    logits = torch.randn(2, 512, 3, requires_grad=True)
    counts = torch.nn.functional.one_hot(torch.randint(3, (2, 512, 4)), 3).sum(2).to(torch.uint8)
    image, share = (values.movedim(-1, 1).view(2, 3, 8, 8, 8) for values in (logits, counts / 4))
    fast, plain = 3 * loss_of_rows(logits, counts, 0.3), 3 * loss_of(image, share, 0.3)
    assert fast.item() == pytest.approx(plain.item(), rel=1e-5)
    by_fast, by_plain = (torch.autograd.grad(loss, logits)[0] for loss in (fast, plain))
    assert torch.allclose(by_fast, by_plain, atol=1e-7)


def test_training_finds_white_matter(tmp_path, ball):
    plan = Plan(HEAD_CLASSES, (8, 16), steps=40, batch=1, network=FoldedUNet, rate=1e-2)
    drawing = HeadDrawing([ball], replace(SMALL, like_t1=1.0))
    network = train(plan, drawing, tmp_path / "c")
    image, counts = drawing.draw(2, 10_000)
    untrained = FoldedUNet(tuple(HEAD_CLASSES), (8, 16))
    untrained.expect(counts.float().mean((0, 1)))
    assert loss_of_rows(network.folded(image), counts, 0.1) < 0.7 * loss_of_rows(untrained.folded(image), counts, 0.1)
