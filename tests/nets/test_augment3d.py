"""Augmentation: the same transform for all modalities of a sample, and nothing else than what was asked for."""

from __future__ import annotations

from itertools import permutations, product

import pytest
import torch
from torch import Generator, Tensor

from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.tcgm.batch import MultimodalBatch


def numbered(size: int, shape: tuple[int, ...]) -> Tensor:
    """Volumes in which every voxel has a value of its own."""
    return torch.arange(size * torch.Size(shape).numel(), dtype=torch.float32).reshape(size, *shape)


def batch_of(mri: Tensor, pet: Tensor) -> MultimodalBatch:
    ids = [f"s{i}" for i in range(len(mri))]
    present = torch.ones(len(mri), 2, dtype=torch.bool)
    return MultimodalBatch(ids, {"mri": mri, "pet": pet}, present, torch.full((len(mri),), -1))


def seeded() -> Generator:
    return Generator().manual_seed(0)


@pytest.mark.parametrize("augment", [Augment3D((4, 4, 4), margin=2), Augment3D.paper((4, 4, 4), margin=2)])
def test_both_modalities_of_a_sample_get_the_same_transform(augment: Augment3D) -> None:
    mri = numbered(16, (8, 8, 8))
    views = augment(batch_of(mri, (-mri).unsqueeze(1)), seeded()).inputs  # PET with a channel axis
    assert views["pet"].shape == (16, 1, 4, 4, 4)
    assert torch.equal(views["pet"][:, 0], -views["mri"])


def test_samples_get_transforms_of_their_own() -> None:
    mri = numbered(1, (8, 8, 8)).expand(16, 8, 8, 8)
    views = Augment3D((4, 4, 4), margin=2)(batch_of(mri, mri), seeded()).inputs["mri"]
    assert len({tuple(view.flatten().tolist()) for view in views}) > 8


def test_the_default_yields_exactly_the_shifted_crops_mirrored_left_right_or_not() -> None:
    mri = numbered(1, (6, 5, 4)).expand(500, 6, 5, 4)
    views = Augment3D((4, 3, 2), margin=1)(batch_of(mri, mri), seeded()).inputs["mri"]
    allowed = set()
    for x, y, z in product(range(3), repeat=3):
        crop = mri[0, x : x + 4, y : y + 3, z : z + 2]
        allowed |= {tuple(crop.flatten().tolist()), tuple(crop.flip(0).flatten().tolist())}
    assert {tuple(view.flatten().tolist()) for view in views} == allowed


def test_the_paper_augmentation_reaches_all_48_orientations_of_a_cube() -> None:
    mri = numbered(1, (3, 3, 3)).expand(1500, 3, 3, 3)
    views = Augment3D.paper((3, 3, 3), margin=0)(batch_of(mri, mri), seeded()).inputs["mri"]
    allowed = {
        tuple(mri[0].permute(order).flip(axes).flatten().tolist())
        for order in permutations(range(3))
        for axes in [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    }
    assert len(allowed) == 48
    assert {tuple(view.flatten().tolist()) for view in views} == allowed


def test_evaluation_sees_the_center() -> None:
    mri = numbered(2, (8, 6, 6))
    centered = Augment3D((4, 4, 2), margin=1).center(batch_of(mri, mri)).inputs["mri"]
    assert torch.equal(centered, mri[:, 2:6, 1:5, 2:4])


def test_nobody_gives_an_empty_batch_of_the_right_shape() -> None:
    """A cohort may lack a kind of people, say those whose follow-up is too short."""
    augment, nobody = Augment3D((4, 4, 4), margin=2), numbered(0, (8, 8, 8))
    for seen in (augment.center(batch_of(nobody, nobody)), augment(batch_of(nobody, nobody), seeded())):
        assert len(seen) == 0 and all(values.shape == (0, 4, 4, 4) for values in seen.inputs.values())


def test_vectors_pass_unchanged_and_the_generator_decides_alone() -> None:
    mri, features = numbered(8, (8, 8, 8)), torch.randn(8, 5)
    augment = Augment3D((4, 4, 4), margin=2)
    first, again = (augment(batch_of(mri, features), seeded()).inputs for _ in range(2))
    assert torch.equal(first["mri"], again["mri"])
    assert torch.equal(first["pet"], features)
    other = augment(batch_of(mri, features), Generator().manual_seed(1)).inputs
    assert not torch.equal(first["mri"], other["mri"])


def test_volumes_without_the_margin_and_transposed_boxes_are_errors() -> None:
    mri = numbered(1, (8, 8, 8))
    with pytest.raises(ValueError, match=r"'mri'.*margin 3"):
        Augment3D((4, 4, 4), margin=3)(batch_of(mri, mri), seeded())
    with pytest.raises(ValueError, match="not a cube"):
        Augment3D.paper((48, 32, 32), margin=2)
