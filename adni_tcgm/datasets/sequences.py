"""Utterances of different lengths as one array: every step carries a mark that says whether it is real.

A sequence is (T, 1 + D): column 0 is 1 at a step of the utterance and 0 at padding, where everything else is 0 too.
"""

from __future__ import annotations

import numpy as np

from adni_tcgm.transforms import STEPS, Transform, apply_steps, fit_steps


def find_steps(values: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    """(N, T, D) -> (N, T) bool, the steps that are there: the first `lengths` (N,), if anybody counted them.

    Otherwise those that hold a number other than 0: feature files pad with zeros, in front or behind.

    >>> find_steps(np.array([[[1.0], [2.0], [0.0]]])).tolist()  # zeros are padding
    [[True, True, False]]
    """
    if lengths is not None:
        return np.arange(values.shape[1]) < np.asarray(lengths).reshape(-1, 1)
    return (np.isfinite(values) & (values != 0)).any(2)


def mean_over_steps(values: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(N, T, D), (N, T) -> (N, D) float32: the mean of each feature over the steps that have it; NaN where none has.

    >>> mean_over_steps(np.array([[[1.0], [3.0], [0.0]]]), np.array([[True, True, False]])).tolist()
    [[2.0]]
    """
    known = np.isfinite(values) & real[:, :, None]
    total = np.where(known, values, 0).sum(1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return (total / known.sum(1)).astype(np.float32)


def mark_steps(values: np.ndarray, real: np.ndarray, steps: int) -> np.ndarray:
    """(N, T, D), (N, T) -> (N, steps, 1 + D) float32: real steps first, in order, the rest of them cut off.

    NaN and infinite values stay NaN, for `standardize_steps`.

    >>> mark_steps(np.array([[[0.0], [3.0]]]), np.array([[False, True]]), steps=2).tolist()
    [[[1.0, 3.0], [0.0, 0.0]]]
    """
    first = np.argsort(~real, axis=1, kind="stable")[:, :steps]
    marked = np.zeros((len(values), steps, 1 + values.shape[2]), dtype=np.float32)
    there = np.take_along_axis(real, first, axis=1)
    marked[:, : first.shape[1], 0] = there
    kept = np.take_along_axis(values, first[:, :, None], axis=1)
    marked[:, : first.shape[1], 1:] = np.where(there[:, :, None], np.where(np.isfinite(kept), kept, np.nan), 0)
    return marked


def standardize_steps(values: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, Transform]:
    """(N, T, 1 + D) with each feature at mean 0 and SD 1 over the real steps of the training utterances, in place; and
    the transform. training: (N,) bool.

    >>> marked = np.array([[[1.0, 3.0], [1.0, 5.0], [0.0, 0.0]]])
    >>> values, transform = standardize_steps(marked, np.array([True]))
    >>> values[0, :2, 1].tolist(), transform.kind
    ([-1.0, 1.0], 'steps')
    """
    transform = Transform(STEPS, numbers=fit_steps(values, np.flatnonzero(training)))
    return apply_steps(values, transform.numbers), transform
