from __future__ import annotations

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from reports.cohort import describe_cohort, load_baselines
from reports.gathering import gather_cohort
from reports.overlays import difference_map
from reports.records import load_prepared, load_run
from reports.table1 import tabulate_groups
from reports.tables import (
    count_flow,
    describe_adjustment,
    describe_gain,
    describe_pretraining,
    hide_small_cells,
    tabulate_metrics,
)
from tests.reports.conftest import run_folders


def describe(root) -> tuple[dict, dict]:
    cohort = gather_cohort([load_run(folder) for folder in run_folders(root)], load_prepared(root / "prepared"))
    return describe_cohort(cohort, load_baselines(root / "runs" / "baselines-r0.1-s0"))


@pytest.fixture(scope="module")
def simulated(outputs) -> dict:
    return describe(outputs)[0]


@pytest.fixture(scope="module")
def real(real_outputs) -> dict:
    return describe(real_outputs)[0]


def test_every_run_bar_and_bayes_stands_in_the_table_for_each_modality(simulated):
    kinds = pd.Series([row["kind"] for row in simulated["metrics"]]).value_counts()
    assert kinds.to_dict() == {"run": 4 * 3, "baseline": 3 * 3, "bayes": 3 + 1}


def test_metrics_that_do_not_follow_from_the_predictions_are_warned_about(outputs):
    run = load_run(outputs / "runs" / "regions-tcgm-r0.1-s0")
    run.metrics["test"]["mri"]["auc"] += 0.05
    with pytest.warns(UserWarning, match=r"metrics\.json: AUC .* \(mri, test\) does not follow"):
        tabulate_metrics([run], [], run)


def test_the_evaluation_set_has_a_table_of_its_own(simulated):
    assert simulated["external"] == [
        {"name": "linear SVM on voxels (labels: visible)", "mri": "0.741", "pet": "–", "all": "–"}
    ]


def test_the_report_says_what_was_done_about_sites_and_head_size(simulated):
    assert "Voxels are neither harmonized" in simulated["choice"]
    assert "sites are not harmonized; values are not adjusted for age and sex" in simulated["choice"]
    assert simulated["choice"].count("Regional measurements:") == 1


def test_harmonization_and_adjustment_of_a_run_are_named_with_whom_they_were_fitted_on(outputs, tmp_path):
    folder = shutil.copytree(outputs / "runs" / "regions-tcgm-r0.1-s0", tmp_path / "run")
    content = {"harmonize": "site", "adjust": "tiv_age_sex", "modalities": {}}
    (folder / "adjustment.json").write_text(json.dumps(content))
    run = load_run(folder)
    sentence = describe_adjustment(run.metrics["features"], run.adjustment)
    assert "are taken out by ComBat (fitted on the training people without their labels" in sentence
    assert "people of any other site stay as they are" in sentence
    assert "adjusted for age, sex and (volumes, in mL) intracranial volume" in sentence


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        ({"correlations": [0.79, 0.5, 0.1], "people": 212}, "(2 of 3; the strongest has 0.79 among 212 people"),
        ({"correlations": [0.3, 0.1, 0.0], "people": 212}, "(none of 3; the strongest has 0.30 among 212 people"),
        (None, "beyond a correlation of 0.45 are damped."),
    ],
)
def test_shared_directions_are_named_with_how_strong_they_are(shared, expected):
    adjustment = {"adjust": "tiv_age_sex", "shared_limit": 0.45, "shared": shared}
    sentence = describe_adjustment("regions", adjustment)
    assert "directions that MRI and PET share beyond a correlation of 0.45 are damped" in sentence
    assert expected in sentence
    assert "MRI and PET share" not in describe_adjustment("regions", adjustment | {"shared_limit": None})


def test_people_without_pet_do_not_count_in_the_pet_rows(simulated):
    sizes = {row["modality"]: row["n"] for row in simulated["metrics"] if row["kind"] == "run"}
    assert sizes == {"MRI": "11", "FDG-PET": "10", "MRI + FDG-PET": "11"}


def test_the_flow_counts_the_visit_that_failed(simulated):
    assert [step["count"] for step in simulated["flow"]["steps"]] == ["63", "62", "60", "59", "1"]
    assert simulated["flow"]["reasons"] == [{"reason": "mri · failed · read · truncated_file", "count": "1"}]


def test_both_label_counts_are_printed(simulated):
    assert simulated["labels"]["train_visible"] == "8"
    assert simulated["labels"]["calibrated_on"] == "chosen and calibrated on 10 labeled validation subjects"
    assert simulated["splits"][0]["visible"] == "5 stable + 3 converter"


def test_small_cells_of_real_data_are_hidden(real):
    assert real["flow"]["reasons"][0]["count"] == "<5"
    assert {row["name"]: row["count"] for row in real["label_reasons"]}["censored"] == "<5"
    assert real["splits"][0]["unlabeled"] == "<5"


def test_a_hidden_cell_does_not_follow_from_its_total():
    shown = hide_small_cells({"a": 3, "b": 9, "c": 40}, hide=True)
    assert shown == {"a": "<5", "b": "hidden", "c": "40"}


def test_counts_of_zero_and_of_five_are_shown():
    assert hide_small_cells({"a": 0, "b": 5}, hide=True) == {"a": "0", "b": "5"}


def test_a_group_below_five_shows_no_statistics(real):
    place = [group["name"] for group in real["groups"]["groups"]].index("MCI, unlabeled")
    assert real["groups"]["groups"][place]["n"] == "<5"
    assert {row["cells"][place] for row in real["groups"]["rows"]} == {"–"}


def test_table_1_has_the_people_of_each_group_and_diagnosis(outputs):
    prepared = load_prepared(outputs / "prepared")
    visits = prepared.visits.assign(diagnosis="MCI", field_strength_t=3.0)
    visits.loc["sub-SIM0003_ses-M000", "diagnosis"] = "CN"
    cohort = gather_cohort([load_run(run_folders(outputs)[0])], replace(prepared, visits=visits))
    table = tabulate_groups(cohort, hide=False)
    assert {group["name"]: group["n"] for group in table["groups"]} == {
        "stable": "31",
        "converter": "29",
        "MCI, unlabeled": "1",
        "cognitively normal": "1",
    }
    rows = {row["name"]: row["cells"] for row in table["rows"]}
    stable = visits[visits["label"] == "stable"]
    assert rows["age (years)"][0] == f"{stable['age'].mean():.1f} ({stable['age'].std():.1f})"
    assert rows["3 T"][:2] == ["31 (100 %)", "29 (100 %)"]
    assert "MMSE" not in rows  # this cohort has no clinical scores


def test_page_one_answers_its_five_questions_with_a_figure_each(simulated):
    message = simulated["message"]
    assert message["figures"] == ["one-against.svg", "one-calibration.svg", "one-groups.svg", "one-roc.svg"]
    assert "AUC" in message["well"] and "11 test people" in message["well"]
    assert "simpler classifiers with as many labels or fewer" in message["against"]
    assert "converted" in message["believable"]


def test_the_difference_map_is_stable_less_converter_with_its_standard_error():
    def image(values):
        return nib.Nifti1Image(np.full((2, 2, 2), values, np.float32), np.eye(4))

    groups = {"stable": [image(v) for v in (1.0, 1.2, 1.4)], "converter": [image(v) for v in (0.8, 1.0)]}
    difference, error = difference_map(groups)
    assert difference.get_fdata() == pytest.approx(np.full((2, 2, 2), 0.3), abs=1e-6)
    assert error.get_fdata() == pytest.approx(np.full((2, 2, 2), np.sqrt(0.04 / 3 + 0.02 / 2)), abs=1e-6)


def test_single_people_are_listed_for_simulated_data_only(simulated, real):
    assert len(simulated["predictions"]) == 11
    assert real["predictions"] == []
    assert "sub-SIM" not in json.dumps(real)


def test_a_group_in_two_splits_is_counted(outputs):
    run = load_run(run_folders(outputs)[0])
    run.splits.loc["sub-SIM0055_ses-M000", "group_id"] = "sub-SIM0000"
    assert describe_cohort(gather_cohort([run], None), [])[0]["straddling"] == 1


def test_an_empty_ledger_expects_what_was_prepared(outputs):
    prepared, run = load_prepared(outputs / "prepared"), load_run(run_folders(outputs)[0])
    flow = count_flow(prepared.visits, pd.DataFrame(), run, hide=False)
    assert flow["steps"][0]["count"] == "62"
    assert flow["reasons"] == []


def test_the_report_says_what_networks_learned_before_the_labels_and_nothing_where_they_learned_nothing():
    start = {"name": "both", "net": "grid", "tasks": ["targets", "cross_modal"]}
    sentence = describe_pretraining({"features": "voxels", "pretraining": start})
    assert "Networks for voxels first learned" in sentence and "without their labels" in sentence
    assert "of their own scan and to predict those of the other scan" in sentence
    assert describe_pretraining({"features": "regions"}) == ""


def with_steps(root, features: str, method: str, **steps):
    run = load_run(root / "runs" / f"{features}-{method}-r0.1-s0")
    run.metrics.update(steps)
    return run


def test_the_report_says_where_validation_chose_a_step_before_the_gain_and_tcgm_is_ce(outputs):
    tcgm = with_steps(outputs, "voxels", "tcgm", best_step=10, unlabeled_from=51)
    ce = with_steps(outputs, "voxels", "ce", best_step=10, unlabeled_from=None)
    other = with_steps(outputs, "regions", "tcgm", best_step=51, unlabeled_from=51)
    copy = replace(tcgm, metrics=tcgm.metrics | {"method": "ce", "unlabeled_from": None})
    start = "Voxels: validation chose step 10, before the gain begins at step 51: "
    assert describe_gain([tcgm, copy, other]) == start + "TCGM and CE are the same classifier here."
    assert describe_gain([tcgm, ce, other]) == start + "nothing of the gain is in this TCGM."
    assert describe_gain([other, ce]) == ""
    data, _ = describe_cohort(gather_cohort([tcgm, copy, other], None), [])
    assert data["unused_gain"] == start + "TCGM and CE are the same classifier here."


def test_a_tcgm_whose_gain_never_began_is_named_and_runs_that_say_no_step_are_not(outputs):
    never = with_steps(outputs, "regions", "tcgm", best_step=40, unlabeled_from=None)
    assert "validation chose step 40, and the gain never began" in describe_gain([never])
    assert describe_gain([load_run(folder) for folder in run_folders(outputs)]) == ""


def test_horizon_and_reference_region_are_those_of_the_preparation(outputs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folders(outputs)[0], folder)
    assert gather_cohort([load_run(folder)], None).reference_region == "pons"
    (folder / "recipe.json").write_text(json.dumps({"HorizonMonths": 24.0, "Recipe": {"reference": "cerebellum"}}))
    data, _ = describe_cohort(gather_cohort([load_run(folder)], None), [])
    assert (data["horizon"], data["suvr_reference"]) == (24, "cerebellum")
