"""Clinical scores, field strength, tracer and months of follow-up: from the tables to the manifest and clinical.tsv."""

from __future__ import annotations

import json
import math

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from preprocessing.intake import adni, listing
from preprocessing.intake.acquisition import from_sidecars, interval_days, read_field_strength, read_tracer
from preprocessing.intake.clinical import read_scores, scores_at_scan
from preprocessing.intake.labels import Visit, months_without_dementia
from preprocessing.simulated.clinical import clinical_tables, draw_scores
from preprocessing.simulated.people import CohortDesign, draw_people

PERSON, OTHER = "011_S_4105", "012_S_0007"
SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
FDG_8MM = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
VISITS = pd.DataFrame({"participant_id": [PERSON, OTHER], "session_id": ["ses-M012", "ses-M000"]})


def write(folder, name: str, rows: list[dict]) -> None:
    folder.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / name, index=False)


def found(folder) -> dict:
    table = scores_at_scan(read_scores(folder, {PERSON, OTHER}), VISITS)
    return table.set_index("participant_id").drop(columns="session_id").T.to_dict()


def test_the_score_of_a_visit_is_the_nearest_one_within_six_months_of_the_scan(tmp_path):
    rows = [{"PTID": PERSON, "VISCODE": v, "MMSE": m} for v, m in (("bl", 29), ("m06", 28), ("m18", 25), ("m24", 20))]
    write(tmp_path, "ADNIMERGE_1.csv", [*rows, {"PTID": OTHER, "VISCODE": "m12", "MMSE": 21}])
    assert found(tmp_path)[PERSON]["mmse"] == 28
    assert math.isnan(found(tmp_path)[OTHER]["mmse"])
    write(tmp_path, "MMSE_1.csv", [{"RID": 4105, "VISCODE2": "m12", "MMSCORE": 27}])
    assert found(tmp_path)[PERSON]["mmse"] == 27


def test_education_and_apoe_are_of_a_lifetime_and_whatever_lies_outside_a_range_is_missing(tmp_path):
    write(tmp_path, "PTDEMOG.csv", [{"RID": 4105, "VISCODE": "sc", "PTEDUCAT": 16}, {"RID": 7, "PTEDUCAT": -4}])
    write(tmp_path, "APOERES.csv", [{"RID": 4105, "APGEN1": 3, "APGEN2": 4}, {"RID": 7, "APGEN1": 4, "APGEN2": 4}])
    people = found(tmp_path)
    assert (people[PERSON]["education"], people[PERSON]["apoe4"], people[OTHER]["apoe4"]) == (16, 1, 2)
    assert math.isnan(people[OTHER]["education"])


def test_a_cdr_table_without_the_sum_is_summed_and_a_missing_box_makes_it_unknown(tmp_path):
    boxes = dict.fromkeys(("CDMEMORY", "CDORIENT", "CDJUDGE", "CDCOMMUN", "CDHOME", "CDCARE"), 0.5)
    other = boxes | {"PTID": OTHER, "VISCODE2": "bl", "CDCARE": -1}
    write(tmp_path, "CDR_1.csv", [{"PTID": PERSON, "VISCODE2": "m12", **boxes}, other])
    write(tmp_path, "ADAS_1.csv", [{"PTID": PERSON, "VISCODE2": "m12", "TOTAL13": 17.3}])
    assert found(tmp_path)[PERSON]["cdrsb"] == 3
    assert found(tmp_path)[PERSON]["adas13"] == 17.3
    assert OTHER not in found(tmp_path) or math.isnan(found(tmp_path)[OTHER]["cdrsb"])


def test_a_folder_without_such_tables_gives_no_scores(download):
    download.add_image(PERSON, SCALED)
    download.add_diagnoses(PERSON, bl=2)
    intake = adni.read_download(download.write())
    assert intake.scores.empty
    visits = pd.DataFrame({"participant_id": ["sub-ADNI011S4105"], "session_id": ["ses-M000"]})
    assert scores_at_scan(intake.scores, visits).empty


@pytest.mark.parametrize(
    ("text", "tesla"),
    [
        ("1.5", 1.5),
        ("3 Tesla MRI", 3),
        ("Field Strength=2.9;Weighting=T1", 2.9),
        ("15000", 1.5),
        ("x", None),
        ("", None),
    ],
)
def test_a_field_strength_is_read_as_tables_and_headers_write_it(text, tesla):
    assert read_field_strength(text) == tesla


def test_only_fdg_is_told_of_a_tracers_name():
    assert read_tracer("Fluorodeoxyglucose F^18^ for Mr Smith") == "18F-FDG"
    assert read_tracer("Mr Smith") == ""


def test_a_download_says_field_strength_tracer_and_the_days_between_the_scans(download):
    download.add_image(PERSON, SCALED, date="2006-03-01")
    download.images[-1]["Imaging Protocol"] = "Field Strength=1.5;Weighting=T1"
    download.add_image(PERSON, FDG_8MM, modality="PET", date="2006-03-20")
    download.add_diagnoses(PERSON, bl=2, m12=2, m24=3)
    (person,) = adni.read_download(download.write()).people
    assert (person.field_strength_t, person.tracer, interval_days(person)) == (1.5, "18F-FDG", 19)
    assert person.months_without_dementia == 12


def test_a_sidecar_says_what_no_table_does(tmp_path):
    for name in ("t1", "pet"):
        nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.float32), np.eye(4)), tmp_path / f"{name}.nii.gz")
    (tmp_path / "scans.tsv").write_text("subject\tt1\tpet\na\tt1.nii.gz\tpet.nii.gz\n")
    (person,) = listing.read_list(tmp_path / "scans.tsv").people
    assert (from_sidecars(person).field_strength_t, from_sidecars(person).tracer) == (None, "")
    (tmp_path / "t1.json").write_text(json.dumps({"MagneticFieldStrength": 3}))
    (tmp_path / "pet.json").write_text(json.dumps({"TracerName": "FDG"}))
    assert (from_sidecars(person).field_strength_t, from_sidecars(person).tracer) == (3, "18F-FDG")
    assert interval_days(person) is None


@pytest.mark.parametrize(
    ("course", "months"),
    [
        ({0: "MCI", 12: "MCI", 24: "AD"}, 12),
        ({0: "MCI"}, 0),
        ({0: "AD"}, None),
        ({0: "MCI", 24: "MCI"}, 24),
        ({}, None),
    ],
)
def test_follow_up_ends_with_the_last_visit_before_any_dementia(course, months):
    history = [Visit(month, diagnosis) for month, diagnosis in course.items()]
    assert months_without_dementia(history, 0) == months


def test_a_simulated_download_has_such_tables_and_they_come_back_as_drawn(tmp_path):
    people = draw_people(CohortDesign(converters=3, stable=3, censored=1, reverting=0, normal=0, dementia=0, raw=2))
    for name, table in clinical_tables(people).items():
        assert "SIMULATED" in name
        table.to_csv(tmp_path / name, index=False)
    visits = pd.DataFrame({"participant_id": [p.ptid for p in people], "session_id": "ses-M000"})
    table = scores_at_scan(read_scores(tmp_path, {p.ptid for p in people}), visits).set_index("participant_id")
    for person in people:
        assert table.loc[person.ptid].drop("session_id").to_dict() == draw_scores(person)


def test_simulated_converters_score_worse_than_stable_people():
    people = draw_people(CohortDesign(converters=300, stable=300, raw=2))
    table = pd.DataFrame([draw_scores(p) | {"group": p.group} for p in people]).groupby("group").mean()
    for name, sign in (("mmse", -1), ("cdrsb", 1), ("adas13", 1), ("apoe4", 1)):
        assert sign * (table.loc["converter", name] - table.loc["stable", name]) > 0
