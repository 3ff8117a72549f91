"""The reports of a cohort's runs, and their results on the terminal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

import reports
from adni_tcgm.files import remove_leftovers, write_text
from adni_tcgm.storage import load_run
from pipelines.baselines import baselines_dir
from pipelines.commands.adni import Options
from pipelines.config import Settings
from pipelines.identity import run_name
from pipelines.plan import methods_of
from pipelines.saliency import explain_reported
from pipelines.scoring import say_budget
from reports.tables import describe_gain

# What a report is made of: tables, records of saliency maps, and the code and templates themselves.
PATTERNS = ("*.json", "*.tsv", "saliency/*/*.json", "*.py", "templates/*")


def run_dirs(options: Options, settings: list[Settings]) -> list[Path]:
    names = [run_name(s, method, options.training.seed) for s in settings for method in methods_of(options)]
    return [options.out / "runs" / name for name in names]


def write(options: Options, settings: list[Settings]) -> int:
    """Write the reports unless they already show these very runs. Returns how many could not be written."""
    folders = run_dirs(options, settings)
    baselines = baselines_dir(options.out / "runs", settings[0], options.training.seed)
    destination = options.out / "reports"
    explain(folders, options)
    stamp = destination / ".inputs"
    code = Path(reports.__file__).parent
    inputs = _fingerprint([*folders, baselines, options.out / "prepared", code], json.dumps(asdict(options.reports)))
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == inputs:
        print("reports are up to date")
        return 0
    stamp.unlink(missing_ok=True)
    remove_leftovers(destination)
    written = reports.write_reports(
        folders,
        destination,
        prepared=options.out / "prepared",
        baselines=baselines,
        subject_reports=options.reports.subject_reports,
        jobs=options.work.jobs,
        prevalence=options.reports.prevalence,
        kinds=sorted(set(options.reports.formats)),
        identifiers=options.reports.identifiers,
        acknowledgement=options.reports.acknowledgement,
    )
    if not written.failures:
        write_text(stamp, inputs)
    return len(written.failures)


def explain(folders: list[Path], options: Options) -> None:
    """What carried the answer of each reported person, by the run whose probability the reports print."""
    headline, sample_ids = reports.plan_subjects(folders, options.out / "prepared", options.reports.subject_reports)
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


def show(options: Options, settings: list[Settings], seconds: dict[str, float]) -> None:
    """Print what the test people say of every run, and where everything lies. seconds: of each stage."""
    folders = run_dirs(options, settings)
    table = result_table(folders, baselines_dir(options.out / "runs", settings[0], options.training.seed))
    loaded = [load_run(folder) for folder in folders]
    metrics = loaded[0].metrics
    simulated = "SIMULATED cohort; " if metrics["simulated"] else ""
    labels = metrics["labels"]
    print(f"\n{simulated}test split of {metrics['n']['test']} people; {labels['train_visible']} training labels shown;")
    print(say_budget(metrics))
    print(table.to_string(index=False, na_rep="", float_format="{:.3f}".format))
    if unused := describe_gain(loaded):
        print(f"\n{unused}")
    kinds = ["cohort.pdf"] if "pdf" in options.reports.formats else []
    kinds += [f"{name} of each chosen person" for name in sorted(set(options.reports.formats))]
    print(f"\nreports   {options.out / 'reports'}  ({', '.join(kinds)})")
    print(f"ledger    {options.out / 'prepared' / 'ledger.tsv'}  (every expected scan, and what became of it)")
    print(f"runs      {options.out / 'runs'}")
    print("time      " + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
