"""A look at a download before any work: who is in, from which scans, with which label, and what was not understood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.command_line import main
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.intake.overview import PEOPLE_COLUMNS, look_at, write_overview
from preprocessing.ledger import LEDGER_COLUMNS
from preprocessing.steps import orient

SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
FDG = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"


@pytest.fixture
def raw(download) -> Path:
    """0001 converts and has a PET, 0002 is stable and has none."""
    for number, last in ((1, 3), (2, 2)):
        ptid = f"001_S_000{number}"
        download.add_image(ptid, SCALED)
        download.add_diagnoses(ptid, bl=2, m12=2, m36=last)
    download.add_image("001_S_0001", FDG, date="2006-03-11", modality="PET")
    return download.write()


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def test_everybody_stands_with_scans_label_and_history_and_no_voxel_is_read(raw, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a scan was opened")

    monkeypatch.setattr(orient, "read_scan", refuse)
    for scan in raw.rglob("*.nii"):
        scan.write_bytes(b"")
    found = look_at("adni", raw, tmp_path / "prepared")
    write_overview(found, tmp_path / "prepared")
    people = read(tmp_path / "prepared" / "people.tsv")
    assert tuple(people.columns) == PEOPLE_COLUMNS
    assert people.label.tolist() == ["converter", "stable"] and people.months.tolist() == ["0", "0"]
    assert people.history.tolist() == ["0:MCI 12:MCI 36:AD", "0:MCI 12:MCI 36:MCI"]
    assert people.days_between.tolist() == ["10.0", ""] and people.age.tolist() == ["74.0", "74.0"]
    assert people.t1[0].endswith("_I100000.nii") and "2006-03" not in people.t1[0] and people.pet[1] == ""
    assert found.lost == []
    ledger = read(tmp_path / "prepared" / "ledger.tsv")
    assert tuple(ledger.columns) == LEDGER_COLUMNS
    assert ledger.status.tolist() == ["kept", "kept", "kept", "excluded"]
    assert "sub-ADNI001S0001 ses-M000: converter from 0:MCI 12:MCI 36:AD; mri 100000 (" in str(found)


@pytest.mark.parametrize("command", [["adni", "--stage", "intake"], ["intake"]], ids=str)
def test_the_command_ends_with_1_only_where_somebody_was_lost_for_want_of_understanding(
    command, download, raw, tmp_path, capsys
):
    (raw / "notes.csv").write_text("shopping,list\n1,2\n")
    arguments = [*command, "--data", str(raw), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "1 converter, 1 stable" in printed and "notes.csv" in printed.partition("costs nobody")[2]
    download.add_image("001_S_0003", SCALED, visit="a word", date="")
    download.write()
    assert main(arguments) == 1
    assert "sub-ADNI001S0003 mri:" in capsys.readouterr().out.partition("was not understood")[2]


def test_the_ledger_of_scans_that_are_prepared_stays_as_it_is(raw, tmp_path):
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    (prepared / "ledger.tsv").write_text("of the steps")
    (prepared / "manifest.tsv").write_text("of the steps")
    write_overview(look_at("adni", raw, prepared), prepared)
    assert (prepared / "ledger.tsv").read_text() == "of the steps" and (prepared / "people.tsv").is_file()


def test_preparing_writes_the_same_people(raw, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    import stub_workers

    prepared = tmp_path / "prepared"
    write_overview(look_at("adni", raw, prepared), prepared)
    looked = (prepared / "people.tsv").read_bytes()
    preprocess_cohort(raw, prepared, jobs=0, progress=False, worker=stub_workers.pretend)
    assert (prepared / "people.tsv").read_bytes() == looked
    assert np.isin(read(prepared / "manifest.tsv").participant_id, read(prepared / "people.tsv").participant_id).all()
