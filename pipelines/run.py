"""`python -m pipelines.run CONFIG`: train one method on one data set, built-in or your own, and print the result.

CONFIG is the name of a built-in configuration (`pipelines/configs`) or a YAML file. A finished run is left as it
is, and one that was killed goes on. On several GPUs or machines: `torchrun --nproc-per-node 2 -m pipelines.run CONFIG`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pandas as pd

from adni_tcgm.storage import load_run
from adni_tcgm.tcgm.processes import joined, rank
from pipelines import command_line
from pipelines.commands.train import Options
from pipelines.config import DATASETS, Settings
from pipelines.identity import run_name
from pipelines.idle import load_given, refuse_idle
from pipelines.own_code import register_own
from pipelines.scoring import say_budget
from pipelines.training import train_run

SHOWN = ("accuracy", "balanced_accuracy", "auc", "log_loss", "brier")


def settings_of(options: Options) -> Settings:
    overrides: dict[str, object] = {}
    if options.data is not None:
        overrides["data.path"] = str(options.data)
    if options.label_rate is not None:
        overrides["data.label_rate"] = options.label_rate
    return load_given(options.config, options.set, overrides | {"train.device": options.device})


def run(options: Options) -> int:
    with joined(options.device) as number, said_once(number):
        return train(options)


def train(options: Options) -> int:
    settings = settings_of(options)
    runs = (options.out or Path("out") / settings.name) / "runs"
    register_own({"method": options.method}, DATASETS)
    settings.method(options.method)
    refuse_idle(settings, options.method)
    steps = settings.train_for(options.method).steps
    print(f"data      {settings.name} ({getattr(settings.data, 'path', '') or 'no file'}), dataset {settings.dataset}")
    print(f"training  {options.method}, net {settings.network}, {steps} steps, seed {options.seed}")
    print(f"pretrain  {settings.pretraining}")
    print(f"output    {runs / run_name(settings, options.method, options.seed)}")
    if options.dry_run:
        return 0
    logs = runs.parent / "tensorboard" if options.tensorboard else None
    run_dir = train_run(runs, settings, options.method, options.seed, tensorboard=logs, overwrite=options.overwrite)
    if rank() == 0:
        print_result(run_dir)
    return 0


def print_result(run_dir: Path) -> None:
    metrics = load_run(run_dir).metrics
    labels = metrics["labels"]
    marker = "SIMULATED data; " if metrics["simulated"] else ""
    print(f"\n{marker}{metrics['n']['test']} test samples; {labels['train_visible']} training labels shown;")
    print(say_budget(metrics))
    table = pd.DataFrame(metrics["test"]).T[list(SHOWN)]
    print(table.to_string(na_rep="", float_format="{:.3f}".format))


@contextmanager
def said_once(process: int) -> Iterator[None]:
    """Of several processes the first one speaks."""
    if process == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def main(argv: list[str] | None = None) -> int:
    return command_line.main(["train", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    raise SystemExit(main())
