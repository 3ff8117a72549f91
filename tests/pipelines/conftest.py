"""A small prepared cohort, simulated once for all tests of the commands."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from preprocessing.cohort.run import preprocess_cohort
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.people import CohortDesign
from tests.reports.conftest import few_draws  # noqa: F401 (no test of a command is about the width of an interval)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of a run whose preprocessing stage is done: 24 prepared people, nobody raw."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # one simulation for all workers, a copy for each
        folder = folder.parent
    with FileLock(folder / "cohort.lock"):
        if not (folder / "cohort").is_dir():
            simulate(folder / "unfinished")
            (folder / "unfinished").rename(folder / "cohort")
    return shutil.copytree(folder / "cohort", tmp_path_factory.mktemp("adni") / "out")


def simulate(out: Path) -> None:
    design = CohortDesign(converters=10, stable=10, censored=2, reverting=1, normal=1, dementia=0, raw=0, truncated=0)
    write_cohort(out, design, jobs=0, progress=False)
    preprocess_cohort(out / "raw", out / "prepared", jobs=0, progress=False)
