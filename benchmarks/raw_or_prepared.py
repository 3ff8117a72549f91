"""Can people who arrive as scans be told from those who are written prepared? They must not: a linear SVM on voxels.

`python -m benchmarks.raw_or_prepared OUT`, after `benchmarks.registration_error OUT`: the raw people there are halved;
of each half the error is measured, and drawn for people written directly on the grid, who are compared with the raw
people of the other half. AUC over people held out in folds; wanted: .6 at most.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import SVC

from benchmarks.ground_truth import CROP, design_for
from benchmarks.registration_error import SEED, measure
from preprocessing.simulated import people as model
from preprocessing.simulated.anatomy import TemplateAnatomy
from preprocessing.simulated.brain import Brain
from preprocessing.simulated.registration_error import Error, as_registered
from preprocessing.steps import template, tissue
from preprocessing.steps.crop import crop_prepared

COLUMNS = ("gm_path", "pet_path")
FOLDS = 5


def written(brain: Brain, error: Error) -> list[np.ndarray]:
    """Voxels of grey matter and SUVR of a person written directly, in the order of COLUMNS."""
    found = as_registered(brain, error)
    maps = (tissue.modulate(found.tissues["gm"], found.jacobian), found.suvr * template.brain_mask())
    return [np.asarray(crop_prepared(values).dataobj, np.float32)[CROP].ravel() for values in maps]


def svm_auc(voxels: np.ndarray, kind: np.ndarray, person: np.ndarray) -> float:
    """AUC of a linear SVM that was fitted without the people it rates, on one scale for all voxels."""
    scores = np.zeros(len(kind))
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(voxels, kind, person):
        z = (voxels - voxels[train].mean(0)) / voxels[train].std()
        kernel = z @ z[train].T / z.shape[1]
        svm = SVC(kernel="precomputed", class_weight="balanced").fit(kernel[train], kind[train])
        scores[test] = svm.decision_function(kernel[test])
    return float(roc_auc_score(kind, scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", type=int, default=12, help="as of benchmarks.registration_error")
    arguments = parser.parse_args()
    prepared, anatomy = arguments.out / "prepared", TemplateAnatomy(arguments.out / "truth/anatomies/template.npz")
    manifest = pd.read_csv(prepared / "manifest.tsv", sep="\t").set_index("participant_id")
    there = len(pd.read_csv(arguments.out / "truth" / "people.tsv", sep="\t"))
    if there != arguments.subjects:  # others would be drawn, under the same names
        raise SystemExit(f"--subjects {arguments.subjects}: {arguments.out} holds {there} people")
    people = [p for p in model.draw_people(design_for(arguments.subjects, SEED)) if p.participant_id in manifest.index]
    brains = [Brain(person, anatomy) for person in people]
    tiv_ml = manifest.tiv_ml.loc[[p.participant_id for p in people]].to_numpy()
    halves = np.arange(len(brains)) % 2
    rows: dict[str, list[np.ndarray]] = {column: [] for column in COLUMNS}
    kind, person = [], []
    for half in (0, 1):
        error = measure([b for b, h in zip(brains, halves, strict=True) if h != half], prepared, tiv_ml[halves != half])
        for brain in (b for b, h in zip(brains, halves, strict=True) if h == half):
            name = brain.person.participant_id
            files = [nib.load(prepared / manifest.loc[name, column]) for column in COLUMNS]
            raw = [file.get_fdata(dtype=np.float32)[CROP].ravel() for file in files]
            stranger = Brain(replace(brain.person, seed=SEED + 1), anatomy)
            group = len(person)
            for column, *values in zip(COLUMNS, raw, written(brain, error), written(stranger, error), strict=True):
                rows[column] += values
            kind += [1, 0, 0]
            person += [group, group, group + 1]
    answer = {
        name: round(svm_auc(np.stack(values), np.array(kind), np.array(person)), 3) for name, values in rows.items()
    }
    print(json.dumps({"raw": int(np.sum(kind)), "prepared": len(kind) - int(np.sum(kind))} | answer))


if __name__ == "__main__":
    main()
