"""Train one method on one data set, built-in or your own, and print the result.

CONFIG is the name of a built-in configuration or a YAML file (see `adni-tcgm config`). A finished run is left as it is,
and one that was killed goes on. On several GPUs or machines, as torchrun starts them:
torchrun --nproc-per-node 2 -m pipelines.run CONFIG
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from adni_tcgm.methods.registry import METHODS
from pipelines import options as shared

EXAMPLES = """\
  adni-tcgm train gaussian
  adni-tcgm train mine.yaml --method vat --seed 1
  adni-tcgm train newsgroup_m2 --data 20_newsgroups.tar.gz --label-rate 0.3 --set train.steps=200"""


@dataclass(frozen=True)
class Options:
    config: str
    method: str
    data: Path | None
    out: Path | None
    label_rate: float | None
    seed: int
    device: str
    set: tuple[str, ...]
    tensorboard: bool
    overwrite: bool
    dry_run: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="built-in name, or a .yaml file")
    parser.add_argument("--method", default="tcgm", help=f"{', '.join(METHODS)}, or module:Name of your own")
    parser.add_argument("--data", type=Path, metavar="PATH", help="file or folder of the data; sets data.path")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: out/NAME")
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and stop")
    shared.add_overwrite(parser)
    training = parser.add_argument_group("training")
    training.add_argument(
        "--label-rate", type=float, metavar="SHARE", help="share of the training labels shown; default: as configured"
    )
    training.add_argument("--seed", type=int, default=0, help="of split, labels and training")
    shared.add_overrides(training, "train.steps=300")
    training.add_argument("--tensorboard", action="store_true", help="log to OUT/tensorboard as well as to TSV")


def output_folder(options: Options) -> Path:
    return options.out or Path("out") / Path(options.config).stem


def run(options: Options) -> int:
    from pipelines import run

    return run.run(options)
