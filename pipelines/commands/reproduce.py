"""Train a finished run once more, from its own records, and compare every byte.

Settings, seed and threads are those of the run. Where code, packages, machine or data are no longer what they were, it
says so and stops; --allow-changes goes on. Exit status 0: the same bytes; 1: not.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pipelines import options as shared

EXAMPLES = """\
  adni-tcgm reproduce out/adni/runs/regions-tcgm-r0.1-s0
  adni-tcgm reproduce RUN_DIR --data OTHER_PLACE --allow-changes"""


@dataclass(frozen=True)
class Options:
    run_dir: Path
    data: Path | None
    external: Path | None
    out: Path | None
    allow_code: tuple[str, ...]
    allow_changes: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a finished run")
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="where the data lie; default: the prepared folder that the run names"
    )
    parser.add_argument("--external", type=Path, metavar="DIR", help="the external test set, where the run had one")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="keep the second run below this folder; default: it is compared only"
    )
    shared.add_allow_code(parser)
    parser.add_argument("--allow-changes", action="store_true", help="go on where code, packages or data have changed")


def output_folder(options: Options) -> Path | None:
    return options.out


def run(options: Options) -> int:
    from pipelines import rerun

    return rerun.run(options)
