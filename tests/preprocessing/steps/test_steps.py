"""The steps one by one, on arrays whose answer is known."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ants
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from preprocessing import ledger
from preprocessing.quality.checks import check, worst
from preprocessing.steps import brain_mask, crop, lazy_ants, orient, regions, register, suvr, template, tissue
from preprocessing.steps.orient import ScanError
from preprocessing.steps.partial_volume import blur
from preprocessing.steps.warp_field import write_field
from preprocessing.subject.plan import Recipe

ROOT = Path(__file__).parents[3]


def ramp(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def code_of(path) -> tuple[str, str]:
    with pytest.raises(ScanError) as caught:
        orient.read_scan(path)
    return caught.value.reason_code, str(caught.value)


def test_a_truncated_gzip_file_is_refused_by_name(save_scan):
    path = save_scan(np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, message = code_of(path)
    assert code == "truncated"
    assert str(path) in message


def test_a_truncated_uncompressed_file_is_refused(save_scan):
    path = save_scan(ramp(20, 20, 20), name="scan.nii")
    path.write_bytes(path.read_bytes()[:5000])
    assert code_of(path)[0] == "truncated"


def test_a_file_that_is_no_image_is_unreadable(tmp_path):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(b"no image"))
    assert code_of(path)[0] == "unreadable"


def test_a_scan_with_nan_is_refused_with_their_number(save_scan):
    values = ramp(5, 5, 5)
    values[2, 2, 1:3] = np.nan
    code, message = code_of(save_scan(values))
    assert code == "not_finite"
    assert message.startswith("2 voxels")


def test_a_series_of_volumes_is_refused_but_a_single_one_is_not(save_scan):
    assert code_of(save_scan(ramp(5, 5, 5, 2)))[0] == "not_3d"
    assert orient.read_scan(save_scan(ramp(5, 5, 5, 1))).shape == (5, 5, 5)


def test_a_voxel_size_of_zero_is_refused_with_the_sizes(save_scan):
    path = save_scan(ramp(5, 5, 5), name="scan.nii")
    content = bytearray(path.read_bytes())
    content[80:84] = np.float32(0).tobytes()  # pixdim[1]
    content[280:284] = np.float32(0).tobytes()  # srow_x[0]
    path.write_bytes(bytes(content))
    code, message = code_of(path)
    assert code == "voxel_size"
    assert "every size must be > 0" in message


def test_a_scan_of_one_value_is_empty(save_scan):
    assert code_of(save_scan(np.full((5, 5, 5), 7, np.float32)))[0] == "empty"


def test_orienting_keeps_every_voxel_where_it_was_in_the_world(save_scan):
    values = ramp(4, 5, 6)
    affine = np.array([[0, 0, -2.0, 30], [-1.5, 0, 0, 20], [0, 1.0, 0, -10], [0, 0, 0, 1]])  # axes P, S, L
    image = orient.read_scan(save_scan(values, affine))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    world = affine @ [1, 2, 3, 1]
    voxel = np.rint(np.linalg.solve(image.affine, world)[:3]).astype(int)
    assert image.get_fdata()[tuple(voxel)] == values[1, 2, 3]


def test_cropping_with_a_margin_keeps_world_coordinates():
    mask = np.zeros((20, 20, 20), bool)
    mask[8:12, 9, 10] = True
    image = nib.Nifti1Image(ramp(20, 20, 20), np.diag([2.0, 2, 2, 1]))
    part = image.slicer[orient.crop_to(image, mask, 4.0)]
    assert part.shape == (8, 5, 5)
    assert np.allclose(part.affine[:3, 3], [12, 14, 16])


def test_a_registration_is_repeatable_even_where_itk_was_at_work_before(tmp_path):
    """In an interpreter of its own: how many threads ITK takes is settled at its first filter, for good."""
    code = """
import sys
from pathlib import Path
from preprocessing.steps import register
import ants, nibabel as nib, numpy as np
from scipy import ndimage

noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((32, 32, 32)), 2).astype(np.float32)
ants.smooth_image(ants.from_numpy(noise), 1.0)
register.make_repeatable()
fixed, moving = (nib.Nifti1Image(np.roll(noise, shift, 0), 3 * np.eye(4)) for shift in (0, 2))
maps = {register.align_pet(moving, fixed, Path(sys.argv[1]) / str(i)).read_bytes() for i in range(3)}
print(len(maps))
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.strip() == "1", run.stderr


def test_a_seed_that_is_set_before_ants_is_loaded_is_that_of_ants_once_it_is(monkeypatch):
    seeds = []
    parts = {"ants": SimpleNamespace(registration="ready")}
    parts["ants.config"] = SimpleNamespace(set_ants_deterministic=lambda yes, seed: seeds.append((yes, seed)))
    monkeypatch.delitem(sys.modules, "ants")
    monkeypatch.setattr(lazy_ants, "import_module", parts.get)
    register.make_repeatable(4)
    assert seeds == []
    assert lazy_ants.registration == "ready" and seeds == [(True, 5)]
    assert lazy_ants.registration == "ready" and len(seeds) == 1  # it does not begin anew


def test_suvr_of_a_phantom_is_its_known_ratio():
    pet = np.full(template.GRID_SHAPE, 3000.0)
    pet[template.pons_mask()] = 2000.0
    ratio, reference = suvr.compute_suvr(pet, np.ones(template.GRID_SHAPE, bool))
    assert reference == 2000.0
    assert np.all(ratio[template.meta_roi_mask()] == 1.5)
    assert np.all(ratio[template.pons_mask()] == 1.0)


@pytest.mark.parametrize("reference", suvr.REFERENCES)
def test_a_known_ratio_and_asymmetry_are_found_with_every_reference_through_blur_and_noise(reference):
    """A PET as a scanner sees it: 6 mm blur, 10 % noise; parietal uptake 1.6 on the left, 1.3 on the right."""
    truth = np.where(template.brain_mask(), 0.9, 0.0)
    left, right = (template.region_mask("inferior_parietal", side=side) for side in ("left", "right"))
    truth[suvr.reference_mask(reference)] = 1.0
    truth[left], truth[right] = 1.6, 1.3
    # What lies around the regions has their value, so that blur alone takes nothing from the known ratio.
    truth[ndimage.binary_dilation(left, iterations=4)], truth[ndimage.binary_dilation(right, iterations=4)] = 1.6, 1.3
    truth[ndimage.binary_dilation(suvr.reference_mask(reference), iterations=4)] = 1.0
    generator = np.random.default_rng(0)
    seen = blur(5000 * truth * generator.normal(1, 0.1, truth.shape), (6.0,) * 3)
    ratio, _ = suvr.compute_suvr(seen, np.ones(template.GRID_SHAPE, bool), reference)
    assert ratio[left].mean() == pytest.approx(1.6, rel=0.03)
    assert ratio[right].mean() == pytest.approx(1.3, rel=0.03)
    table = regions.measure_regions(np.ones(template.GRID_SHAPE, np.float32), suvr=ratio).set_index(["region", "side"])
    assert table.suvr["inferior_parietal", "left"] - table.suvr["inferior_parietal", "right"] == pytest.approx(
        0.3, abs=0.05
    )


def test_only_the_hotter_half_of_pons_and_vermis_counts():
    mask = suvr.reference_mask("pons_vermis")
    pet = np.zeros(template.GRID_SHAPE)
    pet[mask] = np.where(np.arange(mask.sum()) % 2, 3.0, 1.0)
    assert suvr.compute_suvr(pet, np.ones(template.GRID_SHAPE, bool), "pons_vermis")[1] == pytest.approx(3.0, abs=0.01)


def test_an_unknown_reference_region_is_refused_before_any_work():
    with pytest.raises(ValueError, match="reference region 'thalamus'; known: pons, pons_vermis, cerebellum"):
        Recipe(reference="thalamus")


def test_suvr_does_not_depend_on_the_units_of_the_pet():
    pet = np.random.default_rng(0).uniform(1, 2, template.GRID_SHAPE)
    covered = np.ones(template.GRID_SHAPE, bool)
    assert np.allclose(suvr.compute_suvr(pet, covered)[0], suvr.compute_suvr(977 * pet, covered)[0])


def test_a_pet_that_cuts_off_the_pons_has_no_suvr():
    covered = np.ones(template.GRID_SHAPE, bool)
    covered[:, :, :18] = False
    with pytest.raises(ScanError, match="covers .* of pons") as caught:
        suvr.compute_suvr(np.ones(template.GRID_SHAPE), covered)
    assert caught.value.reason_code == "reference_coverage"


@pytest.fixture
def doubled(tmp_path) -> register.Transforms:
    """A person 1.1, 1.2 and 1.3 times as large as the template, without a nonlinear part."""
    matrix = np.diag([1.1, 1.2, 1.3])
    affine = ants.create_ants_transform(transform_type="AffineTransform", dimension=3, matrix=matrix)
    ants.write_transform(affine, str(tmp_path / "affine.mat"))
    grid = register.to_ants(
        template.grid_image(np.zeros(template.GRID_SHAPE, np.float32)).slicer[register._brain_box()]
    )
    shape = grid.shape
    zero = ants.from_numpy(
        np.zeros((*shape, 3), np.float32), grid.origin, grid.spacing, grid.direction, has_components=True
    )
    for name in ("warp", "inverse"):
        write_field(zero, tmp_path / f"{name}.h5")
    return register.Transforms(tmp_path / "affine.mat", tmp_path / "warp.h5", tmp_path / "inverse.h5")


def test_the_jacobian_of_a_known_affine_is_its_determinant(doubled):
    assert np.allclose(register.jacobian(doubled), 1.1 * 1.2 * 1.3, rtol=1e-4)


def test_modulated_gray_matter_sums_to_the_persons_own_millilitres(doubled):
    # A smooth blob in a person's space of 1 mm voxels.
    axes = np.meshgrid(*(np.arange(-60.0, 61.0),) * 3, indexing="ij")
    blob = np.exp(-((axes[0] - 5) ** 2 + axes[1] ** 2 + (axes[2] + 8) ** 2) / (2 * 14.0**2)).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = -60
    warped = register.to_template(nib.Nifti1Image(blob, affine), doubled)
    modulated = tissue.modulate(warped, register.jacobian(doubled))
    assert modulated.sum() * template.VOXEL_ML == pytest.approx(blob.sum() / 1000, rel=0.01)


def test_to_native_is_the_way_back_of_to_template(doubled):
    axes = np.meshgrid(*(np.arange(-60.0, 61.0, 2),) * 3, indexing="ij")
    blob = np.exp(-((axes[0] - 9) ** 2 + axes[1] ** 2 + (axes[2] + 8) ** 2) / (2 * 14.0**2)).astype(np.float32)
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -60
    image = nib.Nifti1Image(blob, affine)
    back = register.to_native(register.to_template(image, doubled), doubled, image)
    assert np.abs(back - blob).max() < 0.03


def test_region_volumes_are_the_jacobian_times_the_atlas_volume():
    table = regions.measure_regions(np.full(template.GRID_SHAPE, 1.5, np.float32))
    row = table[(table.region == "hippocampus") & (table.side == "left")].iloc[0]
    expected = template.region_mask("hippocampus", side="left").sum() * template.VOXEL_ML * 1.5
    assert row.volume_ml == pytest.approx(expected)
    assert table.suvr.isna().all()
    assert set(table.method) == {"jacobian"}
    assert len(table) == len(template.region_table()) + 2


def test_volumes_of_cortex_count_grey_matter_those_of_ventricles_fluid_and_those_of_the_thalamus_what_is_no_fluid():
    ones = np.ones(template.GRID_SHAPE, np.float32)
    segmented = {("hippocampus", "left"): 3.21}
    table = regions.measure_regions(ones, {"gm": 0.5 * ones, "csf": 0.25 * ones}, segmented_ml=segmented)
    atlas_ml = template.region_table().label.map(lambda label: (template.labels() == label).sum()) * template.VOXEL_ML
    share = table.assign(share=table.volume_ml / atlas_ml).set_index(["region", "side"])
    for region, wanted, method in (
        ("entorhinal", 0.5, "grey_matter"),
        ("lateral_ventricle", 0.25, "csf"),
        ("thalamus", 0.75, "parenchyma"),
    ):
        assert share.share[region, "right"] == pytest.approx(wanted)
        assert share.method[region, "right"] == method
    assert table.set_index(["region", "side"]).loc[("hippocampus", "left"), ["volume_ml", "method"]].tolist() == [
        3.21,
        "segmentation",
    ]
    assert share.method["hippocampus", "right"] == "grey_matter"
    both = template.meta_roi_mask().sum() * template.VOXEL_ML
    assert share.volume_ml["meta_roi_proxy", "both"] == pytest.approx(both / 2)


def test_a_structure_is_counted_on_its_own_side_in_the_persons_milliliters():
    share, jacobian = np.zeros(template.GRID_SHAPE, np.float32), np.full(template.GRID_SHAPE, 1.2, np.float32)
    share[:40, 50, 40], share[60, 50, 40:45] = 0.5, 1.0
    found = regions.sides_ml(share, jacobian)
    assert found == pytest.approx({"left": 20 * 1.2 * template.VOXEL_ML, "right": 5 * 1.2 * template.VOXEL_ML})


def test_region_suvr_is_the_mean_over_its_own_side():
    x = np.arange(template.GRID_SHAPE[0])[:, None, None] * np.ones(template.GRID_SHAPE)
    ratio = np.where(x > 45, 2.0, 1.0).astype(np.float32)  # right is +x
    table = regions.measure_regions(np.ones(template.GRID_SHAPE, np.float32), suvr=ratio).set_index(["region", "side"])
    assert table.suvr["hippocampus", "right"] == 2.0
    assert table.suvr["hippocampus", "left"] == 1.0
    assert table.suvr["meta_roi_proxy", "both"] == pytest.approx(1.5, abs=0.02)


def test_the_prepared_box_shows_each_voxel_at_its_own_place():
    values = np.random.default_rng(0).normal(size=template.GRID_SHAPE).astype(np.float32)
    box = crop.crop_prepared(values)
    assert box.shape == crop.PREPARED_SHAPE
    point = np.array([26, -22, -14, 1.0])
    here = np.rint(np.linalg.solve(box.affine, point)[:3]).astype(int)
    there = np.rint(np.linalg.solve(template.GRID_AFFINE, point)[:3]).astype(int)
    assert box.get_fdata(dtype=np.float32)[tuple(here)] == values[tuple(there)]


def test_the_template_in_its_file_is_what_the_network_that_ships_finds():
    found = brain_mask.find_template_head()
    kept = {"intracranial": brain_mask.template_brain_mask(), "contrast": brain_mask.template_contrast()}
    assert all(values.shape == template.GRID_SHAPE for values in kept.values())
    assert (kept["intracranial"] != (found["intracranial"] > 127)).mean() < 1e-4  # another machine may round otherwise
    assert np.abs(kept["contrast"] - found["contrast"] / 255).max() < 0.05
    assert brain_mask.template_intracranial_ml() == pytest.approx(found["intracranial_ml"], rel=1e-3)


def test_a_share_on_the_grid_keeps_the_volume_and_the_place_of_a_mask():
    mask = np.zeros(template.t1_1mm().shape, bool)
    mask[90:111, 100:131, 80:95] = True
    share = template.share_on_grid(mask)
    assert share.sum() * template.VOXEL_ML == pytest.approx(mask.sum() / 1000)
    middle = nib.affines.apply_affine(template.t1_1mm().affine, np.argwhere(mask).mean(0))
    assert np.allclose(nib.affines.apply_affine(template.GRID_AFFINE, ndimage.center_of_mass(share)), middle)


def test_images_with_the_same_values_have_the_same_bytes(tmp_path):
    image = template.grid_image(np.random.default_rng(0).normal(size=template.GRID_SHAPE).astype(np.float32))
    for name in ("a.nii.gz", "b.nii.gz"):
        ledger.write_image(ledger.compact(image), tmp_path / name, {})
    first = (tmp_path / "a.nii.gz").read_bytes()
    assert first == (tmp_path / "b.nii.gz").read_bytes()
    assert first[4:8] == bytes(4)  # the time stamp of gzip
    assert np.abs(nib.load(tmp_path / "a.nii.gz").get_fdata() - image.get_fdata()).max() < 1e-3


def test_the_ledger_refuses_two_rows_for_one_scan():
    row = ledger.LedgerRow("sub-ADNI011S4105", "ses-M000", "mri", "kept", "recipe")
    with pytest.raises(ValueError, match="two ledger rows for 'mri'"):
        ledger.ledger_table([row, row])


def test_a_verdict_is_that_of_the_worst_check():
    good = check("register", "brain_dice", 0.97)
    odd = check("register", "folded_share", 0.001)
    wrong = check("register", "t1_correlation", float("nan"))
    assert [c.verdict for c in (good, odd, wrong)] == ["pass", "warn", "fail"]
    assert [worst(c) for c in ([good], [good, odd], [wrong, good])] == ["pass", "warn", "fail"]


def test_commas_and_brackets_in_a_path_are_no_syntax(tmp_path):
    """ANTs takes [FILE,1] for a transform to invert."""
    strange, plain = tmp_path / "a, b] [c", tmp_path / "plain"
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((24, 24, 24)), 2).astype(np.float32)
    fixed, moving = (nib.Nifti1Image(np.roll(noise, shift, 0), 4 * np.eye(4)) for shift in (0, 1))
    register.make_repeatable()
    found = []
    for folder in (plain, strange):
        folder.mkdir()
        rigid = register.align_pet(moving, fixed, folder / "pet_")
        aligned = register._apply(register.to_ants(fixed), register.to_ants(moving), [rigid])
        found.append((rigid.read_bytes(), aligned.tobytes()))
        assert [path.name for path in folder.iterdir()] == ["pet_rigid.mat"]
    assert found[0] == found[1]
