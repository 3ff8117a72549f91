"""Methods and networks of one's own: imported where the user names them, never because a saved file does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import adni_tcgm as at
from adni_tcgm.blueprint import CodeNotAllowed
from adni_tcgm.methods.registry import METHODS
from adni_tcgm.nets.registry import NET_SETTINGS, NETS
from adni_tcgm.storage import load_run
from pipelines import study
from pipelines.command_line import parse
from pipelines.config import DATASETS, load_settings
from pipelines.grid import Outcome, Task, train_alone
from pipelines.own_code import register_own
from pipelines.rerun import settings_again
from pipelines.restoring import open_run
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
    for known in (METHODS, NETS, NET_SETTINGS):
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


def test_a_run_of_own_code_is_opened_for_new_people_only_where_its_module_is_allowed(named, tmp_path):
    run = trained(tmp_path, named)
    forget(named)
    with pytest.raises(CodeNotAllowed, match=f"to run it: --allow-code {named}"):
        open_run(run)
    assert named not in sys.modules
    open_run(run, [named])
    assert at.load(run).fitted.method.strength == 2.0  # the module is known from now on


def test_a_study_compares_own_methods_of_modules_that_are_allowed(named, tmp_path, capsys):
    trained(tmp_path, named)
    flags = [str(tmp_path / "mine.yaml"), "--methods", f"ce,{named}:Mine", "--seeds", "1", "--out", str(tmp_path / "s")]
    with pytest.raises(SystemExit):
        parse("study", flags)
    assert f"to run it: --allow-code {named}" in capsys.readouterr().err

    def in_another_process(tasks: list[Task], **_: object) -> list[Outcome]:
        forget(named)
        return [Outcome(task, train_alone(task)) for task in tasks]

    assert study.run_all(parse("study", [*flags, "--allow-code", named]), in_another_process) == 0
    assert set(pd.read_csv(tmp_path / "s" / "per_seed.tsv", sep="\t").method) == {"ce", f"{named}:Mine"}


def test_own_code_is_found_in_the_folder_where_the_command_is_started(tmp_path, monkeypatch):
    (tmp_path / "learner_beside_me.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    monkeypatch.chdir(tmp_path)
    register_own({"method": "learner_beside_me:Mine"}, DATASETS)
    assert METHODS["learner_beside_me:Mine"].__name__ == "Mine"
    forget("learner_beside_me")
