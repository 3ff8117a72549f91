"""What a table holds is text in the reports: no markup, no script, no formula, no file of its own choice."""

from __future__ import annotations

import re
import warnings

from reports.writing import write_reports
from tests.reports.conftest import RAW, build_outputs, run_folders

SCRIPT = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'


def test_a_page_shows_hostile_values_and_has_no_script_but_its_own(tmp_path):
    def rename(table):
        table.loc[RAW, ["participant_id", "site", "sex", "group_id"]] = [f"sub-{SCRIPT}", SCRIPT, SCRIPT, SCRIPT]

    plain, hostile = build_outputs(tmp_path / "plain"), build_outputs(tmp_path / "out", change=rename)
    pages = {}
    for name, root in (("plain", plain), ("hostile", hostile)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reports = write_reports(
                run_folders(root), tmp_path / name / "html", subject_reports=1, kinds=("html",), identifiers=True
            )
        assert reports.failures == {}
        pages[name] = reports.written[0].read_text()
    assert pages["hostile"].count("<script") == pages["plain"].count("<script")
    assert "<img src=x" not in pages["hostile"]
    assert "&lt;script&gt;alert(1)" in pages["hostile"]
    assert "{{ 7*7 }}" in pages["hostile"]
    assert re.fullmatch(r"[A-Za-z0-9_-]+\.html", reports.written[0].name)
