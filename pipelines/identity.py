"""Which run a folder holds: its name, everything that decides its result, and whether that is still so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adni_tcgm.files import DamagedFile
from adni_tcgm.storage import is_complete, load_run
from pipelines.config import Settings

# Raised when metrics.json of the same settings says something else: an older run is then trained again.
METRICS_VERSION = 3


class OtherRun(ValueError):
    """A folder holds a finished run of other settings."""

    word = "refused"


def run_name(settings: Settings, method: str, seed: int) -> str:
    """`<features>-<method>-r<rate>-s<seed>` for brains, `<name>-…` for everything else: the run's folder."""
    # A method of one's own is called module:Name.
    return f"{settings.variant}-{method.replace(':', '.')}-r{settings.data.label_rate:g}-s{seed}"


def configuration(settings: Settings, method: str, seed: int) -> dict:
    """Everything that decides the run's result, as plain values: `config.yaml`."""
    return chosen(settings, method, seed) | {"data_fingerprint": settings.fingerprint()}


def chosen(settings: Settings, method: str, seed: int) -> dict:
    """The part of `configuration` that somebody chose; the data need not be there yet."""
    config = {"method": method, "seed": seed, "metrics_version": METRICS_VERSION, **asdict(settings)}
    # Where the data lie is no setting of the run: they may move, but not change.
    config["data"].pop("path", None)
    # What other methods are set to is none of this run's business, nor is what a plot shows.
    config.pop("panels")
    config["methods"] = {method: settings.methods.get(method, {})}
    config["pretrainings"] = {
        name: value for name, value in settings.pretrainings.items() if name == settings.pretraining
    }
    return config


def drawn_from(settings: Settings, config: Mapping) -> dict:
    """What decides who is in which split; of brains, voxels and regions share it."""
    about = {key: config[key] for key in ("dataset", "data_fingerprint", "seed")}
    if settings.dataset == "adni":
        return about | {"label_rate": settings.data.label_rate}
    return about | {"data": config["data"]}


def is_current(run_dir: Path, config: dict, needs_prepared: bool) -> bool:
    """Whether the folder holds a finished run of this configuration on the data as they are now."""
    if not is_complete(run_dir):
        return False
    try:
        run = load_run(run_dir)
    except DamagedFile:
        return False
    return run.config == json.loads(json.dumps(config)) and (run.prepared_path is not None or not needs_prepared)


def refuse_other(runs: Path, settings: Settings, method: str, seed: int) -> None:
    """Raises OtherRun, with the differences, where the folder of this run holds a finished one of other settings.

    One that is damaged, of an older version of this code, or of data that have changed since is no obstacle.
    """
    run_dir = runs / run_name(settings, method, seed)
    if not is_complete(run_dir):
        return
    try:
        there = load_run(run_dir).config
    except DamagedFile:
        return
    asked = json.loads(json.dumps(chosen(settings, method, seed)))
    if there.get("metrics_version") != asked["metrics_version"]:
        return
    if changes := [*list_differences(there | {"data_fingerprint": None}, asked)]:
        shown = "; ".join(changes[:5]) + ("; …" if len(changes) > 5 else "")
        raise OtherRun(f"{run_dir} holds a run of other settings: {shown} (--overwrite replaces it)")


def list_differences(before: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Every value that differs, by its key.

    >>> list(list_differences({"train": {"steps": 10}, "net": "mlp"}, {"train": {"steps": 20}, "net": "mlp"}))
    ['train.steps was 10 and is 20']
    """
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from list_differences(old, new, f"{place}{key}.")
        elif old != new:
            yield f"{place}{key} was {json.dumps(old)} and is {json.dumps(new)}"
