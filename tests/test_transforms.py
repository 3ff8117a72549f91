"""Transforms of counts against scikit-learn, and what they may look at."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer

from adni_tcgm.transforms import transformed

COUNTS = np.random.default_rng(0).poisson(0.7, (30, 12)).astype(float)
EVERYBODY = np.ones(30, dtype=bool)
HALF = np.arange(30) < 15


def test_tfidf_with_unit_norm_is_that_of_scikit_learn():
    expected = TfidfTransformer(sublinear_tf=False).fit(COUNTS[HALF])
    # Theirs multiplies counts, ours log(1 + count); the weights of the words are the same.
    reference = np.log1p(COUNTS) * expected.idf_
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    np.testing.assert_allclose(transformed(COUNTS, HALF, "tfidf", True), reference, rtol=1e-6)


def test_sparse_and_dense_counts_give_the_same():
    for kind in ("raw", "log", "tfidf"):
        dense = transformed(COUNTS, EVERYBODY, kind, unit_norm=True)
        np.testing.assert_array_equal(dense, transformed(sparse.csr_matrix(COUNTS), EVERYBODY, kind, unit_norm=True))


def test_a_row_of_zeros_stays_a_row_of_zeros():
    counts = COUNTS.copy()
    counts[4] = 0
    assert (transformed(counts, EVERYBODY, "log", True)[4] == 0).all()


@pytest.mark.parametrize("kind", ["tfidf", "zscore"])
def test_values_outside_training_change_no_weight(kind):
    changed = COUNTS.copy()
    changed[~HALF] += 5
    before, after = (transformed(values, HALF, kind, unit_norm=False) for values in (COUNTS, changed))
    np.testing.assert_array_equal(before[HALF], after[HALF])


def test_zscores_have_mean_zero_and_deviation_one_on_training_and_put_missing_values_at_the_mean():
    values = COUNTS.copy()
    values[3, 2], values[:, 5] = np.nan, 7.0
    z = transformed(values, HALF, "zscore", unit_norm=False)
    varied = np.arange(12) != 5
    assert z[3, 2] == 0 and (z[:, 5] == 0).all()
    np.testing.assert_allclose(z[HALF][:, varied].mean(0), 0, atol=1e-6)
    complete = varied & (np.arange(12) != 2)
    np.testing.assert_allclose(z[HALF][:, complete].std(0), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "value", "rule"), [("log", -1, "not negative"), ("raw", np.nan, "finite"), ("zscore", np.inf, "finite")]
)
def test_values_that_a_transform_cannot_take_are_named(kind, value, rule):
    values = COUNTS.copy()
    values[2, 3] = value
    with pytest.raises(ValueError, match=f"row 2, column 3 is .*{rule}"):
        transformed(values, EVERYBODY, kind, unit_norm=False)
