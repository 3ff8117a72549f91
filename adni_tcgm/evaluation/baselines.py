"""Baselines of any learner: simple scores from kernels, small tables, or no labels at all.

Pure functions on arrays. A score is higher for class 1, and class 1 is predicted above 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from adni_tcgm.evaluation.metrics import binary_auc

# Fixed beforehand, for kernels scaled to one per sample and columns scaled to one standard deviation.
SVM_C = 1.0
LOGISTIC_C = 1.0
# Of many columns and few labels: 1/τ of the ridge that the classifiers have (`TrainConfig.ridge`).
RIDGE_C = 0.1


class LinearKernel:
    """Inner products of samples standardized feature by feature, divided by the number of features.

    An absent sample stands at the mean, so it adds nothing (mean imputation). Features that never vary are left out.

    >>> kernel = LinearKernel(np.array([[0.0, 1.0], [2.0, 1.0]], np.float32), np.ones(2, bool), np.ones(2, bool))
    >>> kernel.standardize(np.array([[1.0, 5.0]], np.float32), np.ones(1, bool)).tolist()  # the second never varies
    [[0.0]]
    """

    def __init__(self, samples: np.ndarray, present: np.ndarray, measured: np.ndarray) -> None:
        """samples: (N, D) float32, those a machine may learn from; present: (N,) bool; measured: (N,) bool, the ones
        that give mean and SD (the training split) where present."""
        seen = np.flatnonzero(present & measured)
        mean = np.mean([samples[row] for row in seen], axis=0, dtype=np.float64)
        # One row at a time: no double-precision copy of all values.
        sd = np.sqrt(sum(np.square(samples[row] - mean) for row in seen) / len(seen))
        self.varies = sd > 1e-6
        self.mean, self.sd = (values[self.varies].astype(np.float32) for values in (mean, sd))
        self.features = int(self.varies.sum())
        self.training = self.standardize(samples, present)

    def standardize(self, samples: np.ndarray, present: np.ndarray) -> np.ndarray:
        """(n, D) -> (n, features) z-scores, zeros where absent."""
        standard = (samples[:, self.varies] - self.mean) / self.sd
        standard[~present] = 0
        return standard

    def products(self, standardized: np.ndarray) -> np.ndarray:
        """(n, features) against the N samples of the machine: (n, N)."""
        return (standardized @ self.training.T).astype(float) / max(self.features, 1)


def svm_scores(
    training_kernel: np.ndarray, labels: np.ndarray, kernels: Sequence[np.ndarray], c: float = SVM_C
) -> list[np.ndarray | None]:
    """Linear support vector machine from the samples with a label (0 or 1; negative: not used).

    training_kernel: (N, N); labels: (N,); kernels: (n, N) each -> decision values (n,) each; None with a class missing.

    >>> kernel = np.array([[4.0, -4.0], [-4.0, 4.0]])
    >>> [scores.round(2).tolist() for scores in svm_scores(kernel, np.array([0, 1]), [kernel])]
    [[-1.0, 1.0]]
    """
    rows = np.flatnonzero(labels >= 0)
    if len(np.unique(labels[rows])) < 2:
        return [None for _ in kernels]
    machine = SVC(kernel="precomputed", C=c).fit(training_kernel[np.ix_(rows, rows)], labels[rows])
    return [machine.decision_function(kernel[:, rows]) for kernel in kernels]


def standardize_table(training: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(n, K) columns as z-scores by the mean and SD of the training table (N, K); NaN stays NaN.

    >>> standardize_table(np.array([[0.0], [2.0]]), np.array([[3.0], [np.nan]])).tolist()
    [[2.0], [nan]]
    """
    mean, sd = np.nanmean(training, axis=0), np.nanstd(training, axis=0)
    return (table - mean) / np.where(sd > 0, sd, 1)


def logistic_scores(
    training: np.ndarray, labels: np.ndarray, tables: Sequence[np.ndarray], c: float = LOGISTIC_C
) -> list[np.ndarray | None]:
    """Logistic regression (L2, strength 1/c) on z-scored columns of a small table; missing values stand at the mean.

    training: (N, K), scaled by all its rows, fitted on those with a label (0 or 1); tables: (n, K) each -> log-odds
    (n,) each; None when a class has no label.

    >>> table = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> (scores,) = logistic_scores(table, np.array([0, 0, 1, 1]), [table])
    >>> bool(np.all(np.diff(scores) > 0))
    True
    """
    rows = np.flatnonzero(labels >= 0)
    if len(np.unique(labels[rows])) < 2:
        return [None for _ in tables]
    scaled = np.nan_to_num(standardize_table(training, training))
    model = LogisticRegression(C=c, max_iter=1000).fit(scaled[rows], labels[rows])
    return [model.decision_function(np.nan_to_num(standardize_table(training, table))) for table in tables]


def ridge_scores(
    training: np.ndarray, labels: np.ndarray, tables: Sequence[np.ndarray], c: float = RIDGE_C
) -> list[np.ndarray | None]:
    """`logistic_scores` of columns that are z-scores already: nothing is scaled, 0 stands for what is missing.

    >>> z = np.array([[-1.0], [1.0]])
    >>> (scores,) = ridge_scores(z, np.array([0, 1]), [z])
    >>> bool(scores[1] > scores[0])
    True
    """
    rows = np.flatnonzero(labels >= 0)
    if len(np.unique(labels[rows])) < 2:
        return [None for _ in tables]
    model = LogisticRegression(C=c, max_iter=1000).fit(training[rows], labels[rows])
    return [model.decision_function(table) for table in tables]


def mean_z_scores(training: np.ndarray, signs: Sequence[float], tables: Sequence[np.ndarray]) -> list[np.ndarray]:
    """No labels at all: the mean of the columns' z-scores, each with a sign given a priori, over those not missing.

    training: (N, K) gives mean and SD; signs: (K,), -1 where a low value speaks for class 1; tables: (n, K) -> (n,).

    >>> volumes = np.array([[6.0], [8.0]])  # mL: a low value speaks for class 1
    >>> mean_z_scores(volumes, [-1.0], [volumes])[0].tolist()
    [1.0, -1.0]
    """
    scores = [standardize_table(training, table) * np.asarray(signs) for table in tables]
    counts = [np.maximum((~np.isnan(score)).sum(1), 1) for score in scores]
    return [np.nansum(score, axis=1) / count for score, count in zip(scores, counts, strict=True)]


def baseline_row(
    labels: np.ndarray, scores: np.ndarray | None, names: Mapping[str, str | int], rows: np.ndarray | None = None
) -> dict[str, str | int | float | None]:
    """A line of the table of baselines: `names`, then n, auc, accuracy and balanced_accuracy over the labeled samples.

    rows: (n,) bool, the samples that count (those with the modality); None: all. Without scores: None.

    >>> row = baseline_row(np.array([0, 1, 1]), np.array([-1.0, 2.0, 0.5]), {"baseline": "mean z"})
    >>> row["baseline"], row["n"], row["auc"]
    ('mean z', 3, 1.0)
    """
    chosen = (labels >= 0) if rows is None else (labels >= 0) & rows
    result = {**names, "n": int(chosen.sum()), "auc": None, "accuracy": None, "balanced_accuracy": None}
    if scores is None or not chosen.any():
        return result
    truth, predicted = labels[chosen], (scores[chosen] > 0).astype(int)
    recalls = [float(np.mean(predicted[truth == c] == c)) for c in np.unique(truth)]
    return result | {
        "auc": binary_auc(truth, scores[chosen]),
        "accuracy": float(np.mean(predicted == truth)),
        "balanced_accuracy": float(np.mean(recalls)),
    }
