"""The comparisons, each from scans to a long table of true and found values: `judge head measure side true found dice
qc`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.spatial import KDTree
from tqdm import tqdm

from adni_tcgm.processes import process_pool
from benchmarks.heads import measured, rendering
from benchmarks.real_images import LEFT_DOWN_FRONT
from preprocessing.ledger import write_image
from preprocessing.networks import fold_of_label_map
from preprocessing.simulated.label_maps import label_map_files
from preprocessing.steps import register
from preprocessing.subject.plan import SubjectTask

VALUES = ["judge", "head", "measure", "side", "true", "found", "dice", "qc"]
RENDERINGS = {
    "first": rendering.first_rendering,
    "second": rendering.second_rendering,
    "again": rendering.second_session,
}
WITH_PET = ("first", "again")
# Heads from this one on are locked: nothing is chosen by them, and they are asked for by name.
FIRST_LOCKED = 16
# Added to the first column of rows in which sides are left out whose label ends early.
WHOLE_LABELS, FAR_FROM_AMYGDALA_MM = "whole labels", 5.0


@dataclass(frozen=True)
class Head:
    """One label map, and the scans that are drawn from it. `number` counts from 0 and seeds the drawing."""

    file: Path
    number: int

    @property
    def name(self) -> str:
        return f"head {self.number + 1:02d}"

    @property
    def judge(self) -> str:
        return "locked" if self.number >= FIRST_LOCKED else "heads"

    def task(self, out: Path, kind: str) -> SubjectTask:
        folder, has_pet = out / "scans", kind in WITH_PET
        stem = f"head{self.number + 1:02d}{kind}"
        pet_path = folder / f"{stem}_pet.nii.gz" if has_pet else None
        series = f"Uniform {rendering.pet_fwhm_mm(self.number):g}mm Res" if has_pet else ""
        t1_path = folder / f"{stem}_T1w.nii.gz"
        return SubjectTask(f"sub-{stem}", "ses-M000", t1_path, pet_path, series, fold=self.fold)

    @property
    def fold(self) -> int | None:
        """Of the networks whose training left this head out."""
        return fold_of_label_map(self.file)

    def labels_path(self, out: Path, kind: str) -> Path:
        return self.task(out, kind).t1.with_name(f"head{self.number + 1:02d}{kind}_dseg.nii.gz")


def heads_of(brains: Path, locked: bool) -> list[Head]:
    """The heads of `brains/label_maps` that may be looked at; with `locked`, those that are kept for the last table."""
    every = [Head(file, number) for number, file in enumerate(label_map_files(brains / "label_maps"))]
    return [head for head in every if (head.number >= FIRST_LOCKED) == locked]


def prepare_heads(heads: list[Head], out: Path, kinds: tuple[str, ...], jobs: int) -> None:
    """Draw each head and send it through the default recipe, two at a time; what is there is not done again."""
    work = [(head, kind) for kind in kinds for head in heads]
    with process_pool(jobs, register.make_repeatable) as pool:
        results = pool.map(partial(_draw_and_prepare, out=out), work)
        list(tqdm(results, total=len(work), desc="heads", unit="scan"))


def _draw_and_prepare(work: tuple[Head, str], out: Path) -> None:
    head, kind = work
    task = head.task(out, kind)
    if task.pet and not task.pet.is_file():
        drawn = rendering.render_pet(rendering.read_labels(head.file), head.number, again=kind == "again")
        write_image(drawn.pet, task.pet, {})
    if not task.t1.is_file():
        labels = rendering.read_labels(head.file)
        scan = RENDERINGS[kind](labels, head.number)
        write_image(scan.labels, head.labels_path(out, kind), {})
        write_image(scan.image, task.t1, {})
    measured.prepare(task, out / "prepared")


def judge_heads(heads: list[Head], out: Path) -> pd.DataFrame:
    """Volumes of both renderings against the heads' own labels."""
    rows = []
    for kind in ("first", "second"):
        for head in heads:
            task, prepared = head.task(out, kind), out / "prepared"
            labels = nib.load(head.labels_path(out, kind))
            true = measured.true_volumes(rendering.read_labels(head.file)).rename(columns={"value": "true"})
            found = measured.found_volumes(task, prepared).rename(columns={"value": "found"})
            table = true.merge(found, how="left", on=["measure", "side"])
            table = table.merge(measured.overlaps(task, prepared, labels), how="left", on=["measure", "side"])
            table = _with_segmented(table, measured.segmented(task, prepared, labels))
            judge = f"{head.judge}, {kind} rendering"
            rows.append(table.assign(judge=judge, head=head.name, qc=measured.verdict(task, prepared)))
            whole = table.measure.str.startswith("hippocampus") & ~table.side.isin(labels_that_end_early(labels))
            rows.append(rows[-1][whole].assign(judge=f"{judge}, {WHOLE_LABELS}"))
    return pd.concat(rows, ignore_index=True)[VALUES]


def labels_that_end_early(labels: nib.Nifti1Image) -> list[str]:
    """Sides on which the label of the hippocampus does not reach that of the amygdala.

    In a head they touch. Where a tool ended it too early, what lies between has the label of cortex and its brightness,
    and no image that is drawn from the map shows where that hippocampus was meant to end.
    """
    numbers = np.asarray(labels.dataobj)
    pairs = zip(measured.SIDES, measured.SIDED["hippocampus"], measured.SIDED["amygdala"], strict=True)
    early = []
    for side, *both in pairs:
        hippocampus, amygdala = (
            nib.affines.apply_affine(labels.affine, np.argwhere(np.isin(numbers, names))) for names in both
        )
        if KDTree(amygdala).query(hippocampus)[0].min() > FAR_FROM_AMYGDALA_MM:
            early.append(side)
    return early


def _with_segmented(table: pd.DataFrame, segmented: pd.DataFrame) -> pd.DataFrame:
    """The table with `found` and `dice` of what was segmented in the rows of that name."""
    there = segmented.rename(columns={"value": "found"}).set_index(["measure", "side"])
    table = table.set_index(["measure", "side"])
    table.update(there)
    return table.reset_index()


def judge_retest(heads: list[Head], real: dict[str, Path], out: Path) -> pd.DataFrame:
    """The first rendering against a second session of the same head; real T1s against themselves on another grid."""
    prepared = out / "prepared"
    pairs = [(h.name, h.task(out, "first"), h.task(out, "again"), "retest, heads") for h in heads]
    for name, path in real.items():
        again = out / "scans" / f"{name}resliced_T1w.nii.gz"
        if not again.is_file():
            write_image(rendering.resliced(nib.load(path), seed=len(pairs)), again, {})
        tasks = [SubjectTask(f"sub-{name}{kind}", "ses-M000", p) for kind, p in (("", path), ("resliced", again))]
        pairs.append((name, *tasks, "retest, real"))
    rows = []
    for name, first, second, judge in pairs:
        for task in (first, second):
            measured.prepare(task, prepared)
        before, after = (measured.found_with_segmented(task, prepared) for task in (first, second))
        table = before.rename(columns={"value": "true"}).merge(
            after.rename(columns={"value": "found"}), on=["measure", "side"]
        )
        qc = f"{measured.verdict(first, prepared)} | {measured.verdict(second, prepared)}"
        rows.append(table.assign(judge=judge, head=name, dice=np.nan, qc=qc))
    return pd.concat(rows, ignore_index=True)[VALUES]


def real_scans(brains: Path, out: Path) -> tuple[dict[str, Path], nib.Nifti1Image]:
    """Name -> file of each real T1, and the segmentation that came with the one called "segmented"."""
    scans = {"segmented": out / "scans" / "segmented_T1w.nii.gz", "other": brains / "t1" / "example_brain_t1.nii.gz"}
    with np.load(brains / "t1" / "oasis_like_test_scan.npz", allow_pickle=False) as content:
        labels = nib.as_closest_canonical(nib.Nifti1Image(content["seg"].astype(np.int16), LEFT_DOWN_FRONT))
        if not scans["segmented"].is_file():
            image = nib.Nifti1Image(1000 * content["vol"].astype(np.float32), LEFT_DOWN_FRONT)
            write_image(nib.as_closest_canonical(image), scans["segmented"], {})
    left, right = (np.argwhere(np.asarray(labels.dataobj) == n).mean(0)[0] for n in (17, 53))
    if not left < right:
        raise ValueError(f"{brains}: hippocampus, voxel to the right: left {left:.0f}, right {right:.0f}; left < right")
    return scans, labels


def judge_real(brains: Path, out: Path) -> pd.DataFrame:
    """The real T1 that has a segmentation of its own, by another tool."""
    scans, labels = real_scans(brains, out)
    task, prepared = SubjectTask("sub-segmented", "ses-M000", scans["segmented"]), out / "prepared"
    measured.prepare(task, prepared)
    true = measured.true_volumes(labels).rename(columns={"value": "true"})
    # Brain only: what lies around it was cut away before the labels were made.
    true = true[~true.measure.isin(["CSF", "intracranial"])]
    found = measured.found_volumes(task, prepared).rename(columns={"value": "found"})
    table = true.merge(found, how="left", on=["measure", "side"])
    table = table.merge(measured.overlaps(task, prepared, labels), how="left", on=["measure", "side"])
    table = _with_segmented(table, measured.segmented(task, prepared, labels))
    return table.assign(judge="real", head="segmented", qc=measured.verdict(task, prepared))[VALUES]
