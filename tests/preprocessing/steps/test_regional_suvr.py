"""By what the voxels of a PET count in the SUVR of a region."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from preprocessing.steps import regions, suvr, template
from preprocessing.steps.regions import GreyUptake

ONES = np.ones(template.GRID_SHAPE, np.float32)


def measure(ratio: np.ndarray, gray: GreyUptake | None, covered: np.ndarray | None = None) -> pd.Series:
    table = regions.measure_regions(ONES, suvr=ratio, covered=covered, gray=gray)
    return table.set_index(["region", "side"]).suvr


@pytest.fixture(scope="module")
def halves() -> np.ndarray:
    """Every other voxel along the second axis."""
    return (np.arange(template.GRID_SHAPE[1]) % 2 == 0)[None, :, None] * ONES


def test_voxels_count_by_their_grey_matter(halves):
    ratio = np.where(halves > 0, 2.0, 1.0)
    found = measure(ratio, GreyUptake(np.where(halves > 0, 0.75, 0.25)))
    inside = template.region_mask("precuneus", side="left")
    weights = np.where(halves > 0, 0.75, 0.25)[inside]
    assert found["precuneus", "left"] == pytest.approx(np.average(ratio[inside], weights=weights))
    assert found["precuneus", "left"] > measure(ratio, None)["precuneus", "left"] + 0.2
    assert found["meta_roi_proxy", "both"] == pytest.approx(1.75, abs=0.02)


@pytest.mark.parametrize("region", ["brainstem", "lateral_ventricle", "cerebellum_white_matter", "optic_chiasm"])
def test_rows_of_white_matter_and_ventricles_stay_plain_means(region, halves):
    ratio = np.where(halves > 0, 2.0, 1.0)
    found, plain = measure(ratio, GreyUptake(halves)), measure(ratio, None)
    assert found[region, "left"] == plain[region, "left"] < 1.8
    assert found["pons", "both"] == plain["pons", "both"] < 1.8


def test_a_region_without_any_grey_matter_has_its_plain_mean():
    assert measure(3 * ONES, GreyUptake(0 * ONES))["precuneus", "left"] == 3.0


def test_the_hippocampus_is_the_one_that_was_segmented_wherever_the_atlas_has_it():
    mask = template.region_mask("hippocampus")
    own = np.roll(mask, 3, axis=1).astype(np.float32)  # 6 mm farther in front
    ratio = np.where(own > 0, 1.2, 0.5)
    ratio[46:] += np.where(own > 0, 0.3, 0)[46:]
    found = measure(ratio, GreyUptake(ONES, segmented={"hippocampus": own}))
    assert (found["hippocampus", "left"], found["hippocampus", "right"]) == pytest.approx((1.2, 1.5))
    assert measure(ratio, GreyUptake(ONES))["hippocampus", "left"] < 1.0
    nothing = measure(ratio, GreyUptake(ONES, segmented={"hippocampus": 0 * own}))
    assert nothing["hippocampus", "left"] == measure(ratio, GreyUptake(ONES))["hippocampus", "left"]


def test_what_the_field_of_view_leaves_out_does_not_count():
    covered = ONES.astype(bool)
    covered[:, 60:] = False
    ratio = np.where(covered, 1.5, 0.0)
    found = measure(ratio, GreyUptake(ONES, segmented={"hippocampus": ONES}), covered)
    assert found["hippocampus", "left"] == pytest.approx(1.5)
    assert np.isnan(found["superior_frontal", "left"])


def test_a_correction_counts_for_grey_regions_alone(halves):
    corrected = GreyUptake(halves, suvr=3 * halves)
    found = measure(ONES, corrected)
    assert found["precuneus", "left"] == pytest.approx(3.0)
    assert found["cerebellum_white_matter", "left"] == found["pons", "both"] == 1.0


def test_deep_nuclei_and_what_was_segmented_are_grey_matter_whatever_the_t1_shows():
    white = 0.75 * ONES
    tissues = np.stack([0.05 * ONES, 0.2 * ONES, white])
    own = 0.5 * template.region_mask("hippocampus", side="left")
    gray, left_over = suvr.gray_and_white(tissues, {"hippocampus": own})
    thalamus, cortex = template.region_mask("thalamus"), template.region_mask("precuneus")
    np.testing.assert_allclose(gray[thalamus], 0.95, rtol=1e-6)
    np.testing.assert_allclose(left_over[thalamus], 0, atol=1e-12)
    np.testing.assert_allclose(gray[own > 0], 0.5, rtol=1e-6)
    np.testing.assert_allclose(gray[cortex], 0.2, rtol=1e-6)
    np.testing.assert_allclose(gray + left_over, tissues[1] + tissues[2], rtol=1e-6)


def test_the_pons_lies_deep_in_the_brainstem():
    """A PET of 8 mm shows within 4 % what the pons takes up, although fluid surrounds the brainstem."""
    from preprocessing.steps.partial_volume import blur

    pet = blur(template.region_mask("brainstem").astype(np.float32), (8.0,) * 3)
    assert pet[template.pons_mask()].mean() > 0.96
    assert template.pons_mask().sum() * template.VOXEL_ML > 5
