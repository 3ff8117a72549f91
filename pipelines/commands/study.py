"""Compare methods over label rates and seeds: one table, one plot, one PDF.

Every run is independent: one that fails is listed and the others go on. Whatever is finished is left as it is, so the
same command continues an interrupted study. Several configurations make a study each, and a figure of all.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from adni_tcgm.methods.registry import METHODS
from pipelines import options as shared

EXAMPLES = """\
  adni-tcgm study gaussian --methods ce,tcgm --seeds 5 --jobs 2
  adni-tcgm study adni_regions --data out/adni/prepared --label-rates 0.05,0.1,0.3 --dry-run
  adni-tcgm study mine.yaml --methods tcgm,my_module:MyMethod --allow-code my_module"""

METRICS = ("accuracy", "balanced_accuracy", "auc", "log_loss")


@dataclass(frozen=True)
class Options:
    """config: one study each. set: "key=value" on top of each configuration."""

    config: tuple[str, ...]
    methods: tuple[str, ...]
    pretrainings: tuple[str, ...] | None
    label_rates: tuple[float, ...]
    seeds: int
    metric: str | None
    tune: bool
    data: Path | None
    out: Path | None
    jobs: int
    scheduler: str | None
    device: str
    set: tuple[str, ...]
    allow_code: tuple[str, ...]
    overwrite: bool
    dry_run: bool

    def __post_init__(self) -> None:
        for method in self.methods:
            module, own, _ = method.partition(":")
            if own and module not in self.allow_code:
                raise ValueError(f"--methods names {method}, code of your own; to run it: --allow-code {module}")
            if not own and method not in METHODS:
                raise ValueError(f"--methods names {method!r}; known: {', '.join(METHODS)}")
        if self.seeds < 1:
            raise ValueError(f"--seeds is {self.seeds}; it must be at least 1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="+", metavar="CONFIG", help="built-in names, or .yaml files")
    parser.add_argument("--data", type=Path, metavar="PATH", help="where the data lie; sets data.path")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: out/studies/NAME; of several, the one of all")
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and stop")
    shared.add_overwrite(parser)
    compared = parser.add_argument_group("what is compared")
    compared.add_argument(
        "--methods", type=shared.names, default="ce,tcgm", metavar="A,B,…", help=f"of {', '.join(METHODS)}, or your own"
    )
    compared.add_argument(
        "--pretrainings", type=shared.names, metavar="A,B,…", help="of the configuration's pretrainings, or none"
    )
    compared.add_argument("--label-rates", type=_rates, default="0.1", metavar="R,R,…", help="default: %(default)s")
    compared.add_argument("--seeds", type=int, default=5, metavar="N", help="how many: 0, 1, …; default: %(default)s")
    compared.add_argument(
        "--metric", choices=METRICS, help="shown and compared; default: auc of brains and emotions, or accuracy"
    )
    training = parser.add_argument_group("training")
    training.add_argument("--tune", action="store_true", help="choose learning rates first, within each seed")
    shared.add_overrides(training, "train.steps=200")
    shared.add_jobs(training)
    training.add_argument("--scheduler", metavar="tcp://…", help="a running Dask scheduler instead of processes here")
    shared.add_allow_code(training)


def _rates(text: str) -> tuple[float, ...]:
    rates = sorted({float(value) for value in text.split(",")})
    if not all(0 < rate <= 1 for rate in rates):
        raise argparse.ArgumentTypeError(f"{text!r}; every label rate must be > 0 and at most 1")
    return tuple(rates)


def output_folder(options: Options) -> Path:
    return options.out or Path("out/studies") / Path(options.config[0]).stem


def run(options: Options) -> int:
    from pipelines import study

    return study.run_all(options)
