"""A BIDS data set to prepared scans, trained classifiers and reports, by the conventions of BIDS-Apps.

    participant   prepares the scans of the people named by --participant-label (default: everybody). It resumes, and
                  several processes or containers may work on one OUTPUT_DIR at once.
    group         trains and writes the reports, on what participant level has prepared.

Both levels take the same choices of labels and maps; give them the same ones.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from adni_tcgm import __version__
from adni_tcgm.command import add_debug, run_command
from preprocessing.cohort.preflight import usable_cores

LEVELS = ("participant", "group")
EXAMPLES = """\
  adni-tcgm bids BIDS_DIR OUTPUT_DIR participant --participant-label 01 02 --n-procs 2
  adni-tcgm bids BIDS_DIR OUTPUT_DIR group --label-rate 0.1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # Light: choices that need the steps' libraries are checked by the level that runs.
    parser.add_argument("bids_dir", type=Path, metavar="BIDS_DIR", help="a raw BIDS data set with T1w and PET")
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="of the results; not inside BIDS_DIR")
    parser.add_argument("analysis_level", choices=LEVELS, help="participant first, then group")
    parser.add_argument("--version", action="version", version=f"adni-tcgm {__version__}")
    parser.add_argument(
        "--skip-bids-validation",
        action="store_true",
        help="do not ask for a dataset_description.json; file names and tables are read with the same care either way",
    )
    parser.add_argument(
        *("--n-procs", "--n_procs", "--n-cpus"),
        type=int,
        default=usable_cores(),
        metavar="N",
        help="processes of one thread each; default: all cores that it may use",
    )
    parser.add_argument("--work-dir", "-w", type=Path, metavar="DIR", help="for temporary files; default: the system's")
    group = parser.add_argument_group("participant level")
    group.add_argument(
        *("--participant-label", "--participant_label"),
        nargs="+",
        default=[],
        metavar="LABEL",
        help="who is prepared, with or without sub-; default: everybody",
    )
    group.add_argument(
        *("--session-label", "--session_label"),
        nargs="+",
        default=[],
        metavar="LABEL",
        help="which sessions, with or without ses-; default: all of them that have a T1",
    )
    group = parser.add_argument_group("group level")
    group.add_argument("--label-rate", type=float, metavar="SHARE", help="of training labels shown; default: 0.1")
    group.add_argument("--method", default="tcgm", help="trained beside the baseline ce; default: tcgm")
    group.add_argument("--features", choices=("voxels", "regions", "both"), default="both", help="default: both")
    group.add_argument("--seed", type=int, default=0, help="of split, labels and training")
    group.add_argument("--device", default="auto", help="auto, cpu or cuda")
    group.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. train.steps=300")
    group.add_argument("--subject-reports", default="all", metavar="all|none|N", help="of test people; default: all")
    group.add_argument("--acknowledgement", default="", metavar="TEXT", help="in the reports")
    group = parser.add_argument_group("labels and maps, the same at both levels")
    group.add_argument("--horizon", type=float, default=36.0, metavar="MONTHS", help="of a conversion; default: 36")
    group.add_argument("--pair-days", type=int, default=90, metavar="DAYS", help="from a T1 to its PET; default: 90")
    group.add_argument("--reference", default="pons", help="of the SUVR: pons, pons_vermis or cerebellum")
    group.add_argument("--partial-volume", default="none", help="none or muller-gartner")


def output_folder(arguments: argparse.Namespace) -> Path:
    return arguments.output_dir


def run(arguments: argparse.Namespace) -> int:
    if arguments.n_procs < 1:
        raise ValueError(f"--n-procs is {arguments.n_procs}; it must be at least 1")
    if arguments.analysis_level == "group" and (arguments.participant_label or arguments.session_label):
        raise ValueError("--participant-label and --session-label belong to participant level; group takes everybody")
    if arguments.work_dir is not None:
        arguments.work_dir.mkdir(parents=True, exist_ok=True)
        # Before the libraries are loaded that read it, and for the processes to come.
        os.environ["TMPDIR"] = str(arguments.work_dir.absolute())
    from pipelines import bids_levels

    return {"participant": bids_levels.prepare, "group": bids_levels.train_and_report}[arguments.analysis_level](
        arguments
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.bids_app",
        description=__doc__,
        epilog=f"examples:\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    add_debug(parser)
    arguments = parser.parse_args(sys.argv[1:] if argv is None else argv)
    return run_command(run, arguments, output_folder(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
