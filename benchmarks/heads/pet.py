"""SUVR against uptake drawn from a head's own labels, and against what other people measured in other scans."""

from __future__ import annotations

from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from benchmarks.heads.agreement import agreement
from benchmarks.heads.measured import SIDED, SIDES, found_suvr, prepare
from benchmarks.heads.rendering import render_pet
from preprocessing.simulated import tissue_model
from preprocessing.simulated.label_maps import brain_of
from preprocessing.steps import register, template
from preprocessing.subject.plan import SubjectTask

JUDGED = ("hippocampus", "amygdala", "thalamus")
BRAINSTEM, REFERENCE_EROSION_MM = 16, 4
CORTEX = {"left": 3, "right": 42}
# Cortical parcels are carried onto a head by registering labels to labels.
CORTICAL = ("precuneus", "posterior_cingulate", "inferior_parietal", "middle_temporal", "superior_frontal")
# Numbers that stand for tissues where labels are registered to labels: fluid, grey, white, deep grey.
CLASSES = {"fluid": 1.0, "grey": 2.0, "white": 3.0, "deep": 4.0}
FLUID = (4, 5, 14, 15, 24, 43, 44)
WHITE = (2, 41, 7, 46, 16, 28, 60)
GREY = (3, 42, 8, 47)
DEEP = (10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54)

# CerebrA's regions that make up a region of the summary of 537 normal scans.
PUBLISHED = {
    "superior_frontal_gyrus": ("superior_frontal",),
    "orbitofrontal_cortex": ("lateral_orbitofrontal", "medial_orbitofrontal"),
    "dorsolateral_frontal_cortex": (
        "caudal_middle_frontal",
        "rostral_middle_frontal",
        "pars_opercularis",
        "pars_orbitalis",
        "pars_triangularis",
        "precentral",
    ),
    "paracentral_lobule": ("paracentral",),
    "postcentral_gyrus": ("postcentral",),
    "dorsolateral_parietal_cortex": ("superior_parietal", "supramarginal", "inferior_parietal"),
    "precuneus": ("precuneus",),
    "anterior_cingulate_cortex": ("caudal_anterior_cingulate", "rostral_anterior_cingulate"),
    "posterior_cingulate_cortex": ("posterior_cingulate",),
    "isthmus_cingulate_cortex": ("isthmus_cingulate",),
    "lateral_temporal_cortex": ("superior_temporal", "transverse_temporal", "middle_temporal", "inferior_temporal"),
    "mesial_temporal_cortex": ("entorhinal", "fusiform", "parahippocampal"),
    "lateral_occipital_cortex": ("lateral_occipital",),
    "pericalcarine_cortex": ("pericalcarine",),
    "lingual_gyrus": ("lingual",),
    "cuneus": ("cuneus",),
    "insula": ("insula",),
    "cerebellar_cortex": ("cerebellum_gray_matter",),
    "thalamus": ("thalamus",),
    "caudate": ("caudate",),
    "putamen": ("putamen",),
    "globus_pallidus": ("pallidum",),
    "hippocampus": ("hippocampus",),
    "amygdala": ("amygdala",),
    "ventral_diencephalon": ("ventral_diencephalon",),
}


def true_suvr(labels: nib.Nifti1Image, seed: int) -> pd.DataFrame:
    """SUVR of the noiseless PET at its own resolution, `region side suvr`: the mean over a label (these are grey
    matter) divided by that of the brainstem's inside. Cortical rows are marked by "cortex: "."""
    noiseless, numbers = render_pet(labels, seed).noiseless, np.asarray(labels.dataobj)
    reference = noiseless[ndimage.binary_erosion(numbers == BRAINSTEM, iterations=REFERENCE_EROSION_MM)].mean()
    rows = [
        (region, side, noiseless[np.isin(numbers, names)].mean() / reference)
        for region in JUDGED
        for side, names in zip(SIDES, SIDED[region], strict=True)
    ]
    parcels = _parcels_on(labels)
    table = template.region_table()
    for region in CORTICAL:
        for side in SIDES:
            number = table[(table.region == region) & (table.side == side)].label.iloc[0]
            inside = (parcels == number) & (numbers == CORTEX[side])
            rows.append((f"cortex: {region}", side, noiseless[inside].mean() / reference))
    return pd.DataFrame(rows, columns=["region", "side", "suvr"])


def _parcels_on(labels: nib.Nifti1Image) -> np.ndarray:
    """CerebrA on the head, by SyN with mean squares between two images of tissue classes, at 2 mm."""
    numbers = np.asarray(labels.dataobj)
    head = np.zeros(numbers.shape, np.float32)
    for kind, names in zip(CLASSES, (FLUID, GREY, WHITE, DEEP), strict=True):
        head[np.isin(numbers, names)] = CLASSES[kind]
    head *= brain_of(labels)
    shares = tissue_model.tissues_1mm()
    atlas = CLASSES["fluid"] * (sum(shares.values()) > 0.5).astype(np.float32)
    atlas[shares["grey"] > 0.5], atlas[shares["white"] > 0.5] = CLASSES["grey"], CLASSES["white"]
    cerebra = template.labels_1mm()
    table = template.region_table()
    deep = table[table.region.isin(("thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala"))].label
    atlas[np.isin(np.asarray(cerebra.dataobj), deep)] = CLASSES["deep"]
    fixed, moving = (
        ants.resample_image(register.to_ants(nib.Nifti1Image(values, affine)), (2, 2, 2), interp_type=0)
        for values, affine in ((head, labels.affine), (atlas, cerebra.affine))
    )
    found = ants.registration(
        fixed,
        moving,
        "SyN",
        syn_metric="meansquares",
        reg_iterations=(40, 20, 0),
        aff_iterations=(300, 150, 50, 0),
        aff_metric="meansquares",
    )
    grid = register.to_ants(nib.Nifti1Image(numbers.astype(np.float32), labels.affine))
    parcels = ants.apply_transforms(
        grid,
        register.to_ants(nib.Nifti1Image(np.asarray(cerebra.dataobj).astype(np.float32), cerebra.affine)),
        found["fwdtransforms"],
        interpolator="nearestNeighbor",
    )
    return parcels.numpy().astype(int)


def published(summary: Path) -> pd.DataFrame:
    """Mean and SD of the SUVR over the pons, by region and side, of the 537 normal scans: index (region, side)."""
    table = pd.read_csv(summary).set_index("region")
    pons = table.loc["pons", "mean_suvr_pons"]
    rows = []
    for name in PUBLISHED:
        for side in SIDES:
            row = table.loc[f"{name}_{side}"]
            rows.append((name, side, row.mean_suvr_pons / pons, row.sd_suvr_pons / pons))
    return pd.DataFrame(rows, columns=["region", "side", "mean", "sd"]).set_index(["region", "side"])


def composite(regions: pd.DataFrame) -> pd.Series:
    """SUVR of the published regions from one person's `region side suvr`: mean weighted by the atlas's voxels."""
    sizes = template.region_table().assign(voxels=lambda t: [int((template.labels() == n).sum()) for n in t.label])
    merged = regions.merge(sizes, on=["region", "side"])
    values = {}
    for name, parts in PUBLISHED.items():
        for side in SIDES:
            part = merged[merged.region.isin(parts) & (merged.side == side)]
            values[name, side] = float(np.average(part.suvr, weights=part.voxels))
    return pd.Series(values)


def compare_simulated(people: pd.DataFrame, summary: Path) -> pd.DataFrame:
    """Simulated normal people against the published ones; `people` is `regions.tsv`. Two rows for `heads.tsv`.

    share_right: regions whose mean lies within half a published SD, or whose SD is .7 to 1.4 of the published one.
    """
    truth = published(summary)
    each = pd.DataFrame({name: composite(part) for name, part in people.groupby("participant_id")})
    mean, sd = (values.reindex(truth.index) for values in (each.mean(axis=1), each.std(axis=1)))
    kinds = {
        "simulated normal people: means of regions": (truth["mean"], mean, (mean - truth["mean"]).abs() < truth.sd / 2),
        "simulated normal people: SDs of regions": (truth.sd, sd, (sd / truth.sd).between(0.7, 1.4)),
    }
    return _region_rows(kinds)


def compare_template(brains: Path, out: Path, summary: Path) -> pd.DataFrame:
    """A real FDG template (50 controls, 50 patients) with the MNI152 T1 through the PET path, by region."""
    task = SubjectTask(
        "sub-FdgTemplate",
        "ses-M000",
        brains / "mni152_2mm" / "MNI152_T1_2mm.nii.gz",
        brains / "fdg_template" / "TEMPLATE_FDGPET_100.nii.gz",
    )
    prepare(task, out)
    truth = published(summary)["mean"]
    found = composite(found_suvr(task, out)).reindex(truth.index)
    return _region_rows({"real FDG template, SUVR of regions": (truth, found, None)})


def _region_rows(kinds: dict[str, tuple[pd.Series, pd.Series, pd.Series | None]]) -> pd.DataFrame:
    rows = []
    for name, (true, found, right) in kinds.items():
        share = float(right.mean()) if right is not None else np.nan
        row = agreement(true.to_numpy(), found.to_numpy())
        rows.append({"judge": "pet, from outside", "measure": name, "n": len(true), **row, "share_right": share})
    return pd.DataFrame(rows)
