"""The usual transforms of counts and of dense features, fitted on training samples only."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from adni_tcgm.limits import require_memory

TRANSFORMS = ("raw", "log", "tfidf", "zscore")
Matrix = np.ndarray | sparse.csr_matrix


def transformed(values: Matrix, training: np.ndarray, kind: str, unit_norm: bool) -> np.ndarray:
    """(N, D) counts or features -> (N, D) float32, dense.

    training: (N,) bool, the rows that weights, means and deviations are measured on.
    kind: "raw"; "log", log(1 + x); "tfidf", log(1 + x) times log((1 + n) / (1 + df)) + 1, the smoothed inverse document
        frequency (as in scikit-learn); "zscore", (x - mean) / SD of each column, NaN at the mean.
    unit_norm: rows divided by their Euclidean length; a row of zeros stays.

    Raises ValueError for a negative or missing value where counts are expected, or an infinite one anywhere.
    """
    if kind not in TRANSFORMS:
        raise ValueError(f"transform is {kind!r}; choose one of {', '.join(TRANSFORMS)}")
    require_memory(8 * np.prod(values.shape, dtype=float), f"an array of shape {values.shape}")
    x = np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)
    _check(x, kind)
    if kind in ("log", "tfidf"):
        documents = x[training] > 0
        x = np.log1p(x)
        if kind == "tfidf":
            x = x * (np.log((1 + len(documents)) / (1 + documents.sum(0))) + 1)
    elif kind == "zscore":
        with np.errstate(invalid="ignore"):
            mean, sd = (
                np.nan_to_num(_nanmean(x[training])),
                np.sqrt(_nanmean(np.square(x[training] - _nanmean(x[training])))),
            )
        # A column that never varied among the training samples carries nothing that could be learned.
        x = np.nan_to_num((x - mean) / np.where(sd > 0, sd, np.inf))
    if unit_norm:
        length = np.linalg.norm(x, axis=1, keepdims=True)
        x = x / np.where(length > 0, length, 1)
    return x.astype(np.float32)


def _nanmean(x: np.ndarray) -> np.ndarray:
    """Column means over what is there; NaN (and no warning) for a column without any value."""
    return np.nansum(x, axis=0) / (~np.isnan(x)).sum(0)


def _check(x: np.ndarray, kind: str) -> None:
    wrong = np.isinf(x)
    rule = "every value must be finite"
    if kind != "zscore":
        wrong, rule = wrong | np.isnan(x), f"{rule} (transform zscore takes NaN as missing)"
    if kind in ("log", "tfidf") and not wrong.any():
        wrong, rule = x < 0, f"transform {kind} takes counts, which are not negative"
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(f"row {row}, column {column} is {x[row, column]}; {rule}")
