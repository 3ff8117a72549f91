"""Segmentation of the hippocampus by the network that ships."""

import nibabel as nib
import numpy as np
import pytest

from preprocessing.steps import hippocampus, resample


@pytest.fixture(scope="module")
def box():
    return np.random.default_rng(0).random(hippocampus.BOX).astype(np.float32)


def test_the_right_side_is_the_left_one_in_a_mirror(box):
    left = hippocampus.segment_box(box, "left")
    right = hippocampus.segment_box(box[::-1], "right")
    for name, shares in left.items():
        assert np.array_equal(shares, right[name][::-1])


def test_shares_of_all_classes_add_up_to_one(box):
    shares = hippocampus.segment_box(box, "left")
    assert set(hippocampus.REGIONS) < set(shares)
    assert np.allclose(sum(shares.values()), 1, atol=1e-5)


def test_both_sides_are_seen_on_the_view_where_interpolation_would_put_them(box):
    """The boxes overlap, and one of them leaves the view."""
    affines = [np.eye(4), np.eye(4)]
    affines[0][:3, 3], affines[1][:3, 3] = [-40.5, -20.5, 5.5], [-10.5, -24.5, 3.5]
    shares = [{"hippocampus": values} for values in (box, box[::-1])]
    boxes = {
        side: hippocampus.Box(share, affine, np.zeros(3), np.zeros(hippocampus.BOX, bool))
        for side, share, affine in zip(hippocampus.SIDES, shares, affines, strict=True)
    }
    grid = np.eye(4)
    grid[:3, 3] = [-38.5, -30.5, -2.5]
    view = nib.Nifti1Image(np.zeros((80, 90, 60), np.uint8), grid)
    expected = hippocampus.on_template(boxes, "hippocampus", resample.grid_points(view.shape, grid))
    found = hippocampus.on_view(boxes, "hippocampus", view)
    assert np.array_equal(found.affine, grid) and expected.max() > 0.9
    assert np.allclose(found.get_fdata(), expected, atol=1e-3)
