"""A frozen run on another cohort: drift of measurements, AUC and calibration of other people, Table 1 of both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.drift import share_flagged, standardized_difference, tabulate_drift
from reports.external import OTHER, compare_calibration, compare_discrimination, say_calibration
from reports.records import load_run
from reports.validation import describe_validation, draw_validation, join, write_validation
from tests.reports.conftest import build_outputs, run_folders


def shift_hippocampi(root: Path, times: float) -> None:
    file = root / "prepared" / "regions.tsv"
    table = pd.read_csv(file, sep="\t")
    table.loc[table["region"] == "hippocampus", "volume_ml"] *= times
    table.to_csv(file, sep="\t", index=False)


def predictions_of(root: Path) -> pd.DataFrame:
    """What the run says of people who are, but for their folder, those of its own cohort."""
    return load_run(run_folders(root)[0]).predictions.assign(split=OTHER)


@pytest.fixture(scope="module")
def both(outputs: Path, tmp_path_factory: pytest.TempPathFactory):
    """A run, and a second cohort with hippocampi a tenth smaller."""
    other = build_outputs(tmp_path_factory.mktemp("other"))
    shift_hippocampi(other, 0.9)
    return join(run_folders(outputs)[0], other / "prepared", predictions_of(outputs), [], "")


def test_smaller_hippocampi_are_a_drift_of_theirs_alone(both):
    table = describe_validation(both)[3].set_index(["region", "kind"])
    hippocampus = table.loc[("hippocampus", "volume_ml")]
    assert hippocampus["high"] < 0 and hippocampus["adjusted_difference"] < -1
    assert hippocampus["mean_other"] == pytest.approx(0.9 * hippocampus["mean_training"], rel=0.03)
    others = table.drop(index=("hippocampus", "volume_ml"))
    assert (others["low"] < 0).all() and (others["high"] > 0).all()


def test_the_interval_of_a_standardized_difference_holds_the_truth_nineteen_times_in_twenty():
    rng = np.random.default_rng(0)
    found = [standardized_difference(rng.normal(0, 1, 60), rng.normal(0.5, 1.3, 40)) for _ in range(1000)]
    assert 0.93 <= np.mean([low <= 0.5 <= high for _, low, high in found]) <= 0.97


def test_what_age_explains_is_no_drift_beyond_age():
    rng = np.random.default_rng(1)
    ages = {"train": rng.normal(70, 6, 80), "other": rng.normal(80, 6, 60)}
    people = {
        n: pd.DataFrame({"age": a, "male": rng.integers(0, 2, len(a)), "tiv_ml": 1500.0}) for n, a in ages.items()
    }
    volumes = {
        name: {
            "volume_ml": pd.DataFrame({"hippocampus": 7 - 0.05 * a + rng.normal(0, 0.1, len(a))}),
            "suvr": pd.DataFrame(),
        }
        for name, a in ages.items()
    }
    row = tabulate_drift(volumes["train"], volumes["other"], people["train"], people["other"]).iloc[0]
    assert row["difference"] < -1
    assert abs(row["adjusted_difference"]) < 0.5


def test_people_far_from_the_training_people_are_flagged_and_their_like_are_not():
    rng = np.random.default_rng(2)
    training, like, far = (pd.DataFrame(rng.normal(m, 1, (n, 4))) for m, n in ((0, 100), (0, 20), (6, 20)))
    assert share_flagged(training, far) == (20, 20)
    assert share_flagged(training, like)[0] <= 2


def test_auc_and_calibration_are_of_the_other_people(both):
    row = compare_discrimination(both.cohort, both.other, hide=False)[-1]
    assert (row["test"]["n"], row["other"]["n"]) == (11, 59)
    frozen, shifted = compare_calibration(both.other)
    assert abs(shifted["predicted"] - shifted["observed"]) < abs(frozen["predicted"] - frozen["observed"])
    assert shifted["line"].intercept.value == pytest.approx(0, abs=0.05)


def test_probabilities_that_are_too_high_are_called_so(both):
    said = predictions_of(both.cohort.headline.folder.parents[1])
    raised = said.assign(p_calibrated_converter=0.5 + said["p_calibrated_converter"] / 2)
    folders = both.cohort.headline.folder, both.other.prepared.root
    words = [say_calibration(compare_calibration(join(*folders, table, [], "").other)) for table in (said, raised)]
    assert ["too high" in sentence for sentence in words] == [False, True]


def test_few_people_of_a_class_have_neither_auc_nor_curves_nor_calibration_and_real_ones_no_number(both):
    rows = both.other.headline.predictions
    converters = rows.loc[rows["label"] == "converter", "sample_id"].unique()
    few = rows[~rows["sample_id"].isin(converters[3:])]
    joined = join(both.cohort.headline.folder, both.other.prepared.root, few, [], "")
    shown, hidden = (compare_discrimination(both.cohort, joined.other, hide)[-1]["other"] for hide in (False, True))
    assert (shown["auc"], shown["converters"]) == (None, 3)
    assert (hidden["auc"], hidden["converters"]) == (None, None)
    assert compare_calibration(joined.other) == [] and draw_validation(joined, []) == {}


def test_table_1_has_both_cohorts_side_by_side(both):
    groups = describe_validation(both)[0]["groups"]
    names = [(group["cohort"], group["name"]) for group in groups["groups"]]
    assert len(names) == 6 and {cohort for cohort, _ in names} == {"this run's cohort", "the other cohort"}
    rows = {row["name"]: row["cells"] for row in groups["rows"]}
    mine, theirs = (float(rows["hippocampi (mL)"][place].split()[0]) for place in (0, 3))
    assert theirs == pytest.approx(0.9 * mine, rel=0.03)


def test_people_of_the_runs_own_cohort_are_counted_and_shown_nowhere_else(both):
    known = ["sub-SIM0000_ses-M000"]
    rows = both.other.headline.predictions
    joined = join(
        both.cohort.headline.folder, both.other.prepared.root, rows[~rows["sample_id"].isin(known)], known, ""
    )
    flow = describe_validation(joined)[0]["flow"]
    assert flow["known"] == 1
    assert known[0] not in joined.other.prepared.visits.index


def test_without_the_folder_of_the_run_drift_is_left_out_and_the_page_says_so(both, tmp_path: Path):
    moved = tmp_path / "runs" / both.cohort.headline.name
    moved.mkdir(parents=True)
    for file in both.cohort.headline.folder.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    out = tmp_path / "out"
    files = write_validation(moved, both.other.prepared.root, both.other.headline.predictions, [], out)
    assert [file.name for file in files] == ["validation.pdf", "validation.json", "drift.tsv"]
    record = json.loads((out / "validation.json").read_text())
    assert record["out_of_distribution"] is None
    assert record["auc"][-1]["other"]["n"] == 59
