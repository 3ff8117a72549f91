"""The learner as others use it: from a notebook, from scikit-learn, from a file."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from torch import nn

import adni_tcgm as at

ROOT = Path(__file__).parents[1]
WITH_EXAMPLES = sorted(
    path.relative_to(ROOT)
    for package in ("adni_tcgm", "preprocessing", "pipelines", "reports")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
QUICK = {"steps": 60, "calibrate": False, "device": "cpu"}


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_examples_in_docstrings_run_as_they_stand(path):
    module = importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0


@pytest.fixture(scope="module")
def digits() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Left and right halves of 400 handwritten digits."""
    images, target = load_digits(return_X_y=True)
    images = images[:400].reshape(-1, 8, 8)
    return {"left": images[:, :, :4].reshape(-1, 32), "right": images[:, :, 4:].reshape(-1, 32)}, target[:400]


def few(target: np.ndarray, labels: int = 60) -> np.ndarray:
    return np.where(np.arange(len(target)) < labels, target, -1)


def test_halves_of_digits_are_read_better_with_the_unlabeled_ones(digits):
    views, target = digits
    rest = {name: values[60:] for name, values in views.items()}
    accuracy = {
        weight: at.TCGM(gain_weight=weight, **{**QUICK, "steps": 200}).fit(views, few(target)).score(rest, target[60:])
        for weight in (0.0, 1.0)
    }
    both = np.hstack([views["left"], views["right"]])
    supervised = LogisticRegression(max_iter=1000).fit(both[:60], target[:60]).score(both[60:], target[60:])
    assert accuracy[1.0] > max(accuracy[0.0], supervised) + 0.02, (accuracy, supervised)


def test_estimators_are_cloned_and_cross_validated_by_labeled_samples_alone(digits):
    views, target = digits
    estimator = at.TCGM(gain_weight=2.0, **QUICK)
    assert clone(estimator).get_params() == estimator.get_params()
    scores = cross_val_score(estimator, at.MultimodalData(views), few(target, 200), cv=3)
    assert len(scores) == 3 and scores.min() > 0.5


def test_a_missing_modality_and_missing_values_are_no_obstacle(digits):
    views, target = digits
    gaps = {name: values.astype(float) for name, values in views.items()}
    gaps["left"][:30] = np.nan  # these have no left half
    gaps["right"][40:80, 3] = np.nan  # these lack one number
    model = at.TCGM(**QUICK).fit(gaps, few(target, 200))
    assert np.allclose(model.predict_proba(gaps)[:30], model.predict_proba(gaps, "right")[:30])
    alone = model.predict_proba({"left": views["left"], "right": None})
    assert np.allclose(alone, model.predict_proba({"left": views["left"]}))
    assert (alone.argmax(1) == target)[200:].mean() > 0.5


def test_labels_may_be_text_and_a_network_may_be_a_function(digits):
    views, target = digits
    words = np.array(["even", "odd"], object)[target % 2]
    words[150:] = None

    def network(shape: tuple[int, ...], outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(shape[0], 16), nn.Tanh(), nn.Linear(16, outputs))

    model = at.TCGM(net=network, **QUICK).fit(views, words)
    assert model.classes_.tolist() == ["even", "odd"]
    assert set(model.predict(views)) == {"even", "odd"}
    with pytest.raises(ValueError, match="network of function cannot be saved"):
        model.save("nowhere")


@pytest.mark.parametrize(
    "method",
    ["ce", "vat", "pvcc", "soft_hgr", "lmf", "pairwise", "freematch", "mean_teacher", "mmatch", "stil"],
)
def test_every_other_method_is_an_estimator_too(digits, method, tmp_path):
    views, target = digits
    settings = {"iterations": 10} if method == "pvcc" else None
    model = at.MultimodalClassifier(method, settings, **QUICK).fit(views, few(target, 200))
    assert model.score(views, target) > 0.5
    if method != "pvcc":
        again = at.load(model.save(tmp_path / "model"))
        assert np.array_equal(again.log_posteriors(at.MultimodalData(views))["all"], model.predict_log_proba(views))


@pytest.mark.parametrize(
    ("views", "y", "message"),
    [
        ({"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}, [0, 1, -1], "as many rows"),
        ({"a": np.zeros((3, 2))}, [0, 1], r"y has shape \(2,\)"),
        ({"a": np.zeros((3, 2))}, [0, -1, -1], "the labels name 1 classes"),
        ({"a": [[0.0], [np.nan], [1.0]]}, [0, 1, 1], "has no modality at all"),
        ({"a": [[0.0], [np.inf], [1.0]]}, [0, 1, 1], "view 'a', row 1: a value is infinite"),
        ({"a": np.zeros((3, 2)), "b": np.full((3, 2), np.nan)}, [0, 1, 1], "no sample has view 'b'"),
    ],
)
def test_what_does_not_fit_is_named(views, y, message):
    with pytest.raises(ValueError, match=message):
        at.TCGM(**QUICK).fit(views, y)


def test_a_model_refuses_views_and_labels_that_it_does_not_know(digits, tmp_path):
    views, target = digits
    model = at.TCGM(**QUICK).fit(views, few(target, 200))
    with pytest.raises(ValueError, match="view 'top' is not one of those that the model knows: left, right"):
        model.predict({"top": views["left"]})
    with pytest.raises(ValueError, match=r"shape \(31,\); the model knows \(32,\)"):
        model.predict({"left": views["left"][:, 1:]})
    with pytest.raises(ValueError, match="label 17 is not one of"):
        model.score(views, np.full(len(target), 17))
    with pytest.raises(ValueError, match="no sample is labeled"):
        model.score(views, np.full(len(target), -1))
    (tmp_path / "other").write_bytes(b"PK")
    with pytest.raises(ValueError, match="other: not a saved model"):
        at.load(tmp_path / "other")


def test_the_package_itself_needs_no_torch():
    code = "import sys, adni_tcgm, adni_tcgm.evaluation.calibration; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=600).returncode == 0
