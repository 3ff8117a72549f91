"""The error of segmented volumes, drawn for people who arrive prepared: `volume_error.tsv` beside this file.

found = intercept + slope * true + noise, as measured: on label maps by networks that never saw the head ("heads"), and
on raw simulated people of the template's own anatomy ("template"), whose labels are CerebrA's and not FreeSurfer's.
Columns: anatomy, region, people, slope, intercept_ml, sd_ml, side_correlation (of the noise, left and right), source.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

import numpy as np
import pandas as pd

from preprocessing.simulated.healthy import SIDES

FILE = "volume_error.tsv"
LEAST_ML = 0.05
Volumes = Mapping[tuple[str, str], float]


@lru_cache
def read_table() -> pd.DataFrame:
    with files("preprocessing.simulated").joinpath(FILE).open(encoding="utf-8") as handle:
        return pd.read_csv(handle, sep="\t").set_index(["anatomy", "region"])


def found(true_ml: Volumes, anatomy: str, rng: np.random.Generator) -> dict[tuple[str, str], float]:
    """mL that a segmentation would find, by (region, side), of the regions that the table has.

    true_ml: label volumes; anatomy: "template" or "heads".
    """
    volumes = {}
    for region, row in read_table().loc[anatomy].iterrows():
        shared, own = np.sqrt(max(row.side_correlation, 0)), np.sqrt(1 - max(row.side_correlation, 0))
        noise = row.sd_ml * (shared * rng.standard_normal() + own * rng.standard_normal(2))
        for side, deviation in zip(SIDES, noise, strict=True):
            expected = row.intercept_ml + row.slope * true_ml[region, side]
            volumes[region, side] = float(max(expected + deviation, LEAST_ML))
    return volumes


def fit(true_ml: pd.DataFrame, found_ml: pd.DataFrame) -> dict[str, float]:
    """A row of the table from volumes of one region: a row a person (or scan), columns SIDES."""
    true, seen = (np.concatenate([table[side] for side in SIDES]) for table in (true_ml, found_ml))
    slope, intercept = np.polyfit(true, seen, 1)
    left, right = np.split(seen - intercept - slope * true, 2)
    sd = np.sqrt((left @ left + right @ right) / (2 * len(left) - 2))
    return {
        "people": len(left),
        "slope": float(slope),
        "intercept_ml": float(intercept),
        "sd_ml": float(sd),
        "side_correlation": float(np.corrcoef(left, right)[0, 1]),
    }
