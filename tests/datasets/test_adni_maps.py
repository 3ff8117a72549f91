from __future__ import annotations

import os

import nibabel as nib
import numpy as np
import pytest

from adni_tcgm.datasets.adni_maps import CROPS, cut, read_crops
from adni_tcgm.datasets.adni_people import read_people
from preprocessing.steps.crop import crop_prepared
from preprocessing.steps.template import GRID_AFFINE, GRID_SHAPE, region_mask
from tests.datasets.conftest import AFFINE, write_prepared


def marked(*places_mm: tuple[float, float, float]) -> nib.Nifti1Image:
    """A prepared box with a 1 at each place (template mm), written by the preprocessing stage's own cut."""
    grid = np.zeros(GRID_SHAPE, np.float32)
    for place in places_mm:
        grid[tuple(np.rint(np.linalg.solve(GRID_AFFINE, [*place, 1])[:3]).astype(int))] = 1
    return crop_prepared(grid)


@pytest.mark.parametrize("name", CROPS)
@pytest.mark.parametrize("margin", [0, 2])
def test_a_marker_at_a_known_place_in_mm_lies_at_its_voxel_of_the_crop(name, margin):
    crop = CROPS[name]
    place = (-24.0, -22.0, -12.0)
    values = cut(marked(place), crop, margin, name)
    expected = (np.array(place) - crop.origin_mm) / 2 + margin
    assert values.shape == tuple(size + 2 * margin for size in crop.shape)
    assert np.argwhere(values).tolist() == [expected.astype(int).tolist()]


@pytest.mark.parametrize("name", CROPS)
def test_the_first_and_last_voxel_of_a_crop_are_its_corners(name):
    crop = CROPS[name]
    last = np.array(crop.origin_mm) + 2 * (np.array(crop.shape) - 1)
    # The lowest slices of the paper's crop lie outside the 91×109×91 grid.
    values = cut(marked(tuple(last)), crop, 0, name)
    assert values[-1, -1, -1] == 1 and values.sum() == 1


@pytest.mark.parametrize("name", CROPS)
def test_both_hippocampi_stay_inside_every_shifted_crop(name):
    crop = CROPS[name]
    image = crop_prepared(region_mask("hippocampus").astype(np.float32))
    whole = region_mask("hippocampus").sum()
    wide = cut(image, crop, crop.margin, name)
    inner = [slice(2 * crop.margin, -2 * crop.margin)] * 3
    # What every shift by up to `margin` voxels has in common.
    assert wide[tuple(inner)].sum() == whole


def test_a_map_with_flipped_axes_is_refused():
    flipped = nib.Nifti1Image(np.zeros((80, 80, 80), np.float32), np.diag([-2.0, 2, 2, 1]))
    with pytest.raises(ValueError, match="RAS"):
        cut(flipped, CROPS["hippocampi"], 0, "sub-1")


def test_a_map_that_is_too_small_is_refused():
    small = nib.Nifti1Image(np.zeros((60, 60, 60), np.float32), AFFINE)
    with pytest.raises(ValueError, match="sub-1: voxels .* are wanted"):
        cut(small, CROPS["paper64"], 3, "sub-1")


def test_a_map_off_the_grid_is_refused():
    affine = AFFINE.copy()
    affine[0, 3] += 1
    with pytest.raises(ValueError, match="no voxel lies at"):
        cut(nib.Nifti1Image(np.zeros((80, 80, 80), np.float32), affine), CROPS["hippocampi"], 0, "sub-1")


def test_cached_crops_equal_those_read_from_the_maps(tmp_path):
    folder = write_prepared(tmp_path / "prepared", people=4, pool=0, raw=0, maps=True)
    people, _ = read_people(folder.path)
    first = read_crops(folder.path, people, "mri", "hippocampi", 2)
    assert len(list(folder.path.glob("crop-hippocampi-margin2-mri-*.npy"))) == 1
    again = read_crops(folder.path, people.iloc[::-1], "mri", "hippocampi", 2)
    by_hand = cut(nib.load(folder.path / people.gm_path[1]), CROPS["hippocampi"], 2, "sub-0001")
    assert np.array_equal(first[::-1], again) and np.array_equal(first[1], by_hand)


def test_a_map_that_was_written_again_is_read_again(tmp_path):
    folder = write_prepared(tmp_path / "prepared", people=4, pool=0, raw=0, maps=True)
    people, _ = read_people(folder.path)
    read_crops(folder.path, people, "mri", "hippocampi", 0)
    file = folder.path / people.gm_path[0]
    nib.save(nib.Nifti1Image(np.full((80, 80, 80), 5, np.float32), AFFINE), file)
    os.utime(file, ns=(1, 1))
    assert (read_crops(folder.path, people, "mri", "hippocampi", 0)[0] == 5).all()
    assert len(list(folder.path.glob("crop-*.npy"))) == 1


def test_people_asked_for_later_are_in_the_cache_too(tmp_path):
    folder = write_prepared(tmp_path / "prepared", people=4, pool=0, raw=0, maps=True)
    people, _ = read_people(folder.path)
    read_crops(folder.path, people.iloc[:1], "mri", "hippocampi", 0)
    later = read_crops(folder.path, people.iloc[2:3], "mri", "hippocampi", 0)
    by_hand = cut(nib.load(folder.path / people.gm_path[2]), CROPS["hippocampi"], 0, "sub-0002")
    assert np.array_equal(later[0], by_hand)


def test_a_broken_map_leaves_no_cache_behind(tmp_path):
    folder = write_prepared(tmp_path / "prepared", people=4, pool=0, raw=0, maps=True)
    people, _ = read_people(folder.path)
    (folder.path / people.gm_path[0]).write_bytes(b"no image")
    with pytest.raises(nib.filebasedimages.ImageFileError):
        read_crops(folder.path, people, "mri", "hippocampi", 0)
    assert not [file for file in folder.path.iterdir() if file.suffix == ".npy"]
