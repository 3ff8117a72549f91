"""Processor seconds of one T1 and FDG-PET, beside those of another checkout of this repository.

`python -m benchmarks.subject_speed OTHER T1 PET` (OTHER: say, of `git worktree add OTHER COMMIT`): the same scans
through the default recipe of both, in turn, each time in a fresh process with one thread. Imports are not counted;
what a process computes once and keeps is. Prints the ratio, peak memory and a table by step. Processor seconds grow on
a machine that is busy elsewhere, for both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from preprocessing.cohort.engine import THREAD_VARIABLES

ROOT = Path(__file__).parents[1]
GOAL = 0.42

# Runs in the folder of a checkout, whose modules may lie where those of an earlier time lay.
RUN = """
import json, resource, sys, types
from importlib import import_module
from pathlib import Path
import ants, matplotlib.backends.backend_agg, matplotlib.figure, pandas, torch

def first(*names):
    for name in names:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(names[0])

run = first("preprocessing.subject.run", "preprocessing.subject")
task = first("preprocessing.subject.plan", "preprocessing.task")
outcome = first("preprocessing.subject.outcome", "preprocessing.outcome")

def seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)

outcome.time = types.SimpleNamespace(perf_counter=seconds)  # by step, too, what the processor did
before = seconds()
done = run.preprocess_subject(
    task.SubjectTask("sub-1", "ses-M000", Path(sys.argv[1]), Path(sys.argv[2])), Path(sys.argv[3])
)
total = seconds() - before
if not (done.t1_path and done.pet_path):
    sys.exit(f"the subject did not go through: {done.ledger}")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
if Path("/proc/self/status").is_file():  # on Linux, the other counts what the parent had before this process began
    peak = 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
print(json.dumps({"total": total, "peak_gib": peak / 2**30, "steps": done.seconds}))
"""


def measure(checkout: Path, t1: Path, pet: Path) -> dict:
    """One subject in a process of its own: `total` processor seconds, `peak_gib`, and seconds by `steps`.

    Raises RuntimeError with what the process wrote where the subject did not go through.
    """
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1") | {"PYTHONPATH": str(checkout)}
    with tempfile.TemporaryDirectory() as prepared:
        command = [sys.executable, "-c", RUN, str(t1.absolute()), str(pet.absolute()), prepared]
        run = subprocess.run(command, capture_output=True, text=True, cwd=checkout, env=environment)
    if run.returncode:
        raise RuntimeError(f"{checkout}: {run.stderr.strip()[-2000:]}")
    return json.loads(run.stdout.strip().splitlines()[-1])


def compare(other: Path, t1: Path, pet: Path, repeats: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """Mean seconds by step of both checkouts, and the ratio of their totals (this one's over the other's)."""
    rows, folders = [], {"other": other, "this": ROOT}
    for number in range(repeats):
        for side in list(folders)[:: -1 if number % 2 else 1]:
            found = measure(folders[side], t1, pet)
            rows.append({"side": side, "total": found["total"], "peak_gib": found["peak_gib"], **found["steps"]})
            print(f"{side}: {found['total']:.1f} s", file=sys.stderr)
    each = pd.DataFrame(rows).groupby("side")
    steps = each.mean().T.drop(index=["peak_gib"]).reindex(columns=["other", "this"]).fillna(0)
    total, peak = steps.loc["total"], each.peak_gib.max()
    return steps, {"ratio": total["this"] / total["other"], "peak_gib": peak["this"], "other_peak_gib": peak["other"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, metavar="OTHER", help="folder of the other checkout")
    parser.add_argument("t1", type=Path, metavar="T1")
    parser.add_argument("pet", type=Path, metavar="PET")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    steps, found = compare(arguments.other, arguments.t1, arguments.pet, arguments.repeats)
    print(steps.to_string(float_format="%.2f"))
    print(
        f"ratio {found['ratio']:.3f} (wanted: {GOAL}); peak {found['peak_gib']:.2f} GiB, {found['other_peak_gib']:.2f}"
    )


if __name__ == "__main__":
    main()
