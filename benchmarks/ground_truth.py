"""Does preprocessing find what the simulation put in? People of drawn volumes and uptake go through the whole path.

Most of the truth is measured over the atlas by the rule that measures the scans, so this shows self-consistency and
not accuracy: whether a volume is that of the head's own structure is a question for `benchmarks.heads`.

The hippocampus of the template's anatomy is measured by two protocols. The truth is CerebrA's label; the network that
segments the T1 follows FreeSurfer's, which is about a quarter larger, and `bias_percent` is mostly that difference.
`direct_minus_registered_percent` tells whether people who are written directly get the volume that is found in scans.
The thalamus is measured by one rule, what is no fluid in CerebrA's mask: its bias is that of the registration.

`python -m benchmarks.ground_truth OUT --subjects 24`: volumes and SUVR against the truth, left against right,
transforms there and back, grey matter before and after modulation, and the same people written directly on the grid
against the registered ones. `--anatomies DIR` gives the people real heads, so that their T1s are not made by warping
the very template that they are registered to. What is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.svm import SVC

from preprocessing.cohort.run import Recipe, preprocess_cohort
from preprocessing.simulated.cohort import write_cohort, write_direct
from preprocessing.simulated.people import CohortDesign
from preprocessing.steps import register, template

MEASURES = {
    "hippocampal volume": ("hippocampus", "volume_ml"),
    "thalamic volume": ("thalamus", "volume_ml"),
    "hippocampal SUVR": ("hippocampus", "suvr"),
    "meta-ROI SUVR": ("meta_roi_proxy", "suvr"),
    "precuneus SUVR": ("precuneus", "suvr"),
}
# Left against right: 2 (left - right) / (left + right). Below this the truth has no side to speak of.
SIDED = {"hippocampal volume": ("hippocampus", "volume_ml"), "hippocampal SUVR": ("hippocampus", "suvr")}
CLEARLY_SIDED = 0.02
# Every how many voxels a transform is followed there and back.
STRIDE = 3
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
    """Correlation over all, within class adjusted for head size, and how far the values themselves agree.

    icc_a1: two-way, absolute agreement, single measurement (McGraw & Wong, Psychological Methods 1996). limits: of
    agreement, mean difference ± 1.96 SD in the measure's own unit (Bland & Altman, Lancet 1986).
    """
    covariates = np.column_stack([np.ones(len(head)), head, group == "converter"])

    def residual(values: pd.Series) -> np.ndarray:
        return values - covariates @ np.linalg.lstsq(covariates, values, rcond=None)[0]

    known = found.notna()
    truth, found, covariates = truth[known], found[known], covariates[known.to_numpy()]
    relative, difference = (found - truth) / truth, found - truth
    reach = 1.96 * difference.std()
    return {
        "people": len(found),
        "icc_a1": icc_a1(np.column_stack([truth, found])),
        "r": float(np.corrcoef(truth, found)[0, 1]),
        "r_within_class_head_adjusted": float(np.corrcoef(residual(truth), residual(found))[0, 1]),
        "bias_percent": float(100 * relative.mean()),
        "sd_percent": float(100 * relative.std()),
        "mean_difference": float(difference.mean()),
        "limits": [float(difference.mean() - reach), float(difference.mean() + reach)],
    }


def icc_a1(values: np.ndarray) -> float:
    """(N, K) values of N people by K ways of measuring -> intraclass correlation ICC(A,1)."""
    n, k = values.shape
    total = values.mean()
    people, ways = values.mean(1) - total, values.mean(0) - total
    rest = values - total - people[:, None] - ways
    between_people, between_ways = k * (people**2).sum() / (n - 1), n * (ways**2).sum() / (k - 1)
    error = (rest**2).sum() / ((n - 1) * (k - 1))
    return float((between_people - error) / (between_people + (k - 1) * error + k / n * (between_ways - error)))


def compare_sides(truth: pd.DataFrame, found: pd.DataFrame, region: str, column: str) -> dict[str, float]:
    """Does the larger side come out larger? r of the asymmetries, and the share of right signs where sides differ."""
    asymmetry = []
    for regions in (truth, found):
        wide = regions[regions.region == region].pivot(index="participant_id", columns="side", values=column)
        asymmetry.append(2 * (wide.left - wide.right) / (wide.left + wide.right))
    table = pd.concat(asymmetry, axis=1, keys=["truth", "found"], join="inner").dropna()
    sided = table[table.truth.abs() > CLEARLY_SIDED]
    return {
        "r": float(table.truth.corr(table.found)),
        "clearly_sided": len(sided),
        "right_sign_share": float((np.sign(sided.truth) == np.sign(sided.found)).mean()) if len(sided) else None,
    }


def find_transforms(t1_path: Path) -> register.Transforms:
    """The transforms that stand beside a person's warped T1."""
    stem, folder = t1_path.name.split("_space-")[0], t1_path.parent
    there, back = f"{stem}_from-T1w_to-{template.SPACE}", f"{stem}_from-{template.SPACE}_to-T1w"
    return register.Transforms(
        affine=folder / f"{there}_mode-image_desc-affine_xfm.mat",
        warp=folder / f"{there}_mode-image_desc-syn_xfm.h5",
        inverse_warp=folder / f"{back}_mode-image_desc-syn_xfm.h5",
    )


def round_trip_mm(transforms: register.Transforms) -> np.ndarray:
    """How far from itself a template point of the brain ends up that goes into the T1 and back: (N,) mm."""
    voxels = np.argwhere(template.brain_mask())
    voxels = voxels[(voxels % STRIDE == 0).all(1)]
    points_mm = nib.affines.apply_affine(template.GRID_AFFINE, voxels) * [-1, -1, 1]  # ITK's axes: left, back, up
    points = pd.DataFrame(points_mm, columns=["x", "y", "z"])
    native = ants.apply_transforms_to_points(3, points, [str(transforms.warp), str(transforms.affine)])
    chain = [str(transforms.affine), str(transforms.inverse_warp)]
    back = ants.apply_transforms_to_points(3, native, chain, whichtoinvert=[True, False])
    return np.linalg.norm(back[["x", "y", "z"]].to_numpy() - points_mm, axis=1)


def gray_matter_ratio(t1_path: Path) -> float:
    """Sum of the modulated map over the grey matter counted on the native T1, both in mL: 1 where nothing is lost."""
    path = t1_path.with_name(t1_path.name.replace("desc-preproc_T1w", "label-GM_desc-modulated_probseg"))
    about = json.loads(path.with_name(path.name.removesuffix(".nii.gz") + ".json").read_text(encoding="utf-8"))
    return float(nib.load(path).get_fdata(dtype=np.float32).sum(dtype=float) * template.VOXEL_ML / about["GM_mL"])


def compare_space(prepared: Path, t1_paths: pd.Series) -> dict[str, dict[str, float]]:
    """Round trips and grey matter over all people. Half a voxel is 1 mm."""
    trips = [round_trip_mm(find_transforms(prepared / path)) for path in t1_paths]
    ratios = np.array([gray_matter_ratio(prepared / path) for path in t1_paths])
    everywhere = np.concatenate(trips)
    return {
        "round_trip_mm": {
            "mean": float(everywhere.mean()),
            "p99": float(np.percentile(everywhere, 99)),
            "max": float(everywhere.max()),
            "share_above_half_a_voxel": float((everywhere > template.SPACING_MM / 2).mean()),
        },
        "modulated_over_native_gray_matter": {
            "mean": float(ratios.mean()),
            "min": float(ratios.min()),
            "max": float(ratios.max()),
        },
    }


def kinds_auc(registered: Path, direct: Path, column: str) -> float:
    """How well a linear SVM on voxels tells registered from directly written maps, people held out in pairs."""
    manifest = pd.read_csv(registered / "manifest.tsv", sep="\t").set_index("participant_id")
    given = pd.read_csv(direct / "given.tsv", sep="\t").set_index("participant_id")
    people = manifest.index[manifest[column].notna()].intersection(given.index)
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


def compare_with_truth(
    out: Path,
    subjects: int,
    jobs: int,
    seed: int = 0,
    recipe: Recipe | None = None,
    anatomies: Path | None = None,
) -> dict:
    """Simulate, preprocess, compare. Everything under `out`; a second call redoes nothing."""
    design = design_for(subjects, seed)
    write_cohort(out, design, anatomies, jobs)
    preprocess_cohort(out / "raw", out / "prepared", jobs=jobs, recipe=recipe)
    write_direct(out, design, out / "truth" / "direct", anatomies, jobs)
    return {"of": subjects} | judge(out)


def judge(out: Path) -> dict:
    """What was prepared under `out` against the truth that stands beside it."""
    read = {name: pd.read_csv(out / path, sep="\t") for name, path in TABLES.items()}
    manifest = read["manifest"].set_index("participant_id")
    people = manifest.index
    group = read["people"].set_index("participant_id").group.loc[people]
    truth, found, direct = (measure(read[name], people) for name in ("truth", "found", "direct"))
    head = read["people"].set_index("participant_id").log_head_volume.loc[people]
    result: dict = {"subjects": len(people)}
    for name in MEASURES:
        result[name] = compare(truth[name], found[name], head, group)
        paired = 100 * (direct[name] / found[name] - 1)
        result[name]["direct_minus_registered_percent"] = float(paired.mean())
    for name, (region, column) in SIDED.items():
        result[f"left against right, {name}"] = compare_sides(read["truth"], read["found"], region, column)
    result |= compare_space(out / "prepared", manifest.t1_path)
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
    parser.add_argument("--anatomies", type=Path, metavar="DIR", help="label maps of real heads, e.g. 20 people's")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    result = compare_with_truth(
        arguments.out, arguments.subjects, arguments.jobs, arguments.seed, anatomies=arguments.anatomies
    )
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
