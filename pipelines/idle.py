"""Settings that would do nothing where they stand: they are refused, rather than read by nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adni_tcgm.tcgm.trainer import TrainConfig
from pipelines.config import AUSTERE, METHODS, Settings, load_settings, parse_override
from pipelines.tuning import LABELED_ONLY


def list_idle(settings: Settings) -> Iterator[str]:
    """What no method would read, a sentence each."""
    train = settings.train_for("ce")
    if train.patience is not None and settings.protocol == AUSTERE:
        yield f"train.patience is {train.patience}, but by protocol {AUSTERE!r} the last step counts: none is chosen"
    if train.source_weight != TrainConfig.source_weight and getattr(settings.data, "source_labels", "none") == "none":
        yield f"train.source_weight is {train.source_weight:g}, but data.source_labels names no source"
    if settings.augment == "paper" and not settings.volumes:
        yield "augment is 'paper', but there are no volumes to augment"
    networks = {settings.net, *(part.get("net") for part in settings.pretrainings.values())}
    for name, empty in (("mlp", type(settings.mlp)()), ("encoders", {})):
        if getattr(settings, name) != empty and name not in networks:
            yield f"{name} has settings, but net is {settings.net!r}"
    unknown = [name for name in settings.methods if hasattr(METHODS[name], "fit") and "train" in settings.methods[name]]
    for name in unknown:
        yield f"methods.{name}.train has settings, but {name} is solved in closed form"


def list_idle_for(settings: Settings, method: str) -> Iterator[str]:
    """What this method would not read, a sentence each; on top of `list_idle`."""
    train = settings.train_for(method)
    if hasattr(METHODS[method], "fit"):
        if train.micro_batch is not None:
            yield f"train.micro_batch is {train.micro_batch}, but {method} is solved in closed form"
    elif method not in LABELED_ONLY and train.supervised_steps >= train.steps:
        yield (
            f"train.supervised_steps is {train.supervised_steps}, but there are {train.steps} steps: {method} would "
            "never look at a sample without a label"
        )


def list_idle_keys(values: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """Keys that were given and that nothing reads, whatever their value. values: as they stand in a file or after
    --set, `train` a mapping."""
    given = values.get("train", {})
    if "seed" in given:
        yield "train.seed is not read: the seed of a run is that of --seed"
    if "lr_unlabeled" in given and settings.train_for("ce").schedule == "joint":
        yield "train.lr_unlabeled is not read: by schedule 'joint' each step has one rate, train.lr_labeled"


def load_given(source: str, given: Sequence[str], overrides: Mapping[str, Any]) -> Settings:
    """That configuration, the "key=value" texts of --set on top of it, `overrides` on top of them.

    Raises ValueError for what is wrong, and for a key of --set that nothing would read.
    """
    values = dict(parse_override(text) for text in given)
    settings = load_settings(source, values | dict(overrides))
    train = {key.removeprefix("train."): value for key, value in values.items() if key.startswith("train.")}
    for sentence in list_idle_keys({"train": train}, settings):
        raise ValueError(f"--set {sentence}")
    return settings


def refuse_idle(settings: Settings, method: str) -> None:
    """Raises ValueError for the first setting that would do nothing."""
    for sentence in (*list_idle(settings), *list_idle_for(settings, method)):
        raise ValueError(f"{settings.name}: {sentence}")
