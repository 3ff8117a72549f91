"""Known changes put into scans: the template as its own person, with transforms that change nothing."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from preprocessing.steps import known_change, resample, template
from preprocessing.steps.known_change import put_atrophy, put_hypometabolism, shrinking_field
from preprocessing.steps.register import Transforms

NOWHERE = Transforms(Path("affine.mat"), Path("warp.h5"), Path("inverse.h5"))


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every transform is the identity: the scan lies in the template's space."""
    monkeypatch.setattr(resample, "matrix_of", lambda path: np.eye(4))
    monkeypatch.setattr(resample, "displaced", lambda points, warp: points)


def hippocampi() -> nib.Nifti1Image:
    return template.grid_image(template.region_mask("hippocampus").astype(np.float32))


@pytest.mark.parametrize("loss", [0.05, 0.1])
def test_the_atlas_hippocampi_lose_what_was_asked_for_and_their_image_does(still: None, loss: float) -> None:
    image = hippocampi()
    changed, taken = put_atrophy(image, NOWHERE, loss)
    assert taken == pytest.approx(loss, abs=2e-4)
    assert changed.get_fdata().sum() / image.get_fdata().sum() - 1 == pytest.approx(-loss, abs=0.006)


def test_another_structure_in_the_same_place_loses_the_same_share(still: None) -> None:
    # A ball of 6 mm within the left hippocampus's surroundings, whatever its own outline.
    center = np.argwhere(template.region_mask("hippocampus", side="left")).mean(0)
    distance = 2 * np.linalg.norm(np.indices(template.GRID_SHAPE) - center[:, None, None, None], axis=0)
    ball = template.grid_image(np.clip(4.5 - distance / 2, 0, 1).astype(np.float32))
    changed, taken = put_atrophy(ball, NOWHERE, 0.1)
    assert 1 - changed.get_fdata().sum() / ball.get_fdata().sum() == pytest.approx(taken, abs=0.03)


def test_far_from_the_hippocampi_nothing_changes_at_all(still: None) -> None:
    scan = template.grid_image(template.t1().astype(np.float32))
    changed, _ = put_atrophy(scan, NOWHERE, 0.1)
    moved = np.abs(changed.get_fdata() - scan.get_fdata()) > 0
    x, y, z = np.abs(resample.grid_points(template.GRID_SHAPE, template.GRID_AFFINE))
    assert moved.any() and not moved[z > 70].any() and not moved[x > 75].any()


def test_the_field_is_even_over_the_hippocampi_and_made_good_around_them() -> None:
    field = shrinking_field()
    divergence = sum(np.gradient(field[axis], template.SPACING_MM, axis=axis) for axis in range(3))
    inside = divergence[template.region_mask("hippocampus")]
    assert inside.std() < 0.1 * abs(inside.mean())
    assert abs(divergence.sum()) < 0.02 * np.abs(divergence).sum()


def test_uptake_is_lost_in_the_meta_roi_and_not_in_the_pons_in_every_frame(still: None) -> None:
    pet = template.grid_image(np.ones(template.GRID_SHAPE, np.float32))
    frames = nib.Nifti1Image(np.ones((*template.GRID_SHAPE, 2), np.float32), template.GRID_AFFINE)
    changed, taken = put_hypometabolism(pet, NOWHERE, Path("rigid.mat"), 0.1)
    values = changed.get_fdata()
    assert 0.09 < taken <= 0.1
    assert values[template.meta_roi_mask()].mean() == pytest.approx(1 - taken, abs=1e-4)
    assert values[template.pons_mask()].min() > 0.999
    twice, _ = put_hypometabolism(frames, NOWHERE, Path("rigid.mat"), 0.1)
    assert twice.shape == frames.shape and np.allclose(twice.get_fdata()[..., 1], values, atol=1e-6)


@pytest.mark.parametrize("loss", [0.0, -0.1, 0.9])
def test_a_loss_that_is_no_such_share_is_refused(loss: float) -> None:
    with pytest.raises(ValueError, match="is needed"):
        put_atrophy(hippocampi(), NOWHERE, loss)
    with pytest.raises(ValueError, match="is needed"):
        put_hypometabolism(hippocampi(), NOWHERE, known_change.Path("rigid.mat"), loss)
