"""SUVR against uptake drawn from a head's own labels, and against what other people measured in other scans."""

from __future__ import annotations

from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from benchmarks.heads.agreement import agreement
from benchmarks.heads.measured import SIDED, SIDES, prepare
from benchmarks.heads.rendering import render_pet
from preprocessing.simulated import tissue_model
from preprocessing.simulated.label_maps import brain_of
from preprocessing.steps import register, suvr, template
from preprocessing.steps.resolution import COMMON_MM
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.plan import SubjectTask

JUDGED = ("hippocampus", "amygdala", "thalamus")
BRAINSTEM, REFERENCE_EROSION_MM = 16, 4
CEREBELLUM, CEREBELLAR_CORTEX, VERMIS_MM = (7, 8, 46, 47), (8, 47), 8
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


def true_uptake(labels: nib.Nifti1Image, seed: int) -> pd.DataFrame:
    """Uptake without noise, `region side seen sharp`: at the common resolution and before any blur.

    The mean over a label (these are grey matter); cortical rows are marked by "cortex: "; and reference regions, by
    their name and side "both".
    """
    drawn, numbers = render_pet(labels, seed), np.asarray(labels.dataobj)
    masks = {
        (region, side): np.isin(numbers, names)
        for region in JUDGED
        for side, names in zip(SIDES, SIDED[region], strict=True)
    }
    parcels, table = _parcels_on(labels), template.region_table()
    for region in CORTICAL:
        for side in SIDES:
            number = table[(table.region == region) & (table.side == side)].label.iloc[0]
            masks[f"cortex: {region}", side] = (parcels == number) & (numbers == CORTEX[side])
    maps = {"seen": drawn.seen(COMMON_MM), "sharp": drawn.sharp}
    rows = [(*name, *(values[mask].mean() for values in maps.values())) for name, mask in masks.items()]
    for name, (mask, hottest_share) in _references(numbers).items():
        means = [suvr.hottest(values[mask], hottest_share).mean() for values in maps.values()]
        rows.append((name, "both", *means))
    return pd.DataFrame(rows, columns=["region", "side", *maps])


def _references(numbers: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """The head's own reference regions, with the share of the hottest voxels that count. Heads have no labels of pons
    and vermis: the inside of the brainstem, and the cerebellar cortex near its plane, stand for these."""
    brainstem = numbers == BRAINSTEM
    pons = ndimage.binary_erosion(brainstem, iterations=REFERENCE_EROSION_MM)
    near = np.abs(np.arange(numbers.shape[0]) - np.argwhere(brainstem)[:, 0].mean()) <= VERMIS_MM
    vermis = np.isin(numbers, CEREBELLAR_CORTEX) & near[:, None, None]
    return {
        "pons": (pons, 1.0),
        "pons_vermis": (pons | vermis, suvr.REFERENCES["pons_vermis"].hottest_share),
        "cerebellum": (np.isin(numbers, CEREBELLUM), 1.0),
    }


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
    found = composite(pd.read_csv(SubjectFolder(task, out).regions, sep="\t")).reindex(truth.index)
    return _region_rows({"real FDG template, SUVR of regions": (truth, found, None)})


def _region_rows(kinds: dict[str, tuple[pd.Series, pd.Series, pd.Series | None]]) -> pd.DataFrame:
    rows = []
    for name, (true, found, right) in kinds.items():
        share = float(right.mean()) if right is not None else np.nan
        row = agreement(true.to_numpy(), found.to_numpy())
        rows.append({"judge": "pet, from outside", "measure": name, "n": len(true), **row, "share_right": share})
    return pd.DataFrame(rows)
