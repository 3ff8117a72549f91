"""Heads drawn from label maps have structures, volumes and uptake of their own."""

from __future__ import annotations

from copy import copy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from preprocessing.simulated import deformation
from preprocessing.simulated.brain import Brain
from preprocessing.simulated.label_map_anatomy import (
    MOST_EXCESS,
    STRUCTURES,
    LabelMapAnatomy,
    PointMap,
    cerebra_labels,
    excess_values,
)
from preprocessing.simulated.label_maps import canonical
from preprocessing.simulated.people import Person
from preprocessing.steps import template

MOVED_MM = 6
NUMBER = template.region_table().set_index(["region", "side"]).label


def head_numbers() -> np.ndarray:
    """The template in FreeSurfer's numbers at 2 mm, its left hippocampus moved to the front."""
    atlas, brain = template.labels(), template.brain_mask()
    numbers = np.where(brain, 24, 0).astype(np.int16)
    right = np.arange(atlas.shape[0])[:, None, None] > atlas.shape[0] // 2
    parcels = brain & (atlas > 0)
    numbers[parcels] = 3
    numbers[parcels & right] = 42
    numbers[brain & (atlas == 0)] = 2
    for region, sides in STRUCTURES.items():
        for side, names in zip(("left", "right"), sides, strict=True):
            numbers[atlas == NUMBER[region, side]] = names[0]
    numbers[numbers == 17] = 2
    moved = np.roll(atlas == NUMBER["hippocampus", "left"], MOVED_MM // 2, axis=1)
    numbers[moved] = 17
    return numbers


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> LabelMapAnatomy:
    return head_of(head_numbers(), tmp_path_factory.mktemp("heads") / "head.nii.gz")


@pytest.fixture(scope="module")
def wasted(tmp_path_factory: pytest.TempPathFactory) -> LabelMapAnatomy:
    """The same head with about half of its left hippocampus, and with fluid in every second column of its precuneus."""
    numbers = head_numbers()
    outside = np.argwhere(numbers == 17)
    numbers[tuple(outside[outside[:, 2] > np.median(outside[:, 2])].T)] = 24
    columns = np.arange(numbers.shape[0])[:, None, None] % 2 == 0
    numbers[(template.labels() == NUMBER["precuneus", "left"]) & columns] = 24
    return head_of(numbers, tmp_path_factory.mktemp("heads") / "wasted.nii.gz")


def head_of(numbers: np.ndarray, file: Path, scale: float = 1.0) -> LabelMapAnatomy:
    """A head of these numbers, lying where the template lies, if larger by `scale`."""
    affine = template.GRID_AFFINE @ np.diag([scale, scale, scale, 1])
    nib.save(nib.Nifti1Image(numbers, affine), file)
    index = np.indices(template.GRID_SHAPE, dtype=np.float32)
    index = np.concatenate([index, np.ones_like(index[:1])])
    shift = np.tensordot(canonical(file).affine - template.GRID_AFFINE, index, axes=1)[:3].astype(np.float32)
    return LabelMapAnatomy(file, PointMap(shift, template.GRID_AFFINE), PointMap(-shift, canonical(file).affine), 0)


def test_structures_are_the_heads_own_and_cortex_has_the_nearest_parcel(head: LabelMapAnatomy) -> None:
    atlas, numbers = template.labels(), head_numbers()
    np.testing.assert_array_equal(head.labels == NUMBER["hippocampus", "left"], numbers == 17)
    np.testing.assert_array_equal(head.labels == NUMBER["hippocampus", "right"], numbers == 53)
    cortex = (numbers == 42) & (atlas == NUMBER["precuneus", "right"])
    assert cortex.any() and (head.labels[cortex] == NUMBER["precuneus", "right"]).all()
    assert (head.labels[numbers == 2] == 0).all()


def test_cortex_outside_all_parcels_takes_the_nearest_of_its_side() -> None:
    numbers = np.zeros(template.GRID_SHAPE, np.int16)
    place = tuple(np.argwhere(template.region_mask("precuneus", side="left"))[0])
    numbers[place] = 42  # on the left, but of the right hemisphere
    label = cerebra_labels(numbers)[place]
    assert template.region_table().set_index("label").side[label] == "right"


def test_volumes_are_those_of_the_heads_own_labels(head: LabelMapAnatomy) -> None:
    expected = (head_numbers() == 17).sum() * template.VOXEL_ML
    assert head.label_ml[NUMBER["hippocampus", "left"]] == pytest.approx(expected)
    assert head.label_ml_per_sum[NUMBER["hippocampus", "left"]] == pytest.approx(template.VOXEL_ML, rel=1e-3)


def test_uptake_follows_the_heads_own_grey_matter(head: LabelMapAnatomy) -> None:
    """Where the template's hippocampus lay, there is white matter now."""
    own = head.labels == NUMBER["hippocampus", "left"]
    left_behind = template.region_mask("hippocampus", side="left") & ~own & (head_numbers() == 2)
    assert head.tissues.gray[own].mean() > 0.95 and head.tissues.white[left_behind].mean() > 0.95
    assert head.uptake[own].mean() > head.uptake[left_behind].mean() + 0.2


def test_growth_of_a_structure_is_put_where_the_head_has_it(head: LabelMapAnatomy) -> None:
    wanted = dict.fromkeys(deformation.CONTROLLED, 0.0) | {("hippocampus", "left"): -0.2}
    velocity = head.controls.velocity(wanted, np.zeros((3, *deformation.SHAPE), np.float32))
    jacobian = deformation.refine(deformation.determinant(deformation.exponential(velocity)))
    own = head.labels == NUMBER["hippocampus", "left"]
    assert np.log(jacobian[own].mean()) == pytest.approx(-0.2, abs=0.03)


def test_what_a_head_has_too_much_or_too_little_of_is_taken_off_everybody(
    head: LabelMapAnatomy, wasted: LabelMapAnatomy, person: Person
) -> None:
    """A person's hippocampus and uptake do not depend on whose head the person was given."""
    heads = {"head": copy(head), "wasted": copy(wasted)}
    excess = excess_values(heads)
    np.testing.assert_allclose(excess.sum(axis=1), 0, atol=1e-6)
    differences = []
    for taken_off in (0 * excess, excess):
        for name, anatomy in heads.items():
            anatomy.take_off(taken_off[name])
        tables = [Brain(person, anatomy).regions().set_index(["region", "side"]) for anatomy in heads.values()]
        rows, columns = [("hippocampus", "left"), ("precuneus", "left")], ["volume_ml", "suvr"]
        whole, small = (np.log(table.loc[rows, columns].astype(float)) for table in tables)
        differences.append((whole - small).to_numpy())
    before, after = differences
    assert before[0, 0] > 0.5 and before[1, 1] > 0.2
    assert (np.abs(after) < 0.4 * np.abs(before).max(0)).all()


def test_no_more_is_taken_off_than_a_deformation_bears(head: LabelMapAnatomy, tmp_path: Path) -> None:
    numbers = head_numbers()
    numbers[tuple(np.argwhere(numbers == 17)[8:].T)] = 24
    excess = excess_values({"head": head, "rest": head_of(numbers, tmp_path / "rest.nii.gz")})
    assert excess["rest"]["mri", "hippocampus", "left"] == -MOST_EXCESS


def test_people_of_a_large_head_are_no_larger(head: LabelMapAnatomy, tmp_path: Path, person: Person) -> None:
    heads = {"head": copy(head), "large": head_of(head_numbers(), tmp_path / "large.nii.gz", scale=1.1)}
    before = np.log(Brain(person, heads["large"]).brain_ml / Brain(person, heads["head"]).brain_ml)
    excess = excess_values(heads)
    for name, anatomy in heads.items():
        anatomy.take_off(excess[name])
    after = np.log(Brain(person, heads["large"]).brain_ml / Brain(person, heads["head"]).brain_ml)
    assert before == pytest.approx(3 * np.log(1.1), abs=0.001) and abs(after) < 0.001


def test_point_maps_move_points_by_what_they_hold() -> None:
    shift = np.ones((3, 2, 2, 2), np.float32) * np.array([1, 2, 3], np.float32).reshape(3, 1, 1, 1)
    points = np.zeros((3, 4), np.float32)
    np.testing.assert_allclose(PointMap(shift, np.eye(4))(points)[:, 0], [1, 2, 3], atol=1e-6)
