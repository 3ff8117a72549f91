"""`python -m pipelines.predict RUN_DIR --t1 T1.nii.gz [--pet PET.nii.gz]`: a new person's scans, with a trained run.

The scans are prepared by the recipe that the run's own people were prepared with; no diagnosis is asked for. Scans are
NIfTI files or folders of DICOM files; `--bids DIR --subject sub-X` takes them from a BIDS data set. `--demo-model`, in
place of RUN_DIR, shows what a report looks like: that model has only seen simulated people, its answer means nothing.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from adni_tcgm.datasets import adni
from adni_tcgm.datasets.adni_people import read_people
from adni_tcgm.files import check_apart, lock_folder
from adni_tcgm.storage import Run, prediction_table, write_table
from pipelines import command_line
from pipelines.commands.predict import Options
from pipelines.dicom_export import check_source, export_dicom
from pipelines.predict_arrays import predict_arrays
from pipelines.restoring import CLASSES, Refused, open_run, recipe_of, restore, restore_adjustment, settings_of
from pipelines.saliency import write_saliency
from pipelines.self_check import check_people, task_of_list
from preprocessing.cohort.run import Recipe, preprocess_cohort
from preprocessing.intake.source import read_intake, with_nifti
from reports.new_person import write_new_person

PREDICTIONS = "predictions.tsv"
SIMULATED_MODEL = "SIMULATED MODEL"
# What is said of a person beside the scans.
ABOUT = ("age", "sex", "site")


def list_scans(options: Options, out: Path) -> Path:
    """Write the one-row list that the intake reads; scans of a BIDS data set are looked up first."""
    row = {"subject": options.subject, "t1": options.t1, "pet": options.pet}
    row |= {name: getattr(options, name) for name in ABOUT}
    if options.bids:
        row |= _find_in_bids(options.bids, options.subject, out)
        row |= {key: value for key in ABOUT if (value := getattr(options, key)) is not None}
    for name in ("t1", "pet"):
        if row[name] is not None:
            if not Path(row[name]).exists():
                raise FileNotFoundError(f"--{name} {row[name]}: no such file or folder")
            # "./": no folder's name may look like a formula. A link is not followed: its sidecar lies beside the link.
            row[name] = os.path.join(".", os.path.relpath(Path(row[name]).absolute(), out.resolve()))
    file = out / "scans.tsv"
    write_table(file, pd.DataFrame([row]))
    return file


def _find_in_bids(root: Path, subject: str, out: Path) -> dict[str, object]:
    name = f"sub-{subject.removeprefix('sub-')}"
    everybody = read_intake("bids", root)
    wanted = [person for person in everybody.people if person.participant_id == name]
    intake = with_nifti(replace(everybody, people=wanted), out / "prepared")
    if not intake.people:
        reasons = [row.reason for row in intake.ledger if row.participant_id == name]
        known = ", ".join(sorted(person.participant_id for person in everybody.people)[:5])
        raise Refused(f"{root}: no T1 of {name} ({'; '.join(reasons) or f'people with a T1: {known}'})")
    (person,) = intake.people
    pet = person.pet.path if person.pet else None
    age = None if math.isnan(person.age) else person.age
    return {"t1": person.t1.path, "pet": pet, "age": age, "sex": person.sex, "site": person.site}


def check_modalities(run: Run, scans: Path) -> None:
    """Raises Refused for a scan of a modality that the run never saw."""
    row = pd.read_csv(scans, sep="\t", dtype=str, keep_default_na=False).iloc[0]
    trained = set(run.norms["modality"]) if run.norms is not None else set()
    for modality, column in (("mri", "t1"), ("pet", "pet")):
        if row[column] and modality not in trained:
            raise Refused(f"{run.path}: trained on {', '.join(sorted(trained))}; it cannot judge a {column.upper()}")


def prepare(scans: Path, prepared: Path, recipe: Recipe) -> pd.Series:
    """The person's row of the manifest. Raises Refused where the T1 could not be prepared, with the ledger's reason."""
    preprocess_cohort(scans, prepared, jobs=1, recipe=recipe, layout="list", progress=False)
    ledger = pd.read_csv(prepared / "ledger.tsv", sep="\t", dtype=str, keep_default_na=False)
    failed = ledger[ledger["status"] == "failed"]
    manifest = pd.read_csv(prepared / "manifest.tsv", sep="\t", dtype=str, keep_default_na=False)
    if manifest.empty:
        raise Refused(f"the T1 could not be prepared: {'; '.join(failed['reason']) or 'see ledger.tsv'}")
    for reason in failed["reason"]:
        print(f"warning: left out: {reason}", file=sys.stderr)
    return manifest.iloc[0]


def predict_person(run: Run, prepared: Path) -> pd.DataFrame:
    """Rows as in `predictions.tsv`, split "new"; none for somebody who failed quality control."""
    people, left_out = read_people(prepared, undiagnosed=True)
    if people.empty:
        print(f"no prediction: {', '.join(left_out)}", file=sys.stderr)
        return pd.DataFrame()
    return predict_people(run, prepared, "new", undiagnosed=True)


def predict_people(
    run: Run, prepared: Path, split: str, undiagnosed: bool = False, sample_ids: Sequence[str] | None = None
) -> pd.DataFrame:
    """What the run says of people of a prepared folder, as it was trained and calibrated: rows of `predictions.tsv`.

    split: what these rows are called; undiagnosed, sample_ids: as `datasets.adni.load_people` reads them.
    """
    config = replace(settings_of(run, prepared).data, margin=0)
    batch = adni.load_people(config, run.norms, prepared, restore_adjustment(run), undiagnosed, sample_ids)
    return prediction_table(split, batch, *restore(run).posteriors_of(batch), CLASSES)


def explain(run: Run, prepared: Path, sample_id: str, thorough: bool) -> None:
    """What carried the answer, below `prepared`/saliency. A run that cannot be explained is a warning, or, thorough,
    Refused."""
    try:
        write_saliency(run, prepared, prepared / "saliency", [sample_id], quick=not thorough)
    except Refused as reason:
        if thorough:
            raise
        print(f"warning: the report does not say what carried the answer: {reason}", file=sys.stderr)


def run(options: Options) -> int:
    if options.dicom:
        check_source(options.t1)
    trained = open_run(options.run_folder, options.allow_code)
    if options.arrays:
        return predict_samples(options, trained)
    settings_of(trained, Path("."))
    recipe = recipe_of(trained)
    out = options.folder
    for source in (options.t1, options.pet, options.bids):
        if source is not None and source.is_dir():
            check_apart(out, source)
    with lock_folder(out):
        return prepare_and_report(options, trained, recipe, out)


def predict_samples(options: Options, trained: Run) -> int:
    """Of a run on arrays: a table, and no report."""
    out = options.folder
    if options.arrays.is_dir():
        check_apart(out, options.arrays)
    with lock_folder(out):
        table = predict_arrays(trained, options.arrays)
        write_table(out / PREDICTIONS, table)
    print(f"{table['sample_id'].nunique()} samples: {out / PREDICTIONS}")
    return 0


def prepare_and_report(options: Options, trained: Run, recipe: Recipe, out: Path) -> int:
    scans = list_scans(options, out)
    check_modalities(trained, scans)
    person = prepare(scans, out / "prepared", recipe)
    predictions = predict_person(trained, out / "prepared")
    if trained.metrics["simulated"]:
        predictions["model"] = SIMULATED_MODEL
    write_table(out / PREDICTIONS, predictions)
    sample_id = f"{person.participant_id}_{person.session_id}"
    if len(predictions):
        explain(trained, out / "prepared", sample_id, thorough=options.saliency)
    if options.self_check and person.qc != "fail":
        check_people([task_of_list(scans, out / "prepared", recipe)], out / "prepared", out / "self_check")
    pages = write_new_person(
        options.run_folder,
        out / "prepared",
        predictions,
        sample_id,
        out,
        prevalence=options.prevalence,
        identifiers=options.identifiers,
    )
    if options.dicom:
        task = task_of_list(scans, out / "prepared", recipe)
        about = {"identifiers": options.identifiers, "failed": person.qc == "fail"}
        pages += export_dicom(options.t1, task, out / "prepared", pages[0], out, **about)
    for page in pages:
        print(page)
    return 0


def main(argv: list[str] | None = None) -> int:
    return command_line.main(["predict", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    raise SystemExit(main())
