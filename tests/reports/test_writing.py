from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reports import write_reports
from reports.__main__ import main
from reports.cohort import describe_cohort
from reports.gathering import gather_cohort
from reports.records import describe_origin, load_prepared, load_run
from reports.writing import Reports, choose_subjects
from tests.reports.conftest import build_outputs, run_folders


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.fixture(scope="module")
def written(outputs, tmp_path_factory) -> Reports:
    """Of two runs of the simulated cohort and of two of its people, by one process."""
    return write_reports(run_folders(outputs)[:2], tmp_path_factory.mktemp("one"), subject_reports=2)


def test_the_same_input_gives_the_same_bytes_in_one_process_and_in_two(outputs, written, tmp_path):
    two = write_reports(run_folders(outputs)[:2], tmp_path / "two", subject_reports=2, jobs=2)
    assert written.failures == two.failures == {}
    assert sorted(names(written.written)) == sorted(names(two.written))
    assert len(written.written) == 3
    for path in written.written:
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_real_cohort_is_written_too_and_is_not_marked_simulated(real_outputs, tmp_path):
    reports = write_reports(run_folders(real_outputs)[:1], tmp_path, subject_reports=1, identifiers=True)
    assert names(reports.written) == ["cohort.pdf", "sub-SIM0050_ses-M000.pdf"]
    if shutil.which("pdftotext"):
        for path in reports.written:
            text = subprocess.run(["pdftotext", path, "-"], capture_output=True, text=True, check=True).stdout
            assert "SIMULATED" not in text
            assert "adni.loni.usc.edu" not in text
            assert "Data: not ADNI's." in text.replace("’", "'")
            assert "RESEARCH USE ONLY" in text


def test_the_acknowledgement_of_adni_is_for_adnis_people_alone():
    ours, mixed = ["sub-ADNI011S4105_ses-M000"], ["sub-ADNI011S4105_ses-M000", "sub-OAS30001_ses-M000"]
    assert describe_origin(False, ours)["kind"] == "adni"
    assert describe_origin(False, mixed, "By courtesy of OASIS.") == {
        "kind": "other",
        "acknowledgement": "By courtesy of OASIS.",
    }
    assert describe_origin(True, ours)["kind"] == "simulated"


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="pdftotext (poppler-utils) is not installed")
def test_every_page_of_a_simulated_report_says_so(written):
    for path in written.written:
        text = subprocess.run(["pdftotext", path, "-"], capture_output=True, text=True, check=True).stdout
        pages = text.rstrip("\f").split("\f")
        assert len(pages) >= 2
        mark = "SIMULATED COHORT" if path.name == "cohort.pdf" else "SIMULATED SUBJECT"
        assert mark in pages[0]
        assert all(re.search(r"SIMULATED (cohort|subject)\.", page) for page in pages)


def test_one_broken_file_costs_one_report_only(tmp_path):
    root = build_outputs(tmp_path / "out")
    broken = root / "prepared" / "sub-SIM0050" / "ses-M000" / "gm.nii.gz"
    broken.write_bytes(broken.read_bytes()[:5000])
    with pytest.warns(UserWarning, match="no report for sub-SIM0050_ses-M000"):
        reports = write_reports(run_folders(root)[:1], tmp_path / "pdf", subject_reports=2, identifiers=True)
    assert list(reports.failures) == ["sub-SIM0050_ses-M000"]
    assert "gm.nii.gz" in reports.failures["sub-SIM0050_ses-M000"]
    assert names(reports.written) == ["cohort.pdf", "sub-SIM0052_ses-M000.pdf"]


def test_the_cohort_report_names_the_map_that_it_had_to_leave_out(tmp_path):
    root = build_outputs(tmp_path / "out")
    (root / "prepared" / "sub-SIM0055" / "ses-M000" / "gm.nii.gz").write_bytes(b"nothing")
    cohort = gather_cohort([load_run(run_folders(root)[0])], load_prepared(root / "prepared"))
    data, _ = describe_cohort(cohort, [])
    assert data["unreadable_maps"] == 1
    assert [group["n"] for group in data["overlay_groups"]] == [5, 5, 5, 5]


def test_without_the_prepared_folder_the_pages_that_need_no_image_are_written(tmp_path):
    root = build_outputs(tmp_path / "out")
    shutil.rmtree(root / "prepared")
    reports = write_reports(run_folders(root)[:1], tmp_path / "pdf", subject_reports=1)
    assert reports.failures == {}
    assert len(reports.written) == 2


def test_people_with_raw_scans_come_first(outputs):
    cohort = gather_cohort([load_run(run_folders(outputs)[0])], load_prepared(outputs / "prepared"))
    raw = ["sub-SIM0050_ses-M000", "sub-SIM0052_ses-M000"]
    assert choose_subjects(cohort.headline, cohort.prepared, 3) == [*raw, "sub-SIM0051_ses-M000"]
    assert len(choose_subjects(cohort.headline, cohort.prepared, "all")) == 12
    assert choose_subjects(cohort.headline, cohort.prepared, "none") == []


@pytest.mark.parametrize("choice", ["some", "-1", 2.5, True])
def test_an_unknown_choice_of_subjects_is_refused(outputs, choice):
    cohort = gather_cohort([load_run(run_folders(outputs)[0])], None)
    with pytest.raises(ValueError, match="all, none or a number"):
        choose_subjects(cohort.headline, cohort.prepared, choice)


def test_the_command_writes_beside_the_runs_folder_and_finds_the_bars(tmp_path, capsys):
    root = build_outputs(tmp_path / "out")
    assert main([str(run_folders(root)[0]), "--subject-reports", "none"]) == 0
    assert capsys.readouterr().out.split() == [str(root / "reports" / "cohort.pdf")]


def test_the_command_names_what_is_not_a_run(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no metrics.json" in capsys.readouterr().err


def test_reports_import_neither_training_nor_preprocessing():
    code = "import reports.__main__, reports.writing, reports.generic, sys; print(sorted(sys.modules))"
    root = Path(__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    for module in ("torch", "preprocessing", "adni_tcgm.tcgm", "pipelines", "SimpleITK", "ants", "monai"):
        assert f"'{module}'" not in loaded
