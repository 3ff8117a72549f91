"""Run folders: one fit, one folder, readable without anything that trained it.

A folder appears whole or not at all: it is written under another name and renamed at the end. `checksums.txt` holds
the SHA-256 of its files, and whoever reads a run checks them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
import yaml

from adni_tcgm.files import PARTIAL_SUFFIX, sha256, verify_checksums, write_checksums, write_text
from adni_tcgm.limits import load_yaml, read_json, read_text
from adni_tcgm.tables import to_tsv

if TYPE_CHECKING:
    from torch import Tensor

    from adni_tcgm.tcgm.batch import MultimodalBatch, Splits
    from adni_tcgm.tcgm.trainer import Fitted

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "nibabel", "antspyx", "SimpleITK", "safetensors")
SOURCES = ("adni_tcgm", "preprocessing", "pipelines")
HISTORY = (
    "round",
    "loss_labeled",
    "loss_unlabeled",
    "gain",
    "validation_loss",
    "validation_accuracy",
    "lr_l",
    "lr_u",
    "seconds",
)
METRICS = ("dataset", "simulated", "method", "features", "label_rate", "seed", "n", "labels", "test", "bayes")
# Results on top of those: an external test set, the validation split, the same of posteriors before calibration,
# the step whose weights were kept, the first one with an unlabeled step (null: none), how the run began, how it was
# computed.
MORE_METRICS = (
    "test_uncalibrated",
    "validation",
    "validation_uncalibrated",
    "external",
    "external_uncalibrated",
    "best_step",
    "unlabeled_from",
    "pretraining",
    "execution",
    "protocol",
    "calibration",
    "agreement",
)
COMPLETE = "metrics.json"
WEIGHTS = "weights.safetensors"
ADJUSTMENT = "adjustment.safetensors"


@dataclass(frozen=True)
class Run:
    """A run folder as plain tables and JSON. What the run did not have (norms, recipe, …) is None."""

    path: Path
    config: dict
    environment: dict
    metrics: dict
    splits: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame
    norms: pd.DataFrame | None
    adjustment: dict | None
    calibration: dict | None
    recipe: dict | None
    prepared: dict | None

    @property
    def prepared_path(self) -> Path | None:
        """The prepared folder the run was trained on, if it is still where it was and has the same manifest."""
        if self.prepared is None:
            return None
        path = (self.path / self.prepared["path"]).resolve()
        manifest = path / "manifest.tsv"
        return path if manifest.is_file() and sha256(manifest) == self.prepared["manifest_sha256"] else None


class Kept(Protocol):
    """A trained model that writes itself into one file."""

    fitted: Fitted

    def save(self, path: Path) -> Path: ...


def save_run(
    run_dir: str | Path,
    model: Kept,
    splits: Splits,
    *,
    config: Mapping,
    metrics: Mapping,
    predictions: pd.DataFrame,
    norms: pd.DataFrame | None = None,
    adjustment: Mapping | None = None,
    adjustment_tensors: Mapping[str, Tensor] | None = None,
    calibration: Mapping | None = None,
    split: Mapping | None = None,
    audit: Mapping | None = None,
    prepared: str | Path | None = None,
) -> Path:
    """Write the run folder; an older one of that name is replaced once the new one is finished.

    model: a `TrainedModel`. config: plain values only. predictions: from `prediction_table`. adjustment, calibration:
    their JSON form; adjustment_tensors: the numbers that go with the former. split, audit: from `adni_tcgm.audit`.
    prepared: the folder that was trained on; its `recipe.json` is copied.
    Raises ValueError where metrics lack or add a key.
    """
    check_metrics(metrics)
    run_dir = Path(run_dir)
    # One name, so that what a killed run left behind is in the way and removed.
    unfinished = run_dir.with_name(f".{run_dir.name}{PARTIAL_SUFFIX}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        # Through JSON: dataclasses hold tuples, which plain YAML has no word for.
        plain = json.loads(json.dumps(config))
        (unfinished / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
        write_json(unfinished / "environment.json", environment())
        model.save(unfinished / WEIGHTS)
        write_table(unfinished / "splits.tsv", split_table(splits))
        write_table(unfinished / "history.tsv", history_table(model.fitted.history))
        write_table(unfinished / "predictions.tsv", predictions)
        records = {"split": split, "audit": audit, "adjustment": adjustment, "calibration": calibration}
        for name, record in records.items():
            if record is not None:
                write_json(unfinished / f"{name}.json", record)
        if adjustment_tensors:
            save_tensors(unfinished / ADJUSTMENT, adjustment_tensors)
        if norms is not None:
            write_table(unfinished / "norms.tsv", norms)
        if prepared is not None:
            _record_prepared(unfinished, Path(prepared), run_dir)
        write_json(unfinished / COMPLETE, metrics)
        write_checksums(unfinished)
        # First what makes it a finished run: killed before the end of these three, it trains again.
        (run_dir / COMPLETE).unlink(missing_ok=True)
        shutil.rmtree(run_dir, ignore_errors=True)
        os.replace(unfinished, run_dir)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return run_dir


def _record_prepared(unfinished: Path, prepared: Path, run_dir: Path) -> None:
    """Its recipe, its place as `run_dir` will see it, and the hash of its manifest."""
    recipe = prepared / "recipe.json"
    if recipe.is_file():
        shutil.copyfile(recipe, unfinished / "recipe.json")
    where = Path(os.path.relpath(prepared.resolve(), run_dir.resolve())).as_posix()
    manifest = sha256(prepared / "manifest.tsv")
    write_json(unfinished / "prepared.json", {"path": where, "manifest_sha256": manifest})


def is_complete(run_dir: str | Path) -> bool:
    """Whether a run was finished there.

    >>> is_complete("nowhere")
    False
    """
    return (Path(run_dir) / COMPLETE).is_file()


def load_run(run_dir: str | Path) -> Run:
    """Read a finished run. Needs neither torch nor the data.

    Raises FileNotFoundError where no run was finished, DamagedFile where a file is not what `save_run` wrote.
    """
    path = Path(run_dir)
    if not is_complete(path):
        raise FileNotFoundError(f"{path}: no finished run here ({COMPLETE} is missing)")
    verify_checksums(path)
    return Run(
        path=path,
        config=load_yaml(read_text(path / "config.yaml")),
        environment=_read_json(path / "environment.json"),
        metrics=_read_json(path / COMPLETE),
        # Names stay text: a sample may be called 0012.
        splits=_read_table(path / "splits.tsv", ("sample_id", "group_id", "split", "label")),
        history=pd.read_csv(path / "history.tsv", sep="\t"),
        predictions=_read_table(path / "predictions.tsv", ("sample_id", "split", "modality", "label")),
        norms=_read_table(path / "norms.tsv", ("modality", "feature")) if (path / "norms.tsv").is_file() else None,
        adjustment=_read_json(path / "adjustment.json"),
        calibration=_read_json(path / "calibration.json"),
        recipe=_read_json(path / "recipe.json"),
        prepared=_read_json(path / "prepared.json"),
    )


def save_tensors(file: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """One safetensors file; `load_tensors` reads it.

    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_tensors(Path(folder) / "a", {"w": torch.ones(2)})
    ...     load_tensors(Path(folder) / "a")["w"].tolist()
    [1.0, 1.0]
    """
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in tensors.items()}, str(file))


def load_tensors(file: str | Path) -> dict[str, Tensor]:
    """What `save_tensors` wrote; nothing where there is no file. Raises ValueError for a file of another kind.

    >>> load_tensors("nowhere")
    {}
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(file)) if Path(file).is_file() else {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: not a safetensors file: {error}") from error


def prediction_table(
    split: str,
    batch: MultimodalBatch,
    log_posteriors: Mapping[str, np.ndarray],
    calibrated: Mapping[str, np.ndarray],
    classes: Sequence[str],
) -> pd.DataFrame:
    """One row per sample and modality (and "all") with posteriors before (p_) and after calibration (p_calibrated_),
    and the logarithms of both (log_p_, log_p_calibrated_), in full: a posterior close to 1 loses its order.

    log_posteriors, calibrated: modality or "all" -> (B, C) log-posteriors. `label` is empty where it is unknown or was
    hidden; `present` says whether the sample has that modality ("all": always).

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> batch = load(GaussianConfig(samples=8, test_samples=2, classes=2, modalities=1), 0).test
    >>> p = {"m1": np.log([[0.8, 0.2], [0.4, 0.6]])}
    >>> prediction_table("test", batch, p, p, ("no", "yes"))["p_yes"].tolist()
    [0.2, 0.6]
    """
    labels = ["" if label < 0 else classes[label] for label in batch.labels.tolist()]
    columns = list(batch.inputs)
    tables = []
    for name, values in log_posteriors.items():
        table, in_full = {"sample_id": list(batch.sample_ids), "split": split, "modality": name}, {}
        for prefix, logs in (("p_", values), ("p_calibrated_", calibrated[name])):
            logs = np.asarray(logs, dtype=float)
            table |= {prefix + label: np.exp(logs[:, c]).round(6) for c, label in enumerate(classes)}
            in_full |= {f"log_{prefix}{label}": logs[:, c] for c, label in enumerate(classes)}
        there = batch.present[:, columns.index(name)].tolist() if name in columns else True
        tables.append(pd.DataFrame(table | {"label": labels, "present": there} | in_full))
    return pd.concat(tables, ignore_index=True)


def split_table(splits: Splits) -> pd.DataFrame:
    """`splits.tsv`: sample_id group_id split label label_visible.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> list(split_table(load(GaussianConfig(samples=8, test_samples=2), 0)))
    ['sample_id', 'group_id', 'split', 'label', 'label_visible']
    """
    columns = ("sample_id", "group_id", "split", "label", "label_visible")
    return pd.DataFrame([{column: getattr(row, column) for column in columns} for row in splits.rows], columns=columns)


def history_table(history: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """`history.tsv`: the columns of the contract first, empty where a method has none, then any further ones.

    >>> list(history_table([{"round": 1, "gain": 0.1}]))[:4]
    ['round', 'loss_labeled', 'loss_unlabeled', 'gain']
    """
    table = pd.DataFrame(list(history))
    return table.reindex(columns=[*HISTORY, *(column for column in table.columns if column not in HISTORY)])


def check_metrics(metrics: Mapping) -> None:
    """Raises ValueError where a key of the contract is missing or an unknown one is there.

    >>> check_metrics({name: None for name in METRICS})
    """
    missing = [key for key in METRICS if key not in metrics]
    unknown = [key for key in metrics if key not in METRICS + MORE_METRICS]
    if missing or unknown:
        raise ValueError(f"metrics lack {missing} and add {unknown}; allowed: {METRICS} and optionally {MORE_METRICS}")


def environment() -> dict:
    """The month, and versions that a result depends on; nothing that names the machine or its user.

    >>> "torch" in str(environment())
    True
    """
    return {
        "month": f"{date.today():%Y-%m}",
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": _versions(),
        "code_sha256": _code_sha256(),
        **_git_state(),
        **_torch_state(),
    }


@cache
def _versions() -> dict[str, str | None]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


@cache
def _code_sha256() -> str:
    """Of every line of ours that a result depends on, committed or not."""
    root, total = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(file for name in SOURCES for file in (root / name).rglob("*.py")):
        total.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def _torch_state() -> dict:
    """Threads and GPU, both of which change the last digits of sums; None where nothing here uses torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"threads": None, "gpu": None}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"threads": torch.get_num_threads(), "gpu": gpu}


@cache  # what a process runs is what it found at its start, whatever is committed meanwhile
def _git_state() -> dict:
    """The commit of this source tree, and whether it is what was run; None when installed elsewhere, or without git."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    try:
        # An environment inside somebody's own repository is not ours to report.
        git("ls-files", "--error-unmatch", here.name)
        clean = not git("status", "--porcelain", "--untracked-files=no")
        return {"git_commit": git("rev-parse", "HEAD"), "git_clean": clean}
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_clean": None}


def write_json(file: Path, content: Mapping) -> None:
    """Strict JSON: NaN and infinity are refused, since other readers would.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_json(Path(folder) / "a.json", {"auc": 0.8})
    ...     json.loads((Path(folder) / "a.json").read_text())
    {'auc': 0.8}
    """
    write_text(file, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _read_json(file: Path) -> dict | None:
    return read_json(file) if file.is_file() else None


def write_table(file: Path, table: pd.DataFrame) -> None:
    """A TSV file, whole or not at all.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_table(Path(folder) / "a.tsv", pd.DataFrame({"n": [1]}))
    ...     (Path(folder) / "a.tsv").read_text().split()
    ['n', '1']
    """
    write_text(file, to_tsv(table))


def _read_table(file: Path, text: Sequence[str]) -> pd.DataFrame:
    table = pd.read_csv(file, sep="\t", dtype=dict.fromkeys(text, str))
    return table.fillna(dict.fromkeys(text, ""))
