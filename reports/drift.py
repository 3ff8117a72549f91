"""How far the measurements of another cohort lie from those of the training people. No label enters."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from adni_tcgm.evaluation.out_of_distribution import score_out_of_distribution
from reports.figures import BLUE, RED, STYLE, save_svg
from reports.norms import SMALLEST_NORM, fit_norm
from reports.records import Prepared

KINDS = {"volume_ml": "volume", "suvr": "SUVR"}
COVARIATES = {"volume_ml": ("age", "male", "tiv_ml"), "suvr": ("age", "male")}
# A standardized difference from which it is called large, and one below which it is called small (Cohen 1988).
LARGE, SMALL = 0.8, 0.2


def tabulate_regions(prepared: Prepared) -> dict[str, pd.DataFrame]:
    """volume_ml and suvr -> sample id × region, both sides together: volumes add up, SUVRs average."""
    regions, found = prepared.regions, {}
    for kind in KINDS:
        groups = regions.dropna(subset=[kind]).groupby(["sample_id", "region"])[kind]
        found[kind] = (groups.sum() if kind == "volume_ml" else groups.mean()).unstack("region")
    return found


def standardized_difference(training: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Difference of the means over the training people's SD (Glass's delta), with its 95 % interval.

    training, other: (N,), (M,), at least two each and no NaN. The variance is the one for unequal variances of Hedges &
    Olkin, Statistical Methods for Meta-Analysis, 1985; NaN where the training people do not vary.

    >>> [round(value, 2) for value in standardized_difference(np.array([1.0, 2, 3]), np.array([2.0, 3, 4]))]
    [1.0, -0.88, 2.88]
    """
    sd = training.std(ddof=1)
    if sd == 0:
        return float("nan"), float("nan"), float("nan")
    delta = (other.mean() - training.mean()) / sd
    ratio = other.var(ddof=1) / sd**2
    error = np.sqrt(1 / len(training) + ratio / len(other) + delta**2 / (2 * (len(training) - 1)))
    return float(delta), float(delta - 1.96 * error), float(delta + 1.96 * error)


def tabulate_drift(
    training: dict[str, pd.DataFrame],
    other: dict[str, pd.DataFrame],
    training_people: pd.DataFrame,
    other_people: pd.DataFrame,
) -> pd.DataFrame:
    """A row per measurement: region, kind, n, means, standardized difference, and the same beyond covariates.

    training, other: of `tabulate_regions`; people: age, male, tiv_ml by sample id, who alone are compared. The adjusted
    difference is that of the residuals of a regression on age, sex and, for volumes, head size, fitted on the training
    people. Measurements that fewer than 20 training people or two others have are left out.
    """
    rows = []
    for kind, covariates in COVARIATES.items():
        for region in training[kind].columns.intersection(other[kind].columns):
            mine = training[kind][region].reindex(training_people.index).dropna()
            theirs = other[kind][region].reindex(other_people.index).dropna()
            if len(mine) < SMALLEST_NORM or len(theirs) < 2:
                continue
            delta, low, high = standardized_difference(mine.to_numpy(), theirs.to_numpy())
            norm = fit_norm(mine, training_people.loc[mine.index], covariates)
            known = other_people.loc[theirs.index].dropna(subset=list(covariates))
            beyond = (theirs[known.index] - norm.expect(known)).mean() / norm.sd if norm and len(known) else np.nan
            rows.append(
                {
                    "region": region,
                    "kind": kind,
                    "n_training": len(mine),
                    "n_other": len(theirs),
                    "mean_training": mine.mean(),
                    "mean_other": theirs.mean(),
                    "sd_training": mine.std(),
                    "difference": delta,
                    "low": low,
                    "high": high,
                    "adjusted_difference": beyond,
                }
            )
    columns = ["region", "kind", "n_training", "n_other", "mean_training", "mean_other", "sd_training"]
    return pd.DataFrame(rows, columns=[*columns, "difference", "low", "high", "adjusted_difference"])


def share_flagged(training: pd.DataFrame, people: pd.DataFrame) -> tuple[int, int]:
    """How many of `people` are flagged as out of distribution, and of how many that can be said.

    training, people: of `probability.tabulate_likeness`. Nobody of `people` may be among the training people.
    """
    reference = training.to_numpy(float)
    found = [score_out_of_distribution(reference, person) for person in people.to_numpy(float)]
    known = [one for one in found if one is not None]
    return sum(one.flagged for one in known), len(known)


def draw_drift(table: pd.DataFrame, shown: int = 26) -> bytes:
    """Standardized differences of the regions that differ most, with 95 % intervals; volumes red, SUVRs blue.

    Hollow: beyond age, sex and head size. Grey band: what is called small.
    """
    largest = table.groupby("region")["difference"].agg(lambda values: values.abs().max())
    regions = list(largest.sort_values(ascending=False, kind="stable").index[:shown])[::-1]
    with matplotlib.rc_context(STYLE):
        height = 0.62 + 0.145 * len(regions)
        figure = Figure(figsize=(7.1, height))
        reach = max(1.0, 1.05 * float(np.nanmax(np.abs(table[["low", "high"]].to_numpy()), initial=0)))
        for index, (kind, color) in enumerate((("volume_ml", RED), ("suvr", BLUE))):
            axes = figure.add_axes((0.27 + 0.37 * index, 0.36 / height, 0.34, 1 - 0.6 / height))
            axes.axvspan(-SMALL, SMALL, color="#eeeeee", zorder=0)
            axes.axvline(0, color="#bbbbbb", lw=0.7, zorder=1)
            rows = table[(table["kind"] == kind) & table["region"].isin(regions)]
            places = [regions.index(region) for region in rows["region"]]
            axes.hlines(places, rows["low"], rows["high"], color=color, lw=1.0)
            axes.plot(rows["difference"], places, "o", color=color, ms=4)
            axes.plot(rows["adjusted_difference"], places, "o", mfc="white", mec=color, mew=0.8, ms=3.4)
            axes.set(xlim=(-reach, reach), ylim=(-0.7, len(regions) - 0.3), yticks=[])
            axes.set_title(KINDS[kind], fontsize=9, weight="bold", color=color, pad=3)
            axes.set_xlabel("standardized difference", fontsize=8, labelpad=1)
            axes.tick_params(labelsize=7.5, length=2.5)
            axes.spines["left"].set_visible(False)
            if index == 0:
                axes.set_yticks(range(len(regions)), [name.replace("_", " ") for name in regions], fontsize=8)
                axes.tick_params(axis="y", length=0)
        return save_svg(figure)
