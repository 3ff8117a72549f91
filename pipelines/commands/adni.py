"""From raw scans to PDF: prepare everybody, train with few labels, write the reports.

Without --data it simulates a cohort, says so everywhere, and runs the very same code on it. Whatever is finished is
left as it is, so the same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adni_tcgm.methods.registry import METHODS
from pipelines import options as shared
from pipelines.options import Labels, Scans
from preprocessing import choices

EXAMPLES = """\
  adni-tcgm adni --label-rate 0.1                                    a simulated cohort, from scans to reports
  adni-tcgm adni --data DOWNLOAD --stage intake                      who is in, in seconds
  adni-tcgm adni --data DOWNLOAD --out out/mine --dry-run            what would run, and how long it takes
  adni-tcgm adni --bids DATASET --features regions --jobs 4
  adni-tcgm adni --out out/mine --stage train --set train.lr_labeled=0.02 --overwrite"""

STAGES = ("intake", "preprocess", "train", "report", "all")
# A subject's report shows what each scan says; these two have no answer but the combined one.
REPORTED = tuple(name for name in METHODS if name not in ("soft_hgr", "lmf"))
# The cohort's report is a PDF; a person's may also be a page with a viewer.
FORMATS = ("pdf", "html")


@dataclass(frozen=True)
class Training:
    """method is trained beside the baseline; features: "voxels", "regions" or "both"."""

    method: str
    features: str
    label_rate: float | None
    seed: int
    device: str
    set: tuple[str, ...]


@dataclass(frozen=True)
class Maps:
    """What the maps are; see `preprocessing.subject.plan.Recipe`."""

    reference: str
    resolution: int
    pet_resolution: float
    partial_volume: str
    header: str

    def recipe(self) -> Any:
        """The `Recipe`. Raises ValueError for a resolution that no PET is brought to."""
        from preprocessing.subject.plan import Recipe

        return Recipe(
            reference=self.reference,
            resolution_mm=self.resolution,
            pet_resolution_mm=self.pet_resolution,
            partial_volume=self.partial_volume,
            header=self.header,
        )


@dataclass(frozen=True)
class Work:
    """How subjects are prepared: processes or a scheduler, what one may take, and verdicts on people."""

    jobs: int
    scheduler: str | None
    subject_minutes: float
    subject_memory: float
    qc_overrides: Path | None
    allow_failures: bool

    def limits(self) -> Any:
        """The `preprocessing.cohort.engine.Limits`. Raises ValueError where one is not positive."""
        from preprocessing.cohort.engine import Limits

        return Limits(self.subject_minutes, self.subject_memory)


@dataclass(frozen=True)
class Reports:
    """What is written about whom."""

    subject_reports: str
    formats: tuple[str, ...]
    prevalence: float | None
    identifiers: bool
    self_check: bool
    acknowledgement: str


@dataclass(frozen=True)
class Options:
    """raw: simulated people who arrive as raw scans; anatomies: label maps of other heads for them."""

    scans: Scans
    labels: Labels
    training: Training
    maps: Maps
    work: Work
    reports: Reports
    out: Path
    stage: str
    raw: int | None
    anatomies: Path | None
    overwrite: bool
    dry_run: bool

    def __post_init__(self) -> None:
        for name in ("anatomies", "raw"):
            if self.scans.path and getattr(self, name) is not None:
                raise ValueError(f"--{name} shapes the simulated cohort; it does not go with --{self.scans.flag}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("out/adni"), metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--stage", choices=STAGES, default="all", help="intake: only who is in and what was not understood, in seconds"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and stop")
    shared.add_overwrite(parser)
    shared.add_scans(parser, "an ADNI download with its tables; without any of these: a simulated cohort")
    add_simulated(parser)
    shared.add_labels(parser)
    add_maps(parser)
    add_work(parser)
    add_training(parser)
    add_reports(parser)


def add_simulated(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("simulated cohort")
    group.add_argument(
        "--raw",
        type=int,
        metavar="N",
        help=f"people who arrive as raw scans; default: {choices.SIMULATED_RAW}",
    )
    group.add_argument("--anatomies", type=Path, metavar="DIR", help="label maps of other heads")


def add_maps(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("maps")
    group.add_argument(
        "--reference",
        choices=choices.REFERENCES,
        default=choices.REFERENCES[0],
        help="region of the SUVR; default: %(default)s",
    )
    group.add_argument(
        "--resolution",
        type=int,
        choices=choices.RESOLUTIONS_MM,
        default=2,
        help="mm; 1: maps at 1 mm, too; networks read 2 mm",
    )
    group.add_argument(
        "--pet-resolution",
        type=_pet_resolution,
        default=choices.PET_RESOLUTION_MM,
        metavar="native|MM",
        help="FWHM to which finer PETs are smoothed; default: %(default)g, as ADNI's; native: each as it is",
    )
    group.add_argument(
        "--partial-volume",
        choices=choices.CORRECTIONS,
        default="none",
        help="correction of grey matter's SUVR; default: %(default)s",
    )
    group.add_argument(
        "--header",
        choices=choices.HEADERS,
        default="",
        help="which counts in scans whose sform and qform contradict each other",
    )


def _pet_resolution(text: str) -> float:
    return 0.0 if text == "native" else float(text)


def add_work(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("preparing subjects")
    shared.add_jobs(group)
    group.add_argument("--scheduler", metavar="tcp://…", help="prepare subjects on a running Dask scheduler")
    group.add_argument(
        "--subject-minutes",
        type=float,
        default=choices.SUBJECT_MINUTES,
        metavar="MINUTES",
        help="then a subject is given up; default: %(default)g",
    )
    group.add_argument(
        "--subject-memory",
        type=float,
        default=choices.SUBJECT_MEMORY_GIB,
        metavar="GIB",
        help="likewise; default: %(default)g",
    )
    group.add_argument(
        "--qc-overrides", type=Path, metavar="FILE", help="verdicts of people; default: OUT/prepared/qc_overrides.tsv"
    )
    group.add_argument("--allow-failures", action="store_true", help="exit with 0 although scans failed")


def add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--method", choices=REPORTED, default="tcgm", help="trained beside the baseline ce")
    group.add_argument("--features", choices=("voxels", "regions", "both"), default="both", help="default: %(default)s")
    group.add_argument(
        "--label-rate", type=float, metavar="SHARE", help="share of the training labels shown; default: 0.1"
    )
    group.add_argument("--seed", type=int, default=0, help="of split, labels and training; not of the cohort")
    shared.add_overrides(group, "train.steps=300")


def add_reports(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reports")
    group.add_argument(
        "--subject-reports",
        type=shared.all_none_or_number,
        default="all",
        metavar="all|none|N",
        help="test people who get a report; default: %(default)s",
    )
    group.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS, help="of them; default: both")
    shared.add_prevalence(group)
    shared.add_identifiers(group)
    shared.add_self_check(group)
    shared.add_acknowledgement(group)


def output_folder(options: Options) -> Path:
    return options.out


def run(options: Options) -> int:
    from pipelines import run_adni

    return run_adni.run(options)
