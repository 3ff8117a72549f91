"""`adni-tcgm adni`, from raw scans to PDF: the stages, one after the other."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

import reports
from adni_tcgm.files import check_apart, lock_folder
from pipelines import command_line, results
from pipelines.baselines import write_baselines
from pipelines.commands import intake
from pipelines.commands.adni import Options
from pipelines.config import Settings
from pipelines.identity import refuse_other
from pipelines.idle import refuse_idle
from pipelines.options import Labels, Scans
from pipelines.plan import design_of, methods_of, print_plan, settings_of
from pipelines.restoring import RECIPE, describe_recipe
from pipelines.self_check import check_people
from pipelines.training import train_run
from pipelines.truth import Truth
from preprocessing.cohort.run import CohortSummary, preprocess_cohort, tasks_of
from preprocessing.intake.overview import look_at, write_overview
from preprocessing.intake.source import read_intake, with_nifti
from preprocessing.ledger import write_json
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.people import CohortDesign


@dataclass
class Clock:
    """Seconds of each stage, for the summary at the end."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        print(f"\n== {name}", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def scans_of(options: Options) -> Path:
    """What --data, --bids or --list names; without any of them a simulated download, written first."""
    if options.scans.path is None:
        write_cohort(options.out, design_of(options), options.anatomies, options.work.jobs)
    return options.scans.path or options.out / "raw"


def intake_options(scans: Scans, labels: Labels) -> dict[str, object]:
    """As `look_at` and `preprocess_cohort` take them."""
    return {
        "layout": scans.layout,
        "tables": scans.tables,
        "dates": scans.dates,
        "pair_days": labels.pair_days,
        "visits": labels.visits,
        "rule": labels.rule(),
    }


def take_in(scans: Path, out: Path, how: dict[str, object]) -> int:
    """Print and write who is in. Returns how many scans were lost for want of understanding."""
    prepared = out / "prepared"
    overview = look_at(raw=scans, prepared=prepared, **how)
    write_overview(overview, prepared)
    print(overview)
    print(f"\nwritten   {prepared / 'people.tsv'}, ledger.tsv and chosen_scans.tsv")
    return len(overview.lost)


def run_intake(options: intake.Options) -> int:
    """`adni-tcgm intake`."""
    scans = options.scans.path
    assert scans is not None  # the options see to it
    how = intake_options(options.scans, options.labels)
    if scans.is_dir():
        check_apart(options.out, scans)
    with lock_folder(options.out):
        return 1 if take_in(scans, options.out, how) else 0


def preprocess(options: Options) -> CohortSummary:
    summary = preprocess_cohort(
        scans_of(options),
        options.out / "prepared",
        jobs=options.work.jobs,
        recipe=options.maps.recipe(),
        scheduler=options.work.scheduler,
        limits=options.work.limits(),
        overrides=options.work.qc_overrides,
        **intake_options(options.scans, options.labels),
    )
    # Every run on this folder takes a copy along: a new person's scans must be prepared in the same way.
    write_json(describe_recipe(options.maps.recipe(), options.labels.rule()), options.out / "prepared" / RECIPE)
    print(summary)
    return summary


def is_failure(options: Options, summary: CohortSummary) -> bool:
    """Whether scans failed that nobody planned to fail; the simulated cohort holds broken files on purpose."""
    planned = 0 if options.scans.path else CohortDesign.truncated
    if summary.failed <= planned or options.work.allow_failures:
        return False
    ledger = options.out / "prepared" / "ledger.tsv"
    print(f"{summary.failed} scans failed, see {ledger}; exit status 1 (--allow-failures: 0)", file=sys.stderr)
    return True


def train(options: Options, settings: list[Settings]) -> None:
    truth = Truth.read(options.out / "truth") if options.scans.path is None else None
    for s in settings:
        for method in methods_of(options):
            runs, seed = options.out / "runs", options.training.seed
            print(train_run(runs, s, method, seed, truth=truth, overwrite=options.overwrite))
    print(write_baselines(options.out / "runs", settings, options.training.seed, truth=truth))


def check_reported(options: Options, settings: list[Settings]) -> None:
    """The response check of everybody who gets a report, came as scans, and passed quality control."""
    prepared = options.out / "prepared"
    _, reported = reports.plan_subjects(results.run_dirs(options, settings), prepared, options.reports.subject_reports)
    manifest = pd.read_csv(prepared / "manifest.tsv", sep="\t", dtype=str, keep_default_na=False)
    manifest = manifest[(manifest["kind"] == "raw") & (manifest["qc"] != "fail")]
    chosen = set(reported) & set(manifest["participant_id"] + "_" + manifest["session_id"])
    scans, how = scans_of(options), intake_options(options.scans, options.labels)
    everybody = read_intake(raw=scans, **how)
    intake = replace(everybody, people=[person for person in everybody.people if person.name in chosen])
    tasks = tasks_of(with_nifti(intake, prepared), options.maps.recipe(), scans)
    check_people(list(tasks.values()), prepared, options.out / "self_check")


def run(options: Options) -> int:
    settings = settings_of(options)
    # A wrong option is an error before the work starts.
    options.labels.rule(), options.work.limits(), options.maps.recipe()
    for s in settings:
        for method in methods_of(options):
            refuse_idle(s, method)
            if options.stage in ("train", "all") and not options.overwrite:
                refuse_other(options.out / "runs", s, method, options.training.seed)
    warnings.filterwarnings("default", module="reports")
    if options.stage != "intake":
        print_plan(options, settings)
    if options.dry_run:
        return 0
    if options.scans.path and options.scans.path.is_dir():
        check_apart(options.out, options.scans.path)
    with lock_folder(options.out):
        return run_stages(options, settings)


def run_stages(options: Options, settings: list[Settings]) -> int:
    clock, failures = Clock(), 0
    if options.stage == "intake":
        failures += take_in(scans_of(options), options.out, intake_options(options.scans, options.labels))
    if options.stage in ("preprocess", "all"):
        with clock.stage("preprocessing"):
            failures += is_failure(options, preprocess(options))
    if options.stage in ("train", "all"):
        with clock.stage("training"):
            train(options, settings)
    if options.stage in ("report", "all"):
        with clock.stage("reports"):
            if options.reports.self_check:
                check_reported(options, settings)
            failures += results.write(options, settings)
        results.show(options, settings, clock.seconds)
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    return command_line.main(["adni", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    raise SystemExit(main())
