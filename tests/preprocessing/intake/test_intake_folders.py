"""Folders as people have them: links, loops, annexes, files of the system, endings in capitals."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from preprocessing.intake.adni import read_download
from preprocessing.intake.formats import locate_image
from preprocessing.intake.walk import files_under
from preprocessing.steps.orient import ScanError

SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"


@pytest.fixture
def raw(download) -> Path:
    download.add_image("001_S_0001", SCALED)
    download.add_diagnoses("001_S_0001", bl=2, m12=2, m36=3)
    return download.write()


def in_(raw: Path, **options: Path) -> list[tuple[str, str, str]]:
    intake = read_download(raw, **options)
    return [(person.participant_id, person.label.label, person.t1.path.name) for person in intake.people]


@pytest.mark.parametrize(
    "inner", ["", "ADNI", "ADNI/001_S_0001", "ADNI/001_S_0001/MPR__GradWarp__B1_Correction__N3__Scaled"]
)
def test_a_download_is_the_same_where_a_part_of_it_is_linked_from_another_disk(raw, tmp_path, inner):
    expected = in_(raw)
    assert len(expected) == 1
    mine = tmp_path / "mine"
    if inner:
        shutil.copytree(raw, mine)
        shutil.rmtree(mine / inner)
        (mine / inner).symlink_to(raw / inner)
    else:
        mine.symlink_to(raw)
    assert in_(mine) == expected


def test_tables_may_be_linked_and_a_link_back_up_ends_nowhere(raw, tmp_path):
    expected, tables = in_(raw), tmp_path / "tables"
    tables.mkdir()
    for table in raw.glob("*.csv"):
        shutil.move(table, tables / table.name)
    (raw / "tables").symlink_to(tables)
    (tables / "up").symlink_to(raw)
    assert in_(raw) == expected
    names = [path.name for path in files_under(raw)]
    assert len(names) == len(set(names)) == 3


def test_a_folder_that_is_reached_twice_counts_once_by_its_own_name(tmp_path):
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "scan.nii").touch()
    (tmp_path / "a").symlink_to(tmp_path / "z")
    assert files_under(tmp_path) == [tmp_path / "z" / "scan.nii"]


def test_an_annexed_scan_is_read_under_its_own_name_and_one_without_content_says_how_to_get_it(raw):
    expected = in_(raw)
    scan = next(raw.rglob("*.nii"))
    content = raw / ".git" / "annex" / "objects" / "x" / "MD5E-s352--0123"
    content.parent.mkdir(parents=True)
    shutil.move(scan, content)
    scan.symlink_to(os.path.relpath(content, scan.parent))
    assert in_(raw) == expected
    content.unlink()
    intake = read_download(raw)
    assert intake.people == []
    row = next(row for row in intake.ledger if row.modality == "mri")
    assert (row.status, row.reason_code) == ("excluded", "missing_content")
    assert "I100000.nii" in row.reason and "git annex get" in row.reason


def test_a_link_that_leads_nowhere_is_no_missing_file(tmp_path):
    (tmp_path / "t1.nii").symlink_to(tmp_path / "gone.nii")
    with pytest.raises(ScanError, match="t1.nii: the link leads nowhere") as caught:
        locate_image(tmp_path / "t1.nii")
    assert caught.value.reason_code == "missing_content"


def test_files_that_a_system_keeps_beside_the_data_are_none(raw):
    expected = in_(raw)
    scan = next(raw.rglob("*.nii"))
    for hidden in (
        scan.with_name(f"._{scan.name}"),
        raw / "__MACOSX" / "ADNI" / scan.name,
        raw / ".DS_Store" / "x.csv",
    ):
        hidden.parent.mkdir(parents=True, exist_ok=True)
        hidden.write_bytes(b"Mac OS X")
    assert in_(raw) == expected


def test_an_ending_in_capitals_is_the_same_ending(raw):
    scan = next(raw.rglob("*.nii"))
    scan.rename(scan.with_suffix(".NII"))
    assert [name for *_, name in in_(raw)] == [scan.with_suffix(".NII").name]
