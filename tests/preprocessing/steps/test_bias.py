"""A bias field that was put in comes out."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from preprocessing.steps import bias


@pytest.fixture(scope="module")
def shaded():
    """Two tissues with noise in a ball of 2 mm voxels, under a field that grows to one side: image, mask, log field."""
    random = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, 60),) * 3, indexing="ij")
    mask = x**2 + y**2 + z**2 < 0.8
    white = ndimage.gaussian_filter(random.standard_normal(mask.shape), 3) > 0
    field = 0.2 * x - 0.1 * y * z
    values = np.where(white, 150, 100) * np.exp(field) + random.normal(0, 3, mask.shape)
    return nib.Nifti1Image((values * mask).astype(np.float32), np.diag([2.0, 2, 2, 1])), mask, field


def test_a_known_field_is_divided_out(shaded):
    image, mask, field = shaded
    found = bias.log_field(image.get_fdata(dtype=np.float32), mask, (2.0, 2.0, 2.0))
    assert np.std((found - field)[mask]) < 0.15 * np.std(field[mask])


def test_the_unit_of_the_scan_does_not_matter(shaded):
    image, mask, _ = shaded
    once = bias.correct_bias(image, mask).get_fdata(dtype=np.float32)
    scaled = bias.correct_bias(nib.Nifti1Image(image.get_fdata(dtype=np.float32) * 977, image.affine), mask)
    assert np.allclose(scaled.get_fdata(dtype=np.float32), 977 * once, rtol=1e-3)


def test_an_even_scan_stays_as_it_is_but_for_a_factor():
    mask = np.ones((30, 30, 30), bool)
    image = nib.Nifti1Image(np.full(mask.shape, 100, np.float32), np.diag([5.0, 5, 5, 1]))
    assert np.allclose(bias.correct_bias(image, mask).get_fdata(), 100, rtol=1e-3)
