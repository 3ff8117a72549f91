"""Seconds per report on one core: `python -m benchmarks.reports RUN_DIR... [--people 5]`.

Goals, figures included: a person's PDF within 1 s, HTML within 1.5 s. The first of a kind is timed apart: it also
reads the template and compiles what is kept for the others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from reports.cohort import load_baselines, write_cohort
from reports.gathering import gather_cohort
from reports.records import find_prepared, load_prepared, load_run
from reports.writing import KINDS, choose_subjects


def measure(run_dirs: list[Path], people: int) -> dict[str, list[float]]:
    """What was timed -> CPU seconds of each repetition, which other work on the machine does not stretch."""
    seconds: dict[str, list[float]] = {}

    def clock(name: str, work, *arguments) -> object:
        start = time.process_time()
        result = work(*arguments)
        seconds.setdefault(name, []).append(time.process_time() - start)
        return result

    runs = [load_run(folder) for folder in run_dirs]
    folder = find_prepared(runs[0])
    cohort = clock("reading the cohort", gather_cohort, runs, load_prepared(folder) if folder else None)
    chosen = choose_subjects(cohort.headline, cohort.prepared, people + 1)
    with tempfile.TemporaryDirectory() as out:
        for kind, write in KINDS.items():
            for position, sample_id in enumerate(chosen):
                name = f"person, {kind}" if position else f"person, {kind}, the first"
                clock(name, write, cohort, sample_id, Path(out))
        clock("cohort, pdf", write_cohort, cohort, load_baselines(None), Path(out))
    return seconds


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reports", description=__doc__)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--people", type=int, default=5)
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    for name, values in measure(options.run_dirs, options.people).items():
        print(f"{name:28} {np.median(values):6.2f} s CPU (median of {len(values)}, most {max(values):.2f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
