"""Norms of the inputs: what training people measure on average, and how far they spread."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adni_tcgm.transforms import Transform

# At a time: of float16, torch computes in a copy in float32.
SAMPLES = 64


def fit_norms(
    inputs: dict[str, Tensor], present: np.ndarray, rows: np.ndarray, features: dict[str, list[str]]
) -> pd.DataFrame:
    """Mean and SD of each feature over the samples in `rows` ((N,) bool) that have the modality; labels play no part.

    inputs: modality -> (N, *shape) as measured. present: (N, M) bool. Returns rows `modality feature mean sd n`.
    Volumes have one feature, "voxel": one mean and SD over all their voxels, which keeps the contrast between places.
    Raises ValueError for a modality that no sample in `rows` has.

    >>> inputs, present = {"mri": torch.tensor([[1.0], [3.0], [9.0]])}, np.ones((3, 1), bool)
    >>> norms = fit_norms(inputs, present, np.array([True, True, False]), {"mri": ["hippocampus_volume_ml"]})
    >>> norms[["mean", "n"]].values.tolist()
    [[2.0, 2.0]]
    """
    records = []
    for column, (name, values) in enumerate(inputs.items()):
        chosen = np.flatnonzero(rows & present[:, column])
        if not len(chosen):
            raise ValueError(f"no training sample has modality {name!r}; its norms cannot be measured")
        # One person at a time: a double copy of all volumes would not fit beside them.
        people = [values[row].numpy().reshape(-1, len(features[name])) for row in chosen]
        mean = np.nanmean([person.mean(0, dtype=np.float64) for person in people], axis=0)
        sd = np.sqrt(np.nanmean([np.square(person - mean).mean(0) for person in people], axis=0))
        records += [
            {"modality": name, "feature": feature, "mean": float(m), "sd": float(s), "n": len(chosen)}
            for feature, m, s in zip(features[name], mean, sd, strict=True)
        ]
    return pd.DataFrame(records)


def transforms_of(norms: pd.DataFrame) -> dict[str, Transform]:
    """Modality -> what `standardize` does with it.

    >>> norms = pd.DataFrame({"modality": ["mri"], "feature": ["a"], "mean": [2.0], "sd": [1.0], "n": [9]})
    >>> transforms_of(norms)["mri"](np.array([[3.0]])).tolist()
    [[1.0]]
    """
    return {
        name: Transform("zscore", numbers={key: rows[key].to_numpy(float) for key in ("mean", "sd")})
        for name, rows in norms.groupby("modality")
    }


def standardize(
    inputs: dict[str, Tensor], present: np.ndarray, norms: pd.DataFrame, features: dict[str, list[str]]
) -> None:
    """(value - mean) / sd in place, since thousands of people fill gigabytes; absent rows go back to zero.

    norms: of `fit_norms`. Raises ValueError where they are for other features.

    >>> inputs, present = {"mri": torch.tensor([[1.0], [3.0]])}, np.ones((2, 1), bool)
    >>> names = {"mri": ["a"]}
    >>> standardize(inputs, present, fit_norms(inputs, present, np.ones(2, bool), names), names)
    >>> inputs["mri"].mean().item()
    0.0
    """
    for column, (name, values) in enumerate(inputs.items()):
        rows = norms[norms.modality == name]
        if rows.feature.tolist() != features[name]:
            raise ValueError(
                f"norms of modality {name!r} are for features {rows.feature.tolist()}; the data have {features[name]}"
            )
        mean = torch.tensor(rows["mean"].to_numpy(), dtype=torch.float32)
        # A feature that never varied carries nothing; dividing by 1 keeps it at zero.
        sd = torch.tensor(rows["sd"].replace(0, 1).to_numpy(), dtype=torch.float32)
        for part in values.split(SAMPLES):
            part.sub_(mean).div_(sd)
        values[torch.from_numpy(~present[:, column])] = 0
        if values.ndim == 2:
            # A region outside the field of view stands at the training mean.
            values.nan_to_num_(0)
