"""A file of settings, looked at before anything runs: with all its defaults, or with all its mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import yaml

from adni_tcgm.choices import check_choice
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.pretraining.murauer import Murauer
from adni_tcgm.pretraining.pretext import Pretraining
from adni_tcgm.tcgm.trainer import TrainConfig
from pipelines.building import read
from pipelines.config import DATASETS, METHODS, Settings, list_misshapen, load_settings, read_configuration
from pipelines.idle import list_idle, list_idle_keys
from pipelines.own_code import register_own


def show(source: str, overrides: Mapping[str, Any] | None = None) -> str:
    """YAML of every setting of that configuration, defaults included, methods with what each can be set to.

    Read again, it gives the same settings. Raises ValueError where it is wrong.
    """
    settings = load_settings(source, overrides or {})
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    values |= {"data": asdict(settings.data), "train": asdict(settings.train), "mlp": asdict(settings.mlp)}
    # What nothing would read is not shown: the seed is that of --seed, and joint steps have one rate.
    for name in ("seed", *(["lr_unlabeled"] if settings.train.schedule == "joint" else [])):
        values["train"].pop(name)
    values["pretrainings"] = {name: _pretraining(settings, name) for name in settings.pretrainings}
    values["methods"] = {name: _method(settings, name) for name in METHODS}
    first = ("name", "dataset", "data", "net")
    ordered = {name: values.pop(name) for name in first} | values
    return yaml.safe_dump(_plain(ordered), sort_keys=False, width=120, allow_unicode=True)


def _method(settings: Settings, name: str) -> dict[str, Any]:
    method = settings.method(name)
    own = {f.name: getattr(method, f.name) for f in fields(method) if f.name != "classifier"}
    train = settings.methods.get(name, {}).get("train")
    return own | ({"train": train} if train else {})


def _pretraining(settings: Settings, name: str) -> dict[str, Any]:
    own = settings.pretrainings[name]
    chosen = replace(settings, pretraining=name).chosen_pretraining()
    return (asdict(chosen) if chosen else {}) | {key: own[key] for key in ("net", "train") if key in own}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def find_mistakes(source: str) -> list[str]:
    """Everything that is wrong with a file of settings, a sentence each, with place, value and what is allowed.

    Raises ValueError where there is no such file, or it holds no keys and values.
    """
    path, values = read_configuration(source)
    mistakes = [*list_misshapen(values)]
    if mistakes:
        return mistakes
    try:
        register_own(values, DATASETS)
        check_choice("dataset", values.get("dataset", "adni"), DATASETS)
    except ValueError as error:
        return [str(error)]
    data = read(DATASETS[values.get("dataset", "adni")][1], values.get("data", {}), "data", mistakes)
    for name, own in values.get("methods", {}).items():
        _read_method(name, own, mistakes)
    for name, own in values.get("pretrainings", {}).items():
        _read_pretraining(name, own, mistakes)
    # Where a part is wrong, the whole is looked at without it.
    whole = values | {"data": data or next(iter(DATASETS.values()))[1](path=".")}
    if mistakes:
        whole |= {"methods": {}, "pretrainings": {}, "pretraining": "none"}
    settings = read(Settings, whole, path.name, mistakes)
    if settings is not None and not mistakes:
        mistakes += [*list_idle_keys(values, settings), *list_idle(settings)]
    return [mistake.removeprefix(f"{path.name}: ") for mistake in mistakes]


def _read_method(name: str, own: Mapping[str, Any], mistakes: list[str]) -> None:
    try:
        check_choice("methods: name", name, METHODS)
    except ValueError as error:
        mistakes.append(str(error))
        return
    read(TrainConfig, own.get("train", {}), f"methods.{name}.train", mistakes)
    rest = {key: value for key, value in own.items() if key != "train"}
    read(METHODS[name], {"classifier": MLPConfig(), **rest}, f"methods.{name}", mistakes)


def _read_pretraining(name: str, own: Mapping[str, Any], mistakes: list[str]) -> None:
    place = f"pretrainings.{name}"
    read(TrainConfig, own.get("train", {}), f"{place}.train", mistakes)
    rest = {key: value for key, value in own.items() if key not in ("net", "train")}
    if name != "none":
        read(Murauer if "source" in rest else Pretraining, rest, place, mistakes)
