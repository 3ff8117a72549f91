"""All reports of a set of runs: one for the cohort, one for each chosen person."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from adni_tcgm.processes import process_pool
from reports.cohort import load_baselines, write_cohort
from reports.gathering import Cohort, gather_cohort
from reports.interactive import write_page
from reports.records import Prepared, Run, choose_headline, find_prepared, load_prepared, load_run
from reports.subject import write_subject

SubjectChoice = str | int
# What can be written of a person.
KINDS = {"pdf": write_subject, "html": write_page}


@dataclass(frozen=True)
class Reports:
    """What was written, and sample id (or "cohort") -> message for what could not be."""

    written: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def attempt(self, name: str, write: Callable[..., Path], *arguments: Any) -> None:
        """Keep what `write` returns, or why it failed."""
        try:
            self.written.append(write(*arguments))
        except Exception as error:  # noqa: BLE001 - one broken file must not cost the others their report
            self.failures[name] = f"{type(error).__name__}: {error}"


def plan_subjects(run_dirs: list[Path], prepared: Path | None, choice: SubjectChoice) -> tuple[Path, list[str]]:
    """The run behind the printed probabilities, and the sample ids that `write_reports` would choose."""
    headline = choose_headline([load_run(folder) for folder in run_dirs])
    return headline.folder, choose_subjects(headline, load_prepared(prepared) if prepared else None, choice)


def choose_subjects(headline: Run, prepared: Prepared | None, choice: SubjectChoice) -> list[str]:
    """Sample ids that get a report: `all`, `none`, or N of the test split and of those that quality control kept out.

    Raw scans come first: the test split's, then the failed ones. Raises ValueError for any other choice.
    """
    if choice == "none":
        return []
    splits = headline.splits
    test = splits.index[splits["split"] == "test"]
    if prepared is None:
        ordered = sorted(test)
    else:
        visits = prepared.visits
        failed = visits.index[visits["qc"] == "fail"].difference(splits.index)
        raw = set(visits.index[visits["kind"] == "raw"])
        ordered = sorted({*test, *failed}, key=lambda i: (i not in raw, i not in test, i))
    if choice == "all":
        return ordered
    if isinstance(choice, bool) or not str(choice).isdigit():
        raise ValueError(f"subject reports must be all, none or a number of people; got {choice!r}")
    return ordered[: int(choice)]


def find_subjects(cohort: Cohort, names: Sequence[str]) -> list[str]:
    """Sample ids of these people or visits, by their ids or their pseudonyms.

    Raises ValueError for a name that neither run nor manifest knows.
    """
    known = cohort.headline.splits.index if cohort.prepared is None else cohort.prepared.visits.index
    disguised = replace(cohort, identifiers=False)
    spellings = {sample_id: (sample_id, disguised.show_sample(sample_id)) for sample_id in known}
    chosen = []
    for name in names:
        found = [
            sample_id
            for sample_id, spelled in spellings.items()
            if name in {*spelled, *(one.rsplit("_", 1)[0] for one in spelled)}
        ]
        if not found:
            raise ValueError(f"no subject {name!r}; for example: {', '.join(sorted(known)[:3])}")
        chosen += found
    return list(dict.fromkeys(chosen))


_cohort: Cohort | None = None


def _remember(cohort: Cohort) -> None:
    global _cohort
    _cohort = cohort


def _write_remembered(kind: str, sample_id: str, destination: Path) -> Path:
    return KINDS[kind](_cohort, sample_id, destination)


def _write_subjects(
    cohort: Cohort, sample_ids: list[str], destination: Path, jobs: int, kinds: Sequence[str]
) -> Reports:
    """One report of each kind a person; a failure is filed under the person, whichever kind it was."""
    reports = Reports()
    progress = {"desc": "subject reports", "unit": "report", "disable": None}
    if jobs <= 1:
        for kind, sample_id in tqdm([(k, s) for s in sample_ids for k in kinds], **progress):
            reports.attempt(sample_id, KINDS[kind], cohort, sample_id, destination)
        return reports
    if cohort.prepared is not None and sample_ids:
        _ = cohort.voxel_norms  # fitted here, not once in each process
    with process_pool(jobs, _remember, cohort) as pool:
        futures: dict[Future, str] = {
            pool.submit(_write_remembered, kind, s, destination): s for s in sample_ids for kind in kinds
        }
        for future in tqdm(as_completed(futures), total=len(futures), **progress):
            reports.attempt(futures[future], future.result)
    return Reports(sorted(reports.written), dict(sorted(reports.failures.items())))


def write_reports(
    run_dirs: list[Path],
    destination: Path,
    *,
    prepared: Path | None = None,
    baselines: Path | None = None,
    subject_reports: SubjectChoice = 8,
    jobs: int = 1,
    prevalence: float | None = None,
    subjects: Sequence[str] = (),
    kinds: Sequence[str] = ("pdf",),
    identifiers: bool = False,
    acknowledgement: str = "",
) -> Reports:
    """Write `cohort.pdf` and a report for each chosen test person below `destination`, from files alone.

    run_dirs: run folders of one cohort; whether it is simulated stands in their metrics.
    prepared: the prepared folder; None takes the one that the first run names, and without any, pages that need no
        image are written and say what is missing.
    baselines: folder or file with `baselines.json`; None or a missing file leaves the baselines out.
    subject_reports: `all` test people, `none`, or a number of them, those with raw scans first.
    jobs: processes over subjects.
    subjects: sample ids (or participants) that get a report, instead of `subject_reports`.
    kinds: what is written of each person, "pdf" and "html"; without "pdf" there is no cohort report either.
    identifiers: call people by their ids; otherwise by pseudonyms, the same in all reports of runs on one split.
    acknowledgement: what is to be said of data that are not ADNI's.
    prevalence: share of converters in the reader's own population, at which probabilities are stated once more.

    A report that fails is a warning and an entry of `failures`, never the end. Raises FileNotFoundError or ValueError
    where no report at all could be right: an unfinished run, a missing column, simulated mixed with real runs.
    """
    runs = [load_run(folder) for folder in run_dirs]
    folder = prepared or (find_prepared(runs[0]) if runs else None)
    loaded = load_prepared(folder) if folder else None
    cohort = gather_cohort(runs, loaded, prevalence, identifiers, acknowledgement)
    chosen = (
        find_subjects(cohort, subjects)
        if subjects
        else choose_subjects(cohort.headline, cohort.prepared, subject_reports)
    )
    destination = Path(destination)
    summary = Reports()
    if "pdf" in kinds:
        summary.attempt(
            "cohort", write_cohort, cohort, load_baselines(Path(baselines) if baselines else None), destination
        )
    people = _write_subjects(cohort, chosen, destination, min(jobs, len(chosen)), kinds)
    reports = Reports(summary.written + people.written, summary.failures | people.failures)
    for name, message in reports.failures.items():
        warnings.warn(f"no report for {name}: {message}", stacklevel=2)
    return reports
