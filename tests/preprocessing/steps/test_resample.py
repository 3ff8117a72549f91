"""Points through a field and an affine, and what a scan shows there, with ANTs as the judge."""

from __future__ import annotations

from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from preprocessing.steps import register, resample, template
from preprocessing.steps.warp_field import read_field, write_field


@pytest.fixture(scope="module")
def bent(tmp_path_factory) -> register.Transforms:
    """A smooth field of up to some millimeters and a turned, stretched and shifted affine about a point off zero."""
    folder, random = tmp_path_factory.mktemp("bent"), np.random.default_rng(0)
    turned = [0.98, -0.17, 0.05, 0.17, 0.95, 0, 0, 0.02, 1.1, 4, -7, 2]
    affine = ants.create_ants_transform("AffineTransform", dimension=3, parameters=turned, fixed_parameters=[5, -9, 3])
    ants.write_transform(affine, str(folder / "affine.mat"))
    grid = register.to_ants(
        template.grid_image(np.zeros(template.GRID_SHAPE, np.float32)).slicer[register._brain_box()]
    )
    frame = (grid.origin, grid.spacing, grid.direction)
    for name in ("warp", "inverse"):
        noise = random.standard_normal((*grid.shape, 3))
        smooth = np.stack([ndimage.gaussian_filter(noise[..., axis], 5) for axis in range(3)], -1)
        write_field(
            ants.from_numpy((100 * smooth).astype(np.float32), *frame, has_components=True), folder / f"{name}.h5"
        )
    return register.Transforms(folder / "affine.mat", folder / "warp.h5", folder / "inverse.h5")


@pytest.fixture(scope="module")
def scan() -> nib.Nifti1Image:
    """A smooth scan whose edge cuts through the brain, on an oblique grid."""
    values = ndimage.gaussian_filter(np.random.default_rng(1).random((60, 70, 50)), 2).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [3, -5, 8], degrees=True).as_matrix() * [2, 2, 2.5]
    affine[:3, 3] = [-55, -90, -60]
    return nib.Nifti1Image(values, affine)


def by_ants(scan: nib.Nifti1Image, grid: nib.Nifti1Image, chain: list[Path], **options: object) -> np.ndarray:
    names = [str(file) for file in chain]
    return ants.apply_transforms(register.to_ants(grid), register.to_ants(scan), names, **options).numpy()


@pytest.mark.parametrize("resolution_mm", [2, 1])
def test_a_scan_on_the_template_is_what_ants_puts_there(bent, scan, resolution_mm):
    grid = template.t1_1mm() if resolution_mm == 1 else template.grid_image(template.t1())
    expected = by_ants(scan, grid, [bent.warp, bent.affine])
    found = register.to_template(scan, bent, resolution_mm=resolution_mm)
    assert (found > 0).mean() > 0.2
    assert np.quantile(np.abs(found - expected), 0.999) < 1e-3 * scan.get_fdata().max()


def test_a_pet_goes_through_the_rigid_map_last(bent, scan, tmp_path):
    turn = [1, 0, 0, 0, 0.96, -0.28, 0, 0.28, 0.96, 3, 5, -4]
    rigid = tmp_path / "rigid.mat"
    ants.write_transform(ants.create_ants_transform("AffineTransform", dimension=3, parameters=turn), str(rigid))
    expected = by_ants(scan, template.grid_image(template.t1()), [bent.warp, bent.affine, rigid])
    assert np.quantile(np.abs(register.to_template(scan, bent, rigid) - expected), 0.999) < 1e-3


def test_the_jacobian_is_the_one_of_ants(bent, tmp_path):
    box = register._brain_box()
    ants.image_write(read_field(bent.warp), str(tmp_path / "field.nii.gz"))
    grid = register.to_ants(template.grid_image(np.zeros(template.GRID_SHAPE, np.float32)).slicer[box])
    expected = ants.create_jacobian_determinant_image(grid, str(tmp_path / "field.nii.gz")).numpy()
    found = register.jacobian(bent)[box] / register.affine_determinant(bent.affine)
    inner = (slice(2, -2),) * 3  # at the edge, ANTs has its own rule
    assert np.ptp(expected[inner]) > 0.2
    assert np.abs(found - expected)[inner].max() < 0.02


def test_only_points_within_the_voxels_of_a_scan_are_inside():
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.diag([2.0, 2, 2, 1]))
    points = np.float32([[-0.9, 0, 0], [-1.1, 0, 0], [6.9, 0, 0], [7.1, 0, 0]]).T
    assert resample.inside(image, points).tolist() == [True, False, True, False]
    assert resample.sample(image, points).tolist() == [1, 0, 1, 0]
