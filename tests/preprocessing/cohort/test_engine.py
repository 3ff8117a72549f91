"""Who runs the subjects: processes here or a Dask scheduler, and what a SIGKILL leaves."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickletools
import random
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import pandas as pd
import pytest

from benchmarks.kill import contents
from preprocessing.cohort import engine
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.subject.plan import SubjectTask

SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"


@pytest.fixture
def stubs(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    import stub_workers

    return stub_workers


@pytest.fixture
def cohort(download):
    """Three people with a T1; 0002 and 0003 are those that the stand-ins let fail."""
    for number in (1, 2, 3):
        download.add_image(f"001_S_000{number}", SCALED)
        download.add_diagnoses(f"001_S_000{number}", bl=2, m12=2, m36=2)
    return download.write()


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", keep_default_na=False, dtype=str)


def count_files(folder: Path) -> int:
    """Also while others come and go in it."""
    return sum(len(names) for *_, names in os.walk(folder))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_an_undisturbed_one(cohort, tmp_path, stubs):
    run = partial(preprocess_cohort, cohort, jobs=0, progress=False, worker=stubs.write_slowly)
    run(tmp_path / "undisturbed")
    expected = contents(tmp_path / "undisturbed")
    moments, killed = random.Random(0), 0
    for number in range(6):
        prepared = tmp_path / f"killed-{number}"
        process = multiprocessing.get_context("fork").Process(target=run, args=(prepared,))
        process.start()
        # Moments are counted in files and not in seconds: a machine that is busy is slow.
        enough = moments.randrange(1, len(expected) // 2)
        while count_files(prepared) < enough and process.is_alive():
            time.sleep(0.001)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        run(prepared)
        assert contents(prepared) == expected
    assert killed >= 3


def test_the_traceback_of_a_bug_is_in_the_log_of_its_subject_until_that_subject_succeeds(cohort, tmp_path, stubs):
    run = partial(preprocess_cohort, cohort, tmp_path / "out", jobs=0, progress=False)
    run(worker=stubs.pretend)
    (log,) = (tmp_path / "out").rglob("error.log")
    assert (
        "S0003" in str(log) and "RuntimeError: out of luck" in log.read_text() and str(tmp_path) not in log.read_text()
    )
    run(worker=partial(stubs.pretend, bad=False))
    assert not log.exists()


def test_worker_processes_start_with_one_thread_and_the_parent_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with engine._thread_budget():
        assert {os.environ[name] for name in engine.THREAD_VARIABLES} == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("stub", "limits", "code", "part"),
    [
        ("hang", engine.Limits(minutes=0.05), "timeout", "took longer than 0.05 minutes"),
        ("swell", engine.Limits(memory_gib=4), "error", "MemoryError"),
    ],
)
def test_a_subject_beyond_its_limits_is_a_ledger_row_and_stops_nobody(
    cohort, tmp_path, stubs, forked, stub, limits, code, part
):
    prepared = tmp_path / "prepared"
    preprocess_cohort(cohort, prepared, jobs=1, progress=False, worker=getattr(stubs, stub), limits=limits)
    failed = read(prepared / "ledger.tsv").query("status == 'failed'").set_index("participant_id")
    assert failed.reason_code["sub-ADNI001S0002"] == code
    assert part in failed.reason["sub-ADNI001S0002"]
    assert list(read(prepared / "manifest.tsv").participant_id) == ["sub-ADNI001S0001"]


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ValueError, match="minutes of a subject is 0; it must be > 0"):
        engine.Limits(minutes=0)


def test_a_scheduler_that_reads_a_task_need_not_load_the_steps(tmp_path, stubs):
    """What it would import with them takes it seconds in which it answers nobody, and 300 MB."""
    calls, task = [], SubjectTask("sub-ADNI001S0001", "ses-M000", tmp_path / "t1.nii")
    task.t1.touch()

    def submit(*call: object, pure: bool) -> None:
        calls.append(call)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        engine._submit(SimpleNamespace(submit=submit), [task], tmp_path, stubs.pretend, None, engine.Limits())
    words = {word for _, word, _ in pickletools.genops(cloudpickle.dumps(calls[0])) if isinstance(word, str)}
    assert "adni_tcgm.processes" in words and not any("preprocessing" in word for word in words)
    do, *arguments = calls[0]
    assert do(*arguments).qc == "pass"


@pytest.mark.slow
def test_on_a_scheduler_a_worker_that_dies_and_a_bug_are_ledger_rows_of_their_own(cohort, tmp_path, stubs):
    import dask
    from distributed import LocalCluster

    # One worker with a nanny: whoever kills it has others waiting in its queue, who must not share the blame.
    # Dask gives up at once, instead of after four deaths, for the sake of the test's time.
    quick = dask.config.set({"distributed.scheduler.allowed-failures": 0})
    local = partial(LocalCluster, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0)
    with quick, local(n_workers=1, silence_logs=logging.CRITICAL) as cluster:
        address = cluster.scheduler_address
        summary = preprocess_cohort(cohort, tmp_path / "prepared", progress=False, worker=stubs.die, scheduler=address)
    failed = read(tmp_path / "prepared/ledger.tsv").query("status == 'failed'").set_index("participant_id")
    assert list(failed.index) == ["sub-ADNI001S0002", "sub-ADNI001S0003"]
    assert "worker process died" in failed.reason["sub-ADNI001S0002"]
    assert "out of luck" in failed.reason["sub-ADNI001S0003"]
    assert summary.raw == 1


def test_a_scheduler_that_does_not_answer_is_refused_by_name(cohort, tmp_path, stubs):
    with pytest.raises(ValueError, match="tcp://127.0.0.1:9: no Dask scheduler answers"):
        preprocess_cohort(
            cohort, tmp_path / "prepared", progress=False, worker=stubs.pretend, scheduler="tcp://127.0.0.1:9"
        )
