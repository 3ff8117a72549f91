"""What the two levels of the BIDS-App do (`pipelines.bids_app`)."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from adni_tcgm import __version__
from adni_tcgm.files import FolderInUse, check_apart, lock, lock_folder, write_text
from adni_tcgm.storage import Run, is_complete, load_run
from pipelines import run_adni
from pipelines.boilerplate import write_boilerplate
from pipelines.restoring import RECIPE, describe_recipe
from preprocessing.cohort.engine import Worker, run_tasks
from preprocessing.cohort.preflight import check_room
from preprocessing.cohort.run import preprocess_cohort, task_of
from preprocessing.intake import bids
from preprocessing.intake.acquisition import from_sidecars
from preprocessing.intake.labels import LabelRule
from preprocessing.intake.people import Person
from preprocessing.ledger import LedgerRow, write_json
from preprocessing.simulated.folds import MARK
from preprocessing.subject import derivative
from preprocessing.subject.outcome import Outcome, read_done
from preprocessing.subject.plan import RECIPE_VERSION, Recipe, SubjectTask
from preprocessing.subject.run import preprocess_subject

BASELINE = "ce"  # trained beside every method
LOCKS = ".locks"
# In OUTPUT_DIR, whose prepared/ is the derivative: what BIDS has no names for.
BIDSIGNORE = ("prepared/", "runs/", "reports/", "logs/", "error.log")


def prepare(arguments: argparse.Namespace) -> int:
    """Participant level. Returns 1 where scans failed, and says which."""
    out = start(arguments)
    people, refused = choose_people(arguments)
    tasks = [task_of(person, recipe_of(arguments)) for person in people]
    done, elsewhere = prepare_in_turn(tasks, out / "prepared", arguments.n_procs, preprocess_subject)
    failed = [row for row in refused if row.status == "failed"]
    failed += [row for outcome in done.values() for row in outcome.ledger if row.status == "failed"]
    for row in failed:
        print(f"failed    {row.participant_id} {row.session_id} {row.modality}: {row.reason}", file=sys.stderr)
    for name in elsewhere:
        print(f"left      {name}: another process is preparing it", file=sys.stderr)
    print(f"{len(done)} of {len(tasks)} visits are prepared below {out / 'prepared'}; {len(failed)} scans failed")
    return 1 if failed else 0


def train_and_report(arguments: argparse.Namespace) -> int:
    """Group level: tables of what participant level prepared, then training and reports."""
    out = start(arguments)
    options = group_options(arguments)
    with lock_folder(out), no_participant_level(out):
        summary = preprocess_cohort(
            arguments.bids_dir,
            out / "prepared",
            layout="bids",
            rule=rule_of(arguments),
            pair_days=arguments.pair_days,
            recipe=recipe_of(arguments),
            visits="all",
            prepare=False,
        )
        write_json(describe_recipe(recipe_of(arguments), rule_of(arguments)), out / "prepared" / RECIPE)
    print(summary)
    status = run_adni.main([*options, "--stage", "train"])
    status = status or run_adni.main([*options, "--stage", "report"])
    write_boilerplate(out / "logs", recipe_of(arguments), rule_of(arguments), runs_of(arguments))
    return status or (1 if summary.failed else 0)


def start(arguments: argparse.Namespace) -> Path:
    """Check the data set, and write what describes the results before they are there. Returns OUTPUT_DIR."""
    root, out = arguments.bids_dir, arguments.output_dir
    if not arguments.skip_bids_validation:
        check_dataset(root)
    check_apart(out, root)
    simulated = (root / MARK).is_file()
    derivative.write_dataset_files(out / "prepared", simulated=simulated, version=str(RECIPE_VERSION))
    description = {
        "Name": ("SIMULATED: " if simulated else "") + "adni-tcgm: prepared scans, classifiers and reports",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "adni-tcgm", "Version": __version__}],
    }
    write_json(description, out / derivative.DESCRIPTION)
    write_text(out / ".bidsignore", "\n".join(BIDSIGNORE) + "\n")
    write_boilerplate(out / "logs", recipe_of(arguments), rule_of(arguments))
    if arguments.work_dir is not None:
        tempfile.tempdir = str(arguments.work_dir.absolute())
    return out


def check_dataset(root: Path) -> None:
    """Raises ValueError or FileNotFoundError where `root` does not say that it is a raw BIDS data set."""
    file = root / derivative.DESCRIPTION
    hint = "(--skip-bids-validation goes on without it)"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: a BIDS data set has this file {hint}")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON: {error} {hint}") from error
    missing = [key for key in ("Name", "BIDSVersion") if not isinstance(about, dict) or not about.get(key)]
    if missing:
        raise ValueError(f"{file}: {missing[0]} is missing; BIDS requires it {hint}")
    if about.get("DatasetType", "raw") != "raw":
        raise ValueError(f"{file}: DatasetType is {about['DatasetType']!r}; a raw data set is needed {hint}")


def choose_people(arguments: argparse.Namespace) -> tuple[list[Person], list[LedgerRow]]:
    """The visits that were asked for, and ledger rows of what cannot be prepared.

    Raises ValueError for a participant or a session that nobody has.
    """
    names = [f"sub-{label.removeprefix('sub-')}" for label in arguments.participant_label]
    sessions = {f"ses-{label.removeprefix('ses-')}" for label in arguments.session_label}
    intake = bids.read_dataset(
        arguments.bids_dir, rule_of(arguments), arguments.pair_days, visits="all", participants=names or None
    )
    people = [person for person in intake.people if not sessions or person.session_id in sessions]
    strange = sessions - {person.session_id for person in intake.people}
    if strange:
        known = ", ".join(sorted({person.session_id for person in intake.people})) or "none"
        raise ValueError(f"--session-label {sorted(strange)[0]}: no chosen person has a T1 there; with a T1: {known}")
    return [from_sidecars(person) for person in people], intake.ledger


def prepare_in_turn(
    tasks: list[SubjectTask], prepared: Path, jobs: int, worker: Worker
) -> tuple[dict[str, Outcome], list[str]]:
    """Prepare visits, `jobs` at a time, that no other process is at work on. Returns outcomes by name, and the others.

    A few are claimed at a time, so that processes with the same list share it. Raises ValueError for a disk that is too
    small.
    """
    done = {task.name: outcome for task in tasks if (outcome := read_done(task, prepared))}
    left = [task for task in tasks if task.name not in done]
    check_room(prepared, len(left), jobs).require(prepared)
    elsewhere = []
    while left:
        with ExitStack() as claims:
            claimed: list[SubjectTask] = []
            while left and len(claimed) < max(jobs, 1):
                task = left.pop(0)
                try:
                    claims.enter_context(lock(claim_path(prepared, task), task.name))
                except FolderInUse:
                    elsewhere.append(task.name)
                    continue
                outcome = read_done(task, prepared)  # meanwhile, by another process
                if outcome:
                    done[task.name] = outcome
                else:
                    claimed.append(task)
            done |= run_tasks(claimed, prepared, jobs, worker, progress=False)
            for task in claimed:
                print(f"done      {task.name}", flush=True)
    finished = {task.name: outcome for task in tasks if (outcome := done.get(task.name) or read_done(task, prepared))}
    return finished, [name for name in elsewhere if name not in finished]


def claim_path(prepared: Path, task: SubjectTask) -> Path:
    return prepared.parent / LOCKS / f"{task.name}.lock"


@contextmanager
def no_participant_level(out: Path) -> Iterator[None]:
    """Hold every claim that a participant level has left or holds. Raises FolderInUse where one is at work."""
    with ExitStack() as held:
        for path in sorted((out / LOCKS).glob("*.lock")):
            held.enter_context(lock(path, f"{path.stem} (participant level)"))
        yield


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    return Recipe(reference=arguments.reference, partial_volume=arguments.partial_volume)


def rule_of(arguments: argparse.Namespace) -> LabelRule:
    return LabelRule(horizon_months=arguments.horizon)


def runs_of(arguments: argparse.Namespace) -> list[Run]:
    """The finished runs of this method and its baseline, at this seed."""
    found = [load_run(path) for path in sorted((arguments.output_dir / "runs").glob("*")) if is_complete(path)]
    methods = (arguments.method, BASELINE)
    return [run for run in found if run.metrics["method"] in methods and run.metrics["seed"] == arguments.seed]


def group_options(arguments: argparse.Namespace) -> list[str]:
    """The same choices as options of `pipelines.run_adni`."""
    given = {
        "--bids": arguments.bids_dir,
        "--out": arguments.output_dir,
        "--method": arguments.method,
        "--features": arguments.features,
        "--label-rate": arguments.label_rate,
        "--seed": arguments.seed,
        "--device": arguments.device,
        "--jobs": arguments.n_procs,
        "--horizon": arguments.horizon,
        "--pair-days": arguments.pair_days,
        "--reference": arguments.reference,
        "--partial-volume": arguments.partial_volume,
        "--subject-reports": arguments.subject_reports,
        "--acknowledgement": arguments.acknowledgement or None,
        "--visits": "all",
    }
    options = [part for flag, value in given.items() if value is not None for part in (flag, str(value))]
    return options + [part for setting in arguments.set for part in ("--set", setting)]
