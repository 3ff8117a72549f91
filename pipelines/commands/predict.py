"""What a trained run says of a new person's scans: a report as PDF and HTML, and predictions.tsv.

`--arrays FILE` predicts samples by a run that was trained on arrays, and writes predictions.tsv alone.

The scans are prepared by the recipe that the run's own people were prepared with; no diagnosis is asked for. Scans are
NIfTI files or folders of DICOM files; `--bids DIR --subject sub-X` takes them from a BIDS data set. `--demo-model`, in
place of RUN_DIR, shows what a report looks like: that model has only seen simulated people, its answer means nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pipelines import options as shared

DEMO_MODEL = Path(__file__).parents[1] / "demo_model"  # by `pipelines.build_demo_model`
EXAMPLES = """\
  adni-tcgm predict --demo-model --t1 t1.nii.gz
  adni-tcgm predict out/adni/runs/regions-tcgm-r0.1-s0 --t1 t1.nii.gz --pet pet.nii.gz --age 71 --sex F
  adni-tcgm predict RUN_DIR --t1 DICOM_FOLDER --subject 0815
  adni-tcgm predict RUN_DIR --bids DATASET --subject sub-01 --prevalence 0.17
  adni-tcgm predict RUN_DIR --arrays new.npz --out out/predict/new"""


# Of a person's report; --arrays makes none.
REPORT_OPTIONS = (
    "demo_model",
    "pet",
    "age",
    "sex",
    "site",
    "identifiers",
    "prevalence",
    "saliency",
    "self_check",
    "dicom",
)


@dataclass(frozen=True)
class Options:
    run_dir: Path | None
    demo_model: bool
    t1: Path | None
    pet: Path | None
    bids: Path | None
    arrays: Path | None
    subject: str
    age: float | None
    sex: str | None
    site: str | None
    identifiers: bool
    prevalence: float | None
    saliency: bool
    self_check: bool
    dicom: bool
    allow_code: tuple[str, ...]
    out: Path | None

    def __post_init__(self) -> None:
        if bool(self.run_dir) == self.demo_model:
            raise ValueError("one of RUN_DIR and --demo-model is needed")
        if sum(map(bool, (self.t1, self.bids, self.arrays))) != 1:
            raise ValueError("one of --t1, --bids and --arrays is needed")
        if self.arrays and (idle := [name for name in REPORT_OPTIONS if getattr(self, name)]):
            raise ValueError(f"--{idle[0].replace('_', '-')} does not go with --arrays, which makes no report")
        if self.bids and self.pet:
            raise ValueError("--pet does not go with --bids, which finds the PET itself")

    @property
    def run_folder(self) -> Path:
        """The run that predicts."""
        return self.run_dir or DEMO_MODEL

    @property
    def folder(self) -> Path:
        """Where results go: --out, or out/predict/SUBJECT."""
        return self.out or Path("out") / "predict" / "".join(c if c.isalnum() else "-" for c in self.subject)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", nargs="?", help="a finished run")
    parser.add_argument("--demo-model", action="store_true", help="instead of RUN_DIR: the SIMULATED MODEL that ships")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: out/predict/SUBJECT")
    shared.add_allow_code(parser)
    scans = parser.add_argument_group("scans")
    scans.add_argument("--t1", type=Path, help="T1: a NIfTI file, or a folder of DICOM files")
    scans.add_argument("--pet", type=Path, help="FDG-PET, likewise; without it the T1 alone decides")
    scans.add_argument("--bids", type=Path, metavar="DIR", help="instead of --t1 and --pet: a BIDS data set")
    scans.add_argument("--arrays", type=Path, metavar="FILE", help="instead of scans: samples of a run on arrays")
    person = parser.add_argument_group("person")
    person.add_argument("--subject", default="new", help="name in the report; with --bids: whose scans (sub-X)")
    person.add_argument("--age", type=_age, metavar="YEARS", help="norms and age-adjusted runs need it")
    person.add_argument("--sex", choices=("F", "M"))
    person.add_argument("--site", help="of the scans, as training sites are called; harmonized runs need it")
    report = parser.add_argument_group("report")
    shared.add_identifiers(report)
    shared.add_prevalence(report)
    report.add_argument("--saliency", action="store_true", help="what carried the answer, with the slow checks")
    shared.add_self_check(report)
    report.add_argument("--dicom", action="store_true", help="also report and segmentation as DICOM; identifiable")


def _age(text: str) -> float:
    years = float(text)
    if not 0 < years < 130:
        raise argparse.ArgumentTypeError(f"{text}; years between 0 and 130 are expected")
    return years


def output_folder(options: Options) -> Path:
    return options.folder


def run(options: Options) -> int:
    from pipelines import predict

    return predict.run(options)
