"""The comparison with truth from outside, small: its statistics, its drawn heads, and its crops with a stand-in."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from benchmarks.heads import crops, judges, measured, pet, rendering, uptake
from benchmarks.heads.__main__ import quality_of, write_beside
from benchmarks.heads.agreement import agreement, summarize
from preprocessing.steps import template
from preprocessing.subject.plan import SubjectTask

FOUND = ("pons", "pons_vermis", "cerebellum", "muller-gartner")
TRUE = np.array([2.0, 2.5, 3.0, 3.6, 4.4])


def pairs(left: np.ndarray, right: np.ndarray, judge: str = "heads") -> pd.DataFrame:
    """Found values of five heads whose true sides are TRUE and TRUE reversed."""
    sides = (("left", TRUE, left), ("right", TRUE[::-1], right))
    return pd.DataFrame(
        [
            {"judge": judge, "head": i, "measure": "m", "side": side, "true": t, "found": f, "dice": 0.8}
            for side, true, found in sides
            for i, (t, f) in enumerate(zip(true, found, strict=True))
        ]
    )


def test_values_that_are_a_tenth_too_large_have_that_bias_and_perfect_correlation() -> None:
    row = agreement(TRUE, 1.1 * TRUE)
    expected = {"bias_percent": 10, "error_percent": 10, "r": 1, "spearman": 1, "slope": 1.1}
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert row["ratio_sd_percent"] < 1e-9 and row["loa_percent"] < 1e-9 and 0.5 < row["icc"] < 0.97


def test_values_that_ignore_the_truth_have_no_correlation_whatever_their_mean() -> None:
    row = agreement(TRUE, TRUE.mean() + np.array([0.1, -0.1, -0.1, 0.1, 0.0]))
    assert abs(row["r"]) < 0.5 and abs(row["slope"]) < 0.1 and row["icc"] < 0.2


def test_exchanged_sides_are_wrong_in_every_head_and_correlate_inversely() -> None:
    table = summarize(pairs(TRUE[::-1], TRUE)).set_index("measure")
    assert table.loc["m, both", "bias_percent"] == pytest.approx(0)
    assert table.loc["m, both", "share_right"] == 0 and table.loc["m, left - right", "r"] == pytest.approx(-1)
    same = summarize(pairs(TRUE, TRUE[::-1])).set_index("measure")
    assert same.loc["m, both", "share_right"] == 1 and same.loc["m, both", "side_error_percent"] == pytest.approx(0)
    assert same.loc["m, both", "dice"] == pytest.approx(0.8) and same.loc["m, both", "n"] == 5


def test_verdicts_are_counted_by_judge_and_by_head() -> None:
    table = pairs(TRUE, TRUE).assign(qc=["pass", "warn misfit_mm", "pass", "failed: register", "pass"] * 2)
    assert quality_of(table).splitlines()[1] == "heads: 1 fail, 3 pass, 1 warn"


def test_a_head_that_failed_is_left_out_of_the_count() -> None:
    left = TRUE.copy()
    left[2] = np.nan
    table = summarize(pairs(left, TRUE[::-1])).set_index("measure")
    assert list(table.n) == [4, 5, 4, 4]


def test_a_later_call_keeps_what_other_judges_found_and_replaces_its_own(tmp_path) -> None:
    path = tmp_path / "heads.tsv"
    for judge, n in (("heads", 3), ("pet", 4), ("heads", 5)):
        write_beside(pd.DataFrame({"judge": [judge], "measure": ["m"], "n": [n]}), path)
    assert dict(zip(*[pd.read_csv(path, sep="\t")[name] for name in ("judge", "n")], strict=True)) == {
        "pet": 4,
        "heads": 5,
    }


def test_changes_are_subtracted_and_not_divided() -> None:
    table = summarize(pairs(TRUE - 1, TRUE[::-1] - 1, judge="response")).set_index("measure")
    assert table.loc["m, left", "error_percent"] == pytest.approx(1) and np.isnan(table.loc["m, left", "bias_percent"])


@pytest.fixture(scope="module")
def head() -> nib.Nifti1Image:
    """A ball of scalp, fluid, cortex and white matter with a left and a larger right hippocampus, 1 mm voxels."""
    x, y, z = np.indices((64, 64, 64)) - 31.5
    radius = np.sqrt(x**2 + y**2 + z**2)
    numbers = np.zeros(radius.shape, np.int16)
    for size, label in ((28, 507), (25, 24), (22, 3), (18, 2)):
        numbers[radius < size] = label
    numbers[(radius < 22) & (radius >= 18) & (x > 0)] = 42
    for label, place, size in ((17, -9, 4), (53, 9, 6)):
        numbers[np.sqrt((x - place) ** 2 + y**2 + z**2) < size] = label
    numbers[np.sqrt(x**2 + y**2 + (z + 11) ** 2) < 6] = 16
    return nib.Nifti1Image(numbers, np.diag([1.0, 1, 1, 1]))


def test_true_volumes_are_counts_of_labels_in_ml(head) -> None:
    volumes = measured.true_volumes(head).set_index(["measure", "side"]).value
    counts = np.bincount(np.asarray(head.dataobj).ravel(), minlength=60)
    assert volumes["hippocampus", "left"] == counts[17] / 1000 < volumes["hippocampus", "right"] == counts[53] / 1000
    assert volumes["grey matter", "both"] == pytest.approx(counts[[3, 42, 17, 53]].sum() / 1000)
    assert volumes["intracranial", "both"] == pytest.approx(counts[[24, 3, 42, 2, 17, 53, 16]].sum() / 1000)


@pytest.mark.parametrize("render", [rendering.first_rendering, rendering.second_rendering, rendering.second_session])
def test_a_rendering_shows_each_label_where_it_says_that_it_lies(head, render) -> None:
    scan = render(head, 3)
    image, grid = scan.image.get_fdata(), (scan.image.affine, scan.image.shape)
    share = {label: measured.label_share(scan.labels, (label,), *grid) for label in (2, 17, 53, 24)}
    inside = {label: np.median(image[ndimage.binary_erosion(values == 1)]) for label, values in share.items()}
    assert inside[24] < min(inside[17], inside[53]) and max(inside[17], inside[53]) < inside[2]
    volume = share[53].sum() * abs(np.linalg.det(scan.image.affine[:3, :3]))
    assert volume == pytest.approx((np.asarray(head.dataobj) == 53).sum(), rel=0.01)
    again = render(head, 3)
    assert np.array_equal(again.image.get_fdata(), image)


def test_the_share_of_a_label_is_what_of_it_lies_in_a_voxel_of_another_grid(head) -> None:
    there = (np.asarray(head.dataobj) == 53).astype(float)
    quarter = np.eye(4)
    quarter[0, 3] = 0.25
    share = measured.label_share(head, (53,), quarter, (63, 64, 64))
    np.testing.assert_allclose(share, 0.75 * there[:-1] + 0.25 * there[1:], atol=1e-6)
    twice = np.diag([2.0, 2, 2, 1])
    twice[:3, 3] = 0.5
    share = measured.label_share(head, (53,), twice, (32, 32, 32))
    np.testing.assert_allclose(share, there.reshape(32, 2, 32, 2, 32, 2).mean((1, 3, 5)), atol=1e-6)


def test_a_hippocampus_whose_label_does_not_reach_the_amygdala_is_told_by_its_side(head) -> None:
    numbers = np.asarray(head.dataobj).copy()
    x, y, z = np.indices(numbers.shape) - 31.5
    for label, place, ahead in ((18, -9, 7), (54, 9, 9)):
        numbers[(abs(x - place) < 3) & (abs(y - ahead) < 3) & (abs(z) < 3)] = label
    assert judges.labels_that_end_early(nib.Nifti1Image(numbers, head.affine)) == []
    numbers[(numbers == 17) & (y > -1)] = 3
    assert judges.labels_that_end_early(nib.Nifti1Image(numbers, head.affine)) == ["left"]


def test_true_uptake_is_of_the_noiseless_image_at_the_common_resolution_and_of_the_sharp_one(head, monkeypatch) -> None:
    monkeypatch.setattr(pet, "_parcels_on", lambda labels: np.zeros(labels.shape, int))
    monkeypatch.setattr(pet, "CORTICAL", ())
    monkeypatch.setattr(pet, "JUDGED", ("hippocampus",))
    monkeypatch.setattr(pet, "REFERENCE_EROSION_MM", 2)
    drawn, numbers = rendering.render_pet(head, 0), np.asarray(head.dataobj)
    inside = ndimage.binary_erosion(numbers == 16, iterations=2)
    found = pet.true_uptake(head, 0).set_index(["region", "side"])
    assert found.seen["pons", "both"] == pytest.approx(drawn.seen(8.0)[inside].mean())
    assert found.seen["hippocampus", "left"] == pytest.approx(drawn.seen(8.0)[numbers == 17].mean())
    # The white matter around it takes from the small side.
    assert found.seen["hippocampus", "left"] < found.sharp["hippocampus", "left"]
    assert found.sharp["hippocampus", "left"] == pytest.approx(drawn.sharp[numbers == 17].max())
    assert found.sharp["pons", "both"] == pytest.approx(rendering.UPTAKE[16, 28, 60][0])


def test_the_pet_lies_in_a_pose_of_its_own_and_is_noisy(head) -> None:
    drawn = rendering.render_pet(head, 1)
    total = drawn.pet.get_fdata().sum() * abs(np.linalg.det(drawn.pet.affine[:3, :3]))
    assert total == pytest.approx(5000 * drawn.sharp.sum(), rel=0.05)
    centre = nib.affines.apply_affine(drawn.pet.affine, ndimage.center_of_mass(drawn.pet.get_fdata()))
    assert 0.5 < np.linalg.norm(centre - ndimage.center_of_mass(drawn.sharp)) < 30


def test_a_second_session_has_the_uptake_of_the_first_in_another_pose_with_other_noise(head) -> None:
    first, again = rendering.render_pet(head, 1), rendering.render_pet(head, 1, again=True)
    assert np.array_equal(first.sharp, again.sharp)
    assert not np.allclose(first.pet.affine, again.pet.affine)


@pytest.fixture(scope="module")
def crop_folder(tmp_path_factory) -> Path:
    """Twelve crops of ellipsoids, bright on dark, whose front half is label 1; one without a label."""
    folder = tmp_path_factory.mktemp("crops")
    (folder / "images").mkdir(), (folder / "labels").mkdir()
    for number in range(1, 13):
        place = 14 if number % 2 else 20
        x, y, z = (
            np.indices((36, 50, 36)).astype(float) - np.array([place, 25, 18])[:, None, None, None]
        ) / np.reshape([5.5 + number / 10, 14, 6], (3, 1, 1, 1))
        inside = x**2 + y**2 + z**2 < 1
        labels = np.where(inside, np.where(y > 0, 1, 2), 0).astype(np.int16)
        image = ndimage.gaussian_filter(np.where(inside, 100.0, 0), 0.7).astype(np.float32)
        name = f"hippocampus_{number:03d}.nii.gz"
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "images" / name)
        if number != 12:
            nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "labels" / name)
    return folder


def threshold(image: np.ndarray, side: str) -> np.ndarray:
    """The stand-in: what is brighter than half."""
    assert image.shape == crops.BOX and side in ("left", "right")
    return image > 50


def test_a_fixed_third_of_the_crops_is_for_development_and_the_rest_is_locked(crop_folder) -> None:
    assert [crop.number for crop in crops.crops(crop_folder)] == [3, 6, 9]
    assert [crop.number for crop in crops.crops(crop_folder, locked=True)] == [1, 2, 4, 5, 7, 8, 10, 11]


def test_crops_are_measured_by_volume_and_overlap_and_their_side_is_that_of_the_label(crop_folder) -> None:
    table = crops.judge_msd(threshold, crop_folder)
    assert list(table.side) == ["left", "right", "left"] and (table.dice > 0.95).all()
    assert np.allclose(table.found, table.true, rtol=0.03) and (table.true > 1).all()
    nothing = crops.judge_msd(lambda image, side: np.zeros(image.shape, bool), crop_folder)
    assert (nothing.dice == 0).all() and (nothing.found == 0).all()


def test_a_segmentation_that_sees_change_has_slope_one_and_one_that_is_blind_has_none(crop_folder, monkeypatch) -> None:
    table = summarize(crops.judge_response(threshold, crop_folder, count=1)).set_index("measure")
    for end in ("anterior", "posterior"):
        assert table.loc[f"change, {end}, left", "slope"] == pytest.approx(1, abs=0.1)
    assert table.loc["interpolation, left", "error_percent"] < 4
    monkeypatch.setattr(crops, "CHANGES_PERCENT", (-20, 10))
    fixed = np.zeros(crops.BOX, bool)
    fixed[20:40, 20:40, 20:40] = True
    blind = crops.judge_response(lambda image, side: fixed, crop_folder, count=1)
    assert (blind.found == 0).all() and blind.true.abs().max() > 5


@pytest.mark.parametrize("strength", [-0.4, 0.0, 0.3])
def test_the_true_change_is_that_of_the_label_carried_through_the_field(crop_folder, strength: float) -> None:
    crop = next(crops.crops(crop_folder))
    label = crops.boxed(crop.labels, "constant") > 0
    centre = np.argwhere(crops.boxed(crop.labels, "constant") == crops.ANTERIOR).mean(0)
    soft = ndimage.gaussian_filter(label.astype(float), 0.7)
    counted = (crops.warp(soft, centre, strength) > 0.5).sum() / (crops.warp(soft, centre, 0.0) > 0.5).sum() - 1
    assert crops.true_change(label, centre, strength) == pytest.approx(counted, abs=0.015)


def test_the_strength_gives_the_wanted_change(crop_folder) -> None:
    label = crops.boxed(next(crops.crops(crop_folder)).labels, "constant") > 0
    for wanted in (-0.1, 0.05):
        strength = crops.strength_for(label, np.argwhere(label).mean(0), wanted)
        assert crops.true_change(label, np.argwhere(label).mean(0), strength) == pytest.approx(wanted, abs=1e-4)


def test_large_and_small_images_come_to_lie_in_the_middle_of_the_box() -> None:
    for shape in ((36, 80, 64), (10, 10, 90)):
        image = np.zeros(shape)
        image[tuple(n // 2 for n in shape)] = 1
        assert np.argwhere(crops.boxed(image))[0] == pytest.approx(np.array(crops.BOX) // 2, abs=1)


def test_simulated_people_are_held_against_published_means_and_spreads(tmp_path) -> None:
    rows = [("pons", 0.9, 0.01)]
    for number, name in enumerate(pet.PUBLISHED):
        rows += [(f"{name}_{side}", 0.9 * (1 + number / 50), 0.09 + number / 1000) for side in ("left", "right")]
    summary = tmp_path / "summary.csv"
    pd.DataFrame(rows, columns=["region", "mean_suvr_pons", "sd_suvr_pons"]).to_csv(summary, index=False)
    level = {part: 1 + number / 50 for number, parts in enumerate(pet.PUBLISHED.values()) for part in parts}
    table = template.region_table()[["region", "side"]]
    people = pd.concat(
        [
            table.assign(participant_id=f"sub-{i}", suvr=table.region.map(level).fillna(1.0) + shift)
            for i, shift in enumerate((-0.1, 0.0, 0.1))
        ]
    )
    exact = pet.compare_simulated(people, summary).set_index("measure")
    assert exact.share_right.tolist() == [1.0, 1.0] and exact.r.iloc[0] == pytest.approx(1)
    wide = people.assign(suvr=1.1 + 3 * (people.suvr - 1))
    assert pet.compare_simulated(wide, summary).share_right.tolist() == [pytest.approx(0, abs=0.1), 0]


def test_the_last_four_of_twenty_heads_are_left_out_unless_the_locked_ones_are_asked_for(tmp_path) -> None:
    (tmp_path / "label_maps").mkdir()
    for number in range(1, 21):
        (tmp_path / "label_maps" / f"seg_{number:02d}.nii.gz").touch()
    open_heads, locked = (judges.heads_of(tmp_path, locked) for locked in (False, True))
    assert [head.number for head in open_heads] == list(range(16)) and {h.judge for h in open_heads} == {"heads"}
    assert [head.name for head in locked] == [f"head {n}" for n in (17, 18, 19, 20)]
    assert {head.judge for head in locked} == {"locked"}


def test_a_scan_that_fails_is_recorded_with_its_error_and_measures_nothing(tmp_path) -> None:
    path = tmp_path / "flat.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 20), np.float32), np.eye(4)), path)
    task = SubjectTask("sub-flat", "ses-M000", path)
    measured.prepare(task, tmp_path / "prepared")
    assert measured.verdict(task, tmp_path / "prepared").startswith("failed: orient")
    assert measured.found_volumes(task, tmp_path / "prepared").empty


def test_found_suvrs_are_set_against_blurred_and_sharp_truth_and_against_the_second_session() -> None:
    names = [("hippocampus", "left"), ("pons", "both"), ("pons_vermis", "both"), ("cerebellum", "both")]
    index = pd.MultiIndex.from_tuples(names, names=["region", "side"])
    truth = pd.DataFrame({"seen": [0.9, 0.9, 1.2, 1.0], "sharp": [1.1, 1.0, 1.4, 1.2]}, index=index)
    first = {
        name: pd.Series([level, 1.0, 1.0, 1.0], index) for name, level in zip(FOUND, (1, 0.7, 0.8, 1.2), strict=True)
    }
    again = {name: 1.01 * values for name, values in first.items()}
    pairs = uptake._pairs(truth, first, again)
    left = {judge: [series["hippocampus", "left"] for series in pair] for judge, pair in pairs.items()}
    assert left["pet"] == pytest.approx([1.0, 1.0]) and left["pet, cerebellum"] == pytest.approx([0.9, 0.8])
    assert left["pet, sharp"] == pytest.approx([1.1, 1.0])
    assert left["pet, sharp, muller-gartner"] == pytest.approx([1.1, 1.2])
    assert left["pet, retest"] == pytest.approx([1.0, 1.01])
    assert "pet, retest" not in uptake._pairs(truth, first, {}) and uptake._pairs(truth, {}, {}) == {}
