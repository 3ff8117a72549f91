"""What metrics.json and predictions.tsv say of a trained run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from adni_tcgm.evaluation import agreement
from adni_tcgm.evaluation.calibration import CROSS_FITTED
from adni_tcgm.evaluation.cross_fitting import HeldOut
from adni_tcgm.evaluation.metrics import evaluate_modalities
from adni_tcgm.storage import prediction_table
from adni_tcgm.tcgm.batch import MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import Fitted, predict
from pipelines.config import AUSTERE, NO_PRETRAINING, Settings
from pipelines.fitting import Calibrated
from pipelines.truth import Truth


def score_parts(fitted: Fitted, found: Calibrated, parts: Mapping[str, MultimodalBatch]) -> tuple[dict, pd.DataFrame]:
    """Scores of each part, calibrated as people see them and uncalibrated, and the predictions of all.

    "train" has no outcome to score. Held-out predictions of visible labels stand in the table as `CROSS_FITTED`.
    """
    scores, tables = {}, []
    said = {name: _numpy(predict(fitted, batch)) for name, batch in parts.items()}
    if found.held_out is not None:
        parts, said = (
            {**parts, CROSS_FITTED: found.held_out.samples},
            {**said, CROSS_FITTED: found.held_out.log_posteriors},
        )
    for name, batch in parts.items():
        calibrated = found.calibration.apply(said[name], batch.present.numpy())
        tables.append(prediction_table(name, batch, said[name], calibrated, fitted.classes))
        if name not in ("train", CROSS_FITTED):
            labels, present = batch.labels.numpy(), batch.present.numpy()
            scores[name] = evaluate_modalities(calibrated, labels, present)
            scores[f"{name}_uncalibrated"] = evaluate_modalities(said[name], labels, present)
    return scores, pd.concat(tables, ignore_index=True)


def describe_agreement(fitted: Fitted, splits: Splits, held_out: HeldOut | None) -> dict:
    """Whether what the modalities agree on follows a recorded nuisance; nothing where none is recorded."""
    said = _numpy(predict(fitted, splits.train))
    if not splits.nuisances or len(said) < 3:
        return {}
    labeled = np.zeros(0), np.zeros(0, int)
    if held_out is not None:
        by_person = agreement.agreement_of(held_out.log_posteriors, held_out.samples.present.numpy())
        labeled = by_person, held_out.samples.labels.numpy()
    shared = agreement.agreement_of(said, splits.train.present.numpy())
    rows = agreement.explain_agreement(shared, splits.nuisances, *labeled)
    return {"agreement": {"explained": agreement.to_json(rows), "words": agreement.describe(rows)}}


def _numpy(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in tensors.items()}


def describe_run(settings: Settings, method: str, seed: int, splits: Splits, truth: Truth | None) -> dict:
    """The part of metrics.json that says what was run on whom."""
    return {
        "dataset": settings.name,
        "simulated": settings.simulated,
        "method": method,
        "features": settings.data.features if settings.dataset == "adni" else None,
        "label_rate": settings.data.label_rate,
        "seed": seed,
        "n": {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)},
        "labels": {
            "train_visible": sum(row.label_visible for row in splits.rows if row.split == "train"),
            "validation": 0
            if settings.protocol == AUSTERE
            else sum(row.label_visible for row in splits.rows if row.split == "validation"),
        },
        "bayes": truth.bayes_metrics(splits.test.sample_ids) if truth else None,
    }


def describe_fit(settings: Settings, fitted: Fitted) -> dict:
    """How the training began, which step was kept, how it was computed: what there is to say of each."""
    about: dict = {}
    if settings.pretraining != NO_PRETRAINING:
        about["pretraining"] = settings.describe_pretraining()
    if fitted.history:
        about |= {"best_step": fitted.best_step, "unlabeled_from": fitted.unlabeled_from}
    if fitted.execution:
        about["execution"] = fitted.execution
    return about


def say_budget(metrics: Mapping) -> str:
    """Which labels beside the visible ones a run has looked at."""
    if metrics.get("protocol") == AUSTERE:
        return "no other label was looked at; calibrated by cross-fitting these"
    return f"{metrics['labels']['validation']} validation labels used for selection and calibration"


def censored_people(splits: Splits) -> MultimodalBatch:
    """The training people whose outcome nobody knows: survival curves follow them for as long as they were seen."""
    unknown = {row.sample_id for row in splits.rows if row.split == "train" and not row.label}
    rows = [row for row, name in enumerate(splits.train.sample_ids) if name in unknown]
    return splits.train.select(torch.tensor(rows, dtype=torch.long))
