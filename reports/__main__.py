"""Write the reports of finished runs again, without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from adni_tcgm.command import add_debug, run_command
from adni_tcgm.files import lock_folder

EXAMPLES = """\
  adni-tcgm report out/adni/runs/regions-tcgm-r0.1-s0 out/adni/runs/regions-ce-r0.1-s0
  adni-tcgm report RUN_DIR --subject sub-ADNI011S4105 --only pdf
  adni-tcgm report RUN_DIR --subject-reports none --prevalence 0.17"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="run folders of one cohort")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: reports/ beside the runs folder")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="processes over subjects; default: %(default)s"
    )
    source = parser.add_argument_group("what it is made of")
    source.add_argument("--prepared", type=Path, metavar="DIR", help="default: the folder that the first run names")
    source.add_argument(
        "--baselines",
        type=Path,
        metavar="PATH",
        help="baselines.json or its folder; default: baselines-*/ of the same rate and seed",
    )
    people = parser.add_argument_group("who gets a report")
    people.add_argument(
        "--subject-reports", default="8", metavar="all|none|N", help="test people; default: %(default)s"
    )
    people.add_argument("--subject", nargs="+", default=[], metavar="ID", help="instead: these people or visits")
    people.add_argument("--identifiers", action="store_true", help="call people by their ids, not by pseudonyms")
    content = parser.add_argument_group("what it says")
    content.add_argument("--only", choices=("pdf", "html"), help="default: both for people; the cohort has a PDF only")
    content.add_argument(
        "--prevalence",
        type=float,
        metavar="SHARE",
        help="of converters among such people where the report is read, e.g. 0.17",
    )
    content.add_argument("--acknowledgement", default="", metavar="TEXT", help="in reports on data that are not ADNI's")
    instead = parser.add_argument_group("instead of reports")
    instead.add_argument("--pseudonyms", action="store_true", help="print whom each pseudonym stands for, and stop")
    instead.add_argument(
        "--scans", action="store_true", help="print a table of the RIDs, visits and image ids that were used, and stop"
    )


def find_baselines(run_dir: Path) -> Path | None:
    """The baselines of a run's own label rate and seed: `baselines-r0.1-s0` beside `voxels-tcgm-r0.1-s0`."""
    folder = run_dir.parent / "-".join(["baselines", *run_dir.name.split("-")[2:]])
    return folder if (folder / "baselines.json").is_file() else None


def print_pseudonyms(run_dir: Path) -> None:
    """The way back: a line for everybody in the run's splits."""
    from adni_tcgm.privacy import pseudonym, pseudonym_key
    from reports.records import load_run

    key = pseudonym_key(run_dir)
    for participant_id in sorted({sample_id.partition("_ses-")[0] for sample_id in load_run(run_dir).splits.index}):
        print(f"{participant_id}\t{pseudonym(participant_id, key)}")


def print_scans(run_dir: Path, prepared: Path | None) -> None:
    """A TSV of everybody in the run's splits. Raises FileNotFoundError without the prepared folder."""
    from reports.records import find_prepared, load_prepared, load_run
    from reports.scans import list_scans

    folder = prepared or find_prepared(load_run(run_dir))
    if folder is None:
        raise FileNotFoundError(f"{run_dir}: its prepared folder is not there; --prepared says where it is")
    print(list_scans(load_run(run_dir), load_prepared(folder)).to_csv(sep="\t", index=False), end="")


def run(options: argparse.Namespace) -> int:
    from reports.generic import is_generic, write_generic
    from reports.writing import write_reports

    first, destination = options.run_dirs[0].resolve(), output_folder(options)
    if options.pseudonyms:
        print_pseudonyms(first)
        return 0
    if options.scans:
        print_scans(first, options.prepared)
        return 0
    with lock_folder(destination):
        if is_generic(first):
            print(write_generic(options.run_dirs, destination))
            return 0
        reports = write_reports(
            options.run_dirs,
            destination,
            prepared=options.prepared,
            baselines=options.baselines or find_baselines(first),
            subject_reports=options.subject_reports,
            jobs=options.jobs,
            prevalence=options.prevalence,
            subjects=options.subject,
            identifiers=options.identifiers,
            acknowledgement=options.acknowledgement,
            kinds=(options.only,) if options.only else ("pdf", "html"),
        )
    for path in reports.written:
        print(path)
    return 1 if reports.failures else 0


def output_folder(options: argparse.Namespace) -> Path:
    return options.out or options.run_dirs[0].resolve().parent.parent / "reports"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        description=__doc__,
        epilog=f"examples:\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    add_debug(parser)
    options = parser.parse_args(argv)
    return run_command(run, options, output_folder(options))


if __name__ == "__main__":
    raise SystemExit(main())
