"""Samples in several modalities, as people have them: arrays by name, before any transform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch
from adni_tcgm.transforms import Transform

Views = Mapping[str, "np.ndarray | None"]


class MultimodalData:
    """The same N samples in several modalities: name -> (N, ...) numbers, or None where nobody has it.

    A sample lacks a modality where its row is NaN throughout; single NaNs are missing values. groups: N names of what
    must not be parted (a person with two visits). Can be indexed by samples, so that scikit-learn can part it.

    >>> data = MultimodalData({"left": np.ones((3, 2)), "right": np.full((3, 1), np.nan)})
    >>> len(data), data.present.tolist()[0], len(data[[0, 2]])
    (3, [True, False], 2)
    """

    def __init__(self, views: Views, groups: Sequence[str] | None = None) -> None:
        given = {name: _numbers(values) for name, values in views.items() if values is not None}
        sizes = {name: len(values) for name, values in given.items() if values.ndim}
        if not given or len(sizes) < len(given) or len(set(sizes.values())) > 1:
            raise ValueError(f"views have {sizes} rows; at least one view, and as many rows in each, are needed")
        self.size = next(iter(sizes.values()))
        if groups is not None and len(groups) != self.size:
            raise ValueError(f"groups names {len(groups)} samples; the views have {self.size} rows")
        for name, values in given.items():
            if np.isinf(values).any():
                row = int(np.argwhere(np.isinf(values).reshape(len(values), -1).any(1))[0, 0])
                raise ValueError(f"view {name!r}, row {row}: a value is infinite")
        self.views = {name: given.get(name) for name in views}
        self.groups = None if groups is None else list(groups)

    def __len__(self) -> int:
        return self.size

    @property
    def shape(self) -> tuple[int, int]:
        """(samples, modalities); scikit-learn asks for it."""
        return self.size, len(self.views)

    def __getitem__(self, index: Any) -> MultimodalData:
        rows = np.arange(self.size)[index[0] if isinstance(index, tuple) else index]
        groups = None if self.groups is None else [self.groups[row] for row in rows]
        return MultimodalData({name: None if v is None else v[rows] for name, v in self.views.items()}, groups)

    @property
    def present(self) -> np.ndarray:
        """(N, M) bool: which sample has which modality."""
        columns = [
            np.zeros(self.size, bool) if v is None else ~np.isnan(v.reshape(self.size, -1)).all(1)
            for v in self.views.values()
        ]
        return np.stack(columns, 1)


def to_batch(
    data: MultimodalData,
    modalities: Mapping[str, tuple[int, ...]],
    transforms: Mapping[str, Transform],
    labels: np.ndarray | None = None,
) -> MultimodalBatch:
    """The samples as the learner takes them; labels (N,) class indices or UNLABELED, by default the latter.

    Raises ValueError where a modality is unknown or has another shape, or a sample has none.

    >>> data = MultimodalData({"left": np.array([[1.0], [3.0]])})
    >>> batch = to_batch(data, {"left": (1,)}, {"left": Transform.fit(data.views["left"], "zscore")})
    >>> batch.inputs["left"].tolist(), batch.labels.tolist()
    ([[-1.0], [1.0]], [-1, -1])
    """
    unknown = [name for name in data.views if name not in modalities]
    if unknown:
        raise ValueError(f"view {unknown[0]!r} is not one of those that the model knows: {', '.join(modalities)}")
    inputs: dict[str, Tensor] = {}
    present = np.zeros((len(data), len(modalities)), bool)
    there = dict(zip(data.views, data.present.T, strict=True))
    for column, (name, shape) in enumerate(modalities.items()):
        values = data.views.get(name)
        if values is not None and values.shape[1:] != shape:
            raise ValueError(f"view {name!r} has samples of shape {values.shape[1:]}; the model knows {shape}")
        rows = np.zeros((len(data), *shape), np.float32)
        if values is not None:
            present[:, column] = there[name]
            rows[there[name]] = transforms[name](values[there[name]])
        inputs[name] = torch.from_numpy(rows)
    names = [str(row) for row in range(len(data))]
    known = np.full(len(data), UNLABELED) if labels is None else labels
    groups = [str(group) for group in data.groups] if data.groups else names
    return MultimodalBatch(names, inputs, torch.from_numpy(present), torch.from_numpy(known.astype(np.int64)), groups)


def _numbers(values: Any) -> np.ndarray:
    found = np.asarray(values)
    return found if found.dtype in (np.float32, np.float64) else found.astype(np.float32)
