"""Say who would be in, with which label and which scans, and what was not understood. Reads tables and headers only.

Writes OUT/prepared/people.tsv, ledger.tsv and chosen_scans.tsv; nothing is prepared. Exit status 1: scans were lost for
want of understanding, and are listed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pipelines import options as shared
from pipelines.options import Labels, Scans

EXAMPLES = """\
  adni-tcgm intake --data DOWNLOAD
  adni-tcgm intake --data DOWNLOAD --horizon 24 --out out/two-years
  adni-tcgm intake --bids DATASET
  adni-tcgm intake --list scans.tsv"""


@dataclass(frozen=True)
class Options:
    scans: Scans
    labels: Labels
    out: Path

    def __post_init__(self) -> None:
        if self.scans.path is None:
            raise ValueError("one of --data, --bids and --list is needed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("out/adni"), metavar="DIR", help="default: %(default)s")
    shared.add_scans(parser, "an ADNI download with its tables")
    shared.add_labels(parser)


def output_folder(options: Options) -> Path:
    return options.out


def run(options: Options) -> int:
    from pipelines import run_adni

    return run_adni.run_intake(options)
