"""What the PET's steps say and write: the resolution before and after, and the correction for partial volume."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from preprocessing.steps import register
from preprocessing.steps.resolution import COMMON_MM
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.plan import SubjectTask
from preprocessing.subject.run import preprocess_subject

# `template_scans` draws its PET from tissue that is blurred by 2 mm already, and blurs by 3 mm (standard deviations).
DRAWN_MM = 2.355 * (2.0**2 + 3.0**2) ** 0.5


def said(task: SubjectTask, prepared: Path, word: str = "Pons") -> dict[str, object]:
    return SubjectFolder(task, prepared).read_sidecar(f"desc-suvr{word}_pet")


def hippocampus(task: SubjectTask, prepared: Path) -> float:
    table = pd.read_csv(task.folder(prepared) / f"{task.name}_regions.tsv", sep="\t").set_index(["region", "side"])
    return float(table.suvr["hippocampus", "left"])


@pytest.fixture
def again(template_subject, tmp_path, monkeypatch):
    """Do the PET of the template's person again with other choices: no registration is needed for that."""
    task, prepared = template_subject
    monkeypatch.setattr(register, "register_to_template", None)
    monkeypatch.setattr(register, "align_pet", None)

    def do(recipe: dict[str, object] | None = None, **about: object) -> tuple[SubjectTask, Path]:
        other = replace(task, recipe=replace(task.recipe, **(recipe or {})), **about)
        copy = prepared.with_name(f"pet_again_{tmp_path.name}")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(prepared, copy)
        preprocess_subject(other, copy)
        return other, copy

    return do


def test_a_pet_of_unknown_resolution_shows_it_and_is_smoothed_by_what_it_lacks(template_subject):
    about = said(*template_subject)
    assert about["OwnResolutionSource"] == "estimated from the image and the T1's tissue"
    assert about["OwnResolutionFWHM_mm"] == pytest.approx([DRAWN_MM] * 3, abs=0.8)
    lacking = np.sqrt(np.maximum(COMMON_MM**2 - np.square(about["OwnResolutionFWHM_mm"]), 0))
    assert about["SmoothingFWHM_mm"] == pytest.approx(lacking, abs=0.01)
    assert about["EffectiveResolutionFWHM_mm"] == pytest.approx(np.maximum(about["OwnResolutionFWHM_mm"], COMMON_MM))


def test_a_uniform_series_of_8_mm_is_left_as_it_is_and_one_of_6_mm_is_smoothed(again):
    kernels = [said(*again(pet_series=f"Uniform {width}mm Res"))["SmoothingFWHM_mm"] for width in (8, 6)]
    assert kernels == [[0, 0, 0], [5.29, 5.29, 5.29]]


def test_native_resolution_smooths_nothing_and_a_known_scanner_is_named(again):
    protocol = "Manufacturer=GE MEDICAL SYSTEMS;Mfg Model=Advance"
    about = said(*again({"pet_resolution_mm": 0.0}, pet_protocol=protocol))
    assert about["SmoothingFWHM_mm"] == [0, 0, 0] and about["EffectiveResolutionFWHM_mm"] == [7, 7, 7]
    assert about["OwnResolutionSource"].startswith("GE Advance (Ikari")


def test_a_corrected_pet_has_a_name_of_its_own_and_higher_values_in_grey_matter(template_subject, again):
    task, prepared = again({"partial_volume": "muller-gartner"})
    about = said(task, prepared, "PonsMullerGartner")
    assert about["PartialVolumeCorrection"] == about["Recipe"]["partial_volume"] == "muller-gartner"
    assert about["SkullStripped"] and "partial volume" in about["Description"]
    assert said(*template_subject)["PartialVolumeCorrection"] == "none"
    assert hippocampus(task, prepared) > 1.05 * hippocampus(*template_subject)
    outcome = json.loads(next(task.folder(prepared).glob("*_done.json")).read_text())["outcome"]
    assert "suvrPonsMullerGartnerCrop80" in outcome["pet_path"]
    assert (nib.load(prepared / outcome["pet_path"]).get_fdata() >= 0).all()
