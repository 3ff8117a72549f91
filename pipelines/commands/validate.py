"""Apply a finished run, frozen, to the people of another cohort.

They come as a prepared folder, an ADNI download, a BIDS data set or a list of scans. Nothing of the run changes. Their
labels only evaluate it and, in a second column, shift the probabilities by one intercept.

OUT/validation.pdf, validation.json   flow, Table 1 of both cohorts, AUC, calibration, drift of measurements
OUT/predictions.tsv, drift.tsv        every probability; every region's standardized difference
OUT/prepared                          the prepared people, where scans were given
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pipelines import options as shared
from pipelines.options import Scans

EXAMPLES = """\
  adni-tcgm validate out/adni/runs/regions-tcgm-r0.1-s0 --data out/other/prepared
  adni-tcgm validate RUN_DIR --data DOWNLOAD --tables TABLES
  adni-tcgm validate RUN_DIR --bids DATASET --jobs 4"""


@dataclass(frozen=True)
class Options:
    run_dir: Path
    scans: Scans
    reversion: str
    pair_days: int
    jobs: int
    acknowledgement: str
    allow_code: tuple[str, ...]
    out: Path | None

    def __post_init__(self) -> None:
        if self.scans.path is None:
            raise ValueError("one of --data, --bids and --list is needed")
        if not self.scans.path.exists():
            raise ValueError(f"--{self.scans.flag} {self.scans.path}: no such file or folder")

    @property
    def source(self) -> Path:
        """The scans, or the prepared folder."""
        assert self.scans.path is not None
        return self.scans.path

    @property
    def folder(self) -> Path:
        """Where results go: --out, or out/validate/RUN."""
        return self.out or Path("out") / "validate" / self.run_dir.resolve().name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a finished run on brains")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: out/validate/RUN")
    shared.add_jobs(parser)
    shared.add_allow_code(parser)
    shared.add_acknowledgement(parser)
    shared.add_scans(parser, "a prepared folder, or an ADNI download with its tables")
    labels = parser.add_argument_group("labels and visits")
    shared.add_reversion(labels)
    shared.add_pair_days(labels)


def output_folder(options: Options) -> Path:
    return options.folder


def run(options: Options) -> int:
    from pipelines import validate

    return validate.run(options)
