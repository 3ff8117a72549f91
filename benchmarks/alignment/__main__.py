"""`python -m benchmarks.alignment sites OUT [--seeds 10]`: every alignment on simulated sites.

toys: moons and blobs, shifted, scaled, turned; sites: CE and TCGM with 18 labels on cohorts of many sites;
alarms: how often good and impossible alignments are flagged; pet: people without PET; shared: encoders of what both
modalities share. Everything is SIMULATED.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from adni_tcgm.alignment import ALIGNMENTS
from benchmarks.alignment import alarms, missing_pet, shared_factors, sites, toys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("toys", "sites", "alarms", "pet", "shared"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=10, help="alarms: draws, 200 are asked for")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--alignments", nargs="+", choices=(sites.NONE, *ALIGNMENTS), default=(sites.NONE, *ALIGNMENTS))
    parser.add_argument("--conditions", nargs="+", choices=sites.CONDITIONS, default=tuple(sites.CONDITIONS))
    parser.add_argument("--imbalance", type=float, default=1.0, help="SD over sites of the log odds of converters")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    if arguments.what == "toys":
        return toys.run(arguments.out, seeds)
    if arguments.what == "pet":
        return missing_pet.run(arguments.out, seeds)
    if arguments.what == "shared":
        return shared_factors.run(arguments.out, seeds)
    if arguments.what == "alarms":
        return alarms.run(arguments.out, arguments.seeds)
    return sites.run(
        arguments.out, seeds, tuple(arguments.alignments), tuple(arguments.conditions), arguments.imbalance
    )


if __name__ == "__main__":
    main()
