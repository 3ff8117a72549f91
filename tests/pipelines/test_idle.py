"""Settings that nothing would read are refused before anything runs."""

from __future__ import annotations

import pytest

from pipelines.config import BUILT_IN, load_settings
from pipelines.idle import list_idle, load_given, refuse_idle
from pipelines.run import main
from pipelines.tuning import candidates


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"train.patience": 3}, "train.patience is 3, but by protocol 'austere' the last step counts"),
        ({"train.source_weight": 0.5}, "train.source_weight is 0.5, but data.source_labels names no source"),
        ({"augment": "paper"}, "augment is 'paper', but there are no volumes"),
        ({"mlp.hidden": [8]}, "mlp has settings, but net is 'linear'"),
        ({"encoders.mri.hidden": 8}, "encoders has settings, but net is 'linear'"),
        ({"methods.pvcc.train.steps": 3}, "methods.pvcc.train has settings, but pvcc is solved in closed form"),
    ],
)
def test_a_setting_that_no_method_would_read_is_refused(overrides, sentence):
    with pytest.raises(ValueError, match=f"adni: {sentence}"):
        refuse_idle(load_settings("adni_regions", overrides), "tcgm")


@pytest.mark.parametrize("name", sorted(path.stem for path in BUILT_IN.glob("*.yaml")))
def test_no_built_in_configuration_holds_one(name):
    assert list(list_idle(load_settings(name, {}))) == []


def test_supervised_steps_that_fill_the_training_are_refused_of_methods_that_look_at_unlabeled_samples():
    settings = load_settings("gaussian", {"train.steps": 50, "train.supervised_steps": 50})
    refuse_idle(settings, "ce")
    with pytest.raises(ValueError, match="supervised_steps is 50, but there are 50 steps: tcgm would never"):
        refuse_idle(settings, "tcgm")


def test_micro_batches_of_a_method_without_batches_are_refused():
    settings = load_settings("gaussian", {"train.micro_batch": 4})
    refuse_idle(settings, "tcgm")
    with pytest.raises(ValueError, match="micro_batch is 4, but pvcc is solved in closed form"):
        refuse_idle(settings, "pvcc")


def test_a_second_rate_of_joint_steps_and_a_second_seed_are_refused(capsys):
    assert load_given("gaussian", ["train.lr_unlabeled=1e-3"], {}).train.lr_unlabeled == 1e-3
    with pytest.raises(ValueError, match="--set train.lr_unlabeled is not read: by schedule 'joint'"):
        load_given("adni_regions", ["train.lr_unlabeled=1e-3"], {})
    assert main(["gaussian", "--set", "train.seed=3", "--dry-run"]) == 2
    assert "--set train.seed is not read: the seed of a run is that of --seed" in capsys.readouterr().err


def test_learning_rates_that_differ_in_nothing_that_is_read_are_tried_once():
    joint = load_settings("adni_regions", {}).train_for("tcgm")
    alternating = load_settings("gaussian", {}).train_for("tcgm")
    assert len({pair.lr_labeled for pair in candidates("tcgm", joint)}) == 4
    assert len({pair.lr_unlabeled for pair in candidates("tcgm", alternating)}) > 1
