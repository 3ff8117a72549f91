"""The learner in scikit-learn's manner: several modalities, a few labels, everybody else unlabeled.

>>> import adni_tcgm as at
>>> rng = np.random.default_rng(0)
>>> truth = np.arange(200) % 2
>>> left, right = (truth[:, None] * [1.5, 0, 0] + rng.normal(size=(200, 3)) for _ in range(2))
>>> y = np.where(np.arange(200) < 12, truth, -1)  # -1: unlabeled
>>> model = at.TCGM(steps=100, seed=0).fit({"left": left, "right": right}, y)
>>> bool(model.score({"left": left, "right": right}, truth) > 0.8)
True
>>> model.predict_proba({"left": left[:2], "right": None}).shape  # nobody here has the right one
(2, 2)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from adni_tcgm.data import MultimodalData, Views, to_batch
from adni_tcgm.evaluation.cross_fitting import calibrate_held_out, cross_predict
from adni_tcgm.evaluation.metrics import METRICS, classification_metrics
from adni_tcgm.methods.method import ClassifierConfig
from adni_tcgm.methods.registry import METHODS
from adni_tcgm.model import TrainedModel
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, Splits
from adni_tcgm.tcgm.trainer import Fitted, TrainConfig, fit, predict
from adni_tcgm.transforms import Transform

NetworkFactory = Callable[[tuple[int, ...], int], nn.Module]


class MultimodalClassifier(ClassifierMixin, BaseEstimator):
    """One classifier a modality, trained by a method of this package, and their combination.

    method: a name of `methods.registry.METHODS`; settings: its own, e.g. {"epsilon": 2.5} for "vat".
    net: the network of every modality: `MLP`, `DenseNet3D`, …, or a function (shape, outputs) -> nn.Module of your own.
    ridge: τ in τ/n Σ w² with n visible labels. steps, learning_rate: of Adam, on the labels, ridge and the method's
        unlabeled loss together. batch_size: samples of a step; None: all of them, up to 1,024.
    calibrate: cross-fit the visible labels (five more trainings), and rescale by them (`calibrate_held_out`); with
        fewer than 30 of them, only towards less sure.

    After `fit`: classes_, model_ (a `TrainedModel`) and calibration_ (a dict: number of samples it was fitted on,
    held-out log-loss with and without it, its margin, and whether it is applied).

    >>> rng = np.random.default_rng(0)
    >>> truth = np.arange(60) % 2
    >>> views = {name: truth[:, None] + rng.normal(size=(60, 2)) for name in ("left", "right")}
    >>> y = np.where(np.arange(60) < 20, truth, -1)
    >>> MultimodalClassifier("ce", steps=20, calibrate=False).fit(views, y).predict_proba(views).shape
    (60, 2)
    """

    def __init__(
        self,
        method: str = "tcgm",
        settings: dict[str, Any] | None = None,
        net: ClassifierConfig | NetworkFactory | None = None,
        ridge: float = 1.0,
        steps: int = 300,
        learning_rate: float = 0.03,
        batch_size: int | None = None,
        calibrate: bool = True,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.method = method
        self.settings = settings
        self.net = net
        self.ridge = ridge
        self.steps = steps
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.calibrate = calibrate
        self.device = device
        self.seed = seed

    def _chosen(self) -> tuple[str, dict[str, Any]]:
        return self.method, dict(self.settings or {})

    def fit(self, X: Views | MultimodalData, y: Any) -> MultimodalClassifier:
        """X: modality -> (N, ...); y: (N,) labels, numbers or text; -1, NaN, None or "" where unknown.

        Raises ValueError where fewer than two classes have a label, or a sample has no modality.
        """
        data = _as_data(X)
        self.classes_, labels = _encode(y, len(data))
        present = dict(zip(data.views, data.present.T, strict=True))
        nobody = [name for name, there in present.items() if not there.any()]
        if nobody:
            raise ValueError(f"no sample has view {nobody[0]!r}; leave it out")
        shapes = {name: values.shape[1:] for name, values in data.views.items()}
        transforms = {
            name: Transform.fit(values[present[name]], "zscore", pooled=values.ndim > 2)
            for name, values in data.views.items()
        }
        train = to_batch(data, shapes, transforms, labels)
        modalities = [Modality(name, shape) for name, shape in shapes.items()]
        empty = train.select(torch.arange(0))
        splits = Splits(modalities, [str(label) for label in self.classes_], train, empty, empty)
        name, settings = self._chosen()
        net = self.net if self.net is not None else MLPConfig()
        method = METHODS[name](net if hasattr(net, "build") else OwnNetwork(net), **settings)
        config = self._config()

        def train_on(part: Splits) -> Fitted:
            return fit(method, part, config)

        fitted = train_on(splits)
        held_out = cross_predict(train_on, splits, seed=self.seed) if self.calibrate else None
        # Empty for methods that have one classifier on all modalities together.
        single = [modality for modality in predict(fitted, empty) if modality != "all"]
        calibration, self.calibration_ = calibrate_held_out(held_out, single, fitted.prior.numpy())
        self.model_ = TrainedModel(fitted, calibration, transforms, tuple(self.classes_))
        return self

    def _config(self) -> TrainConfig:
        batch = self.batch_size or 1024
        return TrainConfig(
            schedule="joint",
            steps=self.steps,
            batch_size_labeled=batch,
            batch_size_unlabeled=batch,
            lr_labeled=self.learning_rate,
            ridge=self.ridge,
            supervised_steps=0,
            validate_every=self.steps,
            device=self.device,
            seed=self.seed,
        )

    def predict_log_proba(self, X: Views | MultimodalData, modality: str = "all") -> np.ndarray:
        """(N, C) log-posteriors, calibrated: of all modalities that a sample has, or of one."""
        check_is_fitted(self, "model_")
        return self.model_.log_posteriors(X)[modality]

    def predict_proba(self, X: Views | MultimodalData, modality: str = "all") -> np.ndarray:
        """(N, C) probabilities, columns in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X, modality))

    def predict(self, X: Views | MultimodalData) -> np.ndarray:
        """(N,) labels."""
        return np.asarray(self.classes_)[self.predict_log_proba(X).argmax(1)]

    def score(self, X: Views | MultimodalData, y: Any, sample_weight: None = None, metric: str = "accuracy") -> float:
        """Over the labeled samples; metric: accuracy, balanced_accuracy, auc, log_loss or brier.

        Raises ValueError where no sample is labeled, or a label is none that the model knows.
        """
        if sample_weight is not None:
            raise ValueError("sample weights are not supported")
        if metric not in METRICS:
            raise ValueError(f"metric is {metric!r}; choose one of {', '.join(METRICS)}")
        data = _as_data(X)
        known = _known(y)
        if not known.any():
            raise ValueError("no sample is labeled; there is nothing to score")
        place = {label: index for index, label in enumerate(self.classes_)}
        wrong = [label for label in np.asarray(y)[known] if label not in place]
        if wrong:
            raise ValueError(f"label {wrong[0]} is not one of {', '.join(map(str, self.classes_))}")
        labels = np.array([place[label] for label in np.asarray(y)[known]])
        value = classification_metrics(self.predict_log_proba(data[np.flatnonzero(known)]), labels)[metric]
        if value is None:
            raise ValueError(f"{metric} is not defined: a class has no labeled sample")
        return float(value)

    def save(self, path: str | Path) -> Path:
        """Keep the trained model in one file; `adni_tcgm.load` reads it."""
        check_is_fitted(self, "model_")
        return self.model_.save(path)


class TCGM(MultimodalClassifier):
    """Total correlation gain maximization: labels, and what the modalities of everybody agree on.

    gain_weight: how much the gain counts beside the labels. More helps where labels are very few and modalities share
        little but the class; with many classes, too much of it may exchange them. The others: see
        `MultimodalClassifier`.

    >>> TCGM(gain_weight=2.0).get_params()["gain_weight"]
    2.0
    """

    def __init__(
        self,
        net: ClassifierConfig | NetworkFactory | None = None,
        gain_weight: float = 1.0,
        ridge: float = 1.0,
        steps: int = 300,
        learning_rate: float = 0.03,
        batch_size: int | None = None,
        calibrate: bool = True,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__("tcgm", None, net, ridge, steps, learning_rate, batch_size, calibrate, device, seed)
        self.gain_weight = gain_weight

    def _chosen(self) -> tuple[str, dict[str, Any]]:
        return "tcgm", {"gain_weight": self.gain_weight}


@dataclass(frozen=True)
class OwnNetwork:
    """A network of the caller's own: (shape, outputs) -> nn.Module.

    >>> OwnNetwork(lambda shape, outputs: nn.Linear(shape[0], outputs)).build((3,), 2)
    Linear(in_features=3, out_features=2, bias=True)
    """

    factory: NetworkFactory

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return self.factory(shape, classes)


def _as_data(X: Views | MultimodalData) -> MultimodalData:
    return X if isinstance(X, MultimodalData) else MultimodalData(X)


def _known(y: Any) -> np.ndarray:
    """(N,) bool: whose label is known."""
    values = np.asarray(y)
    if np.issubdtype(values.dtype, np.number):
        return ~(np.isnan(values.astype(float)) | (values == UNLABELED))
    return np.array([not (v is None or v in ("", UNLABELED) or v != v) for v in values.tolist()], bool)


def _encode(y: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The classes in sorted order, and (N,) their indices, UNLABELED where unknown."""
    values, known = np.asarray(y), _known(y)
    if values.shape != (size,):
        raise ValueError(f"y has shape {values.shape}; expected ({size},), a label for each sample")
    classes = np.unique(values[known]) if known.any() else values[:0]
    if len(classes) < 2:
        raise ValueError(f"the labels name {len(classes)} classes; at least 2 are needed")
    labels = np.full(size, UNLABELED)
    labels[known] = np.searchsorted(classes, values[known])
    return classes, labels
