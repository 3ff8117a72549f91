"""The usual .mat files of multi-view data sets: a cell of views and labels beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.io import savemat

from adni_tcgm.datasets.arrays import ArraysConfig, load
from adni_tcgm.tcgm.batch import Splits

RNG = np.random.default_rng(0)
TRUTH = np.arange(40) % 2
FIRST, SECOND = (RNG.normal(size=(40, width)) + TRUTH[:, None] for width in (3, 5))


def cell(*parts: object) -> np.ndarray:
    found = np.empty((1, len(parts)), object)
    found[0, :] = parts
    return found


def read(folder, **arrays: object) -> Splits:
    savemat(folder / "data.mat", arrays)
    return load(ArraysConfig(str(folder / "data.mat"), "X", label_rate=0.5), seed=0)


def usual(folder) -> Splits:
    return read(folder, X=cell(FIRST, SECOND), Y=TRUTH[:, None] + 1)


def test_a_cell_of_views_is_read_with_samples_in_rows(tmp_path):
    splits = usual(tmp_path)
    assert {m.name: m.shape for m in splits.modalities} == {"view1": (3,), "view2": (5,)}
    assert splits.classes == ("1", "2") and sum(map(len, (splits.train, splits.validation, splits.test))) == 40


@pytest.mark.parametrize("name", ["Y", "gt", "truelabel"])
def test_samples_in_columns_sparse_views_and_any_usual_name_of_the_labels_are_the_same_data(name, tmp_path):
    expected = usual(tmp_path)
    for labels in (TRUTH[None].astype(float) + 1, cell(TRUTH[:, None] + 1, TRUTH[:, None] + 1)):
        found = read(tmp_path, X=cell(FIRST.T, sparse.csc_matrix(SECOND.T)), **{name: labels})
        assert found.classes == expected.classes and torch.equal(found.test.labels, expected.test.labels)
        for view, values in expected.train.inputs.items():
            assert torch.equal(found.train.inputs[view], values)


def test_a_square_view_lies_as_the_others_do(tmp_path):
    square = RNG.normal(size=(40, 40))
    rows = read(tmp_path, X=cell(FIRST, square), gt=TRUTH)
    columns = read(tmp_path, X=cell(FIRST.T, square.T), gt=TRUTH)
    assert torch.equal(rows.train.inputs["view2"], columns.train.inputs["view2"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": FIRST, "Y": TRUTH}, "data.mat: no cell 'X' of views; it holds X, Y"),
        ({"X": cell(FIRST, SECOND)}, "no labels; expected one of labels, Y, gt, truelabel"),
        ({"X": cell(FIRST, SECOND[1:]), "Y": TRUTH}, r"view 2 of 'X' has shape \(39, 5\), and 'Y' has 40 labels"),
        ({"X": cell(FIRST, SECOND), "Y": cell(TRUTH, 1 - TRUTH)}, "the cells of 'Y' differ"),
        ({"X": cell(FIRST, SECOND), "Y": np.eye(2)[TRUTH]}, r"'Y' has shape \(40, 2\); expected one label"),
    ],
)
def test_what_does_not_fit_is_named(arrays, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **arrays)


def test_transforms_are_named_by_view_and_a_folder_has_no_cell(tmp_path):
    savemat(tmp_path / "data.mat", {"X": cell(FIRST, SECOND), "Y": TRUTH})
    config = ArraysConfig(str(tmp_path / "data.mat"), "X", transform={"view1": "raw"})
    with pytest.raises(ValueError, match=r"transform names \['view1'\]; the views are \['view1', 'view2'\]"):
        load(config, 0)
    with pytest.raises(ValueError, match="views is 'X', a cell of a .mat file; in a folder, name each view"):
        load(ArraysConfig(str(tmp_path), "X"), 0)
