"""What carried a person's answer: the signed contribution of each region or measurement, in calibrated log-odds.

Of a classifier on measurements the contributions are its own terms (weight times value, for a linear one); of a network
on voxels, integrated gradients summed over the atlas's regions. They add up to what sets the person's log-odds apart
from the baseline's.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.processing import resample_from_to

from reports import overlays, saliency
from reports.gathering import Cohort
from reports.records import MODALITY_TITLES
from reports.tables import count_damped, signed

# A region that makes less of all that was added and taken away has not carried the answer by itself.
CARRYING_SHARE = 0.2
LISTED = 5  # of a modality
OUTSIDE = "what has no label"  # mostly white matter


@lru_cache
def region_names() -> dict[int, str]:
    """Number of each label of CerebrA -> "hippocampus left"."""
    table = overlays.label_table()
    names = {}
    for row in table.itertuples():
        names |= {int(row.right): f"{row.name.lower()} right", int(row.left): f"{row.name.lower()} left"}
    return {0: OUTSIDE} | names


@lru_cache
def _labels_on(shape: tuple[int, ...], affine: tuple[float, ...]) -> np.ndarray:
    grid = (shape, np.reshape(affine, (4, 4)))
    return resample_from_to(overlays.label_image(), grid, order=0).get_fdata(dtype=np.float32).round().astype(int)


def sum_by_region(image: nib.Nifti1Image) -> pd.Series:
    """Region -> sum of a map's values in it."""
    labels = _labels_on(image.shape, tuple(image.affine.ravel()))
    sums = np.bincount(labels.ravel(), weights=image.get_fdata().ravel())
    names = region_names()
    return pd.Series({names[number]: sums[number] for number in np.unique(labels)})


def list_contributions(folder: Path) -> pd.DataFrame:
    """Columns modality, name, attribution, from a folder of `find_saliency`; empty where it holds nothing."""
    table = saliency.load_regions(folder)
    if len(table):
        shown = zip(table["feature"], table["z"], strict=True)
        names = [f"{saliency.region_title(feature)} ({signed(z)})" for feature, z in shown]
        return table.assign(name=names)[["modality", "name", "attribution"]]
    parts = [
        sum_by_region(image).rename("attribution").rename_axis("name").reset_index().assign(modality=modality)
        for modality, image in saliency.load_maps(folder).items()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def split_outside(table: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """The regions alone, and the share (0..1) of all that was added or taken away outside them."""
    outside, sizes = table["name"] == OUTSIDE, table["attribution"].abs()
    return table[~outside], float(sizes[outside].sum() / sizes.sum()) if sizes.sum() > 0 else 0.0


def say_what_carried(table: pd.DataFrame) -> str:
    """One or two sentences from a table of `list_contributions`.

    >>> rows = [("pet", "precuneus left", 0.9), ("mri", "hippocampus left", 0.1), ("mri", "amygdala left", -0.2)]
    >>> say_what_carried(pd.DataFrame(rows, columns=["modality", "name", "attribution"]))
    'Carried by FDG-PET precuneus left (+0.90, 75 %); shares are of all that was added or taken away.'
    """
    sizes = table["attribution"].abs().sort_values(ascending=False, kind="stable")
    if sizes.sum() <= 0:
        return "Nothing sets this person apart from the baseline."
    shares = 100 * sizes / sizes.sum()
    row = table.loc[sizes.index]

    def name(at: int) -> str:
        return f"{MODALITY_TITLES[row['modality'].iloc[at]]} {row['name'].iloc[at]}"

    if shares.iloc[0] >= 100 * CARRYING_SHARE:
        carrying = range((shares >= 100 * CARRYING_SHARE).sum())
        named = [f"{name(at)} ({signed(row['attribution'].iloc[at], 2)}, {shares.iloc[at]:.0f} %)" for at in carrying]
        return f"Carried by {' and '.join(named)}; shares are of all that was added or taken away."
    first = min(LISTED, len(shares))
    return (
        f"No single measurement carried the answer: the largest of {len(shares)}, {name(0)}, makes "
        f"{shares.iloc[0]:.0f} % of all that was added or taken away, the first {first} together "
        f"{shares.iloc[:first].sum():.0f} %."
    )


def carried_section(cohort: Cohort, sample_id: str) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """None where nobody has explained the headline run's answer for this person."""
    folder = saliency.find_saliency(cohort, sample_id)
    table = list_contributions(folder) if folder else pd.DataFrame()
    if not len(table):
        return None, {}
    record = json.loads((folder / "saliency.json").read_text(encoding="utf-8"))
    sums = table.groupby("modality", sort=False)["attribution"].sum()
    by_modality = ", ".join(f"{MODALITY_TITLES[m]} {signed(value, 2)}" for m, value in sums.items())
    regions, outside = split_outside(table)
    data = {"sentence": say_what_carried(regions), "outside": f"{100 * outside:.0f}", "sums": by_modality}
    data["damped"] = bool(count_damped(cohort.headline.adjustment))
    data |= {"baseline": record["baseline"], "run": record["run"], "figure": "carried.svg"}
    data["voxels"] = not (folder / saliency.REGIONS).is_file()
    return data, {"carried.svg": saliency.draw_regions(regions, LISTED)}
