"""Two thousand people on the workers of a Dask scheduler: throughput, the scheduler's memory, and a killed worker.

`python -m benchmarks.cluster OUT [--people 2000] [--workers 1,4,16] [--seconds 4]`: `preprocess_cohort` from a download
to the tables, on a scheduler and workers started on this machine as docs/guides/cluster.md says; but the workers are
forks of a process that has imported everything, so that Dask is measured and not 16 imports at once on a few cores. A
stand-in sleeps for the steps, and writes a subject's files. Each number of workers has a scheduler of its own; all but
the last take 20 people a worker, the last everybody. There one worker is killed after half of them.

Prints, and writes to OUT/cluster.tsv: `workers people seconds throughput efficiency scheduler_mib again lost_s`.
throughput: subjects that end in a second, from when every worker has begun to when the last subject begins. efficiency:
throughput over that of as many lone workers. scheduler_mib: the most memory that the scheduler holds. again: subjects
that were begun twice. lost_s: work that they had lost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import psutil

from benchmarks.kill import SERIES, pretend
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.subject.outcome import Outcome
from preprocessing.subject.plan import SubjectTask

PEOPLE_PER_WORKER = 20
BEGUN, ENDED = "begun.tsv", "ended.tsv"


def write_download(folder: Path, people: int) -> Path:
    """An ADNI download of people with a T1 each, none of which holds a brain."""
    kind, description = SERIES["MRI"]
    series = description.replace(" ", "_").replace(";", "_")
    scan = nib.Nifti1Image(np.arange(64, dtype=np.float32).reshape(4, 4, 4), np.eye(4)).to_bytes()
    images, visits = [], []
    for number in range(1, people + 1):
        ptid, image_id = f"001_S_{number:04d}", f"I{number}"
        path = folder / "ADNI" / ptid / series / "2006-03-01_10_00_00.0" / image_id
        path.mkdir(parents=True)
        (path / f"ADNI_{ptid}_{kind}_{series}_Br_20070101_S1_{image_id}.nii").write_bytes(scan)
        row = {"Image Data ID": image_id, "Subject": ptid, "Group": "MCI", "Sex": "F", "Age": "74", "Visit": "bl"}
        row |= {"Modality": "MRI", "Description": description, "Type": "Processed", "Acq Date": "2006-03-01"}
        images.append(row | {"Format": "NiFTI", "Downloaded": "1/01/2020"})
        visits += [{"PTID": ptid, "RID": number, "VISCODE2": code, "DIAGNOSIS": 2} for code in ("bl", "m12", "m36")]
    pd.DataFrame(images).to_csv(folder / "MCI_collection_1_01_2020.csv", index=False)
    pd.DataFrame(visits).to_csv(folder / "DXSUM_01Jan2020.csv", index=False)
    return folder


def sleep_and_write(task: SubjectTask, prepared: Path, seconds: float) -> Outcome:
    """A subject whose steps take `seconds`, and no processor; notes when it begins and ends."""
    _note(prepared / BEGUN, task.name)
    time.sleep(seconds)
    outcome = pretend(task, prepared, size=4, pause=0)
    _note(prepared / ENDED, task.name)
    return outcome


def _note(file: Path, name: str) -> None:
    with file.open("a") as notes:  # one short write to the end of a file, which processes may share
        notes.write(f"{name}\t{time.time():.3f}\t{os.getpid()}\n")


def read_notes(file: Path) -> pd.DataFrame:
    if not file.is_file():
        return pd.DataFrame({"name": [], "time": [], "worker": []})
    return pd.read_csv(file, sep="\t", names=["name", "time", "worker"])


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[str, psutil.Process, psutil.Process]]:
    """A scheduler's address, its process, and the process whose children are the workers."""
    file, log = folder / "scheduler.json", (folder / "dask.log").open("a")
    # In sessions of their own: Ctrl-C reaches this process alone, which ends them in order.
    start = partial(subprocess.Popen, stdout=log, stderr=log, start_new_session=True)
    dask = [sys.executable, "-m", "dask"]
    scheduler = start([*dask, "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)])
    started = [scheduler]
    try:
        while not file.is_file():
            if scheduler.poll() is not None:
                raise RuntimeError(f"the scheduler ended with status {scheduler.returncode}; see {log.name}")
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        options = ["--nworkers", str(workers), "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]
        options += ["--preload-nanny", "benchmarks.cluster"]
        forked = os.environ | {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "fork"}
        started.append(start([*dask, "worker", address, *options], env=forked))
        _wait_for(address, workers)
        yield address, *(psutil.Process(process.pid) for process in started)
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGINT)
            process.wait()
        log.close()


def _wait_for(address: str, workers: int) -> None:
    from distributed import Client

    with Client(address) as client:
        client.wait_for_workers(workers, timeout=600)


def kill_after(prepared: Path, done: int, workers: psutil.Process, killed: list[float]) -> None:
    """Kill one worker once `done` subjects have ended, and note when."""
    while len(read_notes(prepared / ENDED)) < done:
        time.sleep(0.2)
    worker = next(child for child in workers.children() if "tracker" not in " ".join(child.cmdline()))
    killed.append(time.time())
    worker.kill()


def watch(process: psutil.Process, most: list[int], end: threading.Event) -> None:
    """The most memory (bytes) that the process has held so far."""
    while not end.wait(0.2):
        most[0] = max(most[0], process.memory_info().rss)


def measure(raw: Path, out: Path, workers: int, seconds: float, people: int, kill: bool) -> dict[str, float]:
    prepared, most, killed, end = out / "prepared", [0], [], threading.Event()
    prepared.mkdir(parents=True)
    with cluster(out, workers) as (address, scheduler, parent):
        threads = [threading.Thread(target=watch, args=(scheduler, most, end), daemon=True)]
        if kill:
            arguments = (prepared, people // 2, parent, killed)
            threads.append(threading.Thread(target=kill_after, args=arguments, daemon=True))
        for thread in threads:
            thread.start()
        work = partial(sleep_and_write, seconds=seconds)
        summary = preprocess_cohort(raw, prepared, progress=False, worker=work, scheduler=address)
        end.set()
        threads[0].join()
    if summary.processed != people or summary.failed:
        raise RuntimeError(f"{summary.processed} of {people} people came through, {summary.failed} failed")
    begun, ended = read_notes(prepared / BEGUN), read_notes(prepared / ENDED)
    again = begun[begun.duplicated("name", keep="last")]  # what was begun, and lost
    taken = ended.time.max() - begun.time.min()
    row = {"workers": workers, "people": people, "seconds": taken, "throughput": throughput(begun, ended, workers)}
    row |= {"scheduler_mib": most[0] / 2**20, "again": len(again)}
    return row | {"lost_s": float((killed[0] - again.time).sum()) if killed else 0.0}


def throughput(begun: pd.DataFrame, ended: pd.DataFrame, workers: int) -> float:
    """Subjects a second while all workers have something to do. begun, ended: of `read_notes`."""
    start, end = begun.groupby("worker").time.min().sort_values().iloc[workers - 1], begun.time.max()
    return float(ended.time.between(start, end, inclusive="right").sum() / (end - start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--people", type=int, default=2000)
    parser.add_argument("--workers", default="1,4,16", help="numbers of workers, the last with everybody")
    parser.add_argument("--seconds", type=float, default=4.0, help="that a subject takes")
    arguments = parser.parse_args()
    *fewer, most = (int(count) for count in arguments.workers.split(","))
    rows = []
    for workers in (*fewer, most):
        people = arguments.people if workers == most else PEOPLE_PER_WORKER * workers
        out = arguments.out / f"{workers}-workers"
        raw = write_download(out / "raw", people)
        rows.append(measure(raw, out, workers, arguments.seconds, people, kill=workers == most))
        table = pd.DataFrame(rows)
        table["efficiency"] = table.throughput / table.workers / (table.throughput[0] / table.workers[0])
        table.to_csv(arguments.out / "cluster.tsv", sep="\t", index=False)
        print(table.round(3).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
