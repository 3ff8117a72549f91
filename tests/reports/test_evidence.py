from __future__ import annotations

import json

import numpy as np
import pytest

from reports.evidence import describe_evidence, labeled_rows, tabulate_operating_point
from reports.gathering import CALIBRATION_DRAWS, gather_cohort, redraw_calibration
from reports.probability import is_calibrated, probability_section
from reports.records import load_prepared, load_run
from tests.reports.conftest import RAW, WITHOUT_PET, run_folders


def gather(root, prevalence: float | None = None):
    return gather_cohort([load_run(f) for f in run_folders(root)], load_prepared(root / "prepared"), prevalence)


@pytest.fixture(scope="module")
def cohort(outputs):
    return gather(outputs, 0.17)


@pytest.fixture(scope="module")
def evidence(cohort) -> dict:
    return describe_evidence(cohort)[0]


def person(row: int) -> str:
    return f"sub-SIM{row:04d}_ses-M000"


def test_every_run_has_a_row_before_and_after_calibration(evidence):
    assert [row["name"].rpartition(", ")[2] for row in evidence["believable"]] == ["raw", "calibrated"] * 4
    assert {row["n"] for row in evidence["believable"]} == {"11"}


def test_the_discordant_counts_add_up_to_the_difference_of_accuracies(cohort, evidence):
    accuracy = {row["name"]: float(row["accuracy"].split()[0]) for row in evidence["decisions"]}
    headline = accuracy.pop(next(name for name in accuracy if name.endswith("(headline)")))
    rows = [row for row in evidence["decisions"] if row["name"] in accuracy]
    assert len(rows) == 3
    for row in rows:
        difference = int(row["headline_only"]) - int(row["this_only"])
        assert difference == round(11 * (headline - accuracy[row["name"]]))


def test_predictive_values_are_given_at_the_stated_prevalence_too(cohort):
    there, stated = tabulate_operating_point(labeled_rows(cohort.headline, "test"), 0.17)
    assert stated["name"] == "17 %, as stated"
    assert stated["sensitivity"] == there["sensitivity"]
    assert float(stated["ppv"]) < float(there["ppv"])


def test_subgroups_of_one_kind_hold_everybody_once(evidence):
    n = {row["name"]: int(row["n"]) for row in evidence["subgroups"]}
    everybody = n.pop("everybody")
    assert everybody == n["women"] + n["men"] == n["with PET"] + n["without PET"] == 11
    assert sum(count for name, count in n.items() if name.startswith("head")) == 11


def test_subgroups_of_real_people_hide_small_cells(real_outputs):
    rows = {row["name"]: row for row in describe_evidence(gather(real_outputs))[0]["subgroups"]}
    assert rows["without PET"]["n"] == "<5"
    assert rows["without PET"]["observed"] == "–"


def test_subgroups_by_magnet_and_site_hold_everybody_once(outputs):
    cohort = gather(outputs)
    assert not any(
        "tesla" in row["name"] or "sites" in row["name"] for row in describe_evidence(cohort)[0]["subgroups"]
    )
    visits = cohort.prepared.visits
    visits["field_strength_t"] = np.where(np.arange(len(visits)) % 3 == 0, 3.0, 1.5)
    visits.loc[person(WITHOUT_PET), "field_strength_t"] = np.nan
    visits["site"] = [("011", "011", "022", "033")[i % 4] for i in range(len(visits))]
    n = {row["name"]: int(row["n"]) for row in describe_evidence(cohort)[0]["subgroups"]}
    assert n["below 2.5 tesla"] + n["2.5 tesla and more"] + n["field strength unknown"] == 11
    assert n["field strength unknown"] == 1
    assert n["1 larger sites"] + n["2 smaller sites, and new ones"] == 11


def test_the_stated_prevalence_lowers_the_printed_probability(cohort):
    data, _ = probability_section(cohort, person(RAW), None)
    shown = {row["title"]: int(row["percent"]) for row in data["rows"]}
    text = data["restated"]
    assert text.startswith("At a prevalence of 17 % instead of 44 %")
    assert int(text.split("MRI ")[1].split(" %")[0]) < shown["MRI"]


def test_without_a_stated_prevalence_nothing_is_restated(outputs):
    assert probability_section(gather(outputs), person(RAW), None)[0]["restated"] is None


def test_a_prevalence_of_17_percent_must_be_written_as_a_share(outputs):
    with pytest.raises(ValueError, match=r"prevalence is 17.*0\.17"):
        gather(outputs, 17.0)


def test_intervals_come_from_the_runs_own_validation_people(cohort, outputs):
    assert len(cohort.calibrations) == 5 and CALIBRATION_DRAWS == 200  # few_draws; what reports draw
    changed = load_run(outputs / "runs" / "regions-tcgm-r0.1-s0")
    test = changed.predictions["split"] == "test"
    changed.predictions.loc[test, "label"] = "stable"
    assert redraw_calibration(changed) == cohort.calibrations


def test_a_probability_that_was_never_calibrated_says_so(outputs):
    run = load_run(outputs / "runs" / "regions-tcgm-r0.1-s0")
    assert is_calibrated(run)
    calibration = json.loads(json.dumps(run.calibration))
    calibration["rescalings"]["pet"]["samples"] = 0
    run.calibration.clear()
    run.calibration.update(calibration)
    assert not is_calibrated(run)
    assert not probability_section(gather_cohort([run], None), person(RAW), None)[0]["calibrated"]


def test_somebody_far_from_the_training_people_is_flagged(outputs):
    cohort = gather(outputs)
    assert not probability_section(cohort, person(WITHOUT_PET), None)[0]["out_of_distribution"]["flagged"]
    cohort.people.loc[person(WITHOUT_PET), "tiv_ml"] = 3000.0
    assert probability_section(cohort, person(WITHOUT_PET), None)[0]["out_of_distribution"]["flagged"]


def test_who_is_flagged_does_not_hang_on_any_label(outputs):
    cohort = gather(outputs)
    before = probability_section(cohort, person(RAW), None)[0]["out_of_distribution"]
    cohort.headline.splits["label"] = np.where(cohort.headline.splits["label"] == "stable", "converter", "stable")
    assert probability_section(cohort, person(RAW), None)[0]["out_of_distribution"] == before
