"""Finished runs in, tables out: every seed, means over seeds, and paired differences between methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from adni_tcgm.evaluation.intervals import Metric, PairedRun, holm, paired_difference, verdicts
from adni_tcgm.evaluation.metrics import METRICS, SMALLEST_LOG_POSTERIOR
from adni_tcgm.storage import Run

CELL = ["dataset", "method", "label_rate", "modality", "metric"]
LOWER_IS_BETTER = ("log_loss", "brier")
# Those of which a paired difference can be had; the Brier score is in the tables only.
# The interval then holds for the two trained models and knows nothing of how training varies (benchmarks.statistics).
ONE_SEED = "one seed: of these two models, not of the methods"
DIFFERENCES = ["label_rate", "metric", "reference", "method", "estimate", "low", "high", "p_holm", "verdict", "seeds"]


def tabulate_seeds(runs: Sequence[Run]) -> pd.DataFrame:
    """`per_seed.tsv`: one row per run, modality and metric of the test split; a metric that is not defined has none."""
    rows = []
    for run in runs:
        about = run.metrics
        for modality, values in about["test"].items():
            shown = {"dataset": about["dataset"], "method": about["method"], "label_rate": about["label_rate"]}
            shown |= {"seed": about["seed"], "modality": modality}
            rows += [shown | {"metric": m, "value": values[m]} for m in METRICS if values.get(m) is not None]
    return pd.DataFrame(rows, columns=["dataset", "method", "label_rate", "seed", "modality", "metric", "value"])


def summarize_seeds(per_seed: pd.DataFrame) -> pd.DataFrame:
    """`table.tsv`: mean and standard deviation (of a sample: n - 1) over the n seeds; std is empty for one seed."""
    values = per_seed.groupby(CELL, sort=False)["value"]
    return values.agg(["mean", "std", "count"]).reset_index().rename(columns={"count": "n"})


def choose_reference(runs: Sequence[Run]) -> str:
    """tcgm where it ran; otherwise the method whose combined prediction has the lowest mean validation log-loss."""
    losses: dict[str, list[float]] = {}
    for run in runs:
        loss = run.metrics.get("validation", {}).get("all", {}).get("log_loss")
        losses.setdefault(run.metrics["method"], []).append(np.inf if loss is None else loss)
    return "tcgm" if "tcgm" in losses else min(losses, key=lambda method: np.mean(losses[method]))


def compare_methods(runs: Sequence[Run], reference: str, metric: str) -> pd.DataFrame:
    """`differences.tsv`: reference minus every other method in `metric` of "all", per label rate.

    Paired over seeds: only those that both methods finished count. 95 % intervals by the design of the seeds
    (`design_of`); p-values after Holm over the methods of a label rate.
    """
    by_place = {(run.metrics["label_rate"], run.metrics["method"], run.metrics["seed"]): run for run in runs}
    rows: list[dict[str, Any]] = []
    for label_rate in dict.fromkeys(rate for rate, _, _ in by_place):
        of_rate = {key[1:]: run for key, run in by_place.items() if key[0] == label_rate}
        found = {}
        for method in dict.fromkeys(method for method, _ in of_rate):
            seeds = [seed for name, seed in of_rate if name == method and (reference, seed) in of_rate]
            if method == reference or not seeds:
                continue
            pairs = [_pair(of_rate[reference, seed], of_rate[method, seed], metric) for seed in seeds]
            try:
                found[method] = paired_difference(_metric_of_scores(metric), pairs, design_of(runs))
            except ValueError:
                # The metric is not defined in any of the runs, as an AUC with one class in the test split.
                continue
        adjusted = holm([difference.p_value for difference in found.values()])
        words = verdicts(found)
        for (method, difference), p_holm in zip(found.items(), adjusted, strict=True):
            rows.append(
                {
                    "label_rate": label_rate,
                    "metric": metric,
                    "reference": reference,
                    "method": method,
                    "estimate": difference.estimate,
                    "low": difference.low,
                    "high": difference.high,
                    "p_holm": p_holm,
                    "verdict": _judge(words[method], reference, metric) if difference.seeds > 1 else ONE_SEED,
                    "seeds": difference.seeds,
                }
            )
    return pd.DataFrame(rows, columns=DIFFERENCES)


def design_of(runs: Sequence[Run]) -> str:
    """How the seeds of a study differ, for `paired_difference`: new data, the same test samples, or re-splits."""
    if all(run.config.get("dataset") == "gaussian" for run in runs):
        return "independent"  # each seed draws its own samples, whatever they are called
    tests = {frozenset(run.splits.sample_id[run.splits.split == "test"]) for run in runs}
    return "shared" if len(tests) == 1 else "resplits"


def _judge(word: str, reference: str, metric: str) -> str:
    """ "tcgm better", "tcgm worse" or "no difference shown"."""
    if word not in ("above", "below"):
        return word
    better = (word == "above") != (metric in LOWER_IS_BETTER)
    return f"{reference} {'better' if better else 'worse'}"


def class_names(run: Run) -> list[str]:
    """In the order of the columns of `predictions.tsv`."""
    columns = set(run.predictions.columns)
    return [c[2:] for c in run.predictions.columns if c.startswith("p_") and f"p_calibrated_{c[2:]}" in columns]


def _pair(first: Run, second: Run, metric: str) -> PairedRun:
    """Two runs on the same test samples, in the same order."""
    one, other = _combined(first), _combined(second)
    if set(one.index) != set(other.index) or one.index.has_duplicates:
        raise ValueError(f"{first.path.name} and {second.path.name} were judged on different test samples")
    other = other.loc[one.index]
    if (one["label"] != other["label"]).any():
        raise ValueError(f"{first.path.name} and {second.path.name} disagree about labels of test samples")
    classes = class_names(first)
    labels = one["label"].map({name: index for index, name in enumerate(classes)}).to_numpy()
    scores = [
        _scores(table[[f"log_p_calibrated_{name}" for name in classes]].to_numpy(), labels, metric)
        for table in (one, other)
    ]
    return PairedRun(list(one.index), labels, *scores, train_size=first.metrics["n"]["train"])


def _combined(run: Run) -> pd.DataFrame:
    """Labeled test predictions of "all", indexed by sample."""
    rows = run.predictions
    return rows[(rows["split"] == "test") & (rows["modality"] == "all") & (rows["label"] != "")].set_index("sample_id")


def _scores(log_posterior: np.ndarray, labels: np.ndarray, metric: str) -> np.ndarray:
    """(n,) what is averaged over samples, computed once instead of in every draw; for the AUC the (n, C) ranks."""
    if metric == "auc":
        return np.stack([np.unique(column, return_inverse=True)[1] for column in log_posterior.T], axis=1)
    if metric == "log_loss":
        return -np.maximum(log_posterior[np.arange(len(labels)), labels], SMALLEST_LOG_POSTERIOR)
    return (log_posterior.argmax(1) == labels).astype(float)


def _metric_of_scores(metric: str) -> Metric:
    if metric == "auc":
        return _auc
    return _mean_over_classes if metric == "balanced_accuracy" else lambda labels, scores: _mean(scores)


def _mean(scores: np.ndarray) -> float | None:
    return float(scores.mean()) if len(scores) else None


def _mean_over_classes(labels: np.ndarray, scores: np.ndarray) -> float | None:
    counts = np.bincount(labels)
    there = counts > 0
    return float((np.bincount(labels, scores)[there] / counts[there]).mean()) if len(labels) else None


def _auc(labels: np.ndarray, ranks: np.ndarray) -> float | None:
    """As in `classification_metrics`: of the last class for two, the mean of one against the rest for more.

    ranks: (n, C) integers in the order of the posteriors, equal where they tie, so that counting does for sorting.
    """
    values = []
    for c in range(ranks.shape[1]) if ranks.shape[1] > 2 else (1,):
        inside, size = labels == c, ranks[:, c].max(initial=0) + 1
        positives, negatives = (np.bincount(ranks[rows, c], minlength=size) for rows in (inside, ~inside))
        pairs = positives.sum() * negatives.sum()
        if not pairs:
            return None
        values.append(positives @ (np.cumsum(negatives) - negatives / 2) / pairs)
    return float(np.mean(values))
