"""python -m reports RUN_DIR...: write the reports of finished runs again, without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from adni_tcgm.command import add_debug, run_command
from adni_tcgm.files import lock_folder
from adni_tcgm.privacy import pseudonym, pseudonym_key
from reports.generic import is_generic, write_generic
from reports.records import find_prepared, load_prepared, load_run
from reports.scans import list_scans
from reports.writing import write_reports


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="run folders of one cohort")
    parser.add_argument("--out", type=Path, help="where the PDFs go (default: reports/ beside the runs folder)")
    parser.add_argument("--prepared", type=Path, help="prepared folder (default: the one that the first run names)")
    parser.add_argument(
        "--baselines", type=Path, help="baselines.json or its folder (default: baselines-*/ of the same rate and seed)"
    )
    parser.add_argument("--subject-reports", default="8", metavar="all|none|N", help="test people who get a report")
    parser.add_argument("--subject", nargs="+", default=[], metavar="ID", help="instead: these people or visits")
    parser.add_argument("--identifiers", action="store_true", help="call people by their ids, not by pseudonyms")
    parser.add_argument("--pseudonyms", action="store_true", help="print whom each pseudonym stands for, and stop")
    parser.add_argument(
        "--scans",
        action="store_true",
        help="print the table of the RIDs, visits and image ids that were used, and stop",
    )
    parser.add_argument("--only", choices=("pdf", "html"), help="default: both for people; the cohort has a PDF only")
    parser.add_argument("--jobs", type=int, default=1, help="processes over subjects")
    parser.add_argument(
        "--prevalence", type=float, metavar="SHARE", help="of converters where the report is read, e.g. 0.17"
    )
    parser.add_argument("--acknowledgement", default="", metavar="TEXT", help="for data that are not ADNI's")
    add_debug(parser)
    return parser.parse_args(arguments)


def find_baselines(run_dir: Path) -> Path | None:
    """The baselines of a run's own label rate and seed: `baselines-r0.1-s0` beside `voxels-tcgm-r0.1-s0`."""
    folder = run_dir.parent / "-".join(["baselines", *run_dir.name.split("-")[2:]])
    return folder if (folder / "baselines.json").is_file() else None


def print_pseudonyms(run_dir: Path) -> None:
    """The way back: a line for everybody in the run's splits."""
    key = pseudonym_key(run_dir)
    for participant_id in sorted({sample_id.partition("_ses-")[0] for sample_id in load_run(run_dir).splits.index}):
        print(f"{participant_id}\t{pseudonym(participant_id, key)}")


def print_scans(run_dir: Path, prepared: Path | None) -> None:
    """A TSV of everybody in the run's splits. Raises FileNotFoundError without the prepared folder."""
    folder = prepared or find_prepared(load_run(run_dir))
    if folder is None:
        raise FileNotFoundError(f"{run_dir}: its prepared folder is not there; --prepared says where it is")
    print(list_scans(load_run(run_dir), load_prepared(folder)).to_csv(sep="\t", index=False), end="")


def run(options: argparse.Namespace) -> int:
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


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return run_command(run, options, output_folder(options))


if __name__ == "__main__":
    raise SystemExit(main())
