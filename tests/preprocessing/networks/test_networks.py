"""The segmentation networks: layers, drawing and training, on label maps made here."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from preprocessing.networks.labels import HIPPOCAMPUS_CLASSES, LabelMap, read_label_map
from preprocessing.networks.loss import loss_of
from preprocessing.networks.synthesis import (
    HIPPOCAMPUS_RANGE,
    Drawing,
    hippocampal_atlas,
    mirror_numbers,
    normalize,
)
from preprocessing.networks.train import Plan, fold_of, train
from preprocessing.networks.unet import UNet, load_network, save_network

HIPPOCAMPUS = 1
SMALL = replace(HIPPOCAMPUS_RANGE, shape=(16, 24, 16))
STILL = replace(SMALL, shift_mm=0.0, turn=0.0, scale=0.0, shear=0.0, bend_mm=0.0, bell=(0.0, 0.0))


def head(radius: float = 6.0) -> LabelMap:
    """White matter with two balls of hippocampus; the right one lies in front of the left one."""
    numbers = np.zeros((60, 50, 40), np.int16)
    numbers[4:56, 4:46, 4:36] = 2
    index = np.indices(numbers.shape)
    for number, center in ((17, (18, 22, 20)), (53, (42, 26, 20))):
        away = np.linalg.norm(index - np.reshape(center, (3, 1, 1, 1)), axis=0)
        numbers[away < radius] = number
    return LabelMap("ball", numbers)


@pytest.fixture(scope="module")
def atlas():
    return hippocampal_atlas([head()], block=(40, 48, 32))


def volume_mm3(drawing: Drawing, n: int = 12, seed: int = 3) -> float:
    return float(drawing.draw(n, seed)[1][:, HIPPOCAMPUS].sum() / n)


def test_a_saved_network_says_what_it_said_before(tmp_path):
    torch.manual_seed(0)
    network = UNet(("background", "hippocampus"), (4, 8)).eval()
    save_network(network, tmp_path / "n.safetensors", {"heads": "1"})
    image = torch.randn(1, 1, 8, 8, 8)
    again = load_network(tmp_path / "n.safetensors")
    assert again.classes == ("background", "hippocampus")
    assert torch.allclose(again(image), network(image), atol=0.02)  # half precision in the file


def test_the_same_seed_draws_the_same_images_and_another_seed_others(atlas):
    drawing = Drawing(atlas, HIPPOCAMPUS_CLASSES, SMALL)
    first, again, other = drawing.draw(2, 5), drawing.draw(2, 5), drawing.draw(2, 6)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_shares_of_every_voxel_add_up_to_one(atlas):
    image, share = Drawing(atlas, HIPPOCAMPUS_CLASSES, SMALL).draw(3, 1)
    assert image.shape == (3, 1, 16, 24, 16) and share.shape == (3, 4, 16, 24, 16)
    assert torch.allclose(share.sum(1), torch.ones(3, 16, 24, 16))
    assert torch.isfinite(image).all()


def test_an_unchanged_head_is_drawn_with_its_own_volume(atlas):
    still = volume_mm3(Drawing(atlas, HIPPOCAMPUS_CLASSES, replace(STILL, grow_mm=(0.0, 0.0))), n=40)
    assert still == pytest.approx((head().numbers == 17).sum(), rel=0.06)


def test_the_hippocampus_grows_and_shrinks_by_itself(atlas):
    small, large = (
        volume_mm3(Drawing(atlas, HIPPOCAMPUS_CLASSES, replace(STILL, grow_mm=(mm, mm)))) for mm in (-1.2, 1.0)
    )
    assert small < 0.85 * (head().numbers == 17).sum() < large < 1.9 * (head().numbers == 17).sum()
    assert large > 1.4 * small


def test_the_right_side_is_drawn_in_a_mirror_under_the_left_ones_numbers(atlas):
    left, right = atlas.numbers
    assert (left == 17).any() and (right == 17).any()
    # In this head the other side's hippocampus lies to the right in both blocks, once the right one is mirrored.
    for block in (left, right):
        own, other = (np.argwhere(block.numpy() == number)[:, 0] for number in (17, 53))
        assert not len(other) or own.mean() < other.mean()
    assert mirror_numbers(np.array([17, 53, 2, 24])).tolist() == [53, 17, 41, 24]


def test_normalized_images_have_mean_0_and_sd_1_also_where_one_is_empty():
    image = normalize(torch.stack([torch.rand(1, 8, 8, 8) + 5, torch.zeros(1, 8, 8, 8)]))
    assert image[0].mean().abs() < 1e-4 and abs(image[0].std() - 1) < 1e-3
    assert (image[1] == 0).all()


def test_a_training_goes_on_from_its_checkpoint_to_the_same_weights(tmp_path, atlas, monkeypatch):
    plan = Plan(HIPPOCAMPUS_CLASSES, (4, 8), steps=6, batch=1)
    drawing = Drawing(atlas, HIPPOCAMPUS_CLASSES, SMALL)
    whole = train(plan, drawing, tmp_path / "never", every=1e9).state_dict()

    draw = drawing.draw

    def interrupted(n, seed):
        if seed == 4:
            raise KeyboardInterrupt
        return draw(n, seed)

    monkeypatch.setattr(drawing, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(plan, drawing, tmp_path / "kept", every=0.0)
    monkeypatch.undo()
    resumed = train(plan, drawing, tmp_path / "kept", every=1e9).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_training_finds_the_ball(tmp_path, atlas):
    plan = Plan(HIPPOCAMPUS_CLASSES, (4, 8), steps=60, batch=2, rate=1e-2)
    drawing = Drawing(atlas, HIPPOCAMPUS_CLASSES, replace(SMALL, like_t1=1.0))
    network = train(plan, drawing, tmp_path / "c")
    image, share = drawing.draw(4, 10_000_000)
    before = UNet(tuple(HIPPOCAMPUS_CLASSES), (4, 8))
    assert loss_of(network(image), share, 0.1) < 0.8 * loss_of(before(image), share, 0.1)


def test_folds_leave_out_every_head_once_and_refuse_others():
    maps = [LabelMap(str(number), np.zeros((1, 1, 1))) for number in range(20)]
    left_out = [one.name for fold in range(1, 6) for one in fold_of(maps, fold)[1]]
    assert left_out == [str(number) for number in range(20)]
    for fold in (0, 6):
        with pytest.raises(ValueError, match=f"--fold {fold}: from 1 to 5"):
            fold_of(maps, fold)


def test_a_label_map_without_a_hippocampus_is_refused_by_name(tmp_path):
    numbers = np.where(head().numbers == 53, 2, head().numbers)
    nib.save(nib.Nifti1Image(numbers, np.eye(4)), tmp_path / "one.nii.gz")
    with pytest.raises(ValueError, match="one.nii.gz: no voxel has label 53"):
        read_label_map(tmp_path / "one.nii.gz")
