from __future__ import annotations

import itertools
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from subprocess import run

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from adni_tcgm import storage
from adni_tcgm.storage import is_complete, load_run, prediction_table, save_run
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch, SplitRow, Splits

CLASSES = ("stable", "converter")
CONTRACT = {
    "config.yaml",
    "environment.json",
    "weights.safetensors",
    "calibration.json",
    "norms.tsv",
    "adjustment.json",
    "recipe.json",
    "prepared.json",
    "splits.tsv",
    "history.tsv",
    "predictions.tsv",
    "metrics.json",
    "checksums.txt",
    "split.json",
    "audit.json",
}


@dataclass
class Fitted:
    history: list[dict]


@dataclass
class Model:
    """Stands in for a trained model."""

    fitted: Fitted

    def save(self, path: Path) -> Path:
        path.write_bytes(b"weights")
        return path


def batch(prefix: str) -> MultimodalBatch:
    present = torch.tensor([[True, True], [True, False]])
    inputs = {"mri": torch.zeros(2, 3), "pet": torch.zeros(2, 3)}
    return MultimodalBatch([f"{prefix}1", f"{prefix}2"], inputs, present, torch.tensor([1, -1]), ["1", "2"])


def predictions() -> pd.DataFrame:
    logs = {name: np.log([[0.25, 0.75], [0.5, 0.5]]) for name in ("mri", "pet", "all")}
    calibrated = {name: np.log([[0.4, 0.6], [0.5, 0.5]]) for name in logs}
    return prediction_table("test", batch("00"), logs, calibrated, CLASSES)


def metrics() -> dict:
    values = {"accuracy": 0.5, "balanced_accuracy": 0.5, "auc": None, "log_loss": 0.7, "brier": 0.25}
    result = {
        "dataset": "adni",
        "simulated": True,
        "method": "tcgm",
        "features": "regions",
        "label_rate": 0.1,
        "seed": 0,
    }
    return result | {
        "n": {"train": 2},
        "labels": {"train_visible": 1, "validation": 1},
        "test": {"all": values},
        "bayes": None,
    }


@pytest.fixture
def arguments(tmp_path: Path) -> dict:
    prepared = tmp_path / "out" / "prepared"
    prepared.mkdir(parents=True)
    (prepared / "manifest.tsv").write_text("participant_id\nsub-1\n")
    (prepared / "recipe.json").write_text('{"steps": ["orient"]}')
    rows = [SplitRow("001", "1", "test", "converter", True), SplitRow("002", "2", "test", "", False)]
    modalities = [Modality("mri", (3,)), Modality("pet", (3,))]
    return {
        "run_dir": tmp_path / "out" / "runs" / "regions-tcgm-r0.1-s0",
        "model": Model(Fitted([{"round": 10, "gain": 0.1, "validation_loss": float("nan"), "extra": 1}])),
        "splits": Splits(modalities, CLASSES, batch("a"), batch("b"), batch("00"), rows),
        "config": {"train": {"lr_unlabeled": 1e-3}, "seed": 0},
        "metrics": metrics(),
        "predictions": predictions(),
        "norms": pd.DataFrame([{"modality": "mri", "feature": "x", "mean": 0.1, "sd": 2.0, "n": 2}]),
        "adjustment": {"harmonize": "site", "modalities": {}},
        "calibration": {"log_prior": [-0.7, -0.7], "rescalings": {}},
        "split": {"sha256": "0" * 64, "of": {"seed": 0}},
        "audit": {"n": {"train": 2}},
        "prepared": prepared,
    }


def test_a_run_folder_holds_the_files_of_the_contract_and_nothing_else(arguments):
    run_dir = save_run(**arguments)
    assert {file.name for file in run_dir.iterdir()} == CONTRACT
    assert [file.name for file in run_dir.parent.iterdir()] == [run_dir.name]


def test_what_was_saved_is_what_is_loaded(arguments):
    loaded = load_run(save_run(**arguments))
    assert loaded.config == arguments["config"]
    assert loaded.metrics == arguments["metrics"]
    assert loaded.calibration == arguments["calibration"]
    assert loaded.adjustment == arguments["adjustment"]
    assert loaded.recipe == {"steps": ["orient"]}
    pd.testing.assert_frame_equal(loaded.norms, arguments["norms"], check_dtype=False)
    pd.testing.assert_frame_equal(loaded.predictions, arguments["predictions"], check_dtype=False)
    assert loaded.splits.sample_id.tolist() == ["001", "002"] and loaded.splits.label.tolist() == ["converter", ""]
    assert loaded.splits.label_visible.tolist() == [True, False]
    assert loaded.history.columns.tolist() == [*storage.HISTORY, "extra"]


def test_numbers_like_1e_3_come_back_from_yaml_as_numbers(arguments):
    text = (save_run(**arguments) / "config.yaml").read_text()
    assert yaml.safe_load(text)["train"]["lr_unlabeled"] == 0.001


def test_tuples_of_a_config_are_written_as_lists(arguments):
    run_dir = save_run(**arguments | {"config": {"hidden": (8, 4)}})
    assert load_run(run_dir).config == {"hidden": [8, 4]}


def test_an_interrupted_save_leaves_no_run_and_no_remains(arguments, monkeypatch):
    def break_off(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "split_table", break_off)
    with pytest.raises(KeyboardInterrupt):
        save_run(**arguments)
    assert not is_complete(arguments["run_dir"])
    assert list(arguments["run_dir"].parent.iterdir()) == []


def test_an_interrupted_save_leaves_the_older_run_as_it_was(arguments, monkeypatch):
    before = {file.name: file.read_bytes() for file in save_run(**arguments).iterdir()}

    def break_off(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "save", break_off)
    with pytest.raises(KeyboardInterrupt):
        save_run(**arguments | {"metrics": metrics() | {"seed": 1}})
    assert {file.name: file.read_bytes() for file in arguments["run_dir"].iterdir()} == before


def test_a_new_run_replaces_the_older_one(arguments):
    save_run(**arguments)
    (arguments["run_dir"] / "old.txt").write_text("")
    save_run(**arguments | {"metrics": metrics() | {"seed": 1}})
    assert load_run(arguments["run_dir"]).metrics["seed"] == 1
    assert not (arguments["run_dir"] / "old.txt").exists()


def test_a_folder_without_metrics_is_no_run(tmp_path):
    (tmp_path / "config.yaml").write_text("{}")
    assert not is_complete(tmp_path)
    with pytest.raises(FileNotFoundError, match="no finished run"):
        load_run(tmp_path)


def test_the_prepared_folder_is_found_by_a_relative_path_even_after_both_moved(arguments, tmp_path):
    run_dir = save_run(**arguments)
    assert json.loads((run_dir / "prepared.json").read_text())["path"] == "../../prepared"
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")
    loaded = load_run(moved / "runs" / run_dir.name)
    assert loaded.prepared_path == (moved / "prepared").resolve()


def test_a_prepared_folder_whose_manifest_changed_is_not_the_one_trained_on(arguments):
    run_dir = save_run(**arguments)
    (arguments["prepared"] / "manifest.tsv").write_text("participant_id\nsub-2\n")
    assert load_run(run_dir).prepared_path is None


@pytest.mark.parametrize("change", [{"surprise": 1}, {"test": float("nan")}])
def test_metrics_outside_the_contract_are_refused(arguments, change):
    with pytest.raises(ValueError):
        save_run(**arguments | {"metrics": metrics() | change})
    assert not is_complete(arguments["run_dir"])


def test_a_missing_metric_is_named(arguments):
    with pytest.raises(ValueError, match="labels"):
        save_run(**arguments | {"metrics": {key: value for key, value in metrics().items() if key != "labels"}})


def test_predictions_have_a_row_for_each_sample_and_modality():
    table = predictions()
    assert table.columns.tolist() == [
        *("sample_id", "split", "modality", "p_stable", "p_converter"),
        *("p_calibrated_stable", "p_calibrated_converter", "label", "present"),
        *("log_p_stable", "log_p_converter", "log_p_calibrated_stable", "log_p_calibrated_converter"),
    ]
    assert np.exp(table.log_p_converter).tolist() == pytest.approx(table.p_converter.tolist(), abs=1e-6)
    assert table.modality.tolist() == ["mri"] * 2 + ["pet"] * 2 + ["all"] * 2
    assert table.label.tolist() == ["converter", ""] * 3
    assert table.present.tolist() == [True, True, True, False, True, True]
    assert table.p_converter.tolist() == [0.75, 0.5] * 3 and table.p_calibrated_converter.tolist() == [0.6, 0.5] * 3


def test_the_environment_names_versions_but_neither_host_nor_user():
    found = storage.environment()
    assert set(found) == {
        *("month", "python", "implementation", "system", "machine", "packages", "code_sha256", "git_commit"),
        *("git_clean", "threads", "gpu"),
    }
    assert found["packages"]["torch"] == version("torch")
    assert platform.node() not in json.dumps(found) and str(Path.home()) not in json.dumps(found)


def test_a_run_is_read_without_torch(arguments):
    run_dir = save_run(**arguments)
    code = (
        f"import sys; sys.modules['torch'] = None; from adni_tcgm.storage import load_run; load_run({str(run_dir)!r})"
    )
    done = run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def die_at(step: int) -> None:
    """From now on, this process ends, as by SIGKILL, before it renames or removes for the `step`-th time."""
    steps = itertools.count(1)

    def counting(do: Callable) -> Callable:
        def counted(*arguments, **options):
            if next(steps) == step:
                os._exit(9)
            return do(*arguments, **options)

        return counted

    for name in ("replace", "unlink", "rmdir"):
        setattr(os, name, counting(getattr(os, name)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_a_save_killed_at_any_of_its_steps_leaves_the_old_run_the_new_or_none_and_the_next_one_ends_the_same(arguments):
    older, run_dir = arguments | {"metrics": metrics() | {"seed": 1}}, arguments["run_dir"]
    expected = {file.name: file.read_bytes() for file in save_run(**arguments).iterdir()}
    for step in range(1, 100):
        save_run(**older)
        child = os.fork()
        if child == 0:
            die_at(step)
            save_run(**arguments)
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if is_complete(run_dir):
            assert load_run(run_dir).metrics["seed"] in (0, 1)
        save_run(**arguments)
        assert {file.name: file.read_bytes() for file in run_dir.iterdir()} == expected
        assert [path.name for path in run_dir.parent.iterdir()] == [run_dir.name]
        if not killed:
            break
    assert step > 30 and not killed
