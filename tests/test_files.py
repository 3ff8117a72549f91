"""Whole files or none, one writer a folder, names that stay inside, sums that prove a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adni_tcgm.files import (
    DamagedFile,
    FolderInUse,
    check_apart,
    inside,
    lock_folder,
    remove_leftovers,
    verify_checksums,
    whole_file,
    write_bytes,
    write_checksums,
)

HOLD = "import sys, time; from pathlib import Path; from adni_tcgm.files import lock_folder\n"
HOLD += "with lock_folder(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(tmp_path: Path, small_disk) -> None:
    file = tmp_path / "table.tsv"
    write_bytes(file, b"old")
    with small_disk(1000), pytest.raises(OSError):
        write_bytes(file, b"x" * 5000)
    assert file.read_bytes() == b"old" and names(tmp_path) == ["table.tsv"]


def test_what_fails_while_a_file_is_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole_file(tmp_path / "deep" / "a.npz") as partial:
        np.savez(partial, x=np.arange(3))
        raise RuntimeError
    assert names(tmp_path) == ["deep"]


def test_a_link_in_the_place_of_a_file_is_replaced_and_its_target_untouched(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "table.tsv").symlink_to(tmp_path / "precious")
    write_bytes(tmp_path / "out" / "table.tsv", b"new")
    assert (tmp_path / "precious").read_text() == "kept" and (tmp_path / "out" / "table.tsv").read_bytes() == b"new"


def test_leftovers_of_a_killed_run_are_taken_away_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".scratch-1" / "deep").mkdir(parents=True)
    with whole_file(tmp_path / "a.nii.gz") as partial:
        (tmp_path / partial.name.replace(str(os.getpid()), "77")).write_bytes(b"half")
        partial.write_bytes(b"whole")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["a.nii.gz"]


def test_two_writers_of_one_number_do_not_share_a_partial_file(tmp_path: Path) -> None:
    """As in two containers, where both may be process 1."""
    with whole_file(tmp_path / "a.json") as one, whole_file(tmp_path / "a.json") as other:
        assert one != other
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert names(tmp_path) == ["a.json"]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock of tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_writer_is_refused_and_told_who_the_first_one_is(tmp_path: Path, holder: subprocess.Popen) -> None:
    with pytest.raises(FolderInUse, match=f"process {holder.pid};"), lock_folder(tmp_path):
        pass
    assert holder.poll() is None


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path: Path, holder: subprocess.Popen) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".lock").is_file()
    with lock_folder(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_lock_that_was_given_back_leaves_no_file_and_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with lock_folder(tmp_path / "new"):
            pass
    assert names(tmp_path) == ["new"]


def test_a_command_that_fails_gives_its_lock_back(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), lock_folder(tmp_path):
        raise KeyboardInterrupt
    with lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "link/x"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads out of"):
        inside(tmp_path / "out", name)


def test_a_name_within_the_folder_is_taken_even_where_the_folder_itself_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert inside(tmp_path / "out", "sub-1/ses-2") == tmp_path / "out" / "sub-1" / "ses-2"


def test_results_in_the_folder_of_the_input_are_refused(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "out"):
        with pytest.raises(ValueError, match="must not lie in the folder of the input"):
            check_apart(out, tmp_path)
    check_apart(tmp_path / "derivatives" / "tcgm", tmp_path)
    check_apart(tmp_path, tmp_path / "raw")


@pytest.fixture
def summed(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.tsv").write_text("a")
    (tmp_path / "deep" / "b.json").write_text("{}")
    write_checksums(tmp_path)
    return tmp_path


def test_checksums_are_those_of_sha256sum(summed: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "checksums.txt"], cwd=summed, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "a.tsv: OK\ndeep/b.json: OK\n"


def test_an_untouched_folder_and_files_added_later_are_fine(summed: Path) -> None:
    (summed / "later.nii.gz").write_text("saliency")
    verify_checksums(summed)


def test_a_changed_file_is_named(summed: Path) -> None:
    (summed / "deep" / "b.json").write_text("{ }")
    with pytest.raises(DamagedFile, match="b.json has changed"):
        verify_checksums(summed)


def test_a_file_that_is_gone_is_named(summed: Path) -> None:
    (summed / "a.tsv").unlink()
    with pytest.raises(DamagedFile, match="a.tsv is gone"):
        verify_checksums(summed)


def test_checksums_that_point_elsewhere_are_refused(summed: Path) -> None:
    (summed / "checksums.txt").write_text(f"{'0' * 64}  ../../etc/passwd\n")
    with pytest.raises(ValueError, match="leads out of"):
        verify_checksums(summed)
