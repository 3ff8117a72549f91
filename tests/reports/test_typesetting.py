from __future__ import annotations

import re
import shutil
import subprocess
import warnings

import pytest

from reports import write_reports
from reports.typesetting import TEMPLATES, show_missing_glyphs, typeset
from tests.reports.conftest import RAW, build_outputs, run_folders


def test_a_character_without_a_glyph_is_shown_as_its_code_point():
    assert show_missing_glyphs("sub-中1") == "sub-⟨U+4E2D⟩1"


def test_invisible_and_direction_changing_characters_are_shown():
    assert show_missing_glyphs("a\u202eb\u200bc\n") == "a⟨U+202E⟩b⟨U+200B⟩c⟨U+000A⟩"


def test_ordinary_text_of_several_scripts_is_left_alone():
    text = "Müller, ‰ ≥ − – “x” Ж Ω +0.3"
    assert show_missing_glyphs(text) == text


def test_every_character_of_the_templates_has_a_glyph():
    for template in TEMPLATES.glob("*.typ"):
        text = template.read_text(encoding="utf-8").replace("\n", "")
        assert show_missing_glyphs(text) == text, template.name


def test_an_escape_can_itself_be_drawn():
    escaped = show_missing_glyphs("中")
    assert show_missing_glyphs(escaped) == escaped


def test_a_template_error_names_the_report(tmp_path):
    with pytest.raises(ValueError, match=r"x\.pdf: template subject\.typ does not compile"):
        typeset("subject", {"sample_id": "a"}, {}, tmp_path / "x.pdf")


def test_hostile_ids_are_printed_and_neither_run_nor_leave_the_folder(tmp_path):
    hostile = '../../x #panic("owned") $x$ *b* \\" <a> @c 中'

    def rename(table):
        table.loc[RAW, ["participant_id", "site", "group_id"]] = [hostile, '#read("/etc/passwd")', hostile]

    root = build_outputs(tmp_path / "out", change=rename)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reports = write_reports(run_folders(root)[:1], tmp_path / "pdf", subject_reports=3, identifiers=True)
    assert reports.failures == {}
    assert {path.parent for path in reports.written} == {tmp_path / "pdf"}
    hostile_pdf = next(path for path in reports.written if re.fullmatch(r"_+x_.*-[0-9a-f]{8}\.pdf", path.name))
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", hostile_pdf, "-"], capture_output=True, text=True, check=True).stdout
        assert '#read("/etc/passwd")' in text.replace("\n", "")
        assert '#panic("owned") $x$ *b*' in " ".join(text.split())
