"""What a run folder withstands: another run, a full disk, a changed file, a hostile name; and what it never touches."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from adni_tcgm.datasets import multiview
from adni_tcgm.datasets.newsgroup_text import _scan
from adni_tcgm.datasets.splitting import draw_splits
from adni_tcgm.files import lock
from adni_tcgm.storage import load_run
from adni_tcgm.tcgm.trainer import fit
from benchmarks import kill
from benchmarks.kill import pretend, write_download
from pipelines import fitting
from pipelines.run import main
from pipelines.run_adni import main as run_adni
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.subject.plan import SubjectTask
from reports.generic import load_generic

# The one holds seconds, the other the first one's hash.
TIMED = ("history.tsv", "checksums.txt")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration, its data, and one finished run below `out`."""
    folder = tmp_path_factory.mktemp("arrays")
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    np.savez(
        folder / "data.npz", y=labels, one=np.eye(2)[labels] + rng.standard_normal((60, 2)), two=rng.random((60, 2))
    )
    data = {"path": str(folder / "data.npz"), "views": {"one": "one", "two": "two"}, "labels": "y", "label_rate": 0.3}
    train = {"steps": 4, "supervised_steps": 2, "validate_every": 2}
    (folder / "mine.yaml").write_text(
        yaml.safe_dump({"dataset": "arrays", "data": data, "net": "linear", "train": train})
    )
    assert call(folder) == 0
    return folder


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "mine")
    return tmp_path / "mine"


def call(folder: Path, *more: str) -> int:
    return main([str(folder / "mine.yaml"), "--method", "ce", "--out", str(folder / "out"), "--device", "cpu", *more])


def run_dir(folder: Path) -> Path:
    return folder / "out" / "runs" / "mine-ce-r0.3-s0"


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Bytes and time of change of every file."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_two_runs_in_one_folder_are_refused_with_the_process_that_was_first(mine: Path, capsys) -> None:
    before = contents(run_dir(mine))
    with lock(run_dir(mine).with_name(f".{run_dir(mine).name}.lock"), "test"):
        assert call(mine, "--set", "train.steps=6", "--overwrite") == 2
    assert "is being written by process" in capsys.readouterr().err
    assert contents(run_dir(mine)) == before


def test_a_full_disk_is_one_sentence_and_leaves_the_finished_run_as_it_was(mine: Path, small_disk, capsys) -> None:
    before = contents(mine / "out")
    with small_disk(300):
        assert call(mine, "--set", "train.steps=6", "--overwrite") == 2
    assert "File too large" in capsys.readouterr().err
    left = {name: found for name, found in contents(mine / "out").items() if ".unfinished" not in name}
    assert left == before  # beside it, what the same command goes on from
    assert not list((mine / "out").rglob("*.partial*"))


def test_a_run_with_a_damaged_file_is_trained_again_and_readers_refuse_it(mine: Path) -> None:
    file = run_dir(mine) / "predictions.tsv"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"0.4", b"0.9"))
    for read in (load_run, load_generic):
        with pytest.raises(ValueError, match="predictions.tsv has changed since the run was finished"):
            read(run_dir(mine))
    assert call(mine) == 0
    assert file.read_bytes() == whole


def test_what_a_killed_save_left_behind_is_taken_away(mine: Path) -> None:
    shutil.copytree(run_dir(mine), run_dir(mine).with_name(f".{run_dir(mine).name}.partial"))
    assert call(mine, "--set", "train.steps=6", "--overwrite") == 0
    assert [path.name for path in run_dir(mine).parent.iterdir()] == [run_dir(mine).name]


@pytest.mark.parametrize("gone", ["config.yaml", "weights.safetensors", "metrics.json"])
def test_a_run_that_was_half_deleted_is_trained_again(mine: Path, gone: str) -> None:
    before = {name: digest for name, (digest, _) in contents(run_dir(mine)).items() if name not in TIMED}
    (run_dir(mine) / gone).unlink()
    assert call(mine) == 0
    after = {name: digest for name, (digest, _) in contents(run_dir(mine)).items() if name not in TIMED}
    assert after == before


def test_a_run_keeps_the_record_of_its_audit_and_the_hash_of_its_split(mine: Path) -> None:
    audit = json.loads((run_dir(mine) / "audit.json").read_text())
    assert audit["n"] == {"train": 36, "validation": 12, "test": 12}
    splits = {step: found["split"] for step, found in audit["fitted_on"].items()}
    assert splits == {"transform": "train", "weights": "train", "cross_fitted_calibration": "train"}
    manifest = json.loads((run_dir(mine) / "split.json").read_text())
    assert manifest["n"] == audit["n"] and len(manifest["sha256"]) == 64 and manifest["of"]["seed"] == 0


@pytest.mark.parametrize("method", ["ce", "tcgm"])
def test_a_run_that_would_draw_another_split_of_the_same_data_is_refused(mine: Path, method: str, monkeypatch, capsys):
    def draw_otherwise(*arguments, **options) -> np.ndarray:
        return draw_splits(*arguments, **options)[::-1].copy()

    before = contents(run_dir(mine))
    monkeypatch.setattr(multiview, "draw_splits", draw_otherwise)
    assert call(mine, "--method", method, "--set", "train.steps=6", "--overwrite") == 2
    assert "mine-ce-r0.3-s0 has another split of the same data, seed and label rate" in capsys.readouterr().err
    assert contents(run_dir(mine)) == before


def test_a_method_that_reads_the_test_split_is_refused(mine: Path, monkeypatch, capsys) -> None:
    def fit_on_test(method, splits, *more):
        return fit(method, replace(splits, train=splits.test.select(splits.test.labels >= 0)), *more)

    monkeypatch.setattr(fitting, "fit", fit_on_test)
    assert call(mine, "--set", "train.steps=6", "--overwrite") == 2
    assert "training asked the test split for 'select'; it is read once, by evaluation" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../away", "/tmp/away", "..", "a/b"])
def test_a_name_in_a_configuration_cannot_lead_elsewhere(mine: Path, name: str, capsys) -> None:
    assert call(mine, "--set", f"name={name}") == 2
    assert "a name without / that could be a folder is needed" in capsys.readouterr().err
    assert not (mine.parent / "away").exists()


@pytest.mark.parametrize("participant", ["../../sub-1", "/tmp/sub-1", "link/sub-1"])
def test_a_participant_of_a_table_cannot_be_written_elsewhere(tmp_path: Path, participant: str) -> None:
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads out of"):
        SubjectTask(participant, "ses-M000", tmp_path / "t1.nii").folder(tmp_path / "prepared")


def test_a_list_of_scans_with_a_hostile_subject_writes_inside_alone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "list.tsv").write_text("subject\tt1\tpet\n../../../evil\tt1.nii.gz\t/etc/passwd\n")
    (tmp_path / "in" / "t1.nii.gz").write_bytes(b"no image")
    preprocess_cohort(tmp_path / "in" / "list.tsv", tmp_path / "out", jobs=0, layout="list", progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert "sub-evil" in (tmp_path / "out" / "ledger.tsv").read_text()


def test_an_archive_with_names_that_lead_out_is_read_in_memory_and_writes_nothing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "posts.tar", "w") as archive:
        for name in ("../../sci.space/1", "/sci.space/2"):
            about = tarfile.TarInfo(name)
            about.size = 5
            archive.addfile(about, io.BytesIO(b"stars"))
        link = tarfile.TarInfo("sci.space/3")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    found = list(_scan(tmp_path / "posts.tar", {"sci.space"}))
    assert [text for _, _, text in found] == ["stars", "stars"]
    assert [path.name for path in tmp_path.iterdir()] == ["posts.tar"]


def test_the_input_is_never_written_to(tmp_path: Path) -> None:
    download = write_download(tmp_path / "download")
    before = contents(download)
    preprocess_cohort(download, tmp_path / "out" / "prepared", jobs=0, progress=False, worker=pretend)
    assert contents(download) == before
    assert (tmp_path / "out" / "prepared" / "manifest.tsv").is_file()


def test_a_disk_that_is_full_while_people_are_prepared_leaves_nothing_half_and_a_second_call_finishes(
    tmp_path: Path, small_disk
) -> None:
    download = write_download(tmp_path / "download")
    run = partial(preprocess_cohort, download, jobs=0, progress=False, worker=pretend)
    run(tmp_path / "undisturbed")
    with small_disk(20_000):
        assert run(tmp_path / "out").failed == 3
    assert "File too large" in (tmp_path / "out" / "ledger.tsv").read_text()
    assert not [path for path in (tmp_path / "out").rglob("*") if "partial" in path.name or "scratch" in path.name]
    run(tmp_path / "out")
    whole, found = (kill.contents(tmp_path / name) for name in ("undisturbed", "out"))
    assert found == whole


def test_results_below_the_input_are_refused_before_anything_is_written(tmp_path: Path, capsys) -> None:
    download = write_download(tmp_path / "download")
    before = contents(download)
    for out in (download, download / "out"):
        assert run_adni(["--data", str(download), "--out", str(out)]) == 2
        assert "results must not lie in the folder of the input" in capsys.readouterr().err
    assert contents(download) == before
