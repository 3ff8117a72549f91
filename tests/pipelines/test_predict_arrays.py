"""`predict --arrays`: a run on somebody's own modalities, on other samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pipelines.command_line import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.npz and a finished run."""
    folder = tmp_path_factory.mktemp("predict-arrays")
    rng, labels = np.random.default_rng(0), np.arange(60) % 2
    one, two = np.eye(2)[labels] + rng.standard_normal((60, 2)), 5 + 3 * rng.random((60, 3))
    two[4] = np.nan
    np.savez(folder / "data.npz", y=labels, one=one, two=two)
    data = {"path": str(folder / "data.npz"), "views": {"left": "one", "right": "two"}, "labels": "y"}
    settings = {"dataset": "arrays", "data": data | {"label_rate": 0.3}, "net": "linear"}
    settings["train"] = {"steps": 4, "supervised_steps": 2, "validate_every": 2, "device": "cpu"}
    (folder / "mine.yaml").write_text(yaml.safe_dump(settings))
    assert main(["train", str(folder / "mine.yaml"), "--method", "tcgm", "--out", str(folder / "out")]) == 0
    return folder


def run_dir(folder: Path) -> Path:
    return folder / "out" / "runs" / "mine-tcgm-r0.3-s0"


def predict(folder: Path, *options: object) -> int:
    return main(["predict", str(run_dir(folder)), *map(str, options)])


def test_samples_get_what_the_run_itself_said_of_them(trained: Path, tmp_path: Path, capsys) -> None:
    arrays = np.load(trained / "data.npz")
    np.savez(tmp_path / "new.npz", one=arrays["one"], two=arrays["two"])  # without labels
    assert predict(trained, "--arrays", tmp_path / "new.npz", "--out", tmp_path / "said") == 0
    assert "60 samples" in capsys.readouterr().out
    keys = ["sample_id", "modality"]
    said = pd.read_csv(tmp_path / "said" / "predictions.tsv", sep="\t").set_index(keys)
    known = pd.read_csv(run_dir(trained) / "predictions.tsv", sep="\t").query("split == 'test'").set_index(keys)
    assert set(said.split) == {"new"} and said.label.isna().all() and len(said) == 3 * 60
    for column in (name for name in known if name.startswith(("p_", "log_p_"))):
        np.testing.assert_allclose(said.loc[known.index, column], known[column], rtol=0, atol=2e-6)
    assert said.loc[(4, "right"), "present"] == np.False_ and said.loc[(4, "left"), "present"] == np.True_


def test_a_view_that_the_file_lacks_decides_nothing(trained: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "new.npz", one=np.load(trained / "data.npz")["one"][:5])
    assert predict(trained, "--arrays", tmp_path / "new.npz", "--out", tmp_path / "said") == 0
    said = pd.read_csv(tmp_path / "said" / "predictions.tsv", sep="\t").set_index("modality")
    assert not said.loc["right", "present"].any() and said.loc["right", "log_p_1"].nunique() == 1
    np.testing.assert_allclose(said.loc["all", "log_p_1"], said.loc["left", "log_p_1"], atol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"three": np.ones((2, 2))}, "new.npz: no array 'one' for view 'left'; it holds three"),
        ({"one": np.ones((2, 7))}, "new.npz: view 'left' has samples of shape (7,); the model knows (2,)"),
        ({"one": np.ones((2, 2)), "two": np.ones((3, 3))}, "views have {'left': 2, 'right': 3} rows"),
        ({"one": np.ones(2)}, "new.npz: view 'left' has shape (2,), float64; expected (N, D) numbers"),
        ({"one": np.full((2, 2), np.inf)}, "new.npz: view 'left', row 0: a value is infinite"),
    ],
)
def test_what_does_not_fit_is_named(trained: Path, tmp_path: Path, arrays, sentence: str, capsys) -> None:
    np.savez(tmp_path / "new.npz", **arrays)
    assert predict(trained, "--arrays", tmp_path / "new.npz", "--out", tmp_path / "said") == 2
    assert sentence in capsys.readouterr().err


def test_what_is_said_of_a_person_does_not_go_with_arrays(trained: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        predict(trained, "--arrays", "new.npz", "--age", "70")
    assert "--age does not go with --arrays" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        predict(trained, "--arrays", "new.npz", "--t1", "t1.nii")
    assert "one of --t1, --bids and --arrays is needed" in capsys.readouterr().err


def test_a_run_on_brains_refuses_arrays(tmp_path: Path, capsys) -> None:
    from pipelines.commands.predict import DEMO_MODEL

    np.savez(tmp_path / "new.npz", one=np.ones((2, 2)))
    assert main(["predict", str(DEMO_MODEL), "--arrays", str(tmp_path / "new.npz"), "--out", str(tmp_path / "o")]) == 2
    assert "trained on 'adni'; --arrays is for runs on arrays" in capsys.readouterr().err
