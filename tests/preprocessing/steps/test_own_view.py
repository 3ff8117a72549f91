"""The T1 to look at: upright, in the scan's own millimeters, whichever way it was tilted; the PET lies on it."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from preprocessing.steps import own_view


def tilted(degrees: float = 25.0) -> nib.Nifti1Image:
    """A scan of 1.5 mm whose axes are turned about the front-back axis, with a bright ball at (10, -5, 12) mm."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = 1.5 * turn
    affine[:3, 3] = -affine[:3, :3] @ np.array([32, 32, 32])
    points = nib.affines.apply_affine(affine, np.moveaxis(np.indices((65, 65, 65)), 0, -1))
    head, ball = (np.linalg.norm(points - center, axis=-1) for center in ([0, 0, 0], [10, -5, 12]))
    values = 100.0 * (head < 40) + 100.0 * (ball < 10)
    return nib.Nifti1Image(values.astype(np.float32), affine)


@pytest.fixture(scope="module")
def view() -> nib.Nifti1Image:
    scan = tilted()
    return own_view.view_t1(scan, scan.get_fdata() > 50)


def center_of(image: nib.Nifti1Image, at_least: float) -> np.ndarray:
    places = np.argwhere(image.get_fdata() > at_least)
    return nib.affines.apply_affine(image.affine, places.mean(0))


def test_the_grid_is_upright_and_of_one_millimeter(view):
    assert np.array_equal(view.affine[:3, :3], np.eye(3))
    assert view.get_data_dtype() == np.uint8


def test_what_lies_somewhere_lies_there_still(view):
    assert center_of(view, 200) == pytest.approx([10, -5, 12], abs=0.5)


def test_the_whole_brain_and_a_margin_are_in_it(view):
    places = nib.affines.apply_affine(view.affine, np.argwhere(view.get_fdata() > 60))
    edges = nib.affines.apply_affine(view.affine, [[0, 0, 0], np.array(view.shape) - 1])
    assert (places.min(0) - edges[0] > own_view.MARGIN_MM - 3).all()
    assert (edges[1] - places.max(0) > own_view.MARGIN_MM - 3).all()


def test_a_pet_is_taken_through_its_rigid_map(view, tmp_path):
    """The PET is the scan moved by 8 mm to the right; the map from T1 to PET says so."""
    import ants

    scan, moved = tilted(), np.eye(4)
    moved[0, 3] = 8
    pet = nib.Nifti1Image(scan.get_fdata(dtype=np.float32), moved @ scan.affine)
    to_pet = [1, 0, 0, 0, 1, 0, 0, 0, 1, -8, 0, 0]  # ITK's x grows to the left
    shift = ants.create_ants_transform("AffineTransform", dimension=3, parameters=to_pet)
    ants.write_transform(shift, str(tmp_path / "rigid.mat"))
    shown = own_view.view_pet(pet, tmp_path / "rigid.mat", view)
    assert np.array_equal(np.diag(shown.affine)[:3], [2, 2, 2])
    assert center_of(shown, 160) == pytest.approx([10, -5, 12], abs=1.0)
