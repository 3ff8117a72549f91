"""A trained model that predicts by itself, anywhere: transforms, encoders, classifiers, calibration, classes.

One file holds all of it: tensors as safetensors, everything else as JSON in its header.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adni_tcgm.blueprint import CodeNotAllowed, build, describe
from adni_tcgm.data import MultimodalData, Views, to_batch
from adni_tcgm.evaluation.calibration import Calibration
from adni_tcgm.files import verify_checksums, whole_file
from adni_tcgm.storage import WEIGHTS
from adni_tcgm.tcgm.batch import MultimodalBatch
from adni_tcgm.tcgm.trainer import Fitted, predict
from adni_tcgm.transforms import Transform

FORMAT = 2


@dataclass(frozen=True)
class TrainedModel:
    """Everything that turns samples into probabilities.

    classes: as the labels named them. transforms: modality -> what its values go through; none for modalities that only
    the code of their data set can read (brains whose sites and covariates are taken out).

    >>> import adni_tcgm as at
    >>> views = {"left": np.array([[0.0], [1.0], [0.1], [0.9]])}
    >>> model = at.TCGM(steps=2, calibrate=False).fit(views, ["no", "yes", "no", "yes"]).model_
    >>> model.modalities, model.predict_proba(views).shape
    ({'left': (1,)}, (4, 2))
    """

    fitted: Fitted
    calibration: Calibration
    transforms: Mapping[str, Transform]
    classes: tuple[Any, ...]

    @property
    def modalities(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of one input."""
        return {modality.name: tuple(modality.shape) for modality in self.fitted.modalities}

    def predict_proba(self, data: Views | MultimodalData, modality: str = "all") -> np.ndarray:
        """(N, C) probabilities, calibrated, of samples as measured; columns in the order of `classes`.

        Raises ValueError where modalities do not fit.
        """
        return np.exp(self.log_posteriors(data)[modality])

    def log_posteriors(self, data: Views | MultimodalData) -> dict[str, np.ndarray]:
        """Modality or "all" -> (N, C) calibrated log-posteriors of samples as measured."""
        return self.posteriors_of(self.read(data))[1]

    def read(self, data: Views | MultimodalData) -> MultimodalBatch:
        """Samples as the networks take them. Raises ValueError where modalities do not fit."""
        data = data if isinstance(data, MultimodalData) else MultimodalData(data)
        missing = [name for name in self.modalities if name not in self.transforms]
        if missing:
            raise ValueError(
                f"{missing[0]!r} is adjusted for sites or covariates, which arrays lack; use pipelines.predict"
            )
        return to_batch(data, self.modalities, self.transforms)

    def posteriors_of(self, batch: MultimodalBatch) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Modality or "all" -> (B, C) log-posteriors of a batch that was read, before and after calibration."""
        found = {name: values.numpy() for name, values in predict(self.fitted, batch).items()}
        return found, self.calibration.apply(found, batch.present.numpy())

    def save(self, path: str | Path) -> Path:
        """One file. Raises ValueError where the network is nobody's but the caller's: its code is in no file."""
        from safetensors.torch import save_file

        about = describe(self.fitted) | {
            "format": FORMAT,
            "labels": [_plain(label) for label in self.classes],
            "calibration": self.calibration.to_json(),
            "transforms": {name: {"kind": t.kind, "unit_norm": t.unit_norm} for name, t in self.transforms.items()},
        }
        tensors = {f"weights/{name}": value for name, value in self.fitted.model.state_dict().items()}
        for name, transform in self.transforms.items():
            for part, number in transform.numbers.items():
                tensors[f"transforms/{part}/{name}"] = torch.from_numpy(np.atleast_1d(number).copy())
        path = Path(path)
        with whole_file(path) as partial:
            plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
            save_file(plain, partial, metadata={"model": json.dumps(about, sort_keys=True)})
        return path


def load(path: str | Path, allow_code: Collection[str] = ()) -> TrainedModel:
    """A model that `save` wrote, or that of a run folder.

    Nothing that the file names is imported, unless its module is in `allow_code`. Raises ValueError naming the file
    where it is no model, is damaged, or names code that is not allowed.

    >>> import adni_tcgm as at
    >>> from tempfile import TemporaryDirectory
    >>> views = {"left": np.array([[0.0], [1.0], [0.1], [0.9]])}
    >>> model = at.TCGM(steps=2, calibrate=False).fit(views, ["no", "yes", "no", "yes"])
    >>> with TemporaryDirectory() as folder:
    ...     load(model.save(Path(folder) / "a.model")).classes
    ('no', 'yes')
    """
    path = Path(path)
    if path.is_dir():
        verify_checksums(path)
        path = path / WEIGHTS
    about, tensors = _read(path)
    try:
        fitted = build(about, _below("weights/", tensors), allow_code)
        transforms = {name: _transform(name, kind, tensors) for name, kind in about["transforms"].items()}
        calibration = Calibration.from_json(about["calibration"])
    except CodeNotAllowed as error:
        raise CodeNotAllowed(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: not a model that this version can build: {error}") from error
    return TrainedModel(fitted, calibration, transforms, tuple(about["labels"]))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            about = json.loads(file.metadata()["model"])
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']}; this version reads {FORMAT}")
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"{path}: not a saved model: {error}") from error


def _below(start: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _transform(name: str, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Transform:
    own = {
        key.split("/", 2)[1]: value
        for key, value in tensors.items()
        if key.startswith("transforms/") and key.split("/", 2)[2] == name
    }
    return Transform(about["kind"], about["unit_norm"], {part: value.numpy() for part, value in own.items()})


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label
