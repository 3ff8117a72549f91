"""The .mat files in which multi-view data sets are shared: one cell of views, and labels beside it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from adni_tcgm.transforms import Matrix

# What their labels are usually called.
LABELS = ("Y", "gt", "truelabel")


def plain(value: Matrix) -> Matrix:
    """An array of `scipy.io.loadmat`: a sparse matrix by rows, a column of strings as strings, a cell as it is.

    >>> plain(np.array([["a"], ["b"]], object)).tolist()
    ['a', 'b']
    """
    if sparse.issparse(value):
        return value.tocsr()
    if value.dtype != object or not value.size or _is_cell(value):
        return value
    # A column of strings arrives as nested object arrays of one element each.
    return np.array([np.ravel(v)[0] for v in value.ravel()])


def read_cell(file: Mapping[str, Matrix], cell: str, labels: str) -> tuple[dict[str, Matrix], Matrix]:
    """view1, view2, … -> (N, D) of the cell, whose rows or columns are samples; and (N,) labels.

    labels: the name of their array; where there is none of that name, it is `Y`, `gt` or `truelabel`. As many rows or
    columns as labels are samples; a square view goes as the others do. Raises ValueError where neither fits.
    """
    if cell not in file or not _is_cell(file[cell]):
        raise ValueError(f"no cell {cell!r} of views; it holds {', '.join(sorted(file))}")
    name = next((name for name in (labels, *LABELS) if name in file), None)
    if name is None:
        raise ValueError(f"no labels; expected one of {', '.join((labels, *LABELS))}")
    known = _labels(file[name], name)
    views = [plain(view) for view in file[cell].ravel()]
    turned = any(view.shape[0] != len(known) and view.shape[1] == len(known) for view in views)
    for number, view in enumerate(views, start=1):
        if view.ndim != 2 or len(known) not in view.shape:
            raise ValueError(f"view {number} of {cell!r} has shape {view.shape}, and {name!r} has {len(known)} labels")
    columns = [view.shape[1] == len(known) and (turned or view.shape[0] != len(known)) for view in views]
    rows = [view.T if turn else view for view, turn in zip(views, columns, strict=True)]
    return {f"view{number}": view for number, view in enumerate(rows, start=1)}, known


def _labels(value: Matrix, name: str) -> np.ndarray:
    """(N,) labels; a cell has the same ones for each view."""
    several = [np.ravel(part) for part in value.ravel()] if _is_cell(value) else [np.ravel(plain(value))]
    if any(not np.array_equal(part, several[0]) for part in several):
        raise ValueError(f"the cells of {name!r} differ; a sample must have one class in all views")
    if not _is_cell(value) and min(value.shape) > 1:
        raise ValueError(f"{name!r} has shape {value.shape}; expected one label for each sample")
    return several[0]


def _is_cell(value: Matrix) -> bool:
    """Whether it holds arrays, not single strings or numbers."""
    return value.dtype == object and any(np.size(part) > 1 or sparse.issparse(part) for part in value.ravel())
