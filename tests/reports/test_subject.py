from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from reports.gathering import gather_cohort
from reports.records import find_prepared, load_prepared, load_run
from reports.subject import describe_subject, quality_section, safe_stem, show_interval
from tests.reports.conftest import FAILED, OLD, RAW, WITHOUT_PET, run_folders


def sample(row: int) -> str:
    return f"sub-SIM{row:04d}_ses-M000"


@pytest.fixture(scope="module")
def cohort(outputs):
    return gather_cohort([load_run(folder) for folder in run_folders(outputs)], load_prepared(outputs / "prepared"))


def test_the_headline_is_the_tcgm_run_with_the_lower_validation_log_loss(cohort):
    assert cohort.headline.name == "regions-tcgm-r0.1-s0"


def test_the_report_says_which_classifier_and_both_values(cohort):
    notes = " ".join(describe_subject(cohort, sample(RAW))[0]["probability"]["notes"])
    assert "Headline: TCGM, regions" in notes
    assert "TCGM, voxels 0.610" in notes
    assert "TCGM, regions 0.550" in notes


def test_the_printed_probability_is_the_calibrated_one(cohort):
    rows = cohort.headline.predictions.set_index(["sample_id", "modality"])["p_calibrated_converter"]
    shown = {row["title"]: row["percent"] for row in describe_subject(cohort, sample(RAW))[0]["probability"]["rows"]}
    assert shown["MRI"] == f"{100 * rows[sample(RAW), 'mri']:.0f}"
    assert shown["MRI + FDG-PET"] == f"{100 * rows[sample(RAW), 'all']:.0f}"


def test_a_failed_quality_check_withholds_every_probability_and_gives_the_reason(cohort):
    data, drawn = describe_subject(cohort, sample(FAILED))
    assert data["probability"]["withheld"] == "pet correlation 0.12 (≥ 0.25)"
    assert data["probability"]["rows"] == []
    assert "probabilities.svg" not in drawn


def with_verdict(cohort, row: int, status: str, reason: str):
    """The cohort whose ledger says that a person set the verdict on this T1."""
    prepared = cohort.prepared
    ledger = prepared.ledger.assign(automatic="pass", rater="")
    chosen = (ledger.participant_id + "_" + ledger.session_id == sample(row)) & (ledger.modality == "mri")
    ledger.loc[chosen, ["status", "rater", "reason"]] = [status, "AB", reason]
    return replace(cohort, prepared=replace(prepared, ledger=ledger))


def test_a_verdict_that_a_person_set_is_named_with_the_person(cohort):
    notes = [
        describe_subject(with_verdict(cohort, RAW, "kept", "looked at it"), sample(RAW))[0]["quality"]["note"],
        describe_subject(cohort, sample(RAW))[0]["quality"]["note"],
    ]
    assert notes[0] == f"{notes[1]} Overridden: T1 kept by AB: looked at it."


def test_a_probability_that_a_person_withheld_names_the_person(cohort):
    data, _ = describe_subject(with_verdict(cohort, FAILED, "excluded", "motion"), sample(FAILED))
    assert data["probability"]["withheld"] == "T1 excluded by AB: motion; pet correlation 0.12 (≥ 0.25)"


def test_without_pet_there_is_no_pet_probability_and_the_report_says_so(cohort):
    data, drawn = describe_subject(cohort, sample(WITHOUT_PET))
    assert [row["title"] for row in data["probability"]["rows"]] == ["MRI", "combined"]
    assert data["probability"]["missing"] == ["FDG-PET"]
    assert data["overlays"]["missing"] == ["FDG-PET"]
    assert b"SUVR" not in drawn["overlays.svg"]


def entries(cohort, row: int) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in describe_subject(cohort, sample(row))[0]["header"]}


def test_what_nobody_says_of_the_scans_is_said_to_be_unknown(cohort):
    header = entries(cohort, RAW)
    assert {header[name] for name in ("Field strength", "Tracer", "MRI to PET", "Trained in")} == {"unknown"}


def test_the_header_says_magnet_tracer_interval_and_the_month_of_the_run(outputs):
    cohort = gather_cohort([load_run(outputs / "runs" / "voxels-ce-r0.1-s0")], load_prepared(outputs / "prepared"))
    cohort.prepared.visits[["field_strength_t", "tracer", "days_between"]] = [1.5, "18F-FDG", 19.0]
    file = cohort.headline.folder / "environment.json"
    file.write_text('{"month": "2026-11"}')
    header, without = entries(cohort, RAW), entries(cohort, WITHOUT_PET)
    file.unlink()
    assert (header["Field strength"], header["Tracer"], header["MRI to PET"]) == ("1.5 T", "18F-FDG", "19 days")
    assert header["Trained in"] == "November 2026"
    assert without["Tracer"] == without["MRI to PET"] == "no PET"


@pytest.mark.parametrize(("days", "shown"), [(0, "same day"), (1, "1 day"), (90, "90 days"), (200, "7 months")])
def test_an_interval_is_days_or_months_and_never_a_date(days, shown):
    assert show_interval(days) == shown


def test_contours_are_shown_where_preprocessing_drew_them(cohort):
    assert describe_subject(cohort, sample(OLD))[0]["contours"] == []
    folder = cohort.prepared.root / f"sub-SIM{RAW:04d}" / "ses-M000" / "figures"
    folder.mkdir()
    for name in ("t1", "pet"):
        (folder / f"{sample(RAW)}_desc-{name}_qc.png").write_bytes(f"picture of {name}".encode())
    data, drawn = describe_subject(cohort, sample(RAW))
    shutil.rmtree(folder)
    assert data["contours"] == ["contours-mri.png", "contours-pet.png"]
    assert drawn["contours-pet.png"] == b"picture of pet"


def test_an_age_above_89_appears_nowhere(cohort):
    data, _ = describe_subject(cohort, sample(OLD))
    assert {"name": "Age (years)", "value": "89+"} in data["header"]
    assert "93.4" not in json.dumps(data)
    assert cohort.people["age"].max() <= 89


def test_the_base_rate_ignores_hidden_labels_and_the_test_split(cohort):
    rate, n = cohort.base_rate
    assert n == 8 + 10
    assert rate == pytest.approx((3 + 5) / 18)


def test_a_person_prepared_on_the_grid_has_no_quality_strip(cohort):
    quality = describe_subject(cohort, sample(WITHOUT_PET))[0]["quality"]
    assert quality["rows"] == []
    assert "no registration QC" in quality["note"]


def test_the_same_person_gives_the_same_figures(cohort):
    assert describe_subject(cohort, sample(RAW)) == describe_subject(cohort, sample(RAW))


def test_simulated_and_real_runs_are_not_mixed(outputs, real_outputs):
    runs = [load_run(run_folders(root)[0]) for root in (outputs, real_outputs)]
    with pytest.raises(ValueError, match="mix simulated and real"):
        gather_cohort(runs, None)


def test_a_run_names_its_prepared_folder(outputs):
    assert find_prepared(load_run(run_folders(outputs)[0])) == (outputs / "prepared").resolve()


def test_two_ids_never_share_a_file_name():
    assert safe_stem("sub-A_ses-M000") == "sub-A_ses-M000"
    assert safe_stem("sub/A") != safe_stem("sub:A")


def test_an_unfinished_run_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no metrics\.json"):
        load_run(tmp_path)


def test_a_check_without_a_number_is_told_in_words(cohort):
    unknown = {"name": "white_snr", "value": float("nan"), "threshold": {"warn": 12, "fail": 8}, "verdict": "fail"}
    assert quality_section(cohort, sample(RAW), [unknown])["rows"] == [
        {"verdict": "fail", "text": "white snr not measurable (≥ 8)"}
    ]


def test_checks_that_pass_are_counted_and_all_others_shown(cohort):
    passed, failed = (describe_subject(cohort, sample(i))[0]["quality"] for i in (RAW, FAILED))
    assert passed["note"].startswith("3 of 3 checks passed") and failed["note"].startswith("2 of 3 checks passed")
    assert [row["text"].split()[0] for row in passed["rows"]] == ["brain", "pet"]
    assert [row["verdict"] for row in failed["rows"]] == ["pass", "fail"]
