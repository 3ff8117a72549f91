"""What a run needs is said before it starts, and a full disk stops it there."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocessing.cohort import preflight
from preprocessing.cohort.preflight import Preflight


def room(people: int = 10, jobs: int = 2, free_mb: float = 1e6, memory_gb: float | None = 64.0) -> Preflight:
    return Preflight(people, jobs, preflight.DISK_MB, free_mb, memory_gb, cores=4)


def test_a_disk_that_is_too_small_is_refused_with_both_sizes():
    short = room(people=100, free_mb=1000)
    with pytest.raises(ValueError, match=r"out: 100 people need about 2.6 GB of disk, and 1.0 GB are free"):
        short.require(Path("out"))


def test_a_disk_with_room_and_a_run_with_nothing_to_do_pass():
    room(people=100, free_mb=3000).require(Path("out"))
    room(people=0, free_mb=0).require(Path("out"))


def test_short_memory_is_a_warning_that_names_the_jobs_that_fit():
    assert room(jobs=4, memory_gb=4.0).warnings() == ["warning   memory may run out with --jobs 4; --jobs 2 would fit"]
    assert room(jobs=4, memory_gb=None).warnings() == []


def test_more_processes_than_cores_are_told_but_not_lowered():
    crowded = room(jobs=8)
    assert "--jobs 8 on 4 cores" in str(crowded)
    assert crowded.jobs == 8


def test_room_is_looked_up_for_a_folder_that_does_not_exist_yet(tmp_path):
    found = preflight.check_room(tmp_path / "not/yet", people=3, jobs=2)
    assert found.free_mb > 0
    assert "for 3 people" in str(found)


def test_memory_is_read_from_meminfo_and_unknown_without_it(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2000000 kB\n")
    assert preflight.available_memory_gb(tmp_path / "meminfo") == pytest.approx(2.048)
    assert preflight.available_memory_gb(tmp_path / "none") is None
