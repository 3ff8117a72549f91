"""Where the command takes its scans from, who it labels, and with which status it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import run_adni
from preprocessing.cohort.run import CohortSummary
from preprocessing.intake.labels import LabelRule


@pytest.fixture
def calls(monkeypatch) -> list[dict]:
    """What `preprocess_cohort` was called with; it fails as many scans as the first entry says."""
    made: list[dict] = [{"failed": 0}]

    def pretend(raw: Path, prepared: Path, tables: Path | None, jobs: int, **options: object) -> CohortSummary:
        made.append({"raw": raw, "tables": tables} | options)
        return CohortSummary(prepared, 3, 0, 3, 0, made[0]["failed"], {"stable": 3}, ledger="mri kept 3")

    monkeypatch.setattr(run_adni, "preprocess_cohort", pretend)
    monkeypatch.setattr(run_adni, "write_cohort", lambda *_: None)
    return made


def run(tmp_path: Path, *more: str) -> int:
    (tmp_path / "in").mkdir(exist_ok=True)
    return run_adni.main(["--stage", "preprocess", "--features", "regions", "--out", str(tmp_path / "out"), *more])


@pytest.mark.parametrize(("flag", "layout"), [("--data", "adni"), ("--bids", "bids"), ("--list", "list")])
def test_each_source_is_handed_on_with_its_layout(calls, tmp_path, flag, layout):
    assert run(tmp_path, flag, str(tmp_path / "in")) == 0
    assert (calls[1]["raw"], calls[1]["layout"]) == (tmp_path / "in", layout)


def test_a_list_or_a_bids_data_set_given_as_a_download_is_refused_with_the_right_option(calls, tmp_path, capsys):
    (tmp_path / "in" / "sub-01").mkdir(parents=True)
    (tmp_path / "list.csv").touch()
    for name, flag in (("list.csv", "--list"), ("in", "--bids")):
        with pytest.raises(SystemExit):
            run(tmp_path, "--data", str(tmp_path / name))
        assert f"is given as {flag} {tmp_path / name}" in capsys.readouterr().err


def test_which_affine_of_a_header_counts_is_handed_on(calls, tmp_path):
    run(tmp_path, "--header", "qform")
    run(tmp_path)
    assert [call["recipe"].header for call in calls[1:]] == ["qform", ""]


def test_two_sources_at_once_are_refused(calls, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, "--data", "a", "--bids", "b")
    assert "--data and --bids; one source of scans at a time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--data", "in", "--raw", "3"], "--raw shapes the simulated cohort; it does not go with --data"),
        (["--bids", "in", "--anatomies", "in"], "--anatomies shapes the simulated cohort; it does not go with --bids"),
        (["--tables", "in"], "--tables belongs to an ADNI download; --data names it"),
        (["--list", "in", "--dates", "dmy"], "--dates belongs to an ADNI download; it does not go with --list"),
    ],
)
def test_options_that_nothing_would_read_are_refused(calls, tmp_path, capsys, flags, sentence):
    with pytest.raises(SystemExit):
        run(tmp_path, *flags)
    assert sentence in capsys.readouterr().err and len(calls) == 1


def test_label_options_become_the_rule(calls, tmp_path):
    options = ("--horizon", "24", "--minimum-follow-up", "12", "--reversion", "ignore_single", "--pair-days", "180")
    run(tmp_path, "--data", str(tmp_path / "in"), *options, "--classes", "cn,stable,converter")
    classes = ("cn", "stable", "converter")
    assert calls[1]["rule"] == LabelRule(24, 6, 12, "ignore_single", classes)
    assert calls[1]["pair_days"] == 180


def test_a_class_that_is_not_known_is_one_sentence_before_any_work(calls, tmp_path, capsys):
    assert run(tmp_path, "--data", str(tmp_path / "in"), "--classes", "stable,converter,hc") == 2
    assert "'hc' is unknown; known: stable, converter, cn, ad" in capsys.readouterr().err
    assert len(calls) == 1


def test_failed_scans_end_with_status_one_unless_they_are_allowed(calls, tmp_path, capsys):
    calls[0]["failed"] = 1
    assert run(tmp_path, "--data", str(tmp_path / "in")) == 1
    captured = capsys.readouterr()
    assert "1 scans failed, see" in captured.err and "mri kept 3" in captured.out
    assert run(tmp_path, "--data", str(tmp_path / "in"), "--allow-failures") == 0


def test_the_broken_file_that_the_simulation_plants_is_no_failure_but_a_second_one_is(calls, tmp_path):
    calls[0]["failed"] = 1
    assert run(tmp_path) == 0
    calls[0]["failed"] = 2
    assert run(tmp_path) == 1


def test_the_verdicts_of_people_are_handed_on(calls, tmp_path):
    run(tmp_path, "--data", str(tmp_path / "in"), "--qc-overrides", str(tmp_path / "mine.tsv"))
    run(tmp_path, "--data", str(tmp_path / "in"))
    assert [call["overrides"] for call in calls[1:]] == [tmp_path / "mine.tsv", None]
