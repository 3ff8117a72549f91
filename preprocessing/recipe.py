"""From a folder of downloaded scans to a prepared cohort: intake, every subject in its own worker, the tables.

`preprocessing.subject` holds the ordered steps for one person; both are meant to be reached from here.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from preprocessing import given, template
from preprocessing.contact_sheet import write_contact_sheet
from preprocessing.intake.labels import LabelRule
from preprocessing.intake.people import PAIR_DAYS, Person, chosen_scans, is_uniform
from preprocessing.intake.source import read_people
from preprocessing.ledger import LedgerRow, describe_ledger, ledger_table, write_json, write_table
from preprocessing.regions import COLUMNS as REGION_COLUMNS
from preprocessing.subject import (
    RECIPE_VERSION,
    Outcome,
    Recipe,
    StepFailed,
    SubjectTask,
    failed_row,
    preprocess_subject,
    read_done,
    regions_path,
    write_done,
)

__all__ = ["CohortSummary", "Recipe", "SubjectTask", "preprocess_cohort", "preprocess_subject"]

MANIFEST_COLUMNS = (
    *("participant_id", "session_id", "kind", "t1_path", "gm_path", "pet_path", "label", "label_reason"),
    *("months_to_conversion", "age", "sex", "site", "group_id", "tiv_ml", "qc"),
)

# A download that holds this file was not taken of anybody.
SIMULATED_MARK = "SIMULATED.txt"

Worker = Callable[[SubjectTask, Path], Outcome]


@dataclass(frozen=True)
class CohortSummary:
    """What `preprocess_cohort` wrote, in numbers for people."""

    prepared: Path
    raw: int
    given: int
    processed: int
    reused: int
    failed: int
    labels: dict[str, int]
    seconds: dict[str, float] = field(default_factory=dict)
    ledger: str = ""

    def __str__(self) -> str:
        labels = ", ".join(f"{count} {reason}" for reason, count in self.labels.items())
        return (
            f"{self.raw + self.given} people ({self.raw} from raw scans: {self.processed} processed now, {self.reused} "
            f"done before; {self.given} given prepared), {self.failed} scans failed\nlabels    {labels}\n{self.ledger}"
        )


def preprocess_cohort(
    raw: Path,
    prepared: Path,
    tables: Path | None = None,
    jobs: int = 2,
    rule: LabelRule | None = None,
    pair_days: int = PAIR_DAYS,
    recipe: Recipe | None = None,
    progress: bool = True,
    worker: Worker = preprocess_subject,
    layout: str = "adni",
) -> CohortSummary:
    """Prepare every person of an ADNI download, each in a worker process with one thread (jobs=0: in this process).

    `layout`: "adni", "bids" (`raw` is a data set) or "list" (`raw` is a table of subject, t1, pet). `rule` says who is
    labeled what. Writes manifest.tsv, ledger.tsv, chosen_scans.tsv, regions.tsv and dataset_description.json to
    `prepared`, and takes in the people of `prepared/given.tsv`. A second call redoes nobody whose scans and recipe are
    unchanged. `worker` stands for `preprocess_subject`. Raises only for tables that are missing or not understood; a
    bad scan is a ledger row.
    """
    raw, prepared, tables = Path(raw), Path(prepared), Path(tables) if tables else None
    recipe, rule = recipe or Recipe(), rule or LabelRule()
    given_people = given.read_people(prepared)
    intake = read_people(layout, raw, prepared, tables, rule, pair_days, frozenset(given_people.participant_id))
    tasks = {person.participant_id: _task(person, recipe) for person in intake.people}
    given_people = given_people[~given_people.participant_id.isin(set(tasks))]

    done = {name: outcome for name, task in tasks.items() if (outcome := read_done(task, prepared))}
    pending = [task for name, task in tasks.items() if name not in done]
    outcomes = done | _run_all(pending, prepared, jobs, worker, progress)

    people = [_manifest_row(person, outcomes[person.participant_id]) for person in intake.people]
    people = [row for row in people if row["gm_path"]]
    rows, given_ledger = given.describe(given_people, intake, rule)
    manifest = pd.DataFrame(people + rows, columns=MANIFEST_COLUMNS).sort_values("participant_id", ignore_index=True)
    described = {row.participant_id for row in given_ledger}
    ledger = [row for row in intake.ledger if row.participant_id not in described] + given_ledger
    ledger += [row for outcome in outcomes.values() for row in outcome.ledger]
    measured = [pd.read_csv(regions_path(tasks[row["participant_id"]], prepared), sep="\t") for row in people]
    _write_tables(prepared, manifest, ledger, [*measured, given.read_regions(prepared, given_people.participant_id)])
    write_table(chosen_scans(intake.people), prepared / "chosen_scans.tsv")
    write_json(_description(simulated=(raw / SIMULATED_MARK).is_file()), prepared / "dataset_description.json")
    write_contact_sheet(prepared)
    return CohortSummary(
        prepared=prepared,
        raw=len(people),
        given=len(rows),
        processed=len(pending),
        reused=len(done),
        failed=sum(row.status == "failed" for row in ledger),
        labels=dict(Counter(manifest.label_reason)),
        ledger=describe_ledger(ledger),
        seconds=_mean_seconds([outcomes[task.participant_id] for task in pending]),
    )


def _task(person: Person, recipe: Recipe) -> SubjectTask:
    return SubjectTask(
        participant_id=person.participant_id,
        session_id=person.session_id,
        t1=person.t1.path,
        pet=person.pet.path if person.pet else None,
        pet_uniform=is_uniform(person.pet.description) if person.pet else True,
        recipe=recipe,
    )


def _manifest_row(person: Person, outcome: Outcome) -> dict[str, object]:
    return {
        "participant_id": person.participant_id,
        "session_id": person.session_id,
        "kind": "raw",
        "t1_path": outcome.t1_path,
        "gm_path": outcome.gm_path,
        "pet_path": outcome.pet_path,
        "label": person.label.label,
        "label_reason": person.label.reason,
        "months_to_conversion": person.label.months_to_conversion,
        "age": None if math.isnan(person.age) else person.age,
        "sex": person.sex,
        "site": person.site,
        "group_id": person.group_id,
        "tiv_ml": outcome.tiv_ml,
        "qc": outcome.qc,
    }


def _write_tables(
    prepared: Path, manifest: pd.DataFrame, ledger: list[LedgerRow], measured: list[pd.DataFrame]
) -> None:
    """The manifest last: where it stands, all that it names is there."""
    filled = [table for table in measured if len(table)] or [pd.DataFrame(columns=list(REGION_COLUMNS))]
    write_table(pd.concat(filled, ignore_index=True)[list(REGION_COLUMNS)], prepared / "regions.tsv")
    write_table(ledger_table(ledger), prepared / "ledger.tsv")
    write_table(manifest, prepared / "manifest.tsv")


def _description(simulated: bool) -> dict[str, object]:
    """BIDS's `dataset_description.json` of a derivative."""
    name = "T1 and FDG-PET in template space"
    return {
        "Name": f"SIMULATED: {name}" if simulated else name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "preprocessing", "Version": str(RECIPE_VERSION)}],
        "SpatialReference": f"{template.SPACE}, 2 mm, {' x '.join(map(str, template.GRID_SHAPE))}",
    }


def _mean_seconds(outcomes: list[Outcome]) -> dict[str, float]:
    table = pd.DataFrame([outcome.seconds for outcome in outcomes])
    return {name: round(float(mean), 2) for name, mean in table.mean().items()}


def _start_worker(seed: int) -> None:
    """One thread a process: the fast arrangement for many subjects, and the only repeatable one."""
    os.environ["OMP_NUM_THREADS"] = "1"
    from ants.config import set_ants_deterministic

    set_ants_deterministic(True, seed)


def _run_one(task: SubjectTask, prepared: Path, worker: Worker) -> Outcome:
    """A worker's job: the outcome, or ledger rows that say why there is none."""
    try:
        return worker(task, prepared)
    except StepFailed as failure:
        outcome = failed_outcome(task, prepared, failure)
        if failure.expected:  # the same scan fails again: remember it until the file changes
            write_done(task, prepared, outcome)
        return outcome
    except Exception as error:  # noqa: BLE001 (isolation: whatever happens to one person is that person's ledger row)
        return failed_outcome(task, prepared, StepFailed("recipe", error))


def failed_outcome(task: SubjectTask, prepared: Path, failure: StepFailed) -> Outcome:
    """An outcome without files: the T1 failed, and the PET, if there is one, is left out for that reason."""
    rows = [failed_row(task, prepared, "mri", failure)]
    if task.pet:
        ids = (task.participant_id, task.session_id, "pet")
        reason = f"the T1 failed at step {failure.step}; without it a PET cannot be brought to the template"
        rows.append(LedgerRow(*ids, "excluded", failure.step, "no_t1", reason, os.path.relpath(task.pet, prepared)))
    return Outcome(task.participant_id, task.session_id, ledger=rows)


def _run_all(tasks: list[SubjectTask], prepared: Path, jobs: int, worker: Worker, progress: bool) -> dict[str, Outcome]:
    """Outcomes by participant. A worker that dies takes down its pool; whoever was left gets a pool alone."""
    outcomes: dict[str, Outcome] = {}
    with tqdm(total=len(tasks), desc="preprocessing", unit="subject", disable=not progress or not tasks) as bar:
        if jobs == 0:
            _start_worker(tasks[0].recipe.seed if tasks else 0)
            for task in tasks:
                outcomes[task.participant_id] = _run_one(task, prepared, worker)
                bar.update()
            return outcomes
        left = _run_pool(tasks, prepared, jobs, worker, outcomes, bar)
        for task in left:
            if _run_pool([task], prepared, 1, worker, outcomes, bar):
                error = RuntimeError("the worker process died (out of memory?)")
                outcomes[task.participant_id] = failed_outcome(task, prepared, StepFailed("recipe", error))
                bar.update()
    return outcomes


def _run_pool(
    tasks: list[SubjectTask], prepared: Path, jobs: int, worker: Worker, outcomes: dict[str, Outcome], bar: tqdm
) -> list[SubjectTask]:
    """Run tasks in worker processes; returns those left over when a worker died."""
    if not tasks:
        return []
    pool = ProcessPoolExecutor(
        max_workers=max(1, min(jobs, len(tasks))),
        mp_context=get_context("spawn"),
        initializer=_start_worker,
        initargs=(tasks[0].recipe.seed,),
    )
    left = []
    with pool:
        futures = {pool.submit(_run_one, task, prepared, worker): task for task in tasks}
        running = set(futures)
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = futures[future]
                try:
                    outcomes[task.participant_id] = future.result()
                    bar.update()
                except BrokenProcessPool:
                    left.append(task)
    return left
