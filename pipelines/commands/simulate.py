"""Write a simulated cohort: raw scans, prepared maps, tables as ADNI has them, and the truth behind them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pipelines import options as shared

EXAMPLES = """\
  adni-tcgm simulate out/simulated --raw 4
  adni-tcgm simulate out/simulated --subjects 100 --prepared-only --seed 1
  adni-tcgm simulate out/external --test-subjects 400 --seed 7 --disease-seed 0"""


@dataclass(frozen=True)
class Options:
    """What was not given is None: then `preprocessing.simulated.people.CohortDesign` has its default."""

    out: Path
    subjects: int | None
    raw: int | None
    prepared_only: bool
    test_subjects: int | None
    anatomies: Path | None
    severity_correlation: float | None
    nuisance_correlation: float | None
    missing_pet: float | None
    missing_pet_severity: float | None
    site_imbalance: float | None
    site_effect: float | None
    visits: int | None
    seed: int
    disease_seed: int | None
    jobs: int

    def __post_init__(self) -> None:
        for name in ("test_subjects", "prepared_only"):
            if self.raw is not None and getattr(self, name):
                raise ValueError(f"--raw does not go with --{name.replace('_', '-')}, which writes no raw scans")
        if self.subjects is not None and self.test_subjects is not None:
            raise ValueError("--subjects and --test-subjects; one of them says how many people")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT")
    shared.add_jobs(parser)
    parser.add_argument("--seed", type=int, default=0)
    size = parser.add_argument_group("people")
    size.add_argument("--subjects", type=int, metavar="N", help="stable and converting people; default: 300")
    size.add_argument("--raw", type=int, metavar="N", help="how many of them arrive as scans; default: 24")
    size.add_argument("--prepared-only", action="store_true", help="no raw scans at all")
    size.add_argument(
        "--test-subjects", type=int, metavar="N", help="an external test set: N labeled people, prepared, and no others"
    )
    size.add_argument("--visits", type=int, choices=(1, 2), help="of a person; 2: one more after two years")
    size.add_argument("--anatomies", type=Path, metavar="DIR", help="label maps of other people's heads")
    scans = parser.add_argument_group("disease and scanners")
    scans.add_argument("--disease-seed", type=int, metavar="N", help="which disease; default: that of --seed")
    scans.add_argument("--severity-correlation", type=float, metavar="R", help="of MRI and PET; default: 0.3")
    scans.add_argument("--nuisance-correlation", type=float, metavar="R", help="of what no table records; default: 0")
    scans.add_argument("--missing-pet", type=float, metavar="SHARE", help="of people; default: 0.08")
    scans.add_argument(
        "--missing-pet-severity", type=float, metavar="X", help="log odds of that per SD of severity; 0: at random"
    )
    scans.add_argument("--site-imbalance", type=float, metavar="SD", help="over sites, of the log odds of classes")
    scans.add_argument(
        "--site-effect", type=float, metavar="X", help="size of what a site's scanners do; 1 is usual; default: 0"
    )


def output_folder(options: Options) -> Path:
    return options.out


def run(options: Options) -> int:
    from pipelines import simulate

    return simulate.run(options)
