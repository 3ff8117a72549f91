"""The ground truth, small: four people through the whole registration path, coarsely; and how it is judged."""

from __future__ import annotations

import math
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from benchmarks.ground_truth import compare, compare_sides, compare_with_truth, gray_matter_ratio, icc_a1, round_trip_mm
from preprocessing.cohort.run import Recipe
from preprocessing.ledger import write_image
from preprocessing.steps import register, template
from preprocessing.steps.register import COARSE_ITERATIONS


def test_the_intraclass_correlation_is_that_of_the_textbook() -> None:
    """Shrout & Fleiss, Psychological Bulletin 1979, table 2: six targets, four judges, ICC(2,1) = .29."""
    judged = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
    assert icc_a1(judged) == pytest.approx(0.29, abs=0.005)


def test_a_constant_bias_lowers_agreement_but_not_correlation() -> None:
    truth, group = pd.Series(np.linspace(5, 7, 20)), pd.Series(["stable", "converter"] * 10)
    found = compare(truth, truth + 0.5, pd.Series(np.sin(np.arange(20.0))), group)
    assert found["r"] == pytest.approx(1) and found["icc_a1"] < 0.8
    assert found["limits"] == pytest.approx([0.5, 0.5])


def test_swapped_sides_have_every_sign_wrong() -> None:
    rows = [(f"sub-{i}", "hippocampus", side, 3 + sign * i / 10) for i in range(1, 6) for side, sign in SIDES]
    truth = pd.DataFrame(rows, columns=["participant_id", "region", "side", "volume_ml"])
    swapped = truth.assign(side=truth.side.map({"left": "right", "right": "left"}))
    same, other = (compare_sides(truth, found, "hippocampus", "volume_ml") for found in (truth, swapped))
    assert (same["right_sign_share"], other["right_sign_share"]) == (1.0, 0.0)
    assert same["clearly_sided"] == 5 and other["r"] == pytest.approx(-1)


SIDES = (("left", 1), ("right", -1))


@pytest.mark.parametrize("error_mm", [0.0, 3.0])
def test_a_round_trip_comes_back_unless_the_inverse_field_is_off(tmp_path: Path, error_mm: float) -> None:
    turned = [0.98, -0.17, 0, 0.17, 0.98, 0, 0, 0, 1.1, 4, -7, 2]
    affine = ants.create_ants_transform("AffineTransform", dimension=3, parameters=turned)
    ants.write_transform(affine, str(tmp_path / "affine.mat"))
    field = np.zeros((*template.GRID_SHAPE, 1, 3), np.float32)
    for name, shift in (("warp", 0.0), ("inverse", error_mm)):
        image = nib.Nifti1Image(field + np.float32([shift, 0, 0]), template.GRID_AFFINE)
        image.header.set_intent("vector")
        nib.save(image, tmp_path / f"{name}.nii.gz")
    transforms = register.Transforms(*(tmp_path / n for n in ("affine.mat", "warp.nii.gz", "inverse.nii.gz")))
    assert round_trip_mm(transforms) == pytest.approx(error_mm, abs=1e-3)


def test_modulated_grey_matter_is_weighed_against_the_native_count(tmp_path: Path) -> None:
    values = np.zeros(template.GRID_SHAPE, np.float32)
    values[40:50, 40:50, 40:50] = 0.5
    path = tmp_path / "sub-1_space-X_label-GM_desc-modulated_probseg.nii.gz"
    write_image(template.grid_image(values), path, {"GM_mL": 5.0})
    assert gray_matter_ratio(tmp_path / "sub-1_space-X_desc-preproc_T1w.nii.gz") == pytest.approx(0.8)


@pytest.mark.slow
def test_registration_finds_the_volumes_and_uptake_that_were_put_in(tmp_path: Path) -> None:
    result = compare_with_truth(tmp_path, subjects=4, jobs=2, recipe=Recipe(syn_iterations=COARSE_ITERATIONS))
    assert result["subjects"] == 4
    assert result["hippocampal volume"]["r"] > 0.8
    assert result["meta-ROI SUVR"]["r"] > 0.9
    # CerebrA's hippocampus is smaller than the segmented one, by as much in people who are written directly.
    assert abs(result["hippocampal volume"]["direct_minus_registered_percent"]) < 8
    assert result["thalamic volume"]["r"] > 0.9
    assert abs(result["thalamic volume"]["bias_percent"]) < 8
    assert abs(result["meta-ROI SUVR"]["bias_percent"]) < 6
    assert result["left against right, hippocampal SUVR"]["r"] > 0.8
    # Coarse registration too: the field and its inverse belong together, and modulation loses no grey matter.
    assert result["round_trip_mm"]["mean"] < 0.2 and result["round_trip_mm"]["max"] < 2
    assert result["modulated_over_native_gray_matter"]["mean"] == pytest.approx(1, abs=0.02)
    assert math.isfinite(result["kinds_auc"]["gm_path"])
