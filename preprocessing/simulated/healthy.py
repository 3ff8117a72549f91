"""Normal values of regions: FDG uptake as published, and the spread of volumes.

Nothing here depends on who is simulated. Volumes' spreads are round numbers chosen so that both hippocampi together
vary by about 15 % within a class, as in ADNI's groups (1000 of 6800 mm3), head size included.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from preprocessing.steps import template

SIDES = ("left", "right")
# Means and SDs (left, right) of the SUVR of 537 cognitively normal FDG scans in FreeSurfer regions, over a pons
# whose own mean in this table is .9309; beside each the CerebrA regions that it covers.
PONS = 0.9309
NORMAL_FDG: dict[tuple[str, ...], tuple[float, float, float, float]] = {
    ("superior_frontal",): (1.3142, 1.3187, 0.1281, 0.1246),
    ("lateral_orbitofrontal", "medial_orbitofrontal"): (1.2684, 1.2760, 0.1067, 0.1062),
    (
        *("caudal_middle_frontal", "rostral_middle_frontal", "pars_opercularis", "pars_orbitalis"),
        *("pars_triangularis", "precentral"),
    ): (1.3726, 1.3824, 0.1346, 0.1330),
    ("paracentral",): (1.3027, 1.3017, 0.1249, 0.1239),
    ("postcentral",): (1.2404, 1.2492, 0.1177, 0.1164),
    ("superior_parietal", "supramarginal", "inferior_parietal"): (1.2849, 1.2848, 0.1311, 0.1296),
    ("precuneus",): (1.4975, 1.4872, 0.1463, 0.1434),
    ("caudal_anterior_cingulate", "rostral_anterior_cingulate"): (1.1884, 1.1559, 0.1153, 0.1143),
    ("posterior_cingulate",): (1.3867, 1.4030, 0.1361, 0.1371),
    ("isthmus_cingulate",): (1.3455, 1.3735, 0.1304, 0.1342),
    ("superior_temporal", "transverse_temporal", "middle_temporal", "inferior_temporal"): (
        *(1.1718, 1.1776, 0.1002, 0.0990),
    ),
    ("entorhinal", "fusiform", "parahippocampal"): (1.1459, 1.1427, 0.0860, 0.0830),
    ("lateral_occipital",): (1.2849, 1.2910, 0.1422, 0.1447),
    ("pericalcarine",): (1.5658, 1.6257, 0.1715, 0.1816),
    ("lingual",): (1.4302, 1.4203, 0.1295, 0.1286),
    ("cuneus",): (1.4396, 1.4502, 0.1421, 0.1445),
    ("insula",): (1.1940, 1.1991, 0.1065, 0.1066),
    (*("cerebellum_gray_matter", "vermal_lobules_i_v", "vermal_lobules_vi_vii", "vermal_lobules_viii_x"),): (
        1.1504,
        1.1478,
        0.0789,
        0.0797,
    ),
    ("thalamus",): (1.1607, 1.1716, 0.0850, 0.0883),
    ("caudate", "accumbens_area"): (1.0516, 1.0638, 0.1348, 0.1262),
    ("putamen",): (1.5005, 1.4966, 0.1265, 0.1258),
    ("pallidum", "basal_forebrain"): (1.1185, 1.1364, 0.0791, 0.0843),
    ("brainstem",): (PONS, PONS, 0.0155, 0.0155),
    ("hippocampus",): (0.9649, 0.9601, 0.0742, 0.0745),
    ("amygdala",): (0.9380, 0.9383, 0.0669, 0.0660),
    ("ventral_diencephalon",): (0.9454, 0.9474, 0.0581, 0.0593),
}
# Log SD of volumes within a class, head size left out.
VOLUME_SD = {"hippocampus": 0.12, "amygdala": 0.12, "entorhinal": 0.14, "parahippocampal": 0.12}
CORTEX_VOLUME_SD = 0.09
VENTRICLE_SD = {"lateral_ventricle": 0.40, "inferior_lateral_ventricle": 0.40}
HEAD_SIZE_SD = 0.09


@lru_cache
def normal_suvr() -> dict[int, float]:
    """Mean SUVR over the pons by CerebrA label, for the labels that the published table covers."""
    return {label: row[side == "right"] / PONS for label, side, row in _rows()}


@lru_cache
def log_suvr_sd() -> dict[tuple[str, str], float]:
    """SD of the log SUVR by region and side; the brainstem, being the reference, is left out."""
    names = {label: (region, side) for label, region, side in _labels()}
    values = {names[label]: row[2 + (side == "right")] / row[side == "right"] for label, side, row in _rows()}
    return {key: value for key, value in values.items() if key[0] != "brainstem"}


def _labels() -> list[tuple[int, str, str]]:
    return list(template.region_table()[["label", "region", "side"]].itertuples(index=False, name=None))


def _rows() -> list[tuple[int, str, tuple[float, ...]]]:
    published = {part: row for parts, row in NORMAL_FDG.items() for part in parts}
    return [(label, side, published[region]) for label, region, side in _labels() if region in published]


@lru_cache
def voxels(region: str) -> int:
    """Size of a region on the 2 mm grid, both sides."""
    return int(np.count_nonzero(template.region_mask(region)))
