"""What the response check finds in people who came as scans: `python -m benchmarks.self_check OUT --brains DIR`.

OUT is the folder of `pipelines.run_adni`, its preprocessing done: the first N people of it who came as scans, have a
PET and passed quality control, and the two real T1s below DIR/t1. Prints a row a person and change, percent as put in
and as found, and the mean and SD of what was found at each level; writes OUT/self_check.tsv. A person who was checked
is not checked again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.real_images import write_scans
from pipelines.self_check import check_people
from preprocessing.cohort.run import Recipe, SubjectTask, preprocess_subject, tasks_of
from preprocessing.intake.source import read_intake
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import read_done


def simulated_people(out: Path, number: int) -> list[SubjectTask]:
    """The first `number` whose preparation is done and has a PET."""
    tasks = tasks_of(read_intake("adni", out / "raw"), Recipe(), out / "raw").values()
    outcomes = {task.name: read_done(task, out / "prepared") for task in tasks}
    good = {name for name, outcome in outcomes.items() if outcome and outcome.qc != "fail" and outcome.pet_path}
    return [task for task in tasks if task.name in good][:number]


def real_people(brains: Path, prepared: Path) -> list[SubjectTask]:
    """The real T1s, prepared."""
    scans = write_scans(brains, prepared.parent / "scans", heads=0)
    tasks = [SubjectTask(f"sub-{name}", "ses-M000", path) for name, (path, _) in scans.items()]
    for task in tasks:
        if read_done(task, prepared) is None:
            preprocess_subject(task, prepared)
    return tasks


def check(tasks: list[SubjectTask], prepared: Path, out: Path) -> pd.DataFrame:
    """The rows of `pipelines.self_check` of all of them."""
    check_people(tasks, prepared, out)
    files = [SubjectFolder(task, prepared).response for task in tasks]
    return pd.concat([pd.read_csv(file, sep="\t") for file in files if file.is_file()], ignore_index=True)


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and SD of what was found, by scans, measure and the level that was asked for."""
    level = table["put_in_percent"].round()
    found = table.groupby(["scans", "measure", level])["found_percent"]
    return found.agg(["count", "mean", "std", "min", "max"]).round(2).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--people", type=int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--brains", type=Path, metavar="DIR", help="without it, no real T1 is checked")
    arguments = parser.parse_args()
    out = arguments.out
    simulated = simulated_people(out, arguments.people)
    tables = [check(simulated, out / "prepared", out / "self_check").assign(scans="simulated")]
    if arguments.brains:
        prepared = out / "real" / "prepared"
        real = real_people(arguments.brains, prepared)
        tables.append(check(real, prepared, out / "real" / "self_check").assign(scans="real"))
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(out / "self_check.tsv", sep="\t", index=False)
    print(table.to_string(index=False))
    print(summarize(table).to_string(index=False))


if __name__ == "__main__":
    main()
