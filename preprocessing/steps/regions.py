"""Numbers per region: volume in the person's own mL, and mean SUVR."""

from __future__ import annotations

import numpy as np
import pandas as pd

from preprocessing.steps import template

COLUMNS = ("participant_id", "session_id", "region", "side", "volume_ml", "suvr")
SEGMENTED_COLUMN = "segmented_ml"  # where the T1 was segmented itself
META_ROI_REGION = "meta_roi_proxy"
PONS_REGION = "pons"


def measure_regions(
    jacobian: np.ndarray,
    suvr: np.ndarray | None,
    covered: np.ndarray | None = None,
    segmented_ml: dict[tuple[str, str], float] | None = None,
) -> pd.DataFrame:
    """One row per CerebrA region and side, plus `meta_roi_proxy` and `pons` (side "both").

    volume_ml is the sum of the full Jacobian times the voxel volume over the atlas mask; suvr the mean over the
    `covered` part of the mask, NaN without PET or where less than half is covered; segmented_ml, by region and side,
    the volume found on the T1 itself, NaN for other regions. Maps: (91, 109, 91).
    Columns: region, side, volume_ml, suvr, segmented_ml.
    """
    table = template.region_table()
    atlas = template.labels()
    columns = {
        "region": table.region,
        "side": table.side,
        "volume_ml": _sums(jacobian, atlas)[table.label] * template.VOXEL_ML,
        "suvr": _mean_suvr(suvr, covered, atlas, table.label),
    }
    rows = [pd.DataFrame(columns)]
    for region, mask in ((META_ROI_REGION, template.meta_roi_mask()), (PONS_REGION, template.pons_mask())):
        volume_ml = float(jacobian[mask].sum() * template.VOXEL_ML)
        mean = _mean_suvr(suvr, covered, mask.astype(np.int16), [1])
        rows.append(pd.DataFrame({"region": region, "side": "both", "volume_ml": volume_ml, "suvr": mean}))
    table = pd.concat(rows, ignore_index=True)
    names = zip(table.region, table.side, strict=True)
    table[SEGMENTED_COLUMN] = [(segmented_ml or {}).get(name, np.nan) for name in names]
    return table


def _mean_suvr(
    suvr: np.ndarray | None, covered: np.ndarray | None, atlas: np.ndarray, index: pd.Series | list[int]
) -> np.ndarray:
    if suvr is None:
        return np.full(len(index), np.nan)
    covered = np.ones(suvr.shape, bool) if covered is None else covered
    size, inside, total = (_sums(values, atlas)[index] for values in (np.ones_like(suvr), covered, suvr * covered))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(inside >= 0.5 * size, total / inside, np.nan)


def _sums(values: np.ndarray, atlas: np.ndarray) -> np.ndarray:
    """Sum of `values` over each label of `atlas`, at the place of its number."""
    return np.bincount(atlas.ravel(), weights=values.ravel())
