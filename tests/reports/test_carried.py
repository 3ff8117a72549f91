"""What carried an answer: contributions by region, their sum, and the sentence about them."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from reports import box, overlays
from reports.carried import OUTSIDE, list_contributions, region_names, say_what_carried, split_outside, sum_by_region


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["modality", "name", "attribution"])


def label_of(name: str) -> int:
    return next(number for number, title in region_names().items() if title == name)


def test_the_sum_over_regions_is_the_sum_of_the_map():
    rng = np.random.default_rng(0)
    image = nib.Nifti1Image(rng.normal(size=box.SHAPE).astype(np.float32), box.AFFINE)
    assert sum_by_region(image).sum() == pytest.approx(image.get_fdata().sum(), abs=1e-2)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_contribution_is_told_by_region_and_side(side):
    values = (box.labels() == label_of(f"hippocampus {side}")).astype(np.float32)
    found = sum_by_region(nib.Nifti1Image(values, box.AFFINE))
    assert found.idxmax() == f"hippocampus {side}" and found.drop(found.idxmax()).abs().max() == 0
    x = (box.AFFINE @ [*np.argwhere(values > 0).mean(0), 1])[0]
    assert np.sign(x) == (1 if side == "right" else -1)


def test_every_label_of_the_atlas_has_a_name():
    labels = set(np.unique(overlays.label_image().get_fdata()).astype(int))
    assert labels <= set(region_names())


def test_one_region_that_makes_a_fifth_carries_the_answer():
    said = say_what_carried(table(("pet", "precuneus left", 0.5), *[("mri", f"region {i}", 0.1) for i in range(10)]))
    assert said.startswith("Carried by FDG-PET precuneus left (+0.50, 33 %)")


def test_many_small_contributions_are_said_to_be_many():
    said = say_what_carried(table(*[("mri", f"region {i}", 0.1) for i in range(20)]))
    assert said.startswith("No single measurement carried the answer: the largest of 20, MRI region 0, makes 5 %")
    assert "the first 5 together 25 %" in said


def test_a_large_contribution_against_conversion_carries_as_well():
    assert "hippocampus left (−0.90, 90 %)" in say_what_carried(
        table(("mri", "hippocampus left", -0.9), ("pet", "precuneus left", 0.1))
    )


def test_what_has_no_label_is_no_region():
    regions, share = split_outside(table(("pet", OUTSIDE, 3.0), ("pet", "precuneus left", 1.0)))
    assert list(regions["name"]) == ["precuneus left"] and share == 0.75


def test_a_run_on_regions_names_each_measurement_with_its_value(tmp_path):
    rows = pd.DataFrame(
        {
            "modality": ["pet"],
            "feature": ["precuneus_left_suvr"],
            "z": [-2.14],
            "baseline_z": [0.1],
            "attribution": [0.3],
        }
    )
    rows.to_csv(tmp_path / "regions.tsv", sep="\t", index=False)
    (tmp_path / "saliency.json").write_text(json.dumps({}))
    assert list_contributions(tmp_path)["name"].tolist() == ["precuneus left (−2.1)"]
