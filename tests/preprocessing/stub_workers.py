"""Stand-ins for `preprocess_subject` that a worker process can import."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import pandas as pd

from preprocessing.ledger import LedgerRow, write_table
from preprocessing.steps import orient
from preprocessing.steps.orient import ScanError
from preprocessing.steps.regions import COLUMNS
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import Outcome, StepFailed, write_done
from preprocessing.subject.plan import SubjectTask


def pretend(task: SubjectTask, prepared: Path, bad: bool = True) -> Outcome:
    """Write the files of a subject without looking at its scans, and count the visits in `visits.txt`."""
    with (prepared / "visits.txt").open("a") as visits:
        visits.write(f"{task.participant_id}\n")
    if bad and task.participant_id.endswith("S0002"):
        raise StepFailed("orient", ScanError("truncated", f"the file ends early (file {task.t1.name})"))
    if bad and task.participant_id.endswith("S0003"):
        raise RuntimeError("out of luck")
    folder = task.folder(prepared)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("t1", "gm"):
        (folder / name).write_text("an image")
    ids = (task.participant_id, task.session_id)
    table = pd.DataFrame(
        [[*ids, "hippocampus", side, 3.0, np.nan, "segmentation"] for side in ("left", "right")], columns=COLUMNS
    )
    write_table(table, SubjectFolder(task, prepared).regions)
    paths = {"t1_path": folder / "t1", "gm_path": folder / "gm"}
    paths = {name: path.relative_to(prepared).as_posix() for name, path in paths.items()}
    rows = [LedgerRow(*ids, "mri", "kept", "recipe")]
    rows += [LedgerRow(*ids, "pet", "kept", "recipe")] if task.pet else []
    outcome = Outcome(*ids, **paths, tiv_ml=1500.0, qc="pass", ledger=rows, seconds={"orient": 1.0})
    write_done(task, prepared, outcome)
    return outcome


def die(task: SubjectTask, prepared: Path) -> Outcome:
    """End the worker process as a segmentation fault would, for one of the people."""
    if task.participant_id.endswith("S0002"):
        os._exit(9)
    return pretend(task, prepared)


def read(task: SubjectTask, prepared: Path) -> Outcome:
    """Write the voxels of a subject's scans as they arrive at the steps, in RAS+."""
    folder = task.folder(prepared)
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in (("t1", task.t1), ("pet", task.pet)):
        if path:
            np.save(folder / f"{task.name}_{name}_voxels.npy", orient.read_scan(path).get_fdata(dtype=np.float32))
    return pretend(task, prepared, bad=False)


def write_slowly(task: SubjectTask, prepared: Path) -> Outcome:
    """Small files, but by the ways of the real steps."""
    from benchmarks.kill import pretend as write_subject

    return write_subject(task, prepared, size=12, pause=0.01)


def hang(task: SubjectTask, prepared: Path) -> Outcome:
    """Never come back, for one of the people, and hold the interpreter's lock as a library may."""
    if task.participant_id.endswith("S0002"):
        ctypes.PyDLL(None).sleep(1000)
    return pretend(task, prepared)


def swell(task: SubjectTask, prepared: Path) -> Outcome:
    """Take 8 GiB, for one of the people."""
    if task.participant_id.endswith("S0002"):
        np.zeros(2**30)
    return pretend(task, prepared)
