"""The benchmark of multi-view files: what it writes reads, and what it subtracts from what."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat
from sklearn.datasets import load_digits

from adni_tcgm.datasets.arrays import ArraysConfig, read
from adni_tcgm.estimators import MultimodalClassifier
from adni_tcgm.evaluation.intervals import PairedRun
from benchmarks import multiview
from benchmarks.multiview import cell_of, compare, train_both, write_digits


def toy_file(file, people: int = 60):
    """Two views of four numbers, whose first tells two classes apart."""
    rng, labels = np.random.default_rng(0), np.arange(people) % 2
    views = np.empty((1, 2), object)
    views[0] = [rng.normal(size=(4, people)) + 3 * labels * np.array([[1], [0], [0], [0]]) for _ in range(2)]
    savemat(file, {"data": views, "truelabel": labels[None, :] + 1})
    return file


def test_the_halves_of_the_digits_read_as_views_that_make_up_the_image(tmp_path) -> None:
    found = read(ArraysConfig(str(write_digits(tmp_path / "digits.mat")), "X"))
    images, digit = load_digits(return_X_y=True)
    halves = [values.reshape(-1, 8, 4) for values in found.views.values()]
    assert np.array_equal(np.concatenate(halves, axis=2).reshape(-1, 64), images)
    assert np.array_equal(found.labels, digit)


def test_a_file_without_a_cell_of_views_is_named(tmp_path) -> None:
    savemat(tmp_path / "empty.mat", {"Z": np.ones(3)})
    with pytest.raises(ValueError, match=r"empty.mat: no cell X or data; it holds .*Z"):
        cell_of(tmp_path / "empty.mat")


def test_both_methods_are_tested_on_the_same_samples_and_beat_chance(tmp_path) -> None:
    names, labels, found, trained = train_both(toy_file(tmp_path / "toy.mat"), 0.2, seed=0, calibrate=False)
    assert (len(names), trained) == (12, 36)
    for values in found.values():
        assert np.exp(values).sum(1) == pytest.approx(np.ones(12), abs=1e-5)
        assert (values.argmax(1) == labels).mean() > 0.7
    assert not np.array_equal(found["tcgm"], found["ce"])


def test_the_difference_is_that_of_tcgm_less_ce_by_either_metric() -> None:
    labels, sure = np.arange(10) % 2, np.log([[0.8, 0.2], [0.2, 0.8]])
    right, wrong = sure[labels], sure[1 - labels]
    half = np.where((np.arange(10) < 5)[:, None], right, wrong)
    runs = [PairedRun([str(i) for i in range(10)], labels, right, other, 30) for other in (half, wrong, half)]
    assert compare({"toy": runs}, "accuracy")["toy"].estimate == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert compare({"toy": runs}, "log_loss")["toy"].estimate == pytest.approx(-2 / 3 * np.log(4))


def test_the_command_writes_a_row_for_each_set_method_and_seed(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(multiview, "write_digits", toy_file)
    monkeypatch.setattr(multiview, "MultimodalClassifier", partial(MultimodalClassifier, steps=20))
    multiview.main([str(tmp_path / "out"), str(toy_file(tmp_path / "other.mat")), "--seeds", "2", "--label-rate", ".2"])
    table = pd.read_csv(tmp_path / "out" / "multiview.tsv", sep="\t")
    assert table.groupby(["set", "method"]).seed.apply(list).to_dict() == {
        (name, method): [0, 1] for name in ("digits", "other") for method in ("ce", "tcgm")
    }
    assert "log_loss, TCGM less CE, 2 seeds" in capsys.readouterr().out
