"""A response check: known changes are put into a person's own scans, and the pipeline measures them again.

It shows whether a change of known size comes back in these very scans. It is no measure of accuracy: nobody knows the
person's true volumes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import pandas as pd
from tqdm import tqdm

from adni_tcgm.files import inside
from adni_tcgm.storage import write_table
from preprocessing.cohort.run import task_of
from preprocessing.intake.source import read_intake, with_nifti
from preprocessing.ledger import write_json
from preprocessing.sidecars import read_sidecars, sidecar_of
from preprocessing.steps.known_change import put_atrophy, put_hypometabolism
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import StepFailed
from preprocessing.subject.plan import Recipe, SubjectTask
from preprocessing.subject.run import preprocess_subject

HIPPOCAMPAL_LOSSES = (0.05, 0.10)
UPTAKE_LOSS = 0.10
COLUMNS = ("participant_id", "session_id", "measure", "put_in_percent", "found_percent")
MEASURES = {"hippocampus": ("hippocampus", "volume_ml"), "meta-ROI proxy": ("meta_roi_proxy", "suvr")}

Prepare = Callable[[SubjectTask, Path], object]


def task_of_list(scans: Path, prepared: Path, recipe: Recipe) -> SubjectTask:
    """The one person of a list, as `preprocess_cohort` took it; DICOM series are converted already."""
    (person,) = with_nifti(read_intake("list", scans), prepared).people
    return task_of(person, recipe)


def check_people(tasks: list[SubjectTask], prepared: Path, out: Path, prepare: Prepare = preprocess_subject) -> None:
    """`check_response` of each, in a folder of its own below `out`; whoever was checked before is left as he is.

    Changed scans that the pipeline refuses are a warning: that page has no check then.
    """
    pending = [task for task in tasks if not SubjectFolder(task, prepared).response.is_file()]
    for task in tqdm(pending, "response check", unit="person", disable=not pending):
        try:
            check_response(task, prepared, inside(out, task.name), prepare)
        except StepFailed as failure:
            warnings.warn(f"no response check of {task.name}: {failure}", stacklevel=2)


def check_response(task: SubjectTask, prepared: Path, out: Path, prepare: Prepare = preprocess_subject) -> pd.DataFrame:
    """Rows COLUMNS, also written beside the person's results: each change in percent, as put in and as found.

    task: the person, whose results lie in `prepared`; out: where changed scans and their results go. The smaller loss
    of volume and the loss of uptake (where there is a PET) are put in together, the larger loss of volume alone.
    prepare: stands for the pipeline. Raises what it raises where the changed scans cannot be prepared.
    """
    before = measure(task, prepared)
    transforms = SubjectFolder(task, prepared).transforms
    rows = []
    for loss in HIPPOCAMPAL_LOSSES:
        put = {}
        t1, put["hippocampus"] = put_atrophy(nib.load(task.t1), transforms, loss)
        pet = None
        if loss == min(HIPPOCAMPAL_LOSSES) and "meta-ROI proxy" in before:
            rigid = SubjectFolder(task, prepared).rigid
            pet, put["meta-ROI proxy"] = put_hypometabolism(nib.load(task.pet), transforms, rigid, UPTAKE_LOSS)
        changed = _write(task, t1, pet, out / "scans", f"{100 * loss:.0f}percent")
        prepare(changed, out / "prepared")
        after = measure(changed, out / "prepared")
        rows += [
            (task.participant_id, task.session_id, name, -100 * share, 100 * (after[name] / before[name] - 1))
            for name, share in put.items()
            if name in after
        ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).round(2)
    write_table(SubjectFolder(task, prepared).response, table)
    return table


def measure(task: SubjectTask, prepared: Path) -> dict[str, float]:
    """Hippocampal volume (mL, both sides) and SUVR of the meta-ROI proxy; without a PET's result, the first alone."""
    table = pd.read_csv(SubjectFolder(task, prepared).regions, sep="\t")
    found = {}
    for name, (region, column) in MEASURES.items():
        values = table.loc[table["region"] == region, column].dropna()
        if len(values):
            found[name] = float(values.sum() if column == "volume_ml" else values.mean())
    return found


def _write(task: SubjectTask, t1: nib.Nifti1Image, pet: nib.Nifti1Image | None, folder: Path, name: str) -> SubjectTask:
    """The task of the changed scans; a PET's sidecar goes with it, since frame times decide how it is read."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"t1": folder / f"{name}_t1.nii.gz", "pet": folder / f"{name}_pet.nii.gz"}
    nib.save(t1, files["t1"])
    if pet is not None:
        nib.save(pet, files["pet"])
        write_json(read_sidecars(task.pet)[0], sidecar_of(files["pet"]))
    return replace(task, participant_id=f"sub-{name}", t1=files["t1"], pet=files["pet"] if pet is not None else None)
