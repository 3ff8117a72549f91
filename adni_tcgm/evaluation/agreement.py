"""Does what the modalities agree on follow a recorded nuisance (site, age, …) rather than the label?

A gain rewards whatever the modalities share, and a scanner or a person's age is shared as well as a disease is. Of
each nuisance the share of variance is measured that it explains of the agreement, the mean of the modalities'
standardized log odds, and set beside the share that the visible labels explain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from adni_tcgm.evaluation.intervals import holm

PERMUTATIONS = 999
LEVEL = 0.05


@dataclass(frozen=True)
class Explained:
    """name: of a nuisance, or "label"; share: adjusted R²; p_value: by permutation, after Holm over the nuisances;
    None for the label. samples: that it was measured on.

    >>> Explained("site", share=0.2, p_value=0.004, samples=180).share
    0.2
    """

    name: str
    share: float
    p_value: float | None
    samples: int


def agreement_of(log_posteriors: Mapping[str, np.ndarray], present: np.ndarray) -> np.ndarray:
    """(N,) mean over the modalities of standardized log odds of the last class against the first; NaN where a sample
    lacks a modality. log_posteriors: modality -> (N, C), in the order of the columns of `present` (N, M) bool.

    >>> sure = np.log([[0.9, 0.1], [0.1, 0.9]])
    >>> agreement_of({"mri": sure, "pet": sure}, np.ones((2, 2), bool)).round(3).tolist()
    [-1.0, 1.0]
    """
    complete = np.asarray(present, bool).all(1)
    columns = []
    for name, values in log_posteriors.items():
        if name != "all":
            odds = np.where(complete, values[:, -1] - values[:, 0], np.nan)
            columns.append((odds - np.nanmean(odds)) / (np.nanstd(odds) or 1))
    return np.mean(columns, axis=0)


def explained_share(values: np.ndarray, covariate: Sequence[str] | Sequence[float]) -> tuple[float, np.ndarray] | None:
    """Adjusted R² of values (N,) on a covariate, a number or a group, and the orthonormal columns (N, K) that span it.

    Samples must be known throughout. None where the covariate never varies, or leaves no degree of freedom.

    >>> share, basis = explained_share(np.array([1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 3.0, 4.0])
    >>> round(share, 3)
    1.0
    """
    column = np.asarray(covariate)
    if column.dtype.kind in "US":
        groups = np.unique(column)
        design = np.stack([column == name for name in groups[1:]], 1).astype(float) if len(groups) > 1 else None
    else:
        design = column.astype(float)[:, None] if np.ptp(column.astype(float)) else None
    if design is None or design.shape[1] > len(values) - 3:
        return None
    basis = np.linalg.qr(design - design.mean(0))[0]
    return _adjusted(values, basis), basis


def _adjusted(values: np.ndarray, basis: np.ndarray) -> float:
    centered = values - values.mean()
    share = float((basis.T @ centered) @ (basis.T @ centered) / (centered @ centered))
    n, k = basis.shape
    return 1 - (1 - share) * (n - 1) / (n - 1 - k)


def explain_agreement(
    agreement: np.ndarray,
    nuisances: Mapping[str, Sequence[str] | Sequence[float]],
    held_out: np.ndarray,
    labels: np.ndarray,
    seed: int = 0,
) -> list[Explained]:
    """The label first, then every recorded nuisance that varies.

    agreement: (N,) of `agreement_of`, of training samples, with a label or not. held_out: (n,) the same of the labeled
    ones, by models that did not train on them; labels: (n,) class indices.

    >>> rng = np.random.default_rng(0)
    >>> site = np.repeat(["011", "027"], 30)
    >>> agreement = (site == "027") + 0.1 * rng.normal(size=60)
    >>> rows = explain_agreement(agreement, {"site": site}, rng.normal(size=20), np.arange(20) % 2)
    >>> [row.name for row in suspects(rows)]
    ['site']
    """
    known = ~np.isnan(held_out)
    found = explained_share(held_out[known], labels[known].astype(str)) if known.sum() > 3 else None
    rows = [Explained("label", found[0], None, int(known.sum()))] if found else []
    rng, measured = np.random.default_rng(seed), []
    for name, covariate in nuisances.items():
        column = np.asarray(covariate)
        usable = ~np.isnan(agreement) & ((column != "") if column.dtype.kind in "US" else ~np.isnan(column))
        found = explained_share(agreement[usable], column[usable]) if usable.sum() > 3 else None
        if found is None:
            continue
        share, basis = found
        drawn = [_adjusted(rng.permutation(agreement[usable]), basis) for _ in range(PERMUTATIONS)]
        p_value = (1 + sum(value >= share for value in drawn)) / (1 + PERMUTATIONS)
        measured.append(Explained(name, share, p_value, int(usable.sum())))
    adjusted = holm([row.p_value for row in measured])
    return rows + [Explained(r.name, r.share, p, r.samples) for r, p in zip(measured, adjusted, strict=True)]


def suspects(rows: Sequence[Explained]) -> list[Explained]:
    """The nuisances that explain more than chance and more than the label does, the largest share first.

    >>> rows = [Explained("label", 0.1, None, 50), Explained("site", 0.3, 0.01, 50), Explained("age", 0.2, 0.6, 50)]
    >>> [row.name for row in suspects(rows)]
    ['site']
    """
    label = next((row.share for row in rows if row.name == "label"), 0.0)
    found = [row for row in rows if row.p_value is not None and row.p_value < LEVEL and row.share > max(label, 0)]
    return sorted(found, key=lambda row: -row.share)


def describe(rows: Sequence[Explained]) -> str:
    """One or two sentences for a report."""
    if not any(row.p_value is not None for row in rows):
        return "No nuisance is recorded that the agreement of the modalities could follow."
    label = next((row for row in rows if row.name == "label"), None)
    beside = f"the {label.samples} visible labels explain {_percent(label.share)}" if label else "no label was held out"
    found = suspects(rows)
    if found:
        shown = ", ".join(f"{row.name} ({_percent(row.share)}, p {row.p_value:.3f})" for row in found)
        return (
            f"Warning: what the modalities agree on follows {shown} more than the label; {beside} of it. The "
            "classifiers may have learned that instead of the disease."
        )
    largest = max((row for row in rows if row.p_value is not None), key=lambda row: row.share)
    return (
        f"What the modalities agree on follows no recorded nuisance more than the label: {largest.name} explains most, "
        f"{_percent(largest.share)} (p {largest.p_value:.3f}); {beside}."
    )


def _percent(share: float) -> str:
    return f"{100 * max(share, 0):.0f} % of its variance"


def to_json(rows: Sequence[Explained]) -> list[dict]:
    """Rows of `metrics.json`.

    >>> to_json([Explained("site", 0.3, 0.01, 50)])
    [{'name': 'site', 'share': 0.3, 'p_value': 0.01, 'samples': 50}]
    """
    return [asdict(row) for row in rows]
