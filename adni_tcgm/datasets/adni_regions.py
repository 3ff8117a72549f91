"""Regional measurements: grey-matter and ventricular volumes from MRI, over head size or in mL, and SUVR from PET."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

# Chosen before any data was seen, from what is known to change first. MRI: medial temporal lobe and ventricles (Jack et
# al., Neurology 2000) and the temporal part of the cortical AD signature (Dickerson et al., Cerebral Cortex 2009;
# Schwarz et al., NeuroImage: Clinical 2016). PET: the posterior and temporoparietal regions behind ADNI's meta-ROI
# (Landau et al., Neurobiology of Aging 2011) and the medial temporal lobe.
SIGNATURE = {
    "mri": (
        "hippocampus",
        "amygdala",
        "entorhinal",
        "parahippocampal",
        "fusiform",
        "inferior_temporal",
        "middle_temporal",
        "lateral_ventricle",
        "inferior_lateral_ventricle",
    ),
    "pet": (
        "isthmus_cingulate",
        "precuneus",
        "inferior_parietal",
        "middle_temporal",
        "inferior_temporal",
        "hippocampus",
        "parahippocampal",
    ),
}
# The row of regions.tsv with the stand-in for ADNI's meta-ROI (CerebrA has no angular gyrus), both sides together.
META_ROI = ("meta_roi_proxy", "both")
# What grows where tissue is lost; every other signature region shrinks, or takes up less.
GROWING = ("lateral_ventricle", "inferior_lateral_ventricle")
MEASURES = {"mri": "volume_ml", "pet": "suvr"}
SIDES = ("left", "right")


def region_features(
    path: str | Path, people: pd.DataFrame, present: np.ndarray, regions: str, per_tiv: bool = True
) -> dict[str, pd.DataFrame]:
    """modality -> table of N people × features, in the order of `people`, zeros where the modality is absent.

    A single measurement that is missing (a region outside the field of view of the PET) stays NaN.
    regions: "signature": left and right summed (volumes) or averaged (SUVR); "all": every region and side by itself.
    per_tiv: volumes are divided by total intracranial volume; otherwise they stay in mL, for an adjustment to come.
    present: (N, 2) bool, MRI and PET.
    Raises ValueError when a person with a map has no measurement of it at all, or no intracranial volume.
    """
    long = _read_regions(path)
    tables = {}
    for column, (name, measure) in enumerate(MEASURES.items()):
        wide = long.pivot(index="sample_id", columns=["region", "side"], values=measure).reindex(people.sample_id)
        unit = "suvr" if name == "pet" else "volume_per_tiv" if per_tiv else "volume_ml"
        table = _signature(wide, name, unit) if regions == "signature" else _every_side(wide, unit)
        if name == "mri":
            tiv_ml = pd.to_numeric(people.tiv_ml).to_numpy()
            table = table.div(np.where(tiv_ml > 0, tiv_ml if per_tiv else 1.0, np.nan), axis=0)
        measured = present[:, column]
        lost = measured & table.isna().all(axis=1).to_numpy()
        if lost.any():
            row = int(np.flatnonzero(lost)[0])
            raise ValueError(
                f"{people.sample_id.iloc[row]}: no {measure} in {Path(path) / 'regions.tsv'}, though the manifest "
                f"names a map (volumes also need tiv_ml > 0, here {people.tiv_ml.iloc[row]!r})"
            )
        tables[name] = table.where(np.broadcast_to(measured[:, None], table.shape), 0.0)
    return tables


def signs_of(features: Sequence[str], modality: str) -> tuple[float, ...]:
    """Of features as `region_features` names them: -1 where a low value speaks for disease, 1 where a high one does, 0
    outside the signature; empty where none is of it.

    >>> signs_of(["hippocampus_volume_ml", "lateral_ventricle_left_volume_ml", "cuneus_volume_ml"], "mri")
    (-1.0, 1.0, 0.0)
    """
    regions = [
        next((r for r in SIGNATURE[modality] if re.fullmatch(rf"{r}_((left|right)_)?(volume|suvr).*", name)), None)
        for name in features
    ]
    signs = tuple(0.0 if region is None else 1.0 if region in GROWING else -1.0 for region in regions)
    return signs if any(signs) else ()


def _read_regions(path: str | Path) -> pd.DataFrame:
    long = pd.read_csv(Path(path) / "regions.tsv", sep="\t", dtype={"participant_id": str, "session_id": str})
    return long.assign(sample_id=long.participant_id + "_" + long.session_id)


def _signature(wide: pd.DataFrame, modality: str, unit: str) -> pd.DataFrame:
    columns = {}
    for region in SIGNATURE[modality]:
        both = _sum_of_sides(wide, region)
        columns[f"{region}_{unit}"] = both if modality == "mri" else both / len(SIDES)
    return pd.DataFrame(columns, index=wide.index)


def _every_side(wide: pd.DataFrame, unit: str) -> pd.DataFrame:
    # Only the atlas regions: rows of side "both" (meta-ROI proxy, pons) repeat what they hold or are the reference.
    wide = wide[[column for column in wide.columns if column[1] in SIDES]].sort_index(axis=1)
    return wide.set_axis([f"{region}_{side}_{unit}" for region, side in wide.columns], axis=1)


def _sum_of_sides(wide: pd.DataFrame, region: str) -> pd.Series:
    """Missing where a side is missing."""
    missing = [side for side in SIDES if (region, side) not in wide.columns]
    if missing:
        raise ValueError(f"regions.tsv has no row for region {region!r}, side {missing[0]!r}")
    left, right = (wide[region, side] for side in SIDES)
    return left + right


def summaries(path: str | Path, sample_ids: Sequence[str]) -> pd.DataFrame:
    """Per sample, in the order given: hippocampus_ml (left + right), meta_roi_suvr, age (years), sex (M|F), tiv_ml.

    meta_roi_suvr is the mean over the voxels of the CerebrA meta-ROI proxy; NaN without PET.
    """
    long = _read_regions(path)
    wide = long.pivot(index="sample_id", columns=["region", "side"], values=["volume_ml", "suvr"]).reindex(sample_ids)
    manifest = pd.read_csv(Path(path) / "manifest.tsv", sep="\t", dtype=str, keep_default_na=False)
    people = manifest.set_index(manifest.participant_id + "_" + manifest.session_id).loc[list(sample_ids)]
    if META_ROI not in wide["suvr"].columns:
        raise ValueError(f"{Path(path) / 'regions.tsv'} has no row for region {META_ROI[0]!r}, side {META_ROI[1]!r}")
    return pd.DataFrame(
        {
            "hippocampus_ml": _sum_of_sides(wide["volume_ml"], "hippocampus"),
            "meta_roi_suvr": wide["suvr"][META_ROI],
            "age": pd.to_numeric(people.age),
            "sex": people.sex,
            "tiv_ml": pd.to_numeric(people.tiv_ml),
        },
        index=pd.Index(sample_ids, name="sample_id"),
    )
