"""Runs that looked at no label but the visible ones: their headline, sentences, base rate and intervals."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from adni_tcgm.evaluation.calibration import CROSS_FITTED, Calibration, Rescaling
from reports.gathering import gather_cohort, redraw_calibration
from reports.probability import (
    describe_choice,
    find_intervals,
    find_probability,
    is_of_other_site,
    probability_section,
)
from reports.records import (
    CLASSES,
    Run,
    choose_headline,
    describe_calibration,
    label_budget,
    load_prepared,
    load_run,
)
from tests.reports.conftest import run_folders


def austere(run: Run, applied: bool = True) -> Run:
    """The same run by the austere protocol: its visible labels were cross-fitted."""
    calibration = {"samples": 8, "applied": applied}
    metrics = run.metrics | {"protocol": "austere", "calibration": calibration}
    metrics["labels"] = run.metrics["labels"] | {"validation": 0}
    shown = run.splits[(run.splits["split"] == "train") & run.splits["label_visible"]]
    shown = shown[shown["label"].isin(CLASSES)]
    rows = run.predictions[run.predictions["split"] == "validation"]
    parts = [rows[rows["modality"] == m].head(len(shown)) for m in ("mri", "pet", "all")]
    held_out = [
        part.assign(
            split=CROSS_FITTED, sample_id=shown.index[: len(part)], label=shown["label"].to_numpy()[: len(part)]
        )
        for part in parts
    ]
    return replace(run, metrics=metrics, predictions=pd.concat([run.predictions, *held_out], ignore_index=True))


@pytest.fixture(scope="module")
def runs(outputs) -> list[Run]:
    return [load_run(folder) for folder in run_folders(outputs)]


def test_the_headline_is_fixed_beforehand_and_no_validation_loss_chooses_it(runs):
    chosen = [austere(run) for run in runs]
    for run in chosen:  # what nobody may look at speaks for voxels
        run.metrics["validation"] = {"all": {"log_loss": 0.1 if run.metrics["features"] == "voxels" else 9.0}}
    assert choose_headline(chosen).title == "TCGM, regions"
    assert "fixed beforehand" in describe_choice(gather_cohort(chosen, None))


def test_only_visible_labels_make_the_base_rate(runs):
    run = austere(runs[0])
    assert set(label_budget(run)["split"]) == {"train"} and label_budget(run)["label_visible"].all()
    assert "validation" in set(label_budget(runs[0])["split"])


def test_intervals_come_from_cross_fitted_visible_labels_and_not_from_validation(runs):
    run = austere(runs[0])
    rows = run.predictions
    spoiled = replace(run, predictions=rows.assign(label=rows["label"].where(rows["split"] != "validation", "stable")))
    assert redraw_calibration(run) and redraw_calibration(run) == redraw_calibration(spoiled)
    assert redraw_calibration(run) != redraw_calibration(runs[0])


def test_a_calibration_that_is_not_applied_has_no_interval(runs):
    assert redraw_calibration(austere(runs[0], applied=False)) == []


@pytest.mark.parametrize(("applied", "words"), [(True, "by cross-fitting these 8"), (False, "not calibrated, since")])
def test_the_page_of_a_person_says_which_labels_calibrated(runs, applied, words):
    run = austere(runs[0], applied)
    somebody = run.splits.index[run.splits["split"] == "test"][0]
    notes = " ".join(probability_section(gather_cohort([run], None), somebody, None)[0]["notes"])
    assert words in notes and "validation" not in notes


def test_labels_too_few_to_hold_out_are_the_reason_that_is_given(runs):
    run = austere(runs[0], applied=False)
    run.metrics["calibration"]["why"] = "a class has fewer than two labels to hold out"
    assert describe_calibration(run.metrics).endswith(
        "not calibrated, since a class has fewer than two labels to hold out"
    )


def test_a_persons_interval_holds_the_probability_that_is_shown(runs):
    """Drawn calibrations are free, the one applied may only soften: here all drawn ones are far surer."""
    run = austere(runs[0])
    somebody = run.splits.index[run.splits["split"] == "test"][0]
    surer = Calibration({name: Rescaling(0.1, (0.0, 9.0), 8) for name in ("mri", "pet", "all")}, (-0.7, -0.7))
    cohort = replace(gather_cohort([run], None), calibrations=[surer] * 3)
    for name, (low, high) in find_intervals(cohort, somebody).items():
        assert low <= find_probability(run, somebody, name) < high


def test_somebody_of_a_site_that_trained_nobody_is_told_so(runs, outputs):
    prepared = load_prepared(outputs / "prepared")
    person = runs[0].splits.index[-1]
    site = prepared.visits.at[person, "site"]
    for groups, other in (({site: site}, False), ({"elsewhere": "elsewhere"}, True)):
        run = replace(runs[0], adjustment={"harmonize": "site", "adjust": "none", "groups": groups})
        assert is_of_other_site(gather_cohort([run], prepared), person) == other
