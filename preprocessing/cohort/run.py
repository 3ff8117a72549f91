"""From a folder of downloaded scans to a prepared cohort: intake, every subject in its own worker, the tables.

`preprocessing.subject.run` holds the ordered steps for one person; both are meant to be reached from here.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from adni_tcgm.files import remove_leftovers
from adni_tcgm.privacy import cap_age
from preprocessing.choices import PAIR_DAYS
from preprocessing.cohort import preflight
from preprocessing.cohort.engine import Limits, Worker, failed_outcome, run_tasks
from preprocessing.intake import prepared_people
from preprocessing.intake.acquisition import interval_days
from preprocessing.intake.clinical import scores_at_scan
from preprocessing.intake.label_rules import tabulate_rules
from preprocessing.intake.labels import LabelRule
from preprocessing.intake.overview import people_table
from preprocessing.intake.people import Intake, Person, chosen_scans
from preprocessing.intake.source import read_intake, with_nifti
from preprocessing.ledger import LedgerRow, describe_ledger, ledger_table, write_table
from preprocessing.quality.overrides import FILE as OVERRIDES
from preprocessing.quality.overrides import Overrides, obey, read_overrides, verdict_of, write_template
from preprocessing.quality.sheet import write_contact_sheet
from preprocessing.simulated.folds import MARK, read_folds
from preprocessing.steps.orient import ScanError
from preprocessing.steps.regions import COLUMNS as REGION_COLUMNS
from preprocessing.subject import derivative
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import Outcome, StepFailed, read_done
from preprocessing.subject.plan import RECIPE_VERSION, Recipe, SubjectTask
from preprocessing.subject.run import preprocess_subject

__all__ = ["CohortSummary", "Recipe", "SubjectTask", "preprocess_cohort", "preprocess_subject"]

MANIFEST_COLUMNS = (
    *("participant_id", "session_id", "kind", "t1_path", "gm_path", "pet_path", "label", "label_reason"),
    *("months_to_conversion", "age", "sex", "site", "group_id", "tiv_ml", "qc"),
    *("months_without_dementia", "field_strength_t", "tracer", "days_between", "months", "qc_automatic", "qc_rater"),
    *("diagnosis", "months_to_death"),
)
NOT_PREPARED = StepFailed("intake", ScanError("not_prepared", "no finished preparation by this recipe is there"))


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
    overrides: str = ""

    def __str__(self) -> str:
        labels = ", ".join(f"{count} {reason}" for reason, count in self.labels.items())
        return (
            f"{self.raw + self.given} people ({self.raw} from raw scans: {self.processed} processed now, {self.reused} "
            f"done before; {self.given} given prepared), {self.failed} scans failed\nlabels    {labels}\n{self.ledger}"
            + (f"\n{self.overrides}" if self.overrides else "")
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
    scheduler: str | None = None,
    limits: Limits | None = None,
    dates: str | None = None,
    visits: str = "one",
    overrides: Path | None = None,
    prepare: bool = True,
) -> CohortSummary:
    """Prepare every person of an ADNI download, each in a worker process with one thread (jobs=0: in this process).

    `layout`: "adni", "bids" (`raw` is a data set) or "list" (`raw` is a table of subject, t1, pet). `rule` says who is
    labeled what. `dates` (dmy or mdy): what comes first in dates of an ADNI table that do not prove it. `visits`: "one"
    a person, or "all" that have a T1. `scheduler`:
    the address of a running Dask scheduler, whose workers then take the place of processes here. Writes manifest.tsv,
    ledger.tsv, people.tsv, chosen_scans.tsv, regions.tsv, dataset_description.json and, where the tables have such
    scores and histories, clinical.tsv and label_rules.tsv to `prepared`, and takes in the people of
    `prepared/given.tsv`. A second call redoes nobody whose scans and recipe are unchanged. `limits`: of time and
    memory, of each subject. `worker` stands for `preprocess_subject`. `overrides`: verdicts of people
    (`quality.overrides`); default: `prepared/qc_overrides.tsv`. `prepare`: False writes the tables of what was prepared
    before; whoever was not is a ledger row.
    Raises only for missing or strange tables and for a disk that is too small; a bad scan is a ledger row.
    """
    raw, prepared, tables = Path(raw), Path(prepared), Path(tables) if tables else None
    recipe, rule = recipe or Recipe(), rule or LabelRule()
    prepared.mkdir(parents=True, exist_ok=True)
    remove_leftovers(prepared, deep=False)
    given_people = prepared_people.read_people(prepared)
    given_names = frozenset(given_people.participant_id)
    intake = with_nifti(read_intake(layout, raw, tables, rule, pair_days, given_names, dates, visits), prepared)
    tasks = tasks_of(intake, recipe, raw)
    given_people = prepared_people.without_scans(given_people, intake)
    said = _read_overrides(overrides, prepared, intake, given_people)
    done = {name: outcome for name, task in tasks.items() if (outcome := read_done(task, prepared))}
    pending = [task for name, task in tasks.items() if name not in done]
    if prepare:
        preflight.check_room(prepared, len(pending), jobs).require(prepared)
        outcomes = done | run_tasks(pending, prepared, jobs, worker, progress, scheduler, limits)
    else:
        outcomes = done | {task.name: failed_outcome(task, prepared, NOT_PREPARED) for task in pending}

    people = [_manifest_row(person, outcomes[person.name]) for person in intake.people]
    people = [row for row in people if row["gm_path"]]
    rows, ledger = prepared_people.describe(given_people, intake, rule)
    manifest = pd.DataFrame(people + rows, columns=MANIFEST_COLUMNS)
    manifest = manifest.sort_values(["participant_id", "session_id"], ignore_index=True)
    ledger, said = obey(said, ledger + [row for outcome in outcomes.values() for row in outcome.ledger])
    manifest = _judged(manifest, ledger)
    measured = [pd.read_csv(SubjectFolder(tasks[_name(row)], prepared).regions, sep="\t") for row in people]
    write_table(people_table(intake, rows, prepared), prepared / "people.tsv")
    write_table(chosen_scans(intake.people), prepared / "chosen_scans.tsv")
    _write_scores(prepared, scores_at_scan(intake.scores, manifest))
    _write_or_remove(prepared / "label_rules.tsv", tabulate_rules(manifest, intake.histories, rule))
    _write_tables(
        prepared, manifest, ledger, [*measured, prepared_people.read_regions(prepared, given_people.participant_id)]
    )
    derivative.write_dataset_files(prepared, simulated=(raw / MARK).is_file(), version=str(RECIPE_VERSION))
    write_contact_sheet(prepared, said)
    return CohortSummary(
        prepared=prepared,
        raw=len(people),
        given=len(rows),
        processed=len(pending) if prepare else 0,
        reused=len(done),
        failed=sum(row.status == "failed" for row in ledger),
        labels=dict(Counter(manifest.label_reason)),
        ledger=describe_ledger(ledger),
        seconds=_mean_seconds([outcomes[task.name] for task in pending]),
        overrides=str(said),
    )


def tasks_of(intake: Intake, recipe: Recipe, raw: Path) -> dict[str, SubjectTask]:
    """What is to be done for each visit, by its name; `raw`: where the intake comes from."""
    folds = read_folds(raw)
    return {person.name: task_of(person, recipe, folds.get(person.participant_id)) for person in intake.people}


def task_of(person: Person, recipe: Recipe, fold: int | None = None) -> SubjectTask:
    """What is to be done for one visit."""
    return SubjectTask(
        participant_id=person.participant_id,
        session_id=person.session_id,
        t1=person.t1.path,
        pet=person.pet.path if person.pet else None,
        pet_series=person.pet.description if person.pet else "",
        pet_protocol=person.pet.protocol if person.pet else "",
        recipe=recipe,
        fold=fold,
    )


def _read_overrides(file: Path | None, prepared: Path, intake: Intake, given: pd.DataFrame) -> Overrides:
    """What people said of these scans. Without a file of their own, from the prepared folder's, which is made once."""
    if file is None:
        write_template(prepared)
    named = [*intake.people, *intake.ledger, *given.itertuples()]
    return read_overrides(file or prepared / OVERRIDES, {(one.participant_id, one.session_id) for one in named})


def _judged(manifest: pd.DataFrame, ledger: list[LedgerRow]) -> pd.DataFrame:
    """The manifest with the ledger's verdicts: on each T1, and without PETs that are not kept."""
    rows = {(row.participant_id, row.session_id, row.modality): row for row in ledger}
    t1s = [rows[*visit, "mri"] for visit in _visits(manifest)]
    judged = manifest.assign(
        qc=[verdict_of(t1) for t1 in t1s],
        qc_automatic=[t1.automatic for t1 in t1s],
        qc_rater=[t1.rater for t1 in t1s],
    )
    without_pet = _without_pet(ledger)
    excluded = [visit in without_pet for visit in _visits(manifest)]
    judged.loc[excluded, ["pet_path", "tracer"]] = ""
    judged.loc[excluded, "days_between"] = None
    return judged


def _visits(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(table.participant_id, table.session_id, strict=True))


def _without_pet(ledger: list[LedgerRow]) -> set[tuple[str, str]]:
    """Visits whose PET is not kept."""
    return {(row.participant_id, row.session_id) for row in ledger if row.modality == "pet" and row.status != "kept"}


def _name(row: dict[str, object]) -> str:
    return f"{row['participant_id']}_{row['session_id']}"


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
        "age": None if math.isnan(person.age) else cap_age(person.age),
        "sex": person.sex,
        "site": person.site,
        "group_id": person.group_id,
        "tiv_ml": outcome.tiv_ml,
        "qc": outcome.qc,
        "months_without_dementia": person.months_without_dementia,
        "field_strength_t": person.field_strength_t,
        "tracer": person.tracer if outcome.pet_path else "",
        "days_between": interval_days(person) if outcome.pet_path else None,
        "months": person.months,
        "diagnosis": person.label.diagnosis,
        "months_to_death": person.label.months_to_death,
    }


def _write_tables(
    prepared: Path, manifest: pd.DataFrame, ledger: list[LedgerRow], measured: list[pd.DataFrame]
) -> None:
    """The manifest last: where it stands, all that it names is there. A PET that is not kept has no SUVRs."""
    filled = [table for table in measured if len(table)] or [pd.DataFrame(columns=list(REGION_COLUMNS))]
    table = pd.concat(filled, ignore_index=True).reindex(columns=list(REGION_COLUMNS))
    without_pet = _without_pet(ledger)
    table.loc[[visit in without_pet for visit in _visits(table)], "suvr"] = None
    write_table(table, prepared / "regions.tsv")
    write_table(ledger_table(ledger), prepared / "ledger.tsv")
    write_table(manifest, prepared / "manifest.tsv")


def _write_scores(prepared: Path, scores: pd.DataFrame) -> None:
    """Clinical scores have a file of their own, so that nothing which reads the manifest learns from them unasked."""
    _write_or_remove(prepared / "clinical.tsv", scores)


def _write_or_remove(file: Path, table: pd.DataFrame) -> None:
    if len(table):
        write_table(table, file)
    else:
        file.unlink(missing_ok=True)


def _mean_seconds(outcomes: list[Outcome]) -> dict[str, float]:
    table = pd.DataFrame([outcome.seconds for outcome in outcomes])
    return {name: round(float(mean), 2) for name, mean in table.mean().items()}
