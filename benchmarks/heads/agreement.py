"""How well found values agree with true ones, as one row of `heads.tsv`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.ground_truth import icc_a1

COLUMNS = (
    "judge",
    "measure",
    "n",
    "r",
    "spearman",
    "slope",
    "icc",
    "bias_percent",
    "ratio_sd_percent",
    "loa_percent",
    "dice",
    "side_error_percent",
    "error_percent",
    "share_right",
)
# Below this difference (mL) nobody needs to say which side is smaller.
CLEARLY_SIDED_ML = 0.3
LEFT_MINUS_RIGHT = "left - right"
# Judges whose values are changes in percent: these are subtracted, never divided.
CHANGES = ("response",)


def summarize(values: pd.DataFrame) -> pd.DataFrame:
    """One row for each judge, measure and side, in order of appearance.

    values: `judge head measure side true found dice`, side "left", "right" or "both". A measure with two sides also
    gets a row of their means ("both"), which carries side_error_percent and share_right, and one of left - right.
    """
    rows = []
    for (judge, measure), part in values.groupby(["judge", "measure"], sort=False):
        for side, one in part.groupby("side", sort=False):
            rows.append({"judge": judge, "measure": f"{measure}, {side}", **_row(one, judge in CHANGES)})
        if {"left", "right"} <= set(part.side):
            rows += [{"judge": judge, **row} for row in _sided_rows(part, measure, judge in CHANGES)]
    return pd.DataFrame(rows, columns=COLUMNS)


def agreement(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Of N pairs of positive values: Pearson's and Spearman's r, the slope of found on true, ICC(A,1), and in percent
    of the true value the mean error (bias), the SD of found / true, the half width of the 95 % limits of agreement
    (Bland & Altman 1986) and the mean absolute error. Correlations need three pairs.

    >>> round(agreement(np.array([2.0, 3, 4]), np.array([2.2, 3.3, 4.4]))["bias_percent"], 3)
    10.0
    """
    ratio = 100 * found / true
    relative = 200 * (found - true) / (found + true)
    return _correlations(true, found) | {
        "icc": icc_a1(np.column_stack([true, found])) if len(true) > 2 else np.nan,
        "bias_percent": float(ratio.mean() - 100),
        "ratio_sd_percent": float(ratio.std(ddof=1)) if len(true) > 1 else np.nan,
        "loa_percent": float(1.96 * relative.std(ddof=1)) if len(true) > 1 else np.nan,
        "error_percent": float(np.abs(ratio - 100).mean()),
    }


def sides(true: pd.DataFrame, found: pd.DataFrame) -> dict[str, float]:
    """Left against right; both tables have columns left and right. side_error_percent: mean |error of left - right| in
    percent of the mean true side; share_right: how often the smaller side is found where they differ clearly."""
    truth, answer = true.left - true.right, found.left - found.right
    clear = truth.abs() >= CLEARLY_SIDED_ML
    return {
        "side_error_percent": float(100 * ((answer - truth).abs() / true.mean(axis=1)).mean()),
        "share_right": float((np.sign(truth) == np.sign(answer))[clear].mean()) if clear.any() else np.nan,
    }


def _correlations(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    if len(true) < 3 or np.ptp(true) < 1e-9 or np.ptp(found) < 1e-9:
        return {}
    ranks = pd.Series(true).corr(pd.Series(found), method="spearman")
    return {
        "r": float(np.corrcoef(true, found)[0, 1]),
        "spearman": float(ranks),
        "slope": float(np.polyfit(true, found, 1)[0]),
    }


def _row(part: pd.DataFrame, changes: bool) -> dict[str, float]:
    known = part.dropna(subset=["true", "found"])
    true, found = known.true.to_numpy(float), known.found.to_numpy(float)
    row: dict[str, float] = {"n": len(known), "dice": part.dice.mean()}
    if not len(known):
        return row
    if changes:
        return row | _correlations(true, found) | {"error_percent": float(np.abs(found - true).mean())}
    return row | agreement(true, found)


def _sided_rows(part: pd.DataFrame, measure: str, changes: bool) -> list[dict[str, object]]:
    wide = part.pivot(index="head", columns="side", values=["true", "found"])
    true, found = (wide[name][["left", "right"]].astype(float) for name in ("true", "found"))
    complete = true.notna().all(axis=1) & found.notna().all(axis=1)
    true, found = true[complete], found[complete]
    mean = pd.DataFrame({"true": true.mean(axis=1), "found": found.mean(axis=1), "dice": np.nan})
    mean["dice"] = part.groupby("head").dice.mean()
    row: dict[str, object] = {"measure": f"{measure}, both", **_row(mean, changes)}
    if changes or not len(true):
        return [row]
    difference = _correlations((true.left - true.right).to_numpy(), (found.left - found.right).to_numpy())
    sided = sides(true, found)
    if measure.startswith("SUVR"):  # the clear difference is one of volumes
        sided["share_right"] = np.nan
    return [
        row | sided,
        {"measure": f"{measure}, {LEFT_MINUS_RIGHT}", "n": len(true), **difference},
    ]
