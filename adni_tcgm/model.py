"""A trained model that predicts by itself, anywhere: how inputs are read, classifiers, calibration, classes.

One file holds all of it: tensors as safetensors, everything else as JSON in its header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adni_tcgm.evaluation.calibration import Calibration
from adni_tcgm.files import whole_file
from adni_tcgm.methods.method import ClassifierConfig
from adni_tcgm.methods.registry import METHODS
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.nets.grid3d import Grid3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.nets.sequence import EncoderConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch
from adni_tcgm.tcgm.trainer import Fitted, Spec, TrainConfig, predict

FORMAT = 2
NETS = {"mlp": MLPConfig, "densenet3d": DenseNet3DConfig, "grid3d": Grid3DConfig, "sequence": EncoderConfig}
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
        given = {name: np.asarray(values, dtype=np.float32) for name, values in views.items() if values is not None}
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


@dataclass(frozen=True)
class Scale:
    """What inputs of one modality are changed by: minus `mean`, over `sd`, a missing value to 0.

    Of vectors, by feature; of anything with more axes, two numbers for all of it.
    """

    mean: np.ndarray
    sd: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> Scale:
        """Over the rows (n, ...) of samples that have the modality."""
        axes = 0 if values.ndim == 2 else None
        mean, sd = np.nanmean(values, axis=axes), np.nanstd(values, axis=axes)
        # What never varied says nothing.
        return cls(np.nan_to_num(mean).astype(np.float32), np.where(sd > 0, sd, np.inf).astype(np.float32))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.nan_to_num((values - self.mean) / self.sd).astype(np.float32)


@dataclass
class TrainedModel:
    """Everything that turns samples into probabilities.

    classes: as the labels named them. modalities: name -> shape of one input.
    """

    classes: tuple
    modalities: dict[str, tuple[int, ...]]
    scales: dict[str, Scale]
    fitted: Fitted
    calibration: Calibration
    method: str
    settings: dict[str, Any]
    net: ClassifierConfig

    def log_posteriors(self, data: MultimodalData) -> dict[str, np.ndarray]:
        """Modality or "all" -> (N, C) calibrated log-posteriors. Raises ValueError where modalities do not fit."""
        batch = to_batch(data, self.modalities, self.scales)
        found = {name: values.numpy() for name, values in predict(self.fitted, batch, chunk=256).items()}
        return self.calibration.apply(found, batch.present.numpy())

    def save(self, path: str | Path) -> Path:
        """One file. Raises ValueError where the network is nobody's but the caller's: its code is in no file."""
        from safetensors.torch import save_file

        kind = next((name for name, config in NETS.items() if type(self.net) is config), None)
        if kind is None:
            raise ValueError(
                f"a model with a network of {type(self.net).__name__} cannot be saved; known: {list(NETS)}"
            )
        tensors = {f"weights/{name}": value.contiguous() for name, value in self.fitted.model.state_dict().items()}
        for name, scale in self.scales.items():
            tensors |= {f"scales/{name}/{part}": torch.from_numpy(np.atleast_1d(v)) for part, v in vars(scale).items()}
        about = {
            "format": FORMAT,
            "classes": [_plain(label) for label in self.classes],
            "modalities": {name: list(shape) for name, shape in self.modalities.items()},
            "method": {"name": self.method, **self.settings},
            "net": {"name": kind, **asdict(self.net)},
            "train": asdict(self.fitted.config),
            "prior": self.fitted.prior.tolist(),
            "calibration": self.calibration.to_json(),
        }
        path = Path(path)
        with whole_file(path) as partial:
            save_file(tensors, partial, metadata={"model": json.dumps(about, sort_keys=True)})
        return path


def load(path: str | Path) -> TrainedModel:
    """A model that `save` wrote. Nothing in the file is run. Raises ValueError naming the file where it is no model."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            about = json.loads(file.metadata()["model"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"{path}: not a saved model: {error}") from error
    if about["format"] != FORMAT:
        raise ValueError(f"{path}: format {about['format']}; this version reads {FORMAT}")
    method, net = dict(about["method"]), dict(about["net"])
    name, kind = method.pop("name"), net.pop("name")
    net = NETS[kind](**{key: tuple(value) if isinstance(value, list) else value for key, value in net.items()})
    chosen = METHODS[name](net, **method)
    shapes = {key: tuple(shape) for key, shape in about["modalities"].items()}
    modalities = [Modality(key, shape) for key, shape in shapes.items()]
    prior = torch.tensor(about["prior"])
    model = chosen.build(Spec(modalities, about["classes"], prior))
    model.load_state_dict({key.removeprefix("weights/"): v for key, v in tensors.items() if key.startswith("weights/")})
    config = TrainConfig(**about["train"])
    fitted = Fitted(chosen, model.eval(), about["classes"], modalities, prior, [], config, config.steps)
    scales = {key: Scale(*(tensors[f"scales/{key}/{part}"].numpy() for part in ("mean", "sd"))) for key in shapes}
    calibration = Calibration.from_json(about["calibration"])
    return TrainedModel(tuple(about["classes"]), shapes, scales, fitted, calibration, name, method, net)


def to_batch(
    data: MultimodalData,
    modalities: Mapping[str, tuple[int, ...]],
    scales: Mapping[str, Scale],
    labels: np.ndarray | None = None,
) -> MultimodalBatch:
    """The samples as the learner takes them; labels (N,) class indices or UNLABELED, by default the latter.

    Raises ValueError where a modality is unknown or has another shape, or a sample has none.
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
            rows[there[name]] = scales[name](values[there[name]])
        inputs[name] = torch.from_numpy(rows)
    names = [str(row) for row in range(len(data))]
    known = np.full(len(data), UNLABELED) if labels is None else labels
    groups = [str(group) for group in data.groups] if data.groups else names
    return MultimodalBatch(names, inputs, torch.from_numpy(present), torch.from_numpy(known.astype(np.int64)), groups)


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label
