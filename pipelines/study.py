"""`python -m pipelines.study CONFIG`: methods x label rates x seeds -> one table, one plot, one PDF.

Every run is independent: one that fails is listed and the others go on. Whatever is finished is left as it is, so the
same command continues an interrupted study.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adni_tcgm.datasets.adni_adjust import SETTINGS
from adni_tcgm.files import lock_folder, write_text
from adni_tcgm.storage import Run, is_complete, load_run, write_json
from adni_tcgm.tables import to_tsv
from adni_tcgm.tcgm.batch import UNLABELED
from pipelines import command_line
from pipelines.commands.study import Options
from pipelines.comparison import (
    choose_reference,
    class_names,
    compare_methods,
    summarize_seeds,
    tabulate_seeds,
)
from pipelines.config import AUSTERE, DATASETS, METHODS, NO_PRETRAINING, Settings
from pipelines.grid import Outcome, Task, run_grid
from pipelines.idle import load_given, refuse_idle
from pipelines.own_code import register_own
from pipelines.tuning import FEWEST_LABELS, Rates, candidates, choose_rates, chosen_overrides, describe_choice
from reports.panels import write_panels
from reports.study import write_study_report

Grid = Callable[..., list[Outcome]]


def settings_for(options: Options, label_rate: float, overrides: dict[str, Any] | None = None) -> Settings:
    """The configuration, --set on top of it, the named flags on top of that, and `overrides` last."""
    values = {"data.label_rate": label_rate, "train.device": options.device}
    if options.data is not None:
        # Absolute: a worker on another machine need not start in the same folder.
        values["data.path"] = str(options.data.resolve())
    return load_given(options.config[0], options.set, values | (overrides or {}))


def output_folder(options: Options, settings: Settings) -> Path:
    return (options.out or Path("out/studies") / settings.name).resolve()


def list_tasks(options: Options, out: Path, tuned: Mapping[int, dict[str, Any]]) -> list[Task]:
    """Seed by seed, so that an interrupted study has whole seeds rather than whole methods.

    tuned: seed -> overrides.
    """
    pretrainings = options.pretrainings or [None]
    settings = {
        (seed, rate, chosen): settings_for(
            options, rate, tuned.get(seed, {}) | ({"pretraining": chosen} if chosen else {})
        )
        for seed in (range(options.seeds) if tuned else [0])
        for rate in options.label_rates
        for chosen in pretrainings
    }
    for each in settings.values():
        for method in options.methods:
            refuse_idle(each, method)
    return [
        Task(
            out / "runs" / (chosen or ""),
            settings[seed if tuned else 0, rate, chosen],
            method,
            rate,
            seed,
            options.overwrite,
        )
        for seed in range(options.seeds)
        for rate in options.label_rates
        for chosen in pretrainings
        for method in options.methods
    ]


def pretraining_of(run: Run) -> str:
    return run.metrics.get("pretraining", {}).get("name", NO_PRETRAINING)


def label_of(method: str, pretraining: str) -> str:
    """How a method is called beside others that began otherwise: "tcgm", or "tcgm, cross_modal"."""
    return method if pretraining == NO_PRETRAINING else f"{method}, {pretraining}"


def labels_of(options: Options) -> list[str]:
    """All that a study compares, in the order of its tables."""
    return [label_of(m, chosen) for chosen in options.pretrainings or [NO_PRETRAINING] for m in options.methods]


def load_labeled(options: Options, run_dir: Path) -> Run:
    """A finished run, its method named with its pretraining where the study compares several."""
    run = load_run(run_dir)
    if not options.pretrainings:
        return run
    method = label_of(run.metrics["method"], pretraining_of(run))
    return replace(run, metrics=run.metrics | {"method": method})


def list_tuning_tasks(options: Options, out: Path) -> list[tuple[Rates, Task]]:
    """Every pair of learning rates of every method in every seed, at the lowest label rate."""
    rate = min(options.label_rates)
    base = settings_for(options, rate)
    tasks = []
    for method in options.methods:
        for rates in candidates(method, base.train_for(method)):
            settings = settings_for(options, rate, rates.overrides(method))
            runs = out / "tuning" / f"{method}-{rates}"
            tasks += [
                (rates, Task(runs, settings, method, rate, seed, options.overwrite)) for seed in range(options.seeds)
            ]
    return tasks


def tune(options: Options, out: Path, grid: Grid) -> dict[int, dict[str, Any]]:
    """Choose learning rates for each seed, record every pair in `tuning.tsv`, and return seed -> overrides.

    The runs stay in OUT/tuning: as long as settings and data are the same, another call trains nothing and finds the
    same choice.
    """
    pairs = list_tuning_tasks(options, out)
    if not pairs:
        return {}
    check_labels(settings_for(options, min(options.label_rates)))
    outcomes = grid([task for _, task in pairs], title="tuning", **_place(options))
    table = choose_rates([(rates, outcome) for (rates, _), outcome in zip(pairs, outcomes, strict=True)])
    _write_table(out / "tuning.tsv", table)
    for method, choice in describe_choice(table).items():
        print(f"tuned     {method}: {choice} of {options.seeds} seeds")
    return {seed: chosen_overrides(table, seed) for seed in range(options.seeds)}


def check_labels(settings: Settings) -> None:
    """Raises ValueError where the austere protocol leaves too few labels to choose by."""
    if settings.protocol != AUSTERE:
        return
    visible = int((settings.load(0).train.labels != UNLABELED).sum())
    if visible < FEWEST_LABELS:
        raise ValueError(
            f"--tune has {visible} visible labels to choose by; protocol {AUSTERE!r}, which looks at no others, needs "
            f"{FEWEST_LABELS} (a higher --label-rates, or --set protocol=paper)"
        )


def _place(options: Options) -> dict[str, Any]:
    return {"jobs": options.jobs, "scheduler": options.scheduler}


def print_plan(options: Options, out: Path, tasks: Sequence[Task]) -> None:
    """Runs x seconds, as far as finished runs tell."""
    rates = ", ".join(f"{rate:g}" for rate in options.label_rates)
    where = options.scheduler or f"{options.jobs} processes"
    print(f"study     {options.config[0]}: {', '.join(options.methods)}; label rates {rates}; {options.seeds} seeds")
    print(f"output    {out}")
    tuning = len(list_tuning_tasks(options, out)) if options.tune else 0
    tuning_text = f" and {tuning} of tuning" if tuning else ""
    print(f"runs      {len(tasks)}{tuning_text}, on {where}, one thread each; finished ones are kept")
    seconds = measured_seconds(out)
    labels = list(dict.fromkeys(label_of(task.method, task.settings.pretraining) for task in tasks))
    known = {label: seconds[label] for label in labels if label in seconds}
    each = ", ".join(f"{label} {value:.0f} s" for label, value in known.items())
    unknown = ", ".join(label for label in labels if label not in known)
    if known:
        total = sum(known.get(label_of(task.method, task.settings.pretraining), 0) for task in tasks)
        spread = "" if options.scheduler else f"; about {total / min(options.jobs, len(tasks)) / 60:.1f} minutes"
        print(f"cost      {each} a run, measured on finished ones: {total:.0f} s in all{spread}")
    if unknown:
        print(f"cost      unknown for {unknown}: no run of it has finished here yet")


def measured_seconds(out: Path) -> dict[str, float]:
    """Method, with its pretraining -> median seconds of training of the finished runs in a study's folder."""
    seconds: dict[str, list[float]] = {}
    for history in sorted((out / "runs").rglob("history.tsv")):
        if is_complete(history.parent):
            run = load_run(history.parent)
            taken = run.history["seconds"].dropna()
            if len(taken):
                label = label_of(run.metrics["method"], pretraining_of(run))
                seconds.setdefault(label, []).append(float(taken.iloc[-1]))
    return {label: float(np.median(values)) for label, values in seconds.items()}


def print_budget(tasks: Sequence[Task]) -> None:
    """The label budget of each label rate, from the data themselves: the split of the first seed."""
    first = {task.label_rate: task for task in reversed(tasks)}
    for _, task in sorted(first.items()):
        rows = task.settings.load(task.seed).rows
        shown = {part: sum(row.label_visible for row in rows if row.split == part) for part in ("train", "validation")}
        size = sum(row.split == "train" for row in rows)
        print(
            f"labels    {task.label_rate:g}: {shown['train']} visible of {size} training samples, and "
            f"{shown['validation']} labeled validation samples (seed {task.seed})"
        )


def write_study(options: Options, out: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write the tables of the finished runs, then plot, Markdown and PDF from the tables alone."""
    runs = [load_labeled(options, outcome.run_dir) for outcome in outcomes if outcome.run_dir is not None]
    settings = outcomes[0].task.settings
    brains = settings.dataset == "adni"
    reference, metric = choose_reference(runs), options.metric or default_metric(settings)
    per_seed = tabulate_seeds(runs)
    _write_table(out / "per_seed.tsv", per_seed)
    _write_table(out / "table.tsv", summarize_seeds(per_seed))
    _write_table(out / "differences.tsv", compare_methods(runs, reference, metric))
    about = runs[0].metrics
    write_json(
        out / "study.json",
        {
            "name": out.name,
            "dataset": about["dataset"],
            "simulated": any(run.metrics["simulated"] for run in runs),
            "brains": brains,
            "features": about["features"],
            "adjustment": {key: runs[0].config["data"].get(key) for key in SETTINGS} if brains else {},
            "classes": class_names(runs[0]),
            "methods": labels_of(options),
            "not_trained": [method for method in options.methods if hasattr(METHODS[method], "fit")],
            "label_rates": options.label_rates,
            "seeds": list(range(options.seeds)),
            "metric": metric,
            "panels": settings.panels,
            "reference": reference,
            "budget": [describe_budget(rate, runs) for rate in options.label_rates],
            "runs": {"planned": len(outcomes), "finished": len(runs)},
            "tuned": options.tune,
            "when": f"{date.today():%Y-%m}",
        },
    )
    return write_study_report(out)


def default_metric(settings: Settings) -> str:
    """What the paper reports for each kind of data."""
    return "auc" if settings.dataset in ("adni", "emotion") else "accuracy"


def describe_budget(label_rate: float, runs: Sequence[Run]) -> dict[str, Any]:
    """Smallest and largest count over the runs of that label rate; None where none has finished."""
    of_rate = [run.metrics for run in runs if run.metrics["label_rate"] == label_rate]
    counts = {f"n_{part}": [m["n"][part] for m in of_rate] for part in ("train", "validation", "test")}
    counts |= {part: [m["labels"][part] for m in of_rate] for part in ("train_visible", "validation")}
    return {"label_rate": label_rate} | {key: [min(v), max(v)] if v else None for key, v in counts.items()}


def write_failures(out: Path, outcomes: Sequence[Outcome]) -> int:
    """`failures.tsv` where there are any; how many."""
    rows = [(str(o.task), o.task.method, o.task.label_rate, o.task.seed, o.failure) for o in outcomes if o.failure]
    file = out / "failures.tsv"
    file.unlink(missing_ok=True)
    if rows:
        _write_table(file, pd.DataFrame(rows, columns=["run", "method", "label_rate", "seed", "reason"]))
    return len(rows)


def _write_table(file: Path, table: pd.DataFrame) -> None:
    write_text(file, to_tsv(table))


def run(options: Options, grid: Grid = run_grid) -> int:
    register_own({"methods": dict.fromkeys(options.methods)}, DATASETS, options.allow_code)
    settings = settings_for(options, options.label_rates[0])
    out = output_folder(options, settings)
    tasks = list_tasks(options, out, {})
    print_plan(options, out, tasks)
    if options.dry_run:
        print_budget(tasks)
        return 0
    with lock_folder(out):
        return train_and_write(options, out, grid)


def train_and_write(options: Options, out: Path, grid: Grid) -> int:
    tuned = tune(options, out, grid) if options.tune else {}
    outcomes = grid(list_tasks(options, out, tuned), title="study", **_place(options))
    failed = write_failures(out, outcomes)
    for outcome in [o for o in outcomes if o.failure][:5]:
        print(f"failed    {outcome.task}: {outcome.failure}", file=sys.stderr)
    if failed:
        print(f"failed    {failed} of {len(outcomes)} runs; all of them: {out / 'failures.tsv'}", file=sys.stderr)
    if failed < len(outcomes):
        pdf = write_study(options, out, outcomes)
        print((out / "table.md").read_text(encoding="utf-8"))
        print(f"report    {pdf}  (tables beside it: table.tsv, per_seed.tsv, differences.tsv)")
    return 1 if failed else 0


def run_all(options: Options, grid: Grid = run_grid) -> int:
    """A study for each configuration, and for several of them one figure of all their panels."""
    if len(options.config) == 1:
        return run(options, grid)
    base = options.out or Path("out/studies")
    outs = {config: base / Path(config).stem for config in options.config}
    status = max(run(replace(options, config=(config,), out=out), grid) for config, out in outs.items())
    finished = [out for out in outs.values() if (out / "study.json").is_file()]
    if finished and not options.dry_run:
        written = write_panels(finished, base / "-".join(out.name for out in finished))
        print(f"figure    {', '.join(map(str, written))}")
    return status


def main(argv: list[str] | None = None) -> int:
    return command_line.main(["study", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    raise SystemExit(main())
