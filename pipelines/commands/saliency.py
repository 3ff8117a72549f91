"""Show what a trained network's answers depend on.

Of a run on voxels, writes maps below RUN_DIR/saliency in template space and, for people who came as raw scans, on their
own T1; of a run on regional measurements, a table of what each of them adds. With a record of how faithful they are.
The reports show them from then on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pipelines import options as shared

EXAMPLES = """\
  adni-tcgm saliency out/adni/runs/voxels-tcgm-r0.1-s0
  adni-tcgm saliency RUN_DIR --subjects sub-ADNI011S4105_ses-M000"""


@dataclass(frozen=True)
class Options:
    run_dir: Path
    subjects: tuple[str, ...]
    allow_code: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a finished run on brains")
    parser.add_argument(
        "--subjects", nargs="+", default=(), metavar="SAMPLE_ID", help="sub-X_ses-M000 …; default: the test split"
    )
    shared.add_allow_code(parser)


def output_folder(options: Options) -> Path:
    return options.run_dir / "saliency"


def run(options: Options) -> int:
    from pipelines import saliency

    return saliency.explain_run(options)
