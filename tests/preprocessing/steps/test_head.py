"""A head found and segmented on its own T1, with a stand-in for the network that tells tissues by brightness."""

import nibabel as nib
import numpy as np
import pytest
import torch

from preprocessing.networks.labels import HEAD_CLASSES
from preprocessing.steps import head
from preprocessing.steps.orient import ScanError

RADIUS_MM = 62.0  # of what lies inside the skull: 998 mL
BRAIN_ML = 4 / 3 * np.pi * RADIUS_MM**3 / 1000


class ByBrightness:
    """Background where it is dark, white matter where it is bright."""

    classes = tuple(HEAD_CLASSES)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        logits = torch.full((1, len(self.classes), *image.shape[2:]), -30.0)
        logits[:, self.classes.index("background")] = 0
        logits[:, self.classes.index("white_matter")] = 20 * (image[:, 0] - 0.5 * (image.min() + image.max()))
        return logits


LOAD = head._network


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(head, "_network", lambda weights: ByBrightness())


def ball(center_mm=(0.0, 0.0, 0.0), voxel_mm=(2.0, 2.0, 2.0), turn=0.0, shape_mm=(220, 240, 230)) -> nib.Nifti1Image:
    """A bright ball in a dark scan; turn: of the scan's axes around the third, in radians."""
    shape = np.ceil(np.array(shape_mm) / voxel_mm).astype(int)
    affine = np.eye(4)
    turned = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    affine[:3, :3] = np.array(turned) @ np.diag(voxel_mm)
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    points = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    away = np.linalg.norm(points - np.array(center_mm), axis=-1)
    return nib.Nifti1Image((100 * np.clip(RADIUS_MM - away + 0.5, 0, 1)).astype(np.float32), affine)


@pytest.mark.parametrize("voxel_mm", [(2.0, 2.0, 2.0), (1.2, 1.2, 2.5), (3.0, 3.0, 3.0)])
def test_volumes_do_not_depend_on_the_size_of_voxels(voxel_mm):
    found = head.segment_head(ball(voxel_mm=voxel_mm))
    assert found.intracranial_ml == pytest.approx(BRAIN_ML, rel=0.02)
    assert found.tissue_ml("wm") == pytest.approx(BRAIN_ML, rel=0.02)


@pytest.mark.parametrize(("center", "turn"), [((14, -20, -25), 0.0), ((-10, 15, 20), 0.4)])
def test_the_box_lies_around_the_head_in_the_scans_own_millimeters(center, turn):
    scan = ball(center, turn=turn)
    found = head.segment_head(scan)
    assert np.allclose(found.affine[:3, :3], scan.affine[:3, :3])  # both of 2 mm
    index = np.argwhere(found.intracranial > 0.5)
    middle = nib.affines.apply_affine(found.affine, index.mean(0))
    assert np.abs(middle - center).max() < 1
    assert np.abs(index.mean(0) - (np.array(head.BOX) - 1) / 2).max() * head.VOXEL_MM < head.RECENTER_MM + 1


def test_probabilities_add_up_to_one_and_to_the_volumes():
    found = head.segment_head(ball())
    assert set(found.probability) == set(HEAD_CLASSES) == {"background", *(n for t in head.TISSUES.values() for n in t)}
    assert np.allclose(sum(found.probability.values()), 1, atol=1e-5)
    assert found.intracranial_ml == pytest.approx(found.intracranial.sum() * 0.008, rel=1e-4)
    assert found.intracranial_ml == pytest.approx(sum(map(found.tissue_ml, head.TISSUES)))


def test_a_neck_below_the_head_does_not_draw_the_box_down():
    image = ball((0, 0, 40), shape_mm=(220, 240, 300))
    values = np.array(image.dataobj)
    values[40:70, 45:75, :45] = 50
    found = head.segment_head(nib.Nifti1Image(values, image.affine))
    middle = nib.affines.apply_affine(found.affine, (np.array(head.BOX) - 1) / 2)
    assert np.abs(middle - [0, 0, 40]).max() < 15


def broken(change) -> nib.Nifti1Image:
    image = ball(voxel_mm=(4.0, 4.0, 4.0))
    values = np.array(image.dataobj)
    return nib.Nifti1Image(change(values), image.affine)


def test_what_is_no_head_is_refused_with_a_reason():
    def with_nan(values):
        values[0, 0, 0] = np.nan
        return values

    changes = {
        "not_3d": lambda values: np.stack([values, values], -1),
        "not_finite": with_nan,
        "empty": np.zeros_like,
    }
    for reason, change in changes.items():
        with pytest.raises(ScanError) as raised:
            head.segment_head(broken(change))
        assert raised.value.reason_code == reason


def test_a_volume_that_no_head_has_is_refused_with_its_size():
    image = ball()
    small = nib.Nifti1Image(np.asarray(image.dataobj), image.affine @ np.diag([0.5, 0.5, 0.5, 1]))
    with pytest.raises(ScanError, match=r"12[0-9] mL found inside the skull; expected 700-2500 mL") as raised:
        head.segment_head(small)
    assert raised.value.reason_code == "head_not_found"


def test_without_weights_the_error_says_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.setattr(head, "_network", LOAD)
    with pytest.raises(FileNotFoundError, match="none.safetensors: no weights .* --network head makes them"):
        head.segment_head(ball(voxel_mm=(4.0, 4.0, 4.0)), tmp_path / "none.safetensors")
