"""`python -m pipelines.simulate OUT`: write a simulated cohort, raw scans and prepared maps."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from adni_tcgm.command import add_debug, run_command
from adni_tcgm.files import lock_folder
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.people import CohortDesign


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    default = CohortDesign()
    parser = argparse.ArgumentParser(prog="python -m pipelines.simulate", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", type=int, help="stable and converting people; default 300")
    parser.add_argument("--raw", type=int, default=default.raw, help="how many of them arrive as scans")
    parser.add_argument("--prepared-only", action="store_true", help="no raw scans at all")
    parser.add_argument(
        "--test-subjects", type=int, metavar="N", help="an external test set: N labeled people, prepared"
    )
    parser.add_argument("--anatomies", type=Path, metavar="DIR", help="label maps of other people's heads")
    parser.add_argument("--severity-correlation", type=float, default=default.severity_correlation)
    parser.add_argument("--nuisance-correlation", type=float, default=default.nuisance_correlation)
    parser.add_argument("--missing-pet", type=float, default=default.missing_pet, help="share of people without PET")
    parser.add_argument(
        "--missing-pet-severity", type=float, default=0.0, help="log odds of that per SD of severity; 0: at random"
    )
    parser.add_argument("--site-imbalance", type=float, default=0.0, help="SD over sites of the log odds of classes")
    parser.add_argument("--site-effect", type=float, default=0.0, help="size of what scanners of a site do; 1 is usual")
    parser.add_argument(
        "--visits", type=int, choices=(1, 2), default=1, help="of a person; 2: one more after two years"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--disease-seed", type=int, help="which disease; default: that of --seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    add_debug(parser)
    return parser.parse_args(argv)


def design_of(arguments: argparse.Namespace) -> CohortDesign:
    """The cohort that the command line asks for, with the paper's share of converters (144 of 300)."""
    shared = {
        "severity_correlation": arguments.severity_correlation,
        "nuisance_correlation": arguments.nuisance_correlation,
        "missing_pet": arguments.missing_pet,
        "missing_pet_severity": arguments.missing_pet_severity,
        "site_imbalance": arguments.site_imbalance,
        "site_effect": arguments.site_effect,
        "visits": arguments.visits,
        "seed": arguments.seed,
        "disease_seed": arguments.disease_seed,
    }
    labeled = arguments.test_subjects or arguments.subjects or 300
    converters = round(labeled * 144 / 300)
    sizes = {"converters": converters, "stable": labeled - converters}
    if arguments.test_subjects:
        return CohortDesign(**shared, **sizes, **dict.fromkeys(UNLABELED_GROUPS, 0), raw=0, truncated=0)
    scans = {"raw": 0, "truncated": 0} if arguments.prepared_only else {"raw": arguments.raw}
    return CohortDesign(**shared, **sizes, **scans)


UNLABELED_GROUPS = ("censored", "reverting", "normal", "dementia")


def run(arguments: argparse.Namespace) -> int:
    with lock_folder(arguments.out):
        write_cohort(arguments.out, design_of(arguments), arguments.anatomies, arguments.jobs)
    print(f"SIMULATED cohort in {arguments.out}")
    return 0


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    return run_command(run, arguments, arguments.out)


if __name__ == "__main__":
    raise SystemExit(main())
