"""One run on anybody's data, from a YAML file alone."""

from __future__ import annotations

import re
import shutil
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from adni_tcgm.checkpoint_file import CheckpointFile
from adni_tcgm.storage import load_run
from pipelines import identity
from pipelines.config import METHODS, load_settings
from pipelines.run import main
from pipelines.training import train_run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path) -> Path:
    """Two views of 120 samples that each show the class, and the file that says so."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    views = {name: 2 * np.eye(3)[labels] + rng.standard_normal((120, 3)) for name in ("one", "two")}
    np.savez(tmp_path / "data.npz", y=labels, site=np.arange(120) // 60, **views)
    content = {
        "dataset": "arrays",
        "data": {"path": str(tmp_path / "data.npz"), "views": {"left": "one", "right": "two"}, "labels": "y"},
        "net": "linear",
        "train": {
            "steps": 60,
            "supervised_steps": 40,
            "validate_every": 10,
            "lr_labeled": "5e-2",
            "lr_unlabeled": "1e-2",
        },
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "mine.yaml"


def runs_of(config: Path) -> list[Path]:
    return sorted((config.parent / "out" / "runs").iterdir())


def run(config: Path, *more: str) -> int:
    return main([str(config), "--out", str(config.parent / "out"), "--device", "cpu", *more])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_saves_and_is_named_in_its_folder(config, method, capsys):
    assert run(config, "--method", method) == 0
    (folder,) = runs_of(config)
    assert folder.name == f"mine-{method}-r0.1-s0"
    metrics = load_run(folder).metrics
    assert metrics["dataset"] == "mine" and metrics["simulated"] is False and metrics["test"]["all"]["accuracy"] > 0.4
    shown = capsys.readouterr().out
    assert "24 test samples; 7 training labels shown" in shown and "all" in shown


def test_a_second_call_trains_nothing_and_other_settings_replace_a_run_only_where_told_so(config, capsys):
    def stamp() -> int:
        (folder,) = runs_of(config)
        return (folder / "metrics.json").stat().st_mtime_ns

    run(config)
    first = stamp()
    run(config)
    assert stamp() == first
    run(config, "--set", "methods.vat.epsilon=3")  # another method's setting
    assert stamp() == first
    capsys.readouterr()
    assert run(config, "--set", "train.steps=50", "--set", "net=mlp") == 2
    said = capsys.readouterr().err
    assert "mine-tcgm-r0.1-s0 holds a run of other settings: net was " in said
    assert "train.steps was 60 and is 50 (--overwrite replaces it)" in said and stamp() == first
    assert run(config, "--set", "train.steps=50", "--overwrite") == 0
    second = stamp()
    assert second > first
    content = dict(np.load(config.parent / "data.npz"))
    np.savez(config.parent / "data.npz", **{**content, "one": content["one"] + 1})
    run(config, "--set", "train.steps=50")
    assert stamp() > second


def test_a_run_of_an_older_version_of_this_code_is_trained_again(config, monkeypatch):
    run(config)
    (folder,) = runs_of(config)
    monkeypatch.setattr(identity, "METRICS_VERSION", identity.METRICS_VERSION + 1)
    assert run(config, "--set", "train.steps=50") == 0
    assert load_run(folder).config["train"]["steps"] == 50


def test_by_the_austere_protocol_a_run_never_sees_a_validation_label(config, capsys):
    austere = ("--set", "protocol=austere", "--set", "data.label_rate=0.3")
    assert run(config, *austere) == 0
    (folder,) = runs_of(config)
    assert "no other label was looked at" in capsys.readouterr().out
    found = load_run(folder)
    assert found.metrics["protocol"] == "austere" and found.metrics["labels"]["validation"] == 0
    assert found.metrics["best_step"] == 60  # nothing chose an earlier one
    assert found.metrics["calibration"]["samples"] == found.metrics["labels"]["train_visible"]
    shown = found.splits[(found.splits.split == "train") & found.splits.label_visible].sample_id
    assert set(found.predictions[found.predictions.split == "cross_fitted"].sample_id) == set(shown)
    before = (folder / "weights.safetensors").read_bytes(), (folder / "calibration.json").read_bytes()

    content = dict(np.load(config.parent / "data.npz"))
    rows = found.splits
    validation = [int(name.rsplit("-")[-1]) for name in rows.sample_id[rows.split == "validation"]]
    content["y"] = content["y"].copy()
    # Rotated among themselves: each class keeps its number, and everybody the split.
    content["y"][validation] = np.roll(content["y"][validation], 1)
    np.savez(config.parent / "data.npz", **content)
    assert run(config, *austere) == 0
    assert (load_run(folder).splits.sample_id == rows.sample_id).all()
    assert ((folder / "weights.safetensors").read_bytes(), (folder / "calibration.json").read_bytes()) == before


def test_settings_of_a_method_reach_it_and_it_alone(config):
    overrides = {
        "methods.tcgm.within_nuisance_groups": True,
        "methods.tcgm.train.lr_unlabeled": "3e-4",
        "data.nuisance_groups": "site",
    }
    settings = load_settings(str(config), overrides)
    assert settings.method("tcgm").within_nuisance_groups and settings.train_for("tcgm").lr_unlabeled == 3e-4
    assert settings.train_for("ce").lr_unlabeled == 1e-2
    folder = train_run(config.parent / "out" / "runs", settings, "tcgm", 0, progress=False)
    assert load_run(folder).config["methods"] == {
        "tcgm": {"within_nuisance_groups": True, "train": {"lr_unlabeled": "3e-4"}}
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("methods.tcgm.gain_wait=1", "methods.tcgm: unknown key 'gain_wait'; did you mean 'gain_weight'"),
        ("methods.magic.x=1", "method is 'magic'"),
        ("data.vews=1", "mine.yaml: data: unknown key 'vews'; did you mean 'views'"),
        ("dataset=brains", "mine.yaml: dataset is 'brains'"),
        ("data.transform=cube", "transform is 'cube'"),
        ("data.path=nowhere.npz", "nowhere.npz: nothing here"),
        ("train.ridge=-1", "ridge is -1"),
    ],
)
def test_mistakes_are_named_in_one_sentence(config, override, message, capsys):
    assert run(config, "--set", override) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_trains_nothing(config, capsys):
    assert run(config, "--dry-run") == 0
    assert "60 steps" in capsys.readouterr().out and not (config.parent / "out").exists()


def test_the_example_of_the_documentation_runs_as_it_stands(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "guides" / "own-modalities.md").read_text(encoding="utf-8")
    script, settings = (re.search(rf"```{kind}\n(.*?digits.*?)```", text, re.DOTALL)[1] for kind in ("python", "yaml"))
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "own-modalities.md", "exec"), {})  # noqa: S102 (the example of our own documentation)
    (tmp_path / "digits.yaml").write_text(settings, encoding="utf-8")
    assert len([line for line in settings.splitlines() if line.strip()]) <= 10
    accuracy = {}
    for method in ("ce", "tcgm"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert main(["digits.yaml", "--method", method, "--device", "cpu"]) == 0
        folder = tmp_path / "out" / "digits" / "runs" / f"digits-{method}-r0.03-s0"
        accuracy[method] = load_run(folder).metrics["test"]["all"]["accuracy"]
    assert accuracy["tcgm"] > accuracy["ce"] + 0.05


@pytest.fixture
def own_signals() -> Iterator[None]:
    """The launcher of torchrun takes the signals for itself."""
    taken = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in taken}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_two_processes_of_torchrun_end_with_the_run_of_one_and_only_the_first_writes(config, capfd, own_signals):
    def numbers(folder: Path) -> np.ndarray:
        run = load_run(folder)
        return run.predictions.filter(like="p_").to_numpy()

    run(config)
    (alone,) = runs_of(config)
    capfd.readouterr()
    # `torchrun --standalone --nproc-per-node 2`, but for the imports: the processes are forks of this one.
    start = "spawn" if torch.cuda.is_available() else "fork"
    launch = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0, start_method=start)
    ends = elastic_launch(launch, main)([str(config), "--device", "cpu", "--out", str(config.parent / "two")])
    assert ends == {0: 0, 1: 0}
    assert capfd.readouterr().out.count("test samples") == 1
    (together,) = (config.parent / "two" / "runs").iterdir()
    np.testing.assert_allclose(numbers(together), numbers(alone), rtol=1e-6, atol=2e-6)
    assert load_run(together).metrics["execution"]["processes"] == 2


def test_a_run_that_died_goes_on_and_leaves_nothing_but_its_folder(config, monkeypatch):
    run(config, "--set", "train.validate_every=60")
    (folder,) = runs_of(config)
    undisturbed = (folder / "predictions.tsv").read_bytes()
    shutil.rmtree(folder)

    class Kill(BaseException):
        pass

    saved = CheckpointFile.save
    monkeypatch.setattr(CheckpointFile, "is_due", lambda self: True)

    def save_once(checkpoint: CheckpointFile, state) -> None:
        saved(checkpoint, state)
        if state.values["step"] == 50:
            raise Kill

    monkeypatch.setattr(CheckpointFile, "save", save_once)
    with pytest.raises(Kill):
        run(config, "--set", "train.validate_every=60")
    assert [folder.name for folder in runs_of(config)] == [".mine-tcgm-r0.1-s0.unfinished"]
    run(config, "--set", "train.validate_every=60")  # step 50 is not saved again: it is behind us
    (folder,) = runs_of(config)
    assert (folder / "predictions.tsv").read_bytes() == undisturbed
