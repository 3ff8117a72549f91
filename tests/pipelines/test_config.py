"""Settings come from dataclasses, then YAML, then the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.nets.grid3d import Grid3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.pretraining.pretext import Pretraining
from pipelines.config import BUILT_IN, load_settings, parse_override


@pytest.mark.parametrize("name", sorted(p.stem for p in BUILT_IN.glob("*.yaml")))
def test_every_built_in_configuration_loads(name: str) -> None:
    assert load_settings(name, {}).train.steps > 0


def test_command_line_beats_yaml_and_yaml_beats_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data: {path: p, label_rate: 0.5}\ntrain: {steps: 7}\n")
    settings = load_settings(str(file), {"data.label_rate": 0.25})
    assert (settings.data.label_rate, settings.train.steps, settings.train.batch_size_labeled) == (0.25, 7, 12)


def test_exponents_that_yaml_reads_as_text_become_numbers(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data: {path: p}\ntrain: {lr_unlabeled: 1e-3}\n")
    assert load_settings(str(file), {}).train.lr_unlabeled == 0.001
    assert load_settings("adni_regions", dict([parse_override("train.lr_labeled=2e-4")])).train.lr_labeled == 0.0002


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.lr_unlabled": 1}, "unknown key 'lr_unlabled'; did you mean 'lr_unlabeled'"),
        ({"data.crop": "whole"}, "crop is 'whole'; choose one of hippocampi, paper64"),
        ({"train.steps": "many"}, "steps is 'many'; expected int"),
        ({"train.steps": 1.5}, "steps is 1.5; expected int"),
        ({"net": "huge"}, "net is 'huge'; choose one of"),
        ({"data.label_rate": 0}, "label_rate is 0"),
    ],
)
def test_wrong_settings_are_named(overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_settings("adni_voxels_cpu", overrides)


def test_unknown_configuration_lists_the_built_in_ones() -> None:
    with pytest.raises(ValueError, match="built-in: adni_regions, adni_voxels_cpu"):
        load_settings("adni", {})


def test_override_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="expected key=value"):
        parse_override("train.steps")


def test_settings_build_method_and_augmentation() -> None:
    settings = load_settings("adni_voxels_gpu", {"augment": "paper"})
    assert settings.augmentation() == Augment3D.paper((64, 64, 64), settings.data.margin_voxels)
    assert isinstance(settings.method("ce"), CrossEntropy)
    assert load_settings("adni_regions", {}).augmentation() is None
    with pytest.raises(ValueError, match="method is 'magic'"):
        settings.method("magic")


def test_pretraining_trains_its_own_network_and_methods_train_linear_ones() -> None:
    settings = load_settings("adni_voxels_cpu", {})
    assert settings.pretraining == "both"
    assert isinstance(settings.encoder(), Grid3DConfig) and settings.classifier() == MLPConfig()
    assert settings.chosen_pretraining() == Pretraining(tasks=("targets", "cross_modal"))


def test_on_a_gpu_voxels_begin_with_the_same_pretraining_and_without_it_are_the_paper_s() -> None:
    pretrained, scratch = (load_settings("adni_voxels_gpu", {"pretraining": name}) for name in ("both", "none"))
    assert load_settings("adni_voxels_gpu", {}) == pretrained
    assert pretrained.chosen_pretraining() == load_settings("adni_voxels_cpu", {}).chosen_pretraining()
    assert pretrained.train_for("tcgm") == load_settings("adni_voxels_cpu", {}).train_for("tcgm")
    assert pretrained.encoder().build((1, 64, 64, 64), 16).head.out_features == 16
    assert scratch.classifier() == DenseNet3DConfig.paper() and scratch.data.crop == "paper64"
    paper = scratch.train_for("tcgm")
    assert (paper.batch_size_labeled, paper.batch_size_unlabeled) == (12, 12)
    assert (paper.lr_labeled, paper.lr_unlabeled, paper.weight_decay) == (1e-3, 1e-3, 0)


def test_training_from_scratch_may_have_another_network_and_other_steps() -> None:
    settings = load_settings("adni_voxels_cpu", {"pretraining": "none"})
    assert settings.classifier() == DenseNet3DConfig.slim() and settings.chosen_pretraining() is None
    assert (settings.train_for("tcgm").steps, load_settings("adni_voxels_cpu", {}).train_for("tcgm").steps) == (
        60,
        150,
    )


def test_a_method_s_own_training_beats_that_of_the_pretraining() -> None:
    overrides = {"pretraining": "none", "methods.tcgm.train.steps": 7}
    assert load_settings("adni_voxels_cpu", overrides).train_for("tcgm").steps == 7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"pretraining": "jigsaw"}, "pretraining is 'jigsaw'; choose one of none, regions, cross_modal, both"),
        ({"pretrainings.mine.taks": ["targets"]}, "pretrainings.mine: unknown key 'taks'; did you mean 'tasks'"),
        ({"pretrainings.mine.net": "unet"}, "pretrainings.mine: net is 'unet'; choose one of paper, slim, grid"),
        ({"pretrainings.mine.train.step": 3}, "pretrainings.mine.train: unknown key 'step'; did you mean 'steps'"),
        (
            {"pretrainings.none.tasks": ["targets"]},
            "pretrainings.none has tasks; without pretraining there are only net",
        ),
        ({"pretrainings.mine": {"source": []}}, "source names no data set"),
    ],
)
def test_a_wrong_pretraining_is_refused_before_anything_runs(overrides, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_settings("adni_voxels_cpu", overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.rounds": 7}, "train: 'rounds' is called 'steps' now"),
        ({"train.gamma_u": 1e-3}, "train: 'gamma_u' is called 'lr_unlabeled' now"),
        ({"methods.tcgm.within_strata": True}, "methods.tcgm: 'within_strata' is called 'within_nuisance_groups' now"),
        ({"data.strata": "site"}, "data: 'strata' is called 'nuisance_groups' now"),
        ({"warm_start": "both"}, "'warm_start' is called 'pretraining' now"),
        ({"pretrainings.mine.rounds": 4}, "pretrainings.mine: 'rounds' is called 'steps' now"),
    ],
)
def test_a_former_name_of_a_setting_is_refused_with_the_name_of_today(overrides, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_settings("adni_regions", overrides)
