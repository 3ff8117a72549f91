"""`python -m pipelines.run CONFIG`: train one method on one data set, built-in or your own, and print the result.

CONFIG is the name of a built-in configuration (`pipelines/configs`) or a YAML file. A finished run is left as it
is, and one that was killed goes on. On several GPUs or machines: `torchrun --nproc-per-node 2 -m pipelines.run CONFIG`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pandas as pd

from adni_tcgm.command import add_debug, run_command
from adni_tcgm.storage import load_run
from adni_tcgm.tcgm.processes import joined, rank
from pipelines.config import DATASETS, METHODS, Settings, load_settings, parse_override
from pipelines.own_code import register_own
from pipelines.training import run_name, say_budget, train_run

SHOWN = ("accuracy", "balanced_accuracy", "auc", "log_loss", "brier")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="built-in name, or a .yaml file")
    parser.add_argument("--method", default="tcgm", help=f"{', '.join(METHODS)}, or module:Name of your own")
    parser.add_argument("--data", type=Path, help="file or folder of the data; sets data.path")
    parser.add_argument("--out", type=Path, help="default: out/NAME")
    parser.add_argument("--label-rate", type=float, help="share of the training labels shown; default: as configured")
    parser.add_argument("--seed", type=int, default=0, help="of split, labels and training")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. train.lr_unlabeled=1e-3")
    parser.add_argument("--tensorboard", action="store_true", help="log to OUT/tensorboard as well as to TSV")
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and stop")
    add_debug(parser)
    return parser.parse_args(argv)


def settings_of(arguments: argparse.Namespace) -> Settings:
    overrides = dict(parse_override(text) for text in arguments.set)
    if arguments.data is not None:
        overrides["data.path"] = str(arguments.data)
    if arguments.label_rate is not None:
        overrides["data.label_rate"] = arguments.label_rate
    return load_settings(arguments.config, overrides | {"train.device": arguments.device})


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    runs = (arguments.out or Path("out") / settings.name) / "runs"
    register_own({"method": arguments.method}, DATASETS)
    settings.method(arguments.method)
    train = settings.train_for(arguments.method)
    print(f"data      {settings.name} ({getattr(settings.data, 'path', '') or 'no file'}), dataset {settings.dataset}")
    print(f"training  {arguments.method}, net {settings.network}, {train.steps} steps, seed {arguments.seed}")
    print(f"pretrain  {settings.pretraining}")
    print(f"output    {runs / run_name(settings, arguments.method, arguments.seed)}")
    if arguments.dry_run:
        return 0
    logs = runs.parent / "tensorboard" if arguments.tensorboard else None
    run_dir = train_run(runs, settings, arguments.method, arguments.seed, tensorboard=logs)
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
    arguments = parse_arguments(argv)
    folder = arguments.out or Path("out") / Path(arguments.config).stem
    with joined(arguments.device) as number, said_once(number):
        return run_command(run, arguments, folder)


if __name__ == "__main__":
    raise SystemExit(main())
