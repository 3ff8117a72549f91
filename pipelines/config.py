"""Settings of a run: dataclasses, then a YAML file, then the command line. Unknown keys are refused."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from adni_tcgm.datasets.adni import AdniConfig
from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.method import ClassifierConfig, Method
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.trainer import TrainConfig

BUILT_IN = Path(__file__).parent / "configs"
METHODS = ("ce", "tcgm")


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run, apart from the method's name.

    net: "paper" or "slim" (3D DenseNet, volumes), "linear" (vectors). augment: "default", "paper" or "none".
    """

    data: AdniConfig
    train: TrainConfig = field(default_factory=TrainConfig)
    net: str = "slim"
    augment: str = "default"
    gain_weight: float = 1.0

    def __post_init__(self) -> None:
        _check_choice("net", self.net, ("paper", "slim", "linear"))
        _check_choice("augment", self.augment, ("default", "paper", "none"))

    def classifier(self) -> ClassifierConfig:
        if self.net == "linear":
            return MLPConfig()
        return DenseNet3DConfig.paper() if self.net == "paper" else DenseNet3DConfig.slim()

    def method(self, name: str) -> Method:
        _check_choice("method", name, METHODS)
        if name == "ce":
            return CrossEntropy(self.classifier())
        return TCGM(self.classifier(), self.gain_weight)

    def augmentation(self) -> Augment3D | None:
        if self.augment == "none" or self.data.features != "voxels":
            return None
        make = Augment3D.paper if self.augment == "paper" else Augment3D
        return make(self.data.crop_shape, self.data.margin_voxels)


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")


def load_settings(source: str, overrides: Mapping[str, Any]) -> Settings:
    """A built-in name (`pipelines/configs`) or a YAML file, with `overrides` ("data.label_rate" -> value) on top.

    Raises ValueError naming the file or flag, the key and what it may have meant.
    """
    path = Path(source) if source.endswith((".yaml", ".yml")) else BUILT_IN / f"{source}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in BUILT_IN.glob("*.yaml"))
        raise ValueError(f"no configuration {source!r}; built-in: {', '.join(known)}; or give a .yaml file")
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{path.name}: expected keys and values, found {type(values).__name__}")
    for key, value in overrides.items():
        _put(values, key.split("."), value)
    return build(Settings, values, path.name)


def parse_override(text: str) -> tuple[str, Any]:
    """ "train.gamma_u=1e-3" -> ("train.gamma_u", "1e-3"); the dataclass field decides the type later."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--set {text!r}: expected key=value, for example train.gamma_u=1e-3")
    return key, yaml.safe_load(value)


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        values = values.setdefault(name, {})
    values[path[-1]] = value


def build(kind: type, values: Mapping[str, Any], place: str) -> Any:
    """A dataclass from plain values, nested ones included, each converted to its field's type."""
    hints = typing.get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
            raise ValueError(f"{place}: unknown key {key!r}{meant}")
    return kind(**{key: _convert(hints[key], value, f"{place}: {key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(hint, value, place)
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
    # PyYAML reads 1e-3 as text and 1 as int; the field knows better.
    if hint in (int, float, str) and not isinstance(value, bool):
        try:
            converted = hint(value)
        except (TypeError, ValueError):
            converted = None
        if converted is not None and (hint is not int or float(value) == converted):
            return converted
    elif isinstance(value, hint if isinstance(hint, type) else object):
        return value
    raise ValueError(f"{place} is {value!r}; expected {getattr(hint, '__name__', hint)}")
