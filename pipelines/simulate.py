"""`python -m pipelines.simulate OUT`: write a simulated cohort, raw scans and prepared maps."""

from __future__ import annotations

import sys
from dataclasses import asdict

from adni_tcgm.files import lock_folder
from pipelines import command_line
from pipelines.commands.simulate import Options
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.people import CohortDesign

# Options that go into the design as they are.
DESIGN = (
    *("raw", "severity_correlation", "nuisance_correlation", "missing_pet", "missing_pet_severity"),
    *("site_imbalance", "site_effect", "visits", "seed", "disease_seed"),
)
UNLABELED_GROUPS = ("censored", "reverting", "normal", "dementia")


def design_of(options: Options) -> CohortDesign:
    """The cohort that was asked for, with the paper's share of converters (144 of 300)."""
    values = {name: value for name, value in asdict(options).items() if name in DESIGN and value is not None}
    labeled = options.test_subjects or options.subjects or 300
    converters = round(labeled * 144 / 300)
    values |= {"converters": converters, "stable": labeled - converters}
    if options.test_subjects:
        values |= dict.fromkeys(UNLABELED_GROUPS, 0)
    if options.test_subjects or options.prepared_only:
        values |= {"raw": 0, "truncated": 0}
    return CohortDesign(**values)


def run(options: Options) -> int:
    with lock_folder(options.out):
        write_cohort(options.out, design_of(options), options.anatomies, options.jobs)
    print(f"SIMULATED cohort in {options.out}")
    return 0


def main(argv: list[str] | None = None) -> int:
    return command_line.main(["simulate", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    raise SystemExit(main())
