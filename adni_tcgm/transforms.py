"""What inputs go through before any network: the usual transforms, fitted on training samples and kept with a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from adni_tcgm.limits import require_memory

TRANSFORMS = ("raw", "log", "tfidf", "zscore")
STEPS = "steps"  # of sequences whose steps are marked (`datasets.sequences`)
ROWS_AT_ONCE = 512
Matrix = np.ndarray | sparse.csr_matrix


@dataclass(frozen=True)
class Transform:
    """(N, …) counts or features -> (N, …) float32.

    kind: "raw"; "log", log(1 + x); "tfidf", log(1 + x) times log((1 + n) / (1 + df)) + 1, the smoothed inverse document
        frequency (as in scikit-learn); "zscore", (x - mean) / SD of each column, NaN at the mean; "steps", the same
        over the steps of sequences (N, T, 1 + D) whose first column marks them.
    unit_norm: rows divided by their Euclidean length; a row of zeros stays.
    numbers: what was fitted, by name.

    >>> values = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> Transform.fit(values, "zscore")(values).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """

    kind: str
    unit_norm: bool = False
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def fit(cls, values: Matrix, kind: str, unit_norm: bool = False, pooled: bool = False) -> Transform:
        """Weights, means and deviations of these rows, the training samples that have the modality.

        pooled: one mean and SD for all columns, as of images. Raises ValueError for an unknown kind.
        """
        if kind not in (*TRANSFORMS, STEPS):
            raise ValueError(f"transform is {kind!r}; choose one of {', '.join(TRANSFORMS)}")
        if kind == STEPS:
            return cls(kind, False, fit_steps(values, np.arange(len(values))))
        numbers = {}
        if kind == "tfidf":
            having = np.asarray((values > 0).sum(0), dtype=np.float64).ravel()
            numbers["weight"] = np.log((1 + values.shape[0]) / (1 + having)) + 1
        elif kind == "zscore":
            x = _dense(values).reshape(-1, 1) if pooled else _dense(values)
            with np.errstate(all="ignore"):
                mean = _nanmean(x)
                numbers = {"mean": np.nan_to_num(mean), "sd": np.sqrt(_nanmean(np.square(x - mean)))}
        return cls(kind, unit_norm, numbers)

    def __call__(self, values: Matrix) -> np.ndarray:
        """Raises ValueError for a negative or missing value where counts are expected, or an infinite one anywhere."""
        if self.kind == STEPS:
            return apply_steps(np.array(values, dtype=np.float32), self.numbers)
        x = _dense(values)
        _check(x, self.kind)
        if self.kind in ("log", "tfidf"):
            x = np.log1p(x) * self.numbers.get("weight", 1.0)
        elif self.kind == "zscore":
            # A column that never varied among the training samples carries nothing that could be learned.
            sd = np.where(self.numbers["sd"] > 0, self.numbers["sd"], np.inf)
            x = np.nan_to_num((x - self.numbers["mean"]) / sd)
        if self.unit_norm:
            length = np.linalg.norm(x, axis=1, keepdims=True)
            x = x / np.where(length > 0, length, 1)
        return x.reshape(values.shape).astype(np.float32)


def transformed(values: Matrix, training: np.ndarray, kind: str, unit_norm: bool) -> np.ndarray:
    """`values` (N, D) by a transform that was fitted on the rows `training`, (N,) bool.

    >>> transformed(np.array([[0.0], [2.0], [4.0]]), np.array([True, True, False]), "zscore", False).tolist()
    [[-1.0], [1.0], [3.0]]
    """
    return Transform.fit(values[training], kind, unit_norm)(values)


def fit_steps(values: np.ndarray, training: np.ndarray) -> dict[str, np.ndarray]:
    """Of the rows `training` of (N, T, 1 + D) marked sequences: each feature's mean over real steps, and 1 / SD.

    >>> marked = np.array([[[1.0, 3.0], [1.0, 5.0], [0.0, 0.0]]])  # two real steps, one of padding
    >>> fit_steps(marked, np.array([0]))["mean"].tolist()
    [4.0]
    """
    count, total, squares = 0, 0.0, 0.0
    for block in _blocks(len(training)):
        chosen = values[training[block]]
        steps = chosen[chosen[:, :, 0] > 0, 1:].astype(np.float64)
        count = count + np.isfinite(steps).sum(0)
        total, squares = total + np.nansum(steps, 0), squares + np.nansum(steps**2, 0)
    count = np.maximum(count, 1)
    mean = total / count
    sd = np.sqrt(np.maximum(squares / count - mean**2, 0))
    # A feature that never varied among the training steps carries nothing that could be learned.
    factor = np.where(sd > 1e-6 * np.maximum(np.abs(mean), 1e-30), 1 / np.where(sd > 0, sd, 1), 0)
    return {"mean": mean, "factor": factor}


def apply_steps(values: np.ndarray, numbers: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N, T, 1 + D) by the numbers of `fit_steps`, in place: at 20,000 utterances a second copy would not fit into
    small machines. NaN becomes 0.

    >>> marked = np.array([[[1.0, 3.0], [1.0, 5.0], [0.0, 0.0]]])
    >>> apply_steps(marked, fit_steps(marked, np.array([0])))[0, :, 1].tolist()
    [-1.0, 1.0, -0.0]
    """
    for rows in _blocks(len(values)):
        block = values[rows]
        block[:, :, 1:] = np.nan_to_num((block[:, :, 1:] - numbers["mean"]) * numbers["factor"]) * block[:, :, :1]
    return values


def _blocks(size: int) -> list[slice]:
    return [slice(start, start + ROWS_AT_ONCE) for start in range(0, size, ROWS_AT_ONCE)]


def _dense(values: Matrix) -> np.ndarray:
    """(N, D) float64."""
    require_memory(8 * np.prod(values.shape, dtype=float), f"an array of shape {values.shape}")
    dense = values.toarray() if sparse.issparse(values) else values
    return np.asarray(dense, dtype=np.float64).reshape(values.shape[0], -1)


def _nanmean(x: np.ndarray) -> np.ndarray:
    """Column means over what is there; NaN for a column without any value."""
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
