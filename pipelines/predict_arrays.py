"""Predictions of new samples by a run that was trained on arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from adni_tcgm.data import MultimodalData
from adni_tcgm.datasets.arrays import ArraysConfig, read_views
from adni_tcgm.storage import Run, prediction_table
from pipelines.building import build
from pipelines.restoring import Refused, restore


def predict_arrays(run: Run, file: Path) -> pd.DataFrame:
    """Rows as in `predictions.tsv`, split "new", of every sample of `file`; a view that it lacks decides nothing.

    file: of the form that the run was trained on (.npz, .mat or a folder); labels are not needed (`read_views`).
    Raises Refused for a run on other data than arrays, ValueError naming the file and view that do not fit.
    """
    if run.config.get("dataset") != "arrays":
        raise Refused(f"{run.path}: trained on {run.config.get('dataset')!r}; --arrays is for runs on arrays")
    config = build(ArraysConfig, {**run.config["data"], "path": str(file)}, f"{run.path}: config.yaml")
    views, names = read_views(config)
    model = restore(run)
    try:
        batch = replace(model.read(MultimodalData(views)), sample_ids=names)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return prediction_table("new", batch, *model.posteriors_of(batch), [str(label) for label in model.classes])
