"""Segmentation of the hippocampus by the network that ships."""

import numpy as np
import pytest

from preprocessing.steps import hippocampus


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
