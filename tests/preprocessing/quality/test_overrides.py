"""Verdicts of people: what a file of them may say, what is wrong with it, and what becomes of the ledger."""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from preprocessing.ledger import LedgerRow
from preprocessing.quality import overrides, rating
from preprocessing.quality.overrides import COLUMNS, Overrides, obey, read_overrides

A, B = ("sub-A", "ses-M000"), ("sub-B", "ses-M012")
VISITS = {A, B}
GOOD = "sub-A\tses-M000\tmri\tfail\tmotion\tAB"


def read(tmp_path: Path, *lines: str, header: str = "\t".join(COLUMNS)) -> tuple[Overrides, list[str]]:
    """What a file of these lines says, and the warnings about it."""
    path = tmp_path / overrides.FILE
    path.write_bytes("\n".join([header, *lines]).encode())
    return read_file(path)


def read_file(path: Path) -> tuple[Overrides, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = read_overrides(path, VISITS)
    return found, [str(warning.message) for warning in caught]


def verdicts(found: Overrides) -> dict[tuple[str, str], str]:
    return {(scan[0][-1], scan[2]): override.verdict for scan, override in found.by_scan.items()}


def test_a_line_without_a_modality_speaks_of_both_scans(tmp_path):
    found, said = read(tmp_path, GOOD, "sub-B\tses-M012\t\tpass\tlooked at it\tCD")
    assert verdicts(found) == {("A", "mri"): "fail", ("B", "mri"): "pass", ("B", "pet"): "pass"}
    assert said == []
    assert str(found) == "overrides 1 pass, 1 fail (by AB, CD)"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("sub-X\tses-M000\t\tfail\tmotion\tAB", "participant_id 'sub-X' is nobody of this cohort"),
        ("sub-A\tses-M006\t\tfail\tmotion\tAB", "session_id 'ses-M006' is no visit of sub-A; known: ses-M000"),
        ("sub-A\tses-M000\t\tbad\tmotion\tAB", "verdict 'bad'; known: pass, warn, fail"),
        ("sub-A\tses-M000\tct\tfail\tmotion\tAB", "modality 'ct'; known: mri, pet, or empty for both"),
        ("sub-A\tses-M000\t\tfail\tmotion\t", "no rater"),
        ("sub-A\tses-M000\t\tfail\tmotion", "no rater"),
        ("sub-A\tses-M000\t\tfail\t \tAB", "no reason"),
        ("sub-A\t\t\tfail\tmotion\tAB", "no session_id"),
        ("sub-A\tses-M000\t\tfail\tn/a\tAB", "no reason"),
        ("sub-A\tses-M000\t\tfail\tmotion\tAB\tmore", "7 cells where the header has 6"),
    ],
)
def test_a_line_that_breaks_a_rule_is_named_and_costs_no_other(tmp_path, line, sentence):
    found, said = read(tmp_path, line, "sub-B\tses-M012\tpet\twarn\tnoisy\tCD")
    assert verdicts(found) == {("B", "pet"): "warn"}
    (warning,) = said
    assert f"{overrides.FILE}: line 2: {sentence}" in warning
    assert [(problem.line, problem.text) for problem in found.problems] == [(2, line)]


def test_of_lines_that_contradict_each_other_none_is_obeyed(tmp_path):
    found, said = read(tmp_path, GOOD, "sub-A\tses-M000\t\tpass\tfine\tCD", "sub-B\tses-M012\tmri\tfail\tcut\tCD")
    assert verdicts(found) == {("A", "pet"): "pass", ("B", "mri"): "fail"}
    assert len(said) == 2 and all("lines 2 and 3 say fail and pass of the mri scan of sub-A" in text for text in said)


def test_a_line_that_says_the_same_again_changes_nothing(tmp_path):
    found, said = read(tmp_path, GOOD, "sub-A\tses-M000\tmri\tfail\tagain\tCD")
    assert found.by_scan[(*A, "mri")].rater == "AB"
    (warning,) = said
    assert "line 3: said before in line 2" in warning


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\t", ";").encode(),
        lambda text: text.replace("\t", ",").replace("motion é", '"motion é"').encode(),
        lambda text: f"\n{text}\n\t\t\t\t\t\n".encode(),
    ],
    ids=["bom", "windows", "mac", "utf16", "semicolons", "commas", "blank_lines"],
)
def test_a_file_is_read_as_any_program_saves_it(tmp_path, encode):
    path = tmp_path / overrides.FILE
    path.write_bytes(encode("\t".join(COLUMNS) + "\n" + GOOD.replace("motion", "motion é") + "\n"))
    found, said = read_file(path)
    assert found.by_scan[(*A, "mri")].reason == "motion é"
    assert said == []


def test_latin_1_is_read_with_a_warning(tmp_path):
    path = tmp_path / overrides.FILE
    path.write_bytes(("\t".join(COLUMNS) + "\n" + GOOD.replace("motion", "é")).encode("latin-1"))
    found, said = read_file(path)
    assert found.by_scan[(*A, "mri")].reason == "é"
    assert "not UTF-8" in said[0]


def test_a_quote_that_is_not_closed_swallows_no_other_line(tmp_path):
    found, _ = read(tmp_path, 'sub-A\tses-M000\tmri\tfail\t"ghost\tAB', "sub-B\tses-M012\tmri\tfail\tcut\tCD")
    assert found.by_scan[(*A, "mri")].reason == '"ghost'
    assert verdicts(found)["B", "mri"] == "fail"


def test_columns_may_be_in_any_order_and_others_are_named(tmp_path):
    found, said = read(
        tmp_path,
        "AB\tmotion\tFAIL\tses-M000\tsub-A\tmonday",
        header="Rater\treason\tverdict\tsession_id\tparticipant_id\tday",
    )
    assert verdicts(found) == {("A", "mri"): "fail", ("A", "pet"): "fail"}
    assert len(said) == 1 and "columns that are not read: day" in said[0]


def test_prefixes_may_be_left_out(tmp_path):
    assert verdicts(read(tmp_path, "A\tM000\tmri\tfail\tmotion\tAB")[0]) == {("A", "mri"): "fail"}


@pytest.mark.parametrize("column", overrides.NEEDED)
def test_a_header_without_a_needed_column_is_refused(tmp_path, column):
    header = "\t".join(name for name in COLUMNS if name != column)
    with pytest.raises(ValueError, match=f"{overrides.FILE}: no column '{column}' in line 1"):
        read(tmp_path, GOOD, header=header)


def test_an_empty_file_says_nothing(tmp_path):
    (tmp_path / overrides.FILE).write_text("")
    assert read_file(tmp_path / overrides.FILE) == (Overrides({}), [])


def test_the_template_is_an_empty_table_and_never_replaces_a_file(tmp_path):
    overrides.write_template(tmp_path)
    assert read_file(tmp_path / overrides.FILE) == (Overrides({}), [])
    (tmp_path / overrides.FILE).write_text("mine")
    overrides.write_template(tmp_path)
    assert (tmp_path / overrides.FILE).read_text() == "mine"


LEDGER = [
    LedgerRow(*A, "mri", "excluded", "register", "qc_fail", "the deformation folds", "a.nii"),
    LedgerRow(*A, "pet", "kept", "recipe", "", "", "p.nii"),
    LedgerRow(*B, "mri", "failed", "orient", "truncated", "the file ends early", "b.nii"),
    LedgerRow(*B, "pet", "excluded", "recipe", "no_t1", "no T1", "q.nii"),
]


def test_a_scan_that_the_checks_failed_is_kept_by_a_person_beside_their_verdict(tmp_path):
    found, _ = read(tmp_path, "sub-A\tses-M000\tmri\tpass\tseen: no fold in the brain\tAB")
    rows, obeyed = obey(found, LEDGER)
    assert rows[0] == LedgerRow(
        *(*A, "mri", "kept", "override", "override_pass"),
        "seen: no fold in the brain (by AB; the automatic checks said fail: the deformation folds)",
        *("a.nii", "fail", "AB"),
    )
    assert (rows[1].status, rows[1].automatic, rows[1].rater) == ("kept", "pass", "")
    assert obeyed.problems == ()


def test_a_scan_that_passed_is_excluded_by_a_person(tmp_path):
    found, _ = read(tmp_path, "sub-A\tses-M000\tpet\tfail\tanother tracer\tAB")
    row = obey(found, LEDGER)[0][1]
    assert (row.status, row.reason_code, row.automatic, row.rater) == ("excluded", "override_fail", "pass", "AB")
    assert row.reason == "another tracer (by AB; the automatic checks said pass)"


def test_without_the_line_the_ledger_is_what_the_checks_said():
    rows, _ = obey(Overrides({}), LEDGER)
    names = ("status", "step", "reason_code", "reason")
    assert [[getattr(row, n) for n in names] for row in rows] == [[getattr(row, n) for n in names] for row in LEDGER]
    assert [row.automatic for row in rows] == ["fail", "pass", "", ""]


def test_a_pass_for_a_scan_without_maps_keeps_nothing_and_is_said(tmp_path):
    found, _ = read(tmp_path, "sub-B\tses-M012\t\tpass\tlooks fine\tAB")
    rows, obeyed = obey(found, LEDGER)
    assert [row.status for row in rows] == [row.status for row in LEDGER]
    (problem,) = obeyed.problems
    assert "sub-B ses-M012: the mri scan is failed (truncated)" in str(problem)


def test_a_fail_for_a_scan_that_is_out_anyway_is_no_problem(tmp_path):
    found, _ = read(tmp_path, "sub-B\tses-M012\t\tfail\tcut\tAB")
    assert obey(found, LEDGER)[1].problems == ()


def saved_by_the_page(found: Overrides, marks: list[dict[str, str]], rater: str) -> str:
    """What the page's script makes of the file's verdicts and of those that were set on the page."""
    start, end = '<script type="application/json" id="said">', "</script>"
    data = json.loads(rating.script(found).removeprefix(start).split(end)[0])
    call = f"overridesText({json.dumps(data['columns'])}, {json.dumps(data['said'])}, {json.dumps(marks)}, "
    call += f"{json.dumps(rater)}, {json.dumps(data['unread'])})"
    run = ["node", "-e", f"{rating.SCRIPT}; process.stdout.write({call})"]
    return subprocess.run(run, check=True, capture_output=True, text=True, encoding="utf-8").stdout


def mark(visit: tuple[str, str], modality: str, verdict: str, reason: str) -> dict[str, str]:
    return {
        "participant_id": visit[0],
        "session_id": visit[1],
        "modality": modality,
        "verdict": verdict,
        "reason": reason,
    }


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript here")


@needs_node
def test_what_the_page_saves_is_what_the_next_run_reads(tmp_path):
    lost = "sub-X\tses-M000\t\tfail\tmotion\tAB"
    found, _ = read(tmp_path, GOOD, "sub-B\tses-M012\t\tfail\t</script> cut\tAB", lost)
    marks = [
        mark(A, "mri", "", "motion"),  # taken back
        mark(A, "pet", "pass", " a\ttab and\na new line "),
        mark(B, "mri", "fail", "</script> cut"),  # as it was
        mark(B, "pet", "warn", "</script> cut"),  # changed
    ]
    path = tmp_path / "saved.tsv"
    path.write_text(saved_by_the_page(found, marks, " CD "), encoding="utf-8")
    again, said = read_file(path)
    assert {(s[0], s[2]): (o.verdict, o.reason, o.rater) for s, o in again.by_scan.items()} == {
        ("sub-A", "pet"): ("pass", "a tab and a new line", "CD"),
        ("sub-B", "mri"): ("fail", "</script> cut", "AB"),
        ("sub-B", "pet"): ("warn", "</script> cut", "CD"),
    }
    assert path.read_text(encoding="utf-8").endswith(f"\n{lost}\n") and "sub-X" in said[0]


@needs_node
@pytest.mark.parametrize(("reason", "rater"), [("", "AB"), ("motion", " ")])
def test_the_page_saves_no_verdict_without_a_reason_and_a_rater(reason, rater):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        saved_by_the_page(Overrides({}), [mark(A, "mri", "fail", reason)], rater)
    assert "a verdict needs a r" in caught.value.stderr
