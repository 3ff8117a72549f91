"""The result under other label rules, and the table of the scans that a run used."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from reports.__main__ import main
from reports.cohort import describe_cohort
from reports.gathering import gather_cohort
from reports.label_rules import list_outcomes, rules_section
from reports.records import load_prepared, load_run
from reports.scans import COLUMNS, list_scans
from tests.reports.conftest import build_outputs, run_folders


@pytest.fixture
def cohort(tmp_path):
    build_outputs(tmp_path)
    return gather_cohort([load_run(run_folders(tmp_path)[0])], load_prepared(tmp_path / "prepared"))


def write_rules(cohort, **labels):
    visits = cohort.prepared.visits
    tables = [
        visits[["participant_id", "session_id"]].assign(rule=rule, label=label, label_reason=label)
        for rule, label in labels.items()
    ]
    pd.concat(tables).to_csv(cohort.prepared.root / "label_rules.tsv", sep="\t", index=False)


def test_the_runs_own_rule_gives_the_runs_own_auc_and_exchanged_labels_its_complement(cohort):
    own = cohort.prepared.visits["label"]
    write_rules(cohort, own=own, exchanged=own.replace({"stable": "converter", "converter": "stable"}))
    first, second = rules_section(cohort)["rows"]
    stated = cohort.headline.metrics["test"]["all"]["auc"]
    assert first["auc"].startswith(f"{stated:.2f} (") and second["auc"].startswith(f"{1 - stated:.2f} (")
    assert (first["converter"], first["stable"]) == (second["stable"], second["converter"])


def test_people_without_a_label_count_as_the_test_split_does_of_the_labeled(cohort):
    scored = list_outcomes(cohort)
    assert scored["weight"].round(6).value_counts().to_dict() == {1.0: 11, round(11 / 59, 6): 1}
    assert scored.index[scored["weight"] < 1].tolist() == ["sub-SIM0003_ses-M000"]


def test_without_other_labels_there_is_no_such_section(cohort):
    assert rules_section(cohort) is None
    assert describe_cohort(cohort, [])[0]["rules"] is None


def test_every_scan_of_the_splits_is_listed_with_its_image_ids(cohort):
    prepared = cohort.prepared
    name = cohort.headline.splits.index[0]
    chosen = prepared.visits.loc[[name], ["participant_id", "session_id"]].assign(modality="mri", image_id="4711")
    chosen.to_csv(prepared.root / "chosen_scans.tsv", sep="\t", index=False)
    table = list_scans(cohort.headline, prepared)
    assert tuple(table.columns) == COLUMNS and len(table) == len(cohort.headline.splits)
    assert table["mri_image_id"].tolist() == ["4711", *[""] * (len(table) - 1)]
    assert set(table["rid"]) == {""}


def test_the_rid_is_the_last_part_of_an_adni_id(cohort):
    splits = cohort.headline.splits.rename(index={cohort.headline.splits.index[0]: "sub-ADNI011S0305_ses-M012"})
    run = cohort.headline.__class__(**{**vars(cohort.headline), "splits": splits})
    row = list_scans(run, cohort.prepared).iloc[0]
    assert (row["rid"], row["session_id"]) == ("305", "ses-M012")


def test_the_table_of_scans_is_printed_and_nothing_is_written(outputs: Path, capsys: pytest.CaptureFixture[str]):
    before = sorted(outputs.rglob("*"))
    assert main([str(run_folders(outputs)[0]), "--scans"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t") == list(COLUMNS) and len(lines) > 50
    assert sorted(outputs.rglob("*")) == before
