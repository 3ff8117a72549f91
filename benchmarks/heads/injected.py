"""Atrophy put into a real T1 by a tool that nobody here wrote: `bidsgate inject-atrophy`, from its own environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from benchmarks.heads import measured
from preprocessing.ledger import write_image
from preprocessing.subject.plan import SubjectTask

LEFT_HIPPOCAMPUS = 17
LOSSES_PERCENT = (10, 20)


def judge_injected(bidsgate: Path, t1: Path, labels: nib.Nifti1Image, out: Path) -> pd.DataFrame:
    """Found against injected change (percent) of the left hippocampus; of the right, whose true change is 0.

    bidsgate: the command; t1: a real scan; labels: its segmentation on the same grid.
    """
    prepared = out / "prepared"
    plain = SubjectTask("sub-segmented", "ses-M000", t1)
    measured.prepare(plain, prepared)
    before = measured.found_with_segmented(plain, prepared).set_index(["measure", "side"]).value
    rows = []
    for loss in LOSSES_PERCENT:
        task = SubjectTask(f"sub-loss{loss}", "ses-M000", _inject(bidsgate, t1, labels, loss, out / "injected"))
        measured.prepare(task, prepared)
        after = measured.found_with_segmented(task, prepared).set_index(["measure", "side"]).value
        for measure in ("hippocampus", "hippocampus (GM x J)", "hippocampus (J)"):
            rows += [
                {
                    "judge": "response",
                    "head": f"segmented -{loss} %",
                    "measure": f"{measure}, bidsgate -{loss} % on the left",
                    "side": side,
                    "true": -float(loss) if side == "left" else 0.0,
                    "found": 100 * (after[measure, side] / before[measure, side] - 1),
                    "dice": np.nan,
                    "qc": measured.verdict(task, prepared),
                }
                for side in measured.SIDES
            ]
    return pd.DataFrame(rows)


def _inject(bidsgate: Path, t1: Path, labels: nib.Nifti1Image, loss: int, folder: Path) -> Path:
    """The T1 after bidsgate took `loss` percent from the left hippocampus."""
    source, changed = folder / "source", folder / f"loss{loss}"
    found = sorted(changed.rglob("*T1w.nii.gz"))
    if found:
        return found[0]
    anat = source / "sub-real" / "anat"
    if not (anat / "sub-real_T1w.nii.gz").is_file():
        write_image(nib.load(t1), anat / "sub-real_T1w.nii.gz", {})
        write_image(labels, folder / "labels.nii.gz", {})
        about = '{"Name": "one real T1", "BIDSVersion": "1.9.0"}\n'
        (source / "dataset_description.json").write_text(about, encoding="utf-8")
    command = [bidsgate, "inject-atrophy", source, "--out", changed, "--factor", f"{1 - loss / 100:.2f}"]
    command += ["--region", folder / "labels.nii.gz", "--label", str(LEFT_HIPPOCAMPUS)]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    found = sorted(changed.rglob("*T1w.nii.gz"))
    if done.returncode or not found:
        raise RuntimeError(f"{bidsgate} inject-atrophy ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return found[0]
