"""From a multi-view data set in memory to `Splits`: split, hide labels, transform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from adni_tcgm.datasets.sequences import standardize_steps
from adni_tcgm.datasets.splitting import LEFT_OUT, SHARES, draw_splits, draw_visible
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, SplitRow, Splits
from adni_tcgm.transforms import STEPS, Matrix, Transform


@dataclass(frozen=True)
class Arrays:
    """A multi-view data set as measured, before any split.

    views: modality -> (N, …) features or counts. labels: (N,) index into `classes`, or UNLABELED. sample_ids: N names.
    present: (N, M) bool; None: a row of a view that is NaN throughout is a sample without that modality.
    groups: N names that no split separates; None: every sample is its own. nuisance_groups: N names of a nuisance that
    samples share, such as site or speaker; None: there is none. split: N of "train", "validation", "test" or "" (left
    out); None: drawn.

    >>> Arrays({"left": np.zeros((2, 3))}, np.array([0, 1]), ("no", "yes"), ["a", "b"]).classes
    ('no', 'yes')
    >>> Arrays({"left": np.zeros((2, 3))}, np.array([0]), ("no", "yes"), ["a", "b"])
    Traceback (most recent call last):
        ...
    ValueError: 'labels' has 1 rows; there are 2 samples
    """

    views: Mapping[str, Matrix]
    labels: np.ndarray
    classes: Sequence[str]
    sample_ids: Sequence[str]
    present: np.ndarray | None = None
    groups: Sequence[str] | None = None
    nuisance_groups: Sequence[str] | None = None
    split: Sequence[str] | None = None

    def __post_init__(self) -> None:
        size = len(self.sample_ids)
        columns = {
            "labels": self.labels,
            "groups": self.groups,
            "nuisance_groups": self.nuisance_groups,
            "split": self.split,
        }
        for name, values in (*self.views.items(), *columns.items()):
            rows = size if values is None else values.shape[0] if hasattr(values, "shape") else len(values)
            if rows != size:
                raise ValueError(f"{name!r} has {rows} rows; there are {size} samples")
        if len(set(self.sample_ids)) < size:
            repeated = next(name for i, name in enumerate(self.sample_ids) if name in self.sample_ids[:i])
            raise ValueError(f"sample {repeated!r} occurs twice; sample ids must be unique")
        if self.split is not None:
            strange = set(self.split) - {*SHARES, LEFT_OUT}
            if strange:
                raise ValueError(
                    f"split holds {sorted(strange)[0]!r}; known: {', '.join(SHARES)}, or empty to leave out"
                )
            self._check_groups()

    def _check_groups(self) -> None:
        home: dict[str, str] = {}
        for group, split in zip(self.groups or self.sample_ids, self.split, strict=True):
            if split != LEFT_OUT and home.setdefault(group, split) != split:
                raise ValueError(f"group {group!r} is in {home[group]} and in {split}; a group belongs to one split")


def to_splits(
    arrays: Arrays,
    seed: int,
    label_rate: float = 0.1,
    transform: str | Mapping[str, str] = "log",
    unit_norm: bool = True,
) -> Splits:
    """Train, validation and test samples; 60/20/20 by group unless `arrays.split` says how.

    The split depends on the seed only; labels shown at a low rate are among those shown at a higher one. transform,
    unit_norm: see `transforms.Transform`; one transform for all views or one for each, fitted on training samples;
    "steps" for marked sequences, see `sequences.standardize_steps`, which changes the arrays in place.
    Samples whose modalities are all absent are left out. Raises ValueError for values that a transform cannot take.

    >>> rng, y = np.random.default_rng(0), np.arange(50) % 2
    >>> arrays = Arrays({"left": rng.normal(size=(50, 3))}, y, ("no", "yes"), [f"s{i}" for i in range(50)])
    >>> splits = to_splits(arrays, seed=0, label_rate=0.2, transform="zscore", unit_norm=False)
    >>> len(splits.train), int((splits.train.labels >= 0).sum())
    (30, 6)
    """
    present = _present(arrays)
    groups = np.array(arrays.groups if arrays.groups is not None else arrays.sample_ids)
    if arrays.split is None:
        split = draw_splits(arrays.labels, groups, np.random.default_rng([seed, 0]), classes=len(arrays.classes))
    else:
        split = np.array(arrays.split, dtype="<U10")
    split[~present.any(1)] = LEFT_OUT
    known, trains = np.asarray(arrays.labels), split == "train"
    shown = draw_visible(known, trains, label_rate, np.random.default_rng([seed, 1]))
    visible = shown | (np.isin(split, ("validation", "test")) & (known != UNLABELED))

    inputs, transforms = {}, {}
    for column, (name, values) in enumerate(arrays.views.items()):
        kind = transform if isinstance(transform, str) else transform[name]
        try:
            inputs[name], transforms[name] = _inputs(values, present[:, column], trains, kind, unit_norm)
        except ValueError as error:
            raise ValueError(f"modality {name!r}: {error}") from error
    labels = np.where(visible, known, UNLABELED)
    parts = {}
    for part in SHARES:
        rows = np.flatnonzero(split == part)
        parts[part] = MultimodalBatch(
            sample_ids=[arrays.sample_ids[row] for row in rows],
            inputs={name: torch.from_numpy(values[rows]) for name, values in inputs.items()},
            present=torch.from_numpy(present[rows]),
            labels=torch.from_numpy(labels[rows]),
            groups=[str(groups[row]) for row in rows],
            nuisance_groups=[str(arrays.nuisance_groups[row]) for row in rows]
            if arrays.nuisance_groups is not None
            else (),
        )
    names = ["" if label == UNLABELED else arrays.classes[label] for label in known]
    rows = [
        SplitRow(sample, str(group), part, name, bool(seen))
        for sample, group, part, name, seen in zip(arrays.sample_ids, groups, split, names, visible, strict=True)
        if part != LEFT_OUT
    ]
    modalities = [Modality(name, v.shape[1:]) for name, v in inputs.items()]
    fitted_on = {"transform": [arrays.sample_ids[row] for row in np.flatnonzero(trains)]}
    return Splits(modalities, tuple(arrays.classes), **parts, rows=rows, fitted_on=fitted_on, transforms=transforms)


def _present(arrays: Arrays) -> np.ndarray:
    if arrays.present is not None:
        return np.asarray(arrays.present, dtype=bool)
    there = []
    for values in arrays.views.values():
        flat = None if sparse.issparse(values) else np.asarray(values, dtype=float).reshape(len(arrays.sample_ids), -1)
        there.append(np.ones(len(arrays.sample_ids), dtype=bool) if flat is None else ~np.isnan(flat).all(1))
    return np.stack(there, axis=1)


def _inputs(
    values: Matrix, present: np.ndarray, trains: np.ndarray, kind: str, unit_norm: bool
) -> tuple[np.ndarray, Transform]:
    """(N, …) float32, and the transform; rows of absent samples hold zeros and take no part in fitting it."""
    if kind == STEPS:
        return standardize_steps(values, trains & present)
    if not sparse.issparse(values):
        values = np.where(present.reshape(-1, *[1] * (values.ndim - 1)), np.asarray(values, dtype=float), 0)
    transform = Transform.fit(values[trains & present], kind, unit_norm)
    result = transform(values)
    result[~present] = 0
    return result, transform
