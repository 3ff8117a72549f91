from __future__ import annotations

import base64
import io
import re

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from reports import overlays
from reports.mosaic import WIDTH_INCH
from reports.overlays import CUTS, EXTENT_MM, PLANES, Cut
from tests.reports.conftest import AFFINE

HIPPOCAMPI = CUTS[0]


def image_of(function) -> nib.Nifti1Image:
    """function(x, y, z) of mm on the prepared grid."""
    i, j, k = np.indices((80, 80, 80))
    x, y, z = (AFFINE[a, 3] + 2.0 * n for a, n in enumerate((i, j, k)))
    return nib.Nifti1Image(function(x, y, z).astype(np.float32), AFFINE)


@pytest.mark.parametrize("modality", ["mri", "pet"])
def test_darker_means_smaller(modality):
    colors = overlays.colormap(modality)(np.linspace(0, 1, 64))[:, :3]
    luminance = colors @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) > 0).all()


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: f"{cut.plane}{cut.mm}")
def test_a_cut_shows_each_voxel_at_its_own_millimeters(cut):
    _, across, up = PLANES[cut.plane]
    weights = np.array([1.0, 1000.0, 1000000.0])
    image = image_of(lambda x, y, z: weights[across] * (x, y, z)[across] + weights[up] * (x, y, z)[up])
    values = overlays.sample_slice(image, cut, order=1)
    u = np.arange(EXTENT_MM[across][0], EXTENT_MM[across][1] + 1)
    v = np.arange(EXTENT_MM[up][0], EXTENT_MM[up][1] + 1)
    expected = weights[across] * u[None, :] + weights[up] * v[:, None]
    assert np.allclose(values, expected, rtol=1e-5, atol=8)


def test_right_is_drawn_on_the_left_of_the_panel():
    image = image_of(lambda x, y, z: np.where(x > 0, 0.2, 0.9))
    svg = overlays.draw_overlays([("MRI", "mri", image)]).decode()
    first = [(float(x), mark) for x, mark in re.findall(r'<text x="([\d.]+)"[^>]*>([RL])<', svg)][:2]
    assert [mark for _, mark in sorted(first)] == ["R", "L"]
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(re.search(r"jpeg;base64,([^\"]+)", svg)[1])))
    pixels = np.asarray(picture, float)[60:, :, 1]  # without the titles
    dpi = picture.width / WIDTH_INCH
    right, left = (pixels[:, int(a * dpi) : int(b * dpi)] for a, b in ((0.3, 0.9), (1.1, 1.6)))
    # Less is darker, and the right has less.
    assert np.percentile(right, 90) < np.percentile(left, 90) - 40


def test_a_right_sided_deficit_is_dark_at_positive_x_only():
    values = overlays.color_slice(image_of(lambda x, y, z: np.where(x > 0, 0.2, 0.9)), "mri", HIPPOCAMPI)
    middle = -EXTENT_MM[0][0]
    assert np.nanmax(values[:, middle + 4 :]) < np.nanmin(values[:, : middle - 4])


def test_the_storage_order_of_a_file_does_not_change_the_picture(tmp_path):
    image = image_of(lambda x, y, z: np.sin(x / 20) + y / 90 + z / 70)
    flipped = image.as_reoriented(np.array([[0, -1], [2, 1], [1, -1]]))
    for name, stored in (("a", image), ("b", flipped)):
        nib.save(stored, tmp_path / f"{name}.nii.gz")
    a, b = (overlays.load_map(tmp_path / f"{name}.nii.gz") for name in "ab")
    assert np.allclose(overlays.mean_map([a, b]).get_fdata(), image.get_fdata(), atol=1e-5)
    for cut in CUTS:
        assert np.allclose(
            overlays.color_slice(a, "pet", cut), overlays.color_slice(b, "pet", cut), atol=1e-5, equal_nan=True
        )


def test_only_grey_matter_is_colored_and_the_same_in_everybody():
    one = overlays.color_slice(image_of(lambda x, y, z: np.full(x.shape, 0.5)), "mri", HIPPOCAMPI)
    two = overlays.color_slice(image_of(lambda x, y, z: np.full(x.shape, 0.0)), "mri", HIPPOCAMPI)
    grey = overlays.template_slice(HIPPOCAMPI)[1]
    assert np.array_equal(np.isfinite(one), grey)
    assert np.array_equal(np.isfinite(two), grey)
    assert 0.15 < grey.mean() < 0.6


def test_outside_the_map_nothing_is_colored():
    small = nib.Nifti1Image(np.ones((20, 20, 20), np.float32), np.diag([2.0, 2, 2, 1]) @ np.eye(4))
    values = overlays.sample_slice(small, Cut("coronal", -90, "nowhere"), order=1)
    assert np.isnan(values).all()


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: f"{cut.plane}{cut.mm}")
def test_every_cut_goes_through_an_outlined_region(cut):
    assert overlays.template_slice(cut)[2].sum() > 100


def test_a_full_grey_voxel_reads_eight_microliters():
    values = overlays.color_slice(image_of(lambda x, y, z: np.ones(x.shape)), "mri", HIPPOCAMPI)
    assert np.allclose(values[np.isfinite(values)], 8.0)


def test_a_map_with_a_missing_value_is_refused(tmp_path):
    nib.save(image_of(lambda x, y, z: np.where(x > 70, np.nan, 1.0)), tmp_path / "gm.nii.gz")
    with pytest.raises(ValueError, match="gm.nii.gz: a map must be a finite 3D volume"):
        overlays.load_map(tmp_path / "gm.nii.gz")
