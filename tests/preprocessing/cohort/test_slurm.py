"""The lines of docs/guides/cluster.md for SLURM, with an `sbatch` that starts the job here."""

from __future__ import annotations

import os
import re
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks.cluster import BEGUN, read_notes, sleep_and_write, write_download
from preprocessing.cohort.run import preprocess_cohort

pytest.importorskip("dask_jobqueue")

ROOT = Path(__file__).parents[3]
# What SLURM would do with a job: keep its script, start it and tell its number; end it.
SBATCH = """#!/bin/bash
cp "$1" "{folder}/$$.sh"
setsid bash "{folder}/$$.sh" > "{folder}/$$.log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = '#!/bin/bash\nkill -- "-$1"\n'


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the scripts of submitted jobs lie."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH.format(folder=folder)), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.slow
def test_the_documented_lines_start_workers_that_do_everybody(tmp_path: Path, jobs: Path) -> None:
    text = (ROOT / "docs" / "guides" / "cluster.md").read_text(encoding="utf-8")
    lines = re.search(r"```python\n(from dask_jobqueue.*?)```", text, re.DOTALL)[1]
    for documented, here in (("=16", "=2"), ("jobs=4", "jobs=2"), ("/path/to/.venv", sys.prefix)):
        assert documented in lines
        lines = lines.replace(documented, here)
    raw, summaries = write_download(tmp_path / "raw", 12), []

    def preprocess(_: str) -> None:
        """What is done from another shell, until Enter ends the workers."""
        work = partial(sleep_and_write, seconds=0.5)
        address = variables["cluster"].scheduler_address
        summaries.append(preprocess_cohort(raw, tmp_path / "out", progress=False, worker=work, scheduler=address))

    variables = {"input": preprocess}
    try:
        exec(compile(lines, "cluster.md", "exec"), variables)  # noqa: S102 (the example of our own documentation)
    finally:
        variables["cluster"].close()
    assert (summaries[0].processed, summaries[0].failed) == (12, 0)
    assert not read_notes(tmp_path / "out" / BEGUN).name.duplicated().any()
    scripts = [script.read_text() for script in jobs.glob("*.sh")]
    assert len(scripts) == 2
    for script in scripts:
        for part in ("#SBATCH -p normal", "#SBATCH --cpus-per-task=2", "#SBATCH --mem=60G", "#SBATCH -t 08:00:00"):
            assert part in script
        assert "--nworkers 2" in script and "--nthreads 1" in script and "export OMP_NUM_THREADS=1" in script
