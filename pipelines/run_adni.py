"""`python -m pipelines.run_adni`: from raw scans to PDF.

Without --data it simulates a cohort, says so everywhere, and runs the very same code on it. Whatever is finished is
left as it is, so the same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

import reports
from adni_tcgm.command import add_debug, run_command
from adni_tcgm.files import check_apart, lock_folder, remove_leftovers, write_text
from adni_tcgm.storage import load_run
from pipelines.config import METHODS, Settings, load_settings, parse_override
from pipelines.plan import PEAK_GIB, Plan
from pipelines.restoring import RECIPE, describe_recipe
from preprocessing.cohort.engine import Limits
from preprocessing.cohort.preflight import check_room
from preprocessing.cohort.run import CohortSummary, Recipe, preprocess_cohort
from preprocessing.intake.dates import ORDERS
from preprocessing.intake.labels import REVERSIONS, LabelRule
from preprocessing.intake.overview import look_at, write_overview
from preprocessing.intake.people import PAIR_DAYS, VISITS
from preprocessing.intake.source import count_people
from preprocessing.ledger import write_json
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.people import CohortDesign
from preprocessing.steps.orient import HEADERS
from preprocessing.steps.partial_volume import METHODS as CORRECTIONS
from preprocessing.steps.suvr import REFERENCES
from preprocessing.subject.plan import RESOLUTIONS_MM

STAGES = ("intake", "preprocess", "train", "report", "all")
BASELINE = "ce"
# A subject's report shows what each scan says; these two have no answer but the combined one.
REPORTED = tuple(name for name in METHODS if name not in ("soft_hgr", "lmf"))
# What a report is made of: tables, records of saliency maps, and the code and templates themselves.
PATTERNS = ("*.json", "*.tsv", "saliency/*/*.json", "*.py", "templates/*")
# The cohort's report is a PDF; a person's may also be a page with a viewer.
FORMATS = ("pdf", "html")
LAYOUT_FLAGS = {"data": "adni", "bids": "bids", "list": "list"}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.run_adni", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="an ADNI download with its tables; without it: a simulated cohort")
    parser.add_argument("--bids", type=Path, metavar="DIR", help="instead of --data: a BIDS data set with T1w and PET")
    parser.add_argument("--list", type=Path, metavar="FILE", help="instead of --data: a table of subject, t1, pet")
    parser.add_argument("--tables", type=Path, help="folder of the ADNI tables; default: found under --data")
    parser.add_argument(
        "--dates",
        choices=ORDERS,
        help="what comes first in dates like 03/01/2006 that prove it nowhere in their column",
    )
    parser.add_argument("--out", type=Path, default=Path("out/adni"))
    parser.add_argument(
        "--stage", choices=STAGES, default="all", help="intake: only who is in and what was not understood, in seconds"
    )
    parser.add_argument("--method", choices=REPORTED, default="tcgm", help="trained beside the baseline ce")
    parser.add_argument("--features", choices=("voxels", "regions", "both"), default="both")
    parser.add_argument("--label-rate", type=float, help="share of the training labels shown; default 0.1")
    parser.add_argument("--seed", type=int, default=0, help="of split, labels and training; not of the cohort")
    parser.add_argument("--raw", type=int, default=CohortDesign.raw, help="simulated people who arrive as raw scans")
    parser.add_argument("--anatomies", type=Path, metavar="DIR", help="label maps of other heads for the simulation")
    parser.add_argument("--subject-reports", default="all", metavar="all|none|N")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS, help="of them; default: both")
    parser.add_argument(
        "--identifiers", action="store_true", help="reports call people by their ids, not by pseudonyms"
    )
    parser.add_argument(
        "--prevalence", type=float, metavar="SHARE", help="of converters where the reports are read, e.g. 0.17"
    )
    parser.add_argument("--acknowledgement", default="", metavar="TEXT", help="in reports on data that are not ADNI's")
    parser.add_argument(
        "--qc-overrides", type=Path, metavar="FILE", help="verdicts of people; default: OUT/prepared/qc_overrides.tsv"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes; default: all cores")
    parser.add_argument("--subject-minutes", type=float, default=Limits.minutes, help="then a subject is given up")
    parser.add_argument("--subject-memory", type=float, default=Limits.memory_gib, metavar="GIB", help="default: 16")
    parser.add_argument("--scheduler", metavar="tcp://...", help="prepare subjects on a running Dask scheduler")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. train.lr_unlabeled=1e-3")
    parser.add_argument("--allow-failures", action="store_true", help="exit with 0 although scans failed")
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and stop")
    add_debug(parser)
    add_label_options(parser)
    add_map_options(parser)
    arguments = parser.parse_args(argv)
    given = [name for name in LAYOUT_FLAGS if getattr(arguments, name)]
    if len(given) > 1:
        parser.error(f"--{given[0]} and --{given[1]}; one source of scans at a time")
    arguments.layout = LAYOUT_FLAGS[given[0]] if given else "adni"
    arguments.data = getattr(arguments, given[0]) if given else None
    if arguments.data and arguments.anatomies:
        parser.error(f"--anatomies shapes the simulated cohort; it does not go with --{given[0]}")
    if arguments.tables and arguments.layout != "adni":
        parser.error(f"--tables are those of an ADNI download; they do not go with --{given[0]}")
    if arguments.dates and arguments.layout != "adni":
        parser.error(f"--dates are those of an ADNI download's tables; they do not go with --{given[0]}")
    if arguments.subject_reports not in ("all", "none") and not arguments.subject_reports.isdigit():
        parser.error(f"--subject-reports is {arguments.subject_reports!r}; it must be all, none or a number")
    if arguments.prevalence is not None and not 0 < arguments.prevalence < 1:
        parser.error(f"--prevalence is {arguments.prevalence}; a share between 0 and 1 is needed, e.g. 0.17")
    if arguments.jobs < 1:
        parser.error(f"--jobs is {arguments.jobs}; it must be at least 1")
    return arguments


def add_label_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who is labeled what")
    group.add_argument("--horizon", type=float, default=LabelRule.horizon_months, metavar="MONTHS", help="default: 36")
    group.add_argument("--minimum-follow-up", type=float, default=0.0, metavar="MONTHS", help="default: 0")
    group.add_argument(
        "--scan-months",
        type=float,
        default=LabelRule.scan_months,
        metavar="MONTHS",
        help="from a scan to the visit whose diagnosis is the scan's, at most; default: 3",
    )
    group.add_argument("--reversion", choices=REVERSIONS, default="unlabeled", help="what a milder diagnosis does")
    group.add_argument("--classes", default="cn,stable,converter,ad", help="default: cn,stable,converter,ad")
    group.add_argument(
        "--visits",
        choices=VISITS,
        default="one",
        help="of a person; all: every one with a T1 is prepared, one gives the label (data.pool: visits trains on all)",
    )
    group.add_argument("--pair-days", type=int, default=PAIR_DAYS, metavar="DAYS", help="T1 to PET; default: 90")


def add_map_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the maps are")
    group.add_argument("--reference", choices=tuple(REFERENCES), default=Recipe.reference, help="of the SUVR")
    group.add_argument(
        "--resolution", type=int, choices=RESOLUTIONS_MM, default=2, help="mm; 1: maps at 1 mm, too; networks read 2 mm"
    )
    group.add_argument(
        "--pet-resolution",
        type=_pet_resolution,
        default=Recipe.pet_resolution_mm,
        metavar="native|MM",
        help="FWHM to which finer PETs are smoothed; default: 8, as ADNI's; native: each as it is",
    )
    group.add_argument(
        "--partial-volume", choices=CORRECTIONS, default=Recipe.partial_volume, help="correction of grey matter's SUVR"
    )
    group.add_argument(
        "--header",
        choices=HEADERS,
        default="",
        help="which counts in scans whose sform and qform contradict each other",
    )


def _pet_resolution(text: str) -> float:
    return 0.0 if text == "native" else float(text)


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


def settings_of(arguments: argparse.Namespace) -> list[Settings]:
    """One `Settings` for each kind of features asked for; the profile follows the device."""
    kinds = ("voxels", "regions") if arguments.features == "both" else (arguments.features,)
    overrides = dict(parse_override(text) for text in arguments.set)
    if arguments.label_rate is not None:
        overrides["data.label_rate"] = arguments.label_rate
    overrides |= {"data.path": str(arguments.out / "prepared"), "train.device": arguments.device}
    names = {"voxels": f"adni_voxels_{profile_of(arguments.device)}", "regions": "adni_regions"}
    return [load_settings(names[kind], overrides) for kind in kinds]


def profile_of(device: str) -> str:
    """`gpu`: on the paper's 64^3 crop. `cpu`: on the hippocampal crop."""
    from adni_tcgm.tcgm.trainer import choose_device

    return "gpu" if choose_device(device).type == "cuda" else "cpu"


def print_plan(arguments: argparse.Namespace, settings: list[Settings]) -> None:
    source = f"scans under {arguments.data}" if arguments.data else "a SIMULATED cohort (no --data was given)"
    print(f"data      {source}")
    print(f"output    {arguments.out}")
    for s in settings:
        size = "x".join(map(str, s.data.crop_shape)) if s.data.features == "voxels" else f"{s.data.regions} regions"
        methods = ", ".join(methods_of(arguments))
        network = f"net {s.network}, pretraining {s.pretraining}"
        steps = s.train_for(BASELINE).steps
        print(f"training  {s.data.features} ({size}), {network}, {methods}; {steps} steps each")
    if profile_of(arguments.device) == "cpu" and arguments.features != "regions":
        print("device    CPU: a slimmer network on the hippocampal crop instead of the paper's on 64^3 voxels")
    print(f"labels    {settings[0].data.label_rate:g} of the training labels are shown; seed {arguments.seed}")
    if profile_of(arguments.device) == "cpu":
        print_cost(plan_of(arguments), settings, methods_of(arguments))
    if arguments.stage in ("preprocess", "all") and not arguments.scheduler:
        print(check_room(arguments.out, plan_of(arguments).raw, arguments.jobs))


def print_cost(plan: Plan, settings: list[Settings], methods: list[str]) -> None:
    minutes = {stage: seconds / 60 for stage, seconds in plan.seconds(settings, methods).items()}
    stages = ", ".join(f"{stage} {value:.0f}" for stage, value in minutes.items())
    print(f"runs      {len(settings) * len(methods)} trainings; {plan.raw} raw and {plan.prepared} prepared people")
    print(f"cost      about {sum(minutes.values()):.0f} minutes ({stages}) and {PEAK_GIB:g} GiB, less what is done")


def plan_of(arguments: argparse.Namespace) -> Plan:
    """Counts only: from the folder names of a download, or from the design of the simulated cohort."""
    if arguments.data:
        raw, prepared = count_people(arguments.layout, arguments.data), 0
    else:
        design = CohortDesign(raw=arguments.raw)
        raw, prepared = design.raw + design.truncated, sum(design.groups.values()) - design.raw - design.truncated
    people_in_test = round(0.2 * (raw + prepared))
    choice = arguments.subject_reports
    reported = int(choice) if choice.isdigit() else {"all": people_in_test, "none": 0}[choice]
    return Plan(raw, prepared, arguments.data is None, reported, arguments.jobs)


def methods_of(arguments: argparse.Namespace) -> list[str]:
    return list(dict.fromkeys([arguments.method, BASELINE]))


def scans_of(arguments: argparse.Namespace) -> Path:
    """What --data, --bids or --list names; without any of them a simulated download, written first."""
    if arguments.data is None:
        write_cohort(arguments.out, CohortDesign(raw=arguments.raw), arguments.anatomies, arguments.jobs)
    return arguments.data or arguments.out / "raw"


def intake_options(arguments: argparse.Namespace) -> dict[str, object]:
    names = ("layout", "tables", "pair_days", "dates", "visits")
    return {name: getattr(arguments, name) for name in names} | {"rule": rule_of(arguments)}


def take_in(arguments: argparse.Namespace) -> int:
    """Print and write who is in. Returns how many scans were lost for want of understanding."""
    prepared = arguments.out / "prepared"
    overview = look_at(raw=scans_of(arguments), prepared=prepared, **intake_options(arguments))
    write_overview(overview, prepared)
    print(overview)
    print(f"\nwritten   {prepared / 'people.tsv'}, ledger.tsv and chosen_scans.tsv")
    return len(overview.lost)


def preprocess(arguments: argparse.Namespace) -> CohortSummary:
    summary = preprocess_cohort(
        scans_of(arguments),
        arguments.out / "prepared",
        jobs=arguments.jobs,
        recipe=recipe_of(arguments),
        scheduler=arguments.scheduler,
        limits=limits_of(arguments),
        overrides=arguments.qc_overrides,
        **intake_options(arguments),
    )
    # Every run on this folder takes a copy along: a new person's scans must be prepared in the same way.
    write_json(describe_recipe(recipe_of(arguments), rule_of(arguments)), arguments.out / "prepared" / RECIPE)
    print(summary)
    return summary


def rule_of(arguments: argparse.Namespace) -> LabelRule:
    return LabelRule(
        horizon_months=arguments.horizon,
        minimum_follow_up_months=arguments.minimum_follow_up,
        reversion=arguments.reversion,
        classes=tuple(name.strip() for name in arguments.classes.split(",")),
        scan_months=arguments.scan_months,
    )


def limits_of(arguments: argparse.Namespace) -> Limits:
    return Limits(arguments.subject_minutes, arguments.subject_memory)


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    return Recipe(
        reference=arguments.reference,
        resolution_mm=arguments.resolution,
        pet_resolution_mm=arguments.pet_resolution,
        partial_volume=arguments.partial_volume,
        header=arguments.header,
    )


def is_failure(arguments: argparse.Namespace, summary: CohortSummary) -> bool:
    """Whether scans failed that nobody planned to fail; the simulated cohort holds broken files on purpose."""
    planned = 0 if arguments.data else CohortDesign.truncated
    if summary.failed <= planned or arguments.allow_failures:
        return False
    ledger = arguments.out / "prepared" / "ledger.tsv"
    print(f"{summary.failed} scans failed, see {ledger}; exit status 1 (--allow-failures: 0)", file=sys.stderr)
    return True


def train(arguments: argparse.Namespace, settings: list[Settings]) -> None:
    from pipelines.training import train_run, write_baselines
    from pipelines.truth import Truth

    truth = Truth.read(arguments.out / "truth") if arguments.data is None else None
    for s in settings:
        for method in methods_of(arguments):
            print(train_run(arguments.out / "runs", s, method, arguments.seed, truth=truth))
    print(write_baselines(arguments.out / "runs", settings, arguments.seed, truth=truth))


def run_dirs(arguments: argparse.Namespace, settings: list[Settings]) -> list[Path]:
    from pipelines.training import run_name

    names = [run_name(s, method, arguments.seed) for s in settings for method in methods_of(arguments)]
    return [arguments.out / "runs" / name for name in names]


def report(arguments: argparse.Namespace, settings: list[Settings]) -> int:
    """Write the reports unless they already show these very runs. Returns how many could not be written."""
    from pipelines.training import baselines_dir

    folders = run_dirs(arguments, settings)
    baselines = baselines_dir(arguments.out / "runs", settings[0], arguments.seed)
    destination = arguments.out / "reports"
    explain(folders, arguments)
    stamp = destination / ".inputs"
    code = Path(reports.__file__).parent
    formats = sorted(set(arguments.formats))
    options = json.dumps(
        [arguments.subject_reports, formats, arguments.prevalence, arguments.identifiers, arguments.acknowledgement]
    )
    inputs = _fingerprint([*folders, baselines, arguments.out / "prepared", code], options)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == inputs:
        print("reports are up to date")
        return 0
    stamp.unlink(missing_ok=True)
    remove_leftovers(destination)
    written = reports.write_reports(
        folders,
        destination,
        prepared=arguments.out / "prepared",
        baselines=baselines,
        subject_reports=arguments.subject_reports,
        jobs=arguments.jobs,
        prevalence=arguments.prevalence,
        kinds=formats,
        identifiers=arguments.identifiers,
        acknowledgement=arguments.acknowledgement,
    )
    if not written.failures:
        write_text(stamp, inputs)
    return len(written.failures)


def explain(folders: list[Path], arguments: argparse.Namespace) -> None:
    """What carried the answer of each reported person, by the run whose probability the reports print."""
    from pipelines.saliency import explain_reported

    headline, sample_ids = reports.plan_subjects(folders, arguments.out / "prepared", arguments.subject_reports)
    explain_reported(load_run(headline), sample_ids)


def _fingerprint(folders: list[Path], options: str) -> str:
    """A hash of the tables that reports are made of, and of the code and templates that make them."""
    digest = hashlib.sha256(options.encode())
    for folder in folders:
        for path in sorted(p for pattern in PATTERNS for p in folder.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def result_table(folders: list[Path], baselines: Path) -> pd.DataFrame:
    """Test results of every run and baseline, one row per modality."""
    rows = []
    for folder in folders:
        metrics = load_run(folder).metrics
        for modality, values in metrics["test"].items():
            shown = {"by": f"{metrics['method']}, {metrics['features']}", "modality": modality, "labels": "visible"}
            rows.append(shown | {name: values[name] for name in ("auc", "balanced_accuracy", "accuracy", "log_loss")})
    for baseline in json.loads((baselines / "baselines.json").read_text(encoding="utf-8")):
        if baseline["split"] == "test":
            shown = {"by": baseline["baseline"], "modality": baseline["modality"], "labels": baseline["labels"]}
            rows.append(shown | {name: baseline[name] for name in ("auc", "balanced_accuracy", "accuracy")})
    return pd.DataFrame(rows)


def print_result(arguments: argparse.Namespace, settings: list[Settings], clock: Clock) -> None:
    from pipelines.training import baselines_dir, say_budget
    from reports.tables import describe_gain

    folders = run_dirs(arguments, settings)
    table = result_table(folders, baselines_dir(arguments.out / "runs", settings[0], arguments.seed))
    loaded = [load_run(folder) for folder in folders]
    metrics = loaded[0].metrics
    simulated = "SIMULATED cohort; " if metrics["simulated"] else ""
    labels = metrics["labels"]
    print(f"\n{simulated}test split of {metrics['n']['test']} people; {labels['train_visible']} training labels shown;")
    print(say_budget(metrics))
    print(table.to_string(index=False, na_rep="", float_format="{:.3f}".format))
    if unused := describe_gain(loaded):
        print(f"\n{unused}")
    kinds = ["cohort.pdf"] if "pdf" in arguments.formats else []
    kinds += [f"{name} of each chosen person" for name in sorted(set(arguments.formats))]
    print(f"\nreports   {arguments.out / 'reports'}  ({', '.join(kinds)})")
    print(f"ledger    {arguments.out / 'prepared' / 'ledger.tsv'}  (every expected scan, and what became of it)")
    print(f"runs      {arguments.out / 'runs'}")
    print("time      " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in clock.seconds.items()))


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    rule_of(arguments), limits_of(arguments), recipe_of(arguments)  # a wrong option is an error before the work starts
    if arguments.stage != "intake":
        print_plan(arguments, settings)
    if arguments.dry_run:
        return 0
    if arguments.data and arguments.data.is_dir():
        check_apart(arguments.out, arguments.data)
    with lock_folder(arguments.out):
        return run_stages(arguments, settings)


def run_stages(arguments: argparse.Namespace, settings: list[Settings]) -> int:
    clock, failures = Clock(), 0
    if arguments.stage == "intake":
        failures += take_in(arguments)
    if arguments.stage in ("preprocess", "all"):
        with clock.stage("preprocessing"):
            failures += is_failure(arguments, preprocess(arguments))
    if arguments.stage in ("train", "all"):
        with clock.stage("training"):
            train(arguments, settings)
    if arguments.stage in ("report", "all"):
        with clock.stage("reports"):
            failures += report(arguments, settings)
        print_result(arguments, settings, clock)
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    warnings.filterwarnings("default", module="reports")
    return run_command(run, arguments, arguments.out)


if __name__ == "__main__":
    raise SystemExit(main())
