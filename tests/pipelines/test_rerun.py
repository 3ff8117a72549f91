"""A finished run, repeated from its own records: the same bytes, or a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from adni_tcgm.files import write_checksums
from pipelines.rerun import compare_files, main
from pipelines.run import main as train
from reports.generic import write_generic
from tests.datasets.conftest import write_prepared

REPEATED = {"predictions.tsv", "metrics.json", "splits.tsv", "weights.safetensors", "calibration.json", "split.json"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of TCGM on arrays, and one on a prepared folder, below `out`."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    views = {name: np.eye(2)[labels] + rng.standard_normal((60, 2)) for name in ("one", "two")}
    np.savez(folder / "data.npz", y=labels, **views)
    data = {"path": str(folder / "data.npz"), "views": {"one": "one", "two": "two"}, "labels": "y", "label_rate": 0.3}
    steps = {"steps": 6, "supervised_steps": 2, "validate_every": 2, "lr_labeled": "5e-2"}
    config = {"dataset": "arrays", "data": data, "net": "mlp", "mlp": {"hidden": [8]}, "train": steps}
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    assert train([str(folder / "mine.yaml"), "--out", str(folder / "out")]) == 0
    prepared = write_prepared(folder / "out" / "prepared").path
    (prepared / "dataset_description.json").write_text('{"Name": "SIMULATED"}')
    short = [
        option
        for value in ("steps=6", "supervised_steps=2", "validate_every=2")
        for option in ("--set", f"train.{value}")
    ]
    assert train(["adni_regions", "--data", str(prepared), "--out", str(folder / "out"), *short]) == 0
    return folder


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "out", tmp_path / "out")
    shutil.copy(made / "data.npz", tmp_path)
    return tmp_path


def arrays(folder: Path) -> list[str]:
    return [str(folder / "out" / "runs" / "mine-tcgm-r0.3-s0"), "--data", str(folder / "data.npz")]


def brains(folder: Path) -> list[str]:
    return [str(folder / "out" / "runs" / "regions-tcgm-r0.1-s0")]


@pytest.mark.parametrize("which", [arrays, brains])
def test_the_same_seed_gives_the_same_bytes(mine: Path, which, capsys) -> None:
    assert main(which(mine)) == 0
    shown = capsys.readouterr().out
    assert {line.split()[1] for line in shown.splitlines() if line.startswith("same ")} >= REPEATED
    assert "DIFFERS" not in shown


def test_threads_are_those_of_the_run_and_given_back(mine: Path, monkeypatch) -> None:
    seen, set_threads = [], torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda number: (seen.append(number), set_threads(number)))
    change_environment(mine, threads=2)
    main(arrays(mine))
    assert seen == [2, 1] and torch.get_num_threads() == 1


def change_environment(folder: Path, **changes: object) -> None:
    for file in (folder / "out" / "runs").glob("*/environment.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        write_checksums(file.parent)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"python": "2.7"}, "python was 2.7 and is 3."),
        ({"packages": {"numpy": "1.0"}}, "numpy was 1.0 and is 2."),
        ({"code_sha256": "0"}, "the code has changed (commits then and now: "),
        ({"gpu": "NVIDIA H200"}, "gpu was NVIDIA H200 and is None"),
    ],
)
def test_another_environment_is_refused_with_what_has_changed_unless_that_is_allowed(
    mine: Path, changes: dict, reason: str, capsys
) -> None:
    change_environment(mine, **changes)
    assert main(brains(mine)) == 2
    assert f"refused: regions-tcgm-r0.1-s0 cannot be repeated: {reason}" in capsys.readouterr().err
    assert main([*brains(mine), "--allow-changes"]) == 0
    assert f"changed   {reason}" in capsys.readouterr().out


def test_other_data_are_refused_and_where_allowed_give_other_bytes(mine: Path, capsys) -> None:
    content = dict(np.load(mine / "data.npz"))
    np.savez(mine / "data.npz", **content | {"one": content["one"] * 2 + content["two"]})
    assert main(arrays(mine)) == 2
    assert "cannot be repeated: the data have changed (--allow-changes goes on)" in capsys.readouterr().err
    assert main([*arrays(mine), "--allow-changes"]) == 1
    assert "DIFFERS   predictions.tsv" in capsys.readouterr().out


def test_data_that_nobody_can_find_are_asked_for(mine: Path, capsys) -> None:
    assert main(arrays(mine)[:1]) == 2
    assert "--data says where they are" in capsys.readouterr().err


def test_a_damaged_run_is_not_repeated(mine: Path, capsys) -> None:
    (Path(brains(mine)[0]) / "config.yaml").write_text("method: ce\n")
    assert main(brains(mine)) == 2
    assert "config.yaml has changed since the run was finished" in capsys.readouterr().err


def test_a_kept_rerun_is_a_run_folder_with_the_same_report(mine: Path) -> None:
    assert main([*arrays(mine), "--out", str(mine / "again")]) == 0
    first, second = Path(arrays(mine)[0]), mine / "again" / "runs" / "mine-tcgm-r0.3-s0"
    assert all(compare_files(first, second).values())
    pages = [write_generic([folder], folder.parents[1] / "reports").read_bytes() for folder in (first, second)]
    assert pages[0] == pages[1]
