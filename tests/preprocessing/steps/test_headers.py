"""Headers that contradict themselves, units of length, and NaN around the head."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from preprocessing.steps import orient
from preprocessing.steps.orient import ScanError
from preprocessing.subject.plan import Recipe
from preprocessing.subject.stamps import STRUCTURE

NOISE = np.random.default_rng(0).uniform(1, 1000, (12, 12, 12)).astype(np.float32)
SFORM = np.diag([1.0, 1, 1, 1])


def turned(*degrees: float, sizes: tuple = (1.0, 1, 1)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(sizes)
    return affine


def save(folder: Path, sform: np.ndarray, qform: np.ndarray, codes: tuple[int, int] = (1, 1), **fields) -> Path:
    image = nib.Nifti1Image(NOISE, None)
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, folder / "a.nii.gz")
    return folder / "a.nii.gz"


def refusal(path: Path, header: str = "") -> tuple[str, str]:
    with pytest.raises(ScanError) as caught:
        orient.read_scan(path, header)
    return caught.value.reason_code, str(caught.value)


CONTRADICTIONS = {
    "another size": (np.diag([1.2, 1.2, 1.2, 1]), "voxel size is 1 x 1 x 1, that of qform and pixdim 1.2 x 1.2 x 1.2"),
    "another size along one axis": (np.diag([1, 1, 1.002, 1]), "1 x 1 x 1.002; they may differ by 0.1 %"),
    "the other hand": (np.diag([-1.0, 1, 1, 1]), "axes are RAS, the qform's LAS; one is the mirror image"),
    "turned over": (np.diag([-1.0, -1, 1, 1]), "(RAS) and of the qform (LPS) lie 180 degrees apart"),
    "turned a little": (turned(0, 0, 5), "(RAS) and of the qform (RAS) lie 5 degrees apart"),
}


@pytest.mark.parametrize(("qform", "part"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_header_that_contradicts_itself_is_refused_with_both_values_unless_told_which_counts(qform, part, tmp_path):
    path = save(tmp_path, SFORM, qform)
    code, sentence = refusal(path)
    assert code == "header_contradiction"
    assert part in sentence and "--header sform or --header qform" in sentence and str(path) in sentence
    for header, affine in (("sform", SFORM), ("qform", qform)):
        expected = nib.as_closest_canonical(nib.Nifti1Image(NOISE, affine)).affine
        assert np.allclose(orient.read_scan(path, header).affine, expected, atol=1e-6)


def test_a_quaternion_that_is_no_rotation_contradicts_a_good_sform(tmp_path):
    path = save(tmp_path, SFORM, SFORM, quatern_b=1, quatern_c=1, quatern_d=1)
    assert refusal(path)[0] == "header_contradiction"
    assert refusal(path, "qform")[0] == "voxel_size"
    assert orient.read_scan(path, "sform").shape == (12, 12, 12)


def test_an_sform_of_zeros_contradicts_a_good_qform(tmp_path):
    path = save(tmp_path, np.diag([0.0, 0, 0, 1]), SFORM)
    code, sentence = refusal(path)
    assert (code, "the sform spans no volume" in sentence) == ("header_contradiction", True)
    assert np.allclose(orient.read_scan(path, "qform").affine, SFORM)


OBLIQUE = turned(12, -7, 179.9, sizes=(0.9375, 0.9375, 1.2))
AGREEMENTS = {
    "rounded": (OBLIQUE, turned(12.001, -7.001, 179.9, sizes=(0.9375, 0.9375, 1.2005))),
    "left-handed, oblique": (OBLIQUE @ np.diag([-1, 1, 1, 1]), OBLIQUE @ np.diag([-1, 1, 1, 1])),
    "half a turn, where the quaternion's first number is lost": (np.diag([-1.0, -1, 1, 1]),) * 2,
    "sheared by less than half a degree": (np.eye(4) + 0.008 * np.eye(4, k=1)[[0, 3, 3, 3]], np.eye(4)),
}


@pytest.mark.parametrize(("sform", "qform"), AGREEMENTS.values(), ids=AGREEMENTS)
def test_what_converters_round_is_no_contradiction(sform, qform, tmp_path):
    expected = nib.as_closest_canonical(nib.Nifti1Image(NOISE, sform)).affine
    assert np.allclose(orient.read_scan(save(tmp_path, sform, qform)).affine, expected, atol=1e-4)


def test_where_one_code_is_0_the_other_affine_counts(tmp_path):
    other = np.diag([-1.2, 1.2, 1.2, 1])
    for header in ("", "sform", "qform"):
        with pytest.warns(UserWarning, match="1 x 1 x 1 counts, not that of pixdim, 1.2 x 1.2 x 1.2"):
            first = orient.read_scan(save(tmp_path, SFORM, other, (1, 0)), header)
        assert np.allclose(first.affine, SFORM)
        second = orient.read_scan(save(tmp_path, SFORM, other, (0, 1)), header)
        assert np.allclose(np.linalg.norm(second.affine[:3, :3], axis=0), 1.2)


@pytest.mark.parametrize(("unit", "size"), [("meter", 0.0012), ("micron", 1200.0), ("mm", 1.2), ("unknown", 1.2)])
def test_a_unit_that_fits_its_numbers_is_converted_to_mm(unit, size, tmp_path):
    affine = np.diag([size, size, size, 1])
    affine[:3, 3] = 10 * size
    image = nib.Nifti1Image(NOISE, affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    expected = np.diag([1.2, 1.2, 1.2, 1])
    expected[:3, 3] = 12
    assert np.allclose(orient.read_scan(tmp_path / "a.nii").affine, expected, rtol=1e-6)


def test_a_unit_that_does_not_fit_its_numbers_is_refused_with_both(tmp_path):
    code, sentence = refusal(save(tmp_path, SFORM, SFORM, xyzt_units=3))
    assert code == "units"
    assert "1 x 1 x 1 in unit 'micron', which is 0.001 x 0.001 x 0.001 mm" in sentence


def head(tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A ball of noise in 20^3 voxels, and where it is."""
    grid = np.indices((20, 20, 20)) - 9.5
    inside = (grid**2).sum(0) < 49
    return np.random.default_rng(1).uniform(1, 1000, inside.shape).astype(np.float32), inside


def written(values: np.ndarray, tmp_path: Path) -> Path:
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "head.nii.gz")
    return tmp_path / "head.nii.gz"


def test_nan_around_the_head_is_read_as_zero_with_a_note(tmp_path):
    values, inside = head(tmp_path)
    path = written(np.where(inside, values, np.nan), tmp_path)
    with pytest.warns(UserWarning, match="head.nii.gz: .* % of the voxels, all around the head, are NaN"):
        image = orient.read_scan(path)
    assert np.array_equal(image.get_fdata(), np.where(inside, values, 0))
    assert image.extra["nan_share"] == pytest.approx(1 - inside.mean())


NAN_IN_THE_HEAD = {
    "a hole": (slice(8, 12),) * 3,
    "a lost slice": (slice(None), slice(None), 9),
    "a voxel": (9, 9, 9),
}


@pytest.mark.parametrize("place", NAN_IN_THE_HEAD.values(), ids=NAN_IN_THE_HEAD)
@pytest.mark.parametrize("background", [0, np.nan])
def test_nan_in_the_head_is_refused(place, background, tmp_path):
    values, inside = head(tmp_path)
    values = np.where(inside, values, background)
    values[place] = np.nan
    assert refusal(written(values, tmp_path))[0] == "not_finite"


def test_infinity_around_the_head_and_nothing_but_nan_are_refused(tmp_path):
    values, inside = head(tmp_path)
    assert refusal(written(np.where(inside, values, np.inf), tmp_path))[0] == "not_finite"
    assert refusal(written(np.full_like(values, np.nan), tmp_path))[0] == "not_finite"


def test_an_unset_header_leaves_stamps_as_they_were_and_a_set_one_changes_them():
    assert "header" not in Recipe().stamped()
    assert Recipe(header="sform").stamped() == Recipe().stamped() | {"header": "sform"}
    assert Recipe(header="sform").hash != Recipe().hash
    assert STRUCTURE.stamp(Recipe(header="sform"), {}) != STRUCTURE.stamp(Recipe(), {})
    with pytest.raises(ValueError, match="header is 'pixdim'; known: sform, qform"):
        Recipe(header="pixdim")
