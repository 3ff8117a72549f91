"""Maps of deficits: what age, sex and head size explain is none; what a person has lost is one, where it was lost."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from reports import box
from reports.deficits import (
    COVARIATES,
    VoxelNorm,
    fit_voxel_norm,
    load_voxel_norms,
    read_voxels,
    save_voxel_norms,
)

N = 40


def image(values: np.ndarray | float) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.broadcast_to(np.float32(values), box.SHAPE).astype(np.float32), box.AFFINE)


def healthy(seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Covariates of healthy people, and the value that all their voxels have but for noise, by head size and age."""
    rng = np.random.default_rng(seed)
    people = pd.DataFrame(
        {"age": rng.uniform(60, 85, N), "male": rng.integers(0, 2, N), "tiv_ml": rng.normal(1500, 150, N)}
    )
    return people.astype(float), 0.5 * people["tiv_ml"].to_numpy() / 1500 - 0.004 * (people["age"].to_numpy() - 70)


@pytest.fixture(scope="module")
def norm() -> VoxelNorm:
    people, level = healthy()
    rng, size = np.random.default_rng(1), int(box.grey_matter().sum())
    maps = [value + rng.normal(0, 0.03, size).astype(np.float32) for value in level]
    return fit_voxel_norm(maps, people, "mri")


def person(age: float, tiv_ml: float) -> pd.DataFrame:
    return pd.DataFrame({"age": [age], "male": [1.0], "tiv_ml": [tiv_ml]})


def test_a_small_head_is_no_deficit(norm):
    z = norm.deficit(image(0.5 * 1150 / 1500), person(70, 1150)).get_fdata()[box.grey_matter()]
    assert abs(z.mean()) < 0.5
    unadjusted = (0.5 * 1150 / 1500 - 0.5) / 0.03
    assert unadjusted < -3


def test_what_is_missing_on_the_left_is_a_deficit_on_the_left_alone(norm):
    values = np.full(box.SHAPE, 0.5, np.float32)
    values[:36] -= 0.15  # x below −8 mm
    z = norm.deficit(image(values), person(70, 1500)).get_fdata()
    grey = box.grey_matter()
    left, right = (np.where(grey, z, np.nan)[part] for part in (slice(5, 30), slice(45, 75)))
    assert np.nanmean(left) < -3.5
    assert abs(np.nanmean(right)) < 0.5


def test_without_an_age_there_is_no_deficit(norm):
    assert norm.deficit(image(0.5), person(float("nan"), 1500)) is None


def test_nineteen_people_make_no_norm():
    people, _ = healthy()
    assert fit_voxel_norm([np.zeros(3)] * 19, people[:19], "mri") is None


def test_head_size_adjusts_grey_matter_and_not_uptake():
    assert "tiv_ml" in COVARIATES["mri"] and "tiv_ml" not in COVARIATES["pet"]


def test_smoothing_keeps_a_level_and_only_grey_matter_is_read():
    values = read_voxels(image(0.7), "mri")
    assert values.shape == (box.grey_matter().sum(),)
    assert np.median(values) == pytest.approx(0.7, abs=1e-3)


def test_outside_grey_matter_stands_the_nearest_value(norm):
    z = norm.deficit(image(0.5), person(70, 1500)).get_fdata()
    assert np.isfinite(z).all()
    assert set(np.unique(z[~box.grey_matter()])) <= set(np.unique(z[box.grey_matter()]))


def test_kept_norms_say_what_the_fitted_ones_say(norm, tmp_path):
    assert load_voxel_norms(tmp_path) is None
    save_voxel_norms({"mri": norm, "pet": None}, tmp_path)
    kept = load_voxel_norms(tmp_path)
    assert kept["pet"] is None and kept["mri"].n == norm.n
    fitted, found = (n.deficit(image(0.4), person(60, 1300)).get_fdata() for n in (norm, kept["mri"]))
    assert np.abs(found - fitted).max() < 0.05
