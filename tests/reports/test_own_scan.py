"""A person's own scan: slices through the hippocampi, in the scan's own millimeters, right on the left."""

from __future__ import annotations

import re

import nibabel as nib
import numpy as np
import pytest

from reports.own_scan import OwnScan, choose_slices, cut, draw_own_scan, find_own_scan, title_of
from reports.records import load_prepared
from tests.reports.conftest import RAW

SHAPE = (60, 80, 50)
AFFINE = np.eye(4)
AFFINE[:3, 3] = (-30.5, -40.5, -20.5)


def scan(pet: bool = True) -> OwnScan:
    t1, hippocampi = np.full(SHAPE, 100, np.float32), np.zeros(SHAPE, np.float32)
    hippocampi[8:16, 30:50, 10:18] = 1  # left: x around −19 mm
    hippocampi[44:52, 30:50, 12:20] = 1
    t1[hippocampi > 0] = 200
    coarse = nib.Nifti1Image(np.full((30, 40, 25), 1.2, np.float32), AFFINE @ np.diag([2.0, 2, 2, 1]))
    return OwnScan(nib.Nifti1Image(t1, AFFINE), nib.Nifti1Image(hippocampi, AFFINE), coarse if pet else None)


def test_slices_go_through_the_middle_of_each_hippocampus():
    coronal, right, left, axial = choose_slices(scan().hippocampi)
    assert (left.mm, right.mm) == pytest.approx((-19, 17))
    assert coronal.mm == pytest.approx(-1) and axial.mm == pytest.approx(-6)
    assert title_of(left) == "left sagittal, x = −19 mm"


def test_each_slice_meets_the_hippocampi():
    own = scan()
    for where in choose_slices(own.hippocampi):
        assert cut(own.hippocampi, where, own.t1).max() == 1


def test_without_a_hippocampus_the_middle_of_the_grid_is_shown():
    empty = nib.Nifti1Image(np.zeros(SHAPE, np.float32), AFFINE)
    assert choose_slices(empty)[0].mm == pytest.approx(-1)


def test_a_coarser_pet_lies_at_its_own_millimeters():
    own = scan()
    values = np.indices((30, 40, 25)).astype(np.float32)[0]
    pet = nib.Nifti1Image(values, AFFINE @ np.diag([2.0, 2, 2, 1]))
    shown = cut(pet, choose_slices(own.hippocampi)[0], own.t1)
    x = AFFINE[0, 3] + np.arange(SHAPE[0] - 2)
    assert np.allclose(shown[10, : SHAPE[0] - 2], (x - AFFINE[0, 3]) / 2, atol=1e-4)


def test_the_figure_has_a_row_for_the_pet_where_there_is_one():
    with_pet, without = (draw_own_scan(scan(pet)).decode() for pet in (True, False))
    assert "FDG-PET" in with_pet and "SUVR" in with_pet and "FDG-PET" not in without
    assert len(re.findall(r">R<", without)) == 2  # coronal and axial; sagittal ones have A and P
    assert without.count("<path") == 4


def test_people_who_came_prepared_have_no_scan_of_their_own(outputs):
    assert find_own_scan(load_prepared(outputs / "prepared"), f"sub-SIM{RAW:04d}_ses-M000") is None


def test_the_files_of_preprocessing_are_found(outputs):
    prepared, own = load_prepared(outputs / "prepared"), scan()
    name = f"sub-SIM{RAW:04d}_ses-M000"
    folder = prepared.root / name.split("_")[0] / "ses-M000"
    files = {"anat": ("res-1_desc-view_T1w", own.t1), "pet": ("res-2_desc-suvrPons_pet", own.pet)}
    files["anat/"] = ("res-1_label-hippocampus_probseg", own.hippocampi)
    written = []
    for part, (ending, image) in files.items():
        (folder / part).mkdir(exist_ok=True)
        written.append(folder / part / f"{name}_space-T1w_{ending}.nii.gz")
        nib.save(image, written[-1])
    found = find_own_scan(prepared, name)
    for file in written:
        file.unlink()
    assert found is not None and found.pet is not None
    assert found.t1.get_fdata().max() == 200
