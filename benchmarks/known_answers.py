"""Does preprocessing find what was put in? People of known volumes and uptake go through the whole registration path.

`python -m benchmarks.known_answers OUT --subjects 24`: hippocampal volume and SUVR against the truth, and the same
people written directly on the grid against the registered ones.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.svm import SVC

from preprocessing.recipe import Recipe, preprocess_cohort
from preprocessing.simulated.cohort import write_cohort, write_direct
from preprocessing.simulated.people import CohortDesign

MEASURES = {
    "hippocampal volume": ("hippocampus", "volume_ml"),
    "hippocampal SUVR": ("hippocampus", "suvr"),
    "meta-ROI SUVR": ("meta_roi_proxy", "suvr"),
    "precuneus SUVR": ("precuneus", "suvr"),
}
# Voxels of the 80^3 maps that tell the two kinds apart, or not: the hippocampal crop.
CROP = (slice(16, 64), slice(24, 56), slice(25, 57))


def design_for(subjects: int, seed: int) -> CohortDesign:
    """Converters and stable people only, all of them raw, all with PET."""
    sizes = {"converters": subjects // 2, "stable": subjects - subjects // 2}
    nobody = dict.fromkeys(("censored", "reverting", "normal", "dementia", "truncated"), 0)
    return CohortDesign(**sizes, **nobody, raw=subjects, missing_pet=0.0, seed=seed)


def measure(regions: pd.DataFrame, people: pd.Index) -> pd.DataFrame:
    """One column a measure: volumes summed over both sides, SUVRs averaged."""
    columns = {}
    for name, (region, column) in MEASURES.items():
        grouped = regions[regions.region == region].groupby("participant_id")[column]
        columns[name] = (grouped.sum() if column == "volume_ml" else grouped.mean()).reindex(people)
    return pd.DataFrame(columns)


def compare(truth: pd.Series, found: pd.Series, head: pd.Series, group: pd.Series) -> dict[str, float]:
    """Correlation over all, within class adjusted for head size, and the mean relative difference with its SD."""
    covariates = np.column_stack([np.ones(len(head)), head, group == "converter"])

    def residual(values: pd.Series) -> np.ndarray:
        return values - covariates @ np.linalg.lstsq(covariates, values, rcond=None)[0]

    relative = (found - truth) / truth
    return {
        "r": float(np.corrcoef(truth, found)[0, 1]),
        "r_within_class_head_adjusted": float(np.corrcoef(residual(truth), residual(found))[0, 1]),
        "bias_percent": float(100 * relative.mean()),
        "sd_percent": float(100 * relative.std()),
    }


def kinds_auc(registered: Path, direct: Path, column: str) -> float:
    """How well a linear SVM on voxels tells registered from directly written maps, people held out in pairs."""
    manifest = pd.read_csv(registered / "manifest.tsv", sep="\t").set_index("participant_id")
    given = pd.read_csv(direct / "given.tsv", sep="\t").set_index("participant_id")
    people = manifest.index.intersection(given.index)
    files = [registered / manifest.loc[p, column] for p in people] + [direct / given.loc[p, column] for p in people]
    voxels = np.stack([nib.load(f).get_fdata(dtype=np.float32)[CROP].ravel() for f in files])
    kind = np.repeat([1, 0], len(people))
    person = np.tile(np.arange(len(people)), 2)
    scores = np.zeros(len(kind))
    for train, test in GroupKFold(min(6, len(people))).split(voxels, kind, person):
        # One scale for all voxels, as the networks see them: a voxel that is empty in everybody weighs nothing.
        z = (voxels - voxels[train].mean(0)) / voxels[train].std()
        kernel = z @ z[train].T / z.shape[1]
        scores[test] = SVC(kernel="precomputed", C=1.0).fit(kernel[train], kind[train]).decision_function(kernel[test])
    return float(roc_auc_score(kind, scores))


def known_answers(out: Path, subjects: int, jobs: int, seed: int = 0, recipe: Recipe | None = None) -> dict:
    """Simulate, preprocess, compare. Everything under `out`; a second call redoes nothing."""
    design = design_for(subjects, seed)
    write_cohort(out, design, jobs=jobs)
    preprocess_cohort(out / "raw", out / "prepared", jobs=jobs, recipe=recipe)
    write_direct(out, design, out / "truth" / "direct", jobs=jobs)
    read = {name: pd.read_csv(out / path, sep="\t") for name, path in TABLES.items()}
    people = read["manifest"].set_index("participant_id").index
    group = read["people"].set_index("participant_id").group.loc[people]
    truth, found, direct = (measure(read[name], people) for name in ("truth", "found", "direct"))
    head = read["people"].set_index("participant_id").log_head_volume.loc[people]
    result: dict = {"subjects": len(people), "of": subjects}
    for name in MEASURES:
        result[name] = compare(truth[name], found[name], head, group)
        paired = 100 * (direct[name] / found[name] - 1)
        result[name]["direct_minus_registered_percent"] = float(paired.mean())
    result["kinds_auc"] = {c: kinds_auc(out / "prepared", out / "truth" / "direct", c) for c in ("gm_path", "pet_path")}
    return result


TABLES = {
    "manifest": "prepared/manifest.tsv",
    "people": "truth/people.tsv",
    "truth": "truth/regions.tsv",
    "found": "prepared/regions.tsv",
    "direct": "truth/direct/given_regions.tsv",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    result = known_answers(arguments.out, arguments.subjects, arguments.jobs, arguments.seed)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
