"""The report of somebody who is not of the cohort, set against the cohort that the run was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from reports.gathering import gather_cohort
from reports.interactive import write_page
from reports.records import Prepared, Run, find_prepared, load_prepared, load_run
from reports.subject import write_subject


def join_person(run: Run, cohort: Prepared | None, person: Prepared, predictions: pd.DataFrame) -> tuple[Run, Prepared]:
    """The run and the prepared folder with that person added, in memory.

    Raises ValueError where the cohort has somebody of that name.
    """
    known = set(run.splits.index) | (set(cohort.visits.index) if cohort else set())
    twice = sorted(known & set(person.visits.index))
    if twice:
        raise ValueError(f"{twice[0]} is a name of this run's cohort: give the new person another one (--subject)")
    if len(predictions):
        run = replace(run, predictions=pd.concat([run.predictions, predictions], ignore_index=True))
    elsewhere = dict.fromkeys(person.visits.index, person.root)
    if cohort is None:
        return run, replace(person, elsewhere=elsewhere)
    both = Prepared(
        root=cohort.root,
        visits=pd.concat([cohort.visits, person.visits]),
        regions=pd.concat([cohort.regions, person.regions], ignore_index=True),
        ledger=cohort.ledger,
        elsewhere=elsewhere,
    )
    return run, both


def write_new_person(
    run_dir: Path,
    prepared: Path,
    predictions: pd.DataFrame,
    sample_id: str,
    destination: Path,
    prevalence: float | None = None,
    identifiers: bool = False,
) -> list[Path]:
    """Write that person's report and return the paths of its files.

    prepared: the person's own prepared folder; predictions: rows as in `predictions.tsv`, none where withheld.
    """
    run = load_run(run_dir)
    folder = find_prepared(run)
    run, joined = join_person(run, load_prepared(folder) if folder else None, load_prepared(prepared), predictions)
    cohort = gather_cohort([run], joined, prevalence, identifiers)
    return [write(cohort, sample_id, destination) for write in (write_subject, write_page)]
