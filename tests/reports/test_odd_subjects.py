"""People whose reports go wrong first: long and foreign names, great age, failed checks, no PET, no label."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from reports import write_reports
from tests.reports.conftest import FAILED, OLD, WITHOUT_PET, build_outputs

LONG, UNLABELED = 50, 3
NAME = "sub-" + "Ωμέγα患者𐎀" + "x" * 80

pytestmark = pytest.mark.skipif(not shutil.which("pdftotext"), reason="pdftotext (poppler-utils) is not installed")


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[int, str]:
    """Row -> text of that person's report."""
    root = build_outputs(
        tmp_path_factory.mktemp("odd"), change=lambda table: table.__setitem__("participant_id", rename(table))
    )
    people = {row: f"sub-SIM{row:04d}_ses-M000" for row in (FAILED, OLD, WITHOUT_PET, UNLABELED)}
    people[LONG] = f"{NAME}_ses-M000"
    reports = write_reports(
        [root / "runs" / "regions-tcgm-r0.1-s0"], root / "pdf", subjects=list(people.values()), identifiers=True
    )
    assert reports.failures == {}
    written = dict(zip(people, [p for p in reports.written if p.name != "cohort.pdf"], strict=True))
    return {row: read(path) for row, path in written.items()}


def rename(table):
    names = table["participant_id"].copy()
    names[LONG] = NAME
    return names


def read(path: Path) -> str:
    text = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True).stdout
    return " ".join(text.split())


def test_a_glyph_that_the_fonts_lack_is_shown_as_its_code_point(texts):
    assert "Ωμέγα⟨U+60A3⟩⟨U+8005⟩⟨U+10380⟩" in texts[LONG].replace(" ", "")


def test_a_long_name_is_cut_visibly(texts):
    assert "…" in texts[LONG] and "x" * 60 not in texts[LONG]


def test_somebody_aged_93_is_89_or_older(texts):
    assert "89+" in texts[OLD] and "93" not in texts[OLD]


def test_a_failed_check_withholds_the_probability_with_its_reason(texts):
    assert "Withheld. Quality control failed" in texts[FAILED] and "pet correlation 0.12" in texts[FAILED]
    assert "Base rate" not in texts[FAILED]


def test_without_pet_the_report_says_so(texts):
    assert "No FDG-PET. The combined probability rests on the other scan alone." in texts[WITHOUT_PET]


def test_somebody_without_a_label_has_a_report_like_everybody(texts):
    assert "Probability of conversion" in texts[UNLABELED] and "belongs to the train split" in texts[UNLABELED]


def test_without_pet_there_are_no_lines_of_dashes_for_what_it_would_have_measured(texts):
    assert "Precuneus SUVR" in texts[OLD] and "Hippocampus (mL)" in texts[WITHOUT_PET]
    assert "Precuneus SUVR" not in texts[WITHOUT_PET]


def test_what_is_left_of_a_failed_visit_fills_two_pages_and_no_third(texts):
    assert "page 1 of 2" in texts[FAILED]
