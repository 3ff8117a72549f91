"""Methods and networks of one's own: imported where the user names them, never because a saved file does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import adni_tcgm as at
from adni_tcgm.blueprint import CodeNotAllowed
from adni_tcgm.methods.registry import METHODS
from adni_tcgm.nets.registry import NETS
from adni_tcgm.storage import load_run
from pipelines.config import load_settings
from pipelines.rerun import settings_again
from pipelines.run import main

MODULE = """
from dataclasses import dataclass
from torch import nn
from adni_tcgm.methods.ce import CrossEntropy


@dataclass(frozen=True)
class Mine(CrossEntropy):
    strength: float = 1.0


@dataclass(frozen=True)
class Wide:
    width: int = 4

    def build(self, shape, classes):
        return nn.Sequential(nn.Linear(shape[0], self.width), nn.Tanh(), nn.Linear(self.width, classes))
"""


@pytest.fixture
def named(tmp_path: Path, monkeypatch) -> str:
    """A module that the command can import."""
    (tmp_path / "learner_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "learner_of_mine"
    forget("learner_of_mine")


def forget(module: str) -> None:
    """As in a new process."""
    sys.modules.pop(module, None)
    for known in (METHODS, NETS):
        for name in [name for name in known if name.startswith(f"{module}:")]:
            del known[name]


def trained(folder: Path, module: str) -> Path:
    truth = np.arange(60) % 2
    a, b = (np.eye(2)[truth] + np.random.default_rng(seed).normal(size=(60, 2)) for seed in (0, 1))
    np.savez(folder / "data.npz", a=a, b=b, labels=truth)
    data = {"path": str(folder / "data.npz"), "views": {"a": "a", "b": "b"}, "label_rate": 0.5}
    config = {"dataset": "arrays", "data": data, "net": f"{module}:Wide", "train": {"steps": 3, "supervised_steps": 1}}
    config["methods"] = {f"{module}:Mine": {"strength": 2.0}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    flags = ("--out", str(folder / "out"), "--device", "cpu", "--method", f"{module}:Mine")
    assert main([str(folder / "mine.yaml"), *flags]) == 0
    return folder / "out" / "runs" / f"mine-{module}.Mine-r0.5-s0"


def test_own_code_trains_and_a_saved_run_imports_it_only_where_its_module_is_allowed(named, tmp_path):
    run = trained(tmp_path, named)
    forget(named)
    with pytest.raises(CodeNotAllowed, match=f"to run it: --allow-code {named}"):
        at.load(run)
    with pytest.raises(CodeNotAllowed, match=f"method {named}:Mine is code of somebody's own"):
        settings_again(load_run(run), tmp_path / "data.npz")
    assert named not in sys.modules
    model = at.load(run, allow_code=[named])
    assert model.fitted.method.strength == 2.0 and model.predict_proba({"a": np.eye(2), "b": None}).shape == (2, 2)
    assert settings_again(load_run(run), tmp_path / "data.npz", [named]).net == f"{named}:Wide"


def test_what_cannot_be_imported_is_named(named, tmp_path):
    (tmp_path / "wrong.yaml").write_text(f"data: {{path: p}}\nnet: {named}:Narrow\n")
    with pytest.raises(ValueError, match=f"wrong.yaml: {named}:Narrow: nothing to import here"):
        load_settings(str(tmp_path / "wrong.yaml"), {})
