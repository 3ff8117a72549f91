"""Settings come from dataclasses, then YAML, then the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.nets.grid3d import Grid3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.warm_start import WarmStart
from pipelines.config import BUILT_IN, load_settings, parse_override


@pytest.mark.parametrize("name", sorted(p.stem for p in BUILT_IN.glob("*.yaml")))
def test_every_built_in_configuration_loads(name: str) -> None:
    assert load_settings(name, {}).train.rounds > 0


def test_command_line_beats_yaml_and_yaml_beats_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data: {path: p, label_rate: 0.5}\ntrain: {rounds: 7}\n")
    settings = load_settings(str(file), {"data.label_rate": 0.25})
    assert (settings.data.label_rate, settings.train.rounds, settings.train.batch_size_labeled) == (0.25, 7, 12)


def test_exponents_that_yaml_reads_as_text_become_numbers(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data: {path: p}\ntrain: {gamma_u: 1e-3}\n")
    assert load_settings(str(file), {}).train.gamma_u == 0.001
    assert load_settings("adni_regions", dict([parse_override("train.gamma_l=2e-4")])).train.gamma_l == 0.0002


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.gama_u": 1}, "unknown key 'gama_u'; did you mean 'gamma_u'"),
        ({"data.crop": "whole"}, "crop is 'whole'; choose one of hippocampi, paper64"),
        ({"train.rounds": "many"}, "rounds is 'many'; expected int"),
        ({"train.rounds": 1.5}, "rounds is 1.5; expected int"),
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
        parse_override("train.rounds")


def test_settings_build_method_and_augmentation() -> None:
    settings = load_settings("adni_voxels_gpu", {"augment": "paper"})
    assert settings.augmentation() == Augment3D.paper((64, 64, 64), settings.data.margin_voxels)
    assert isinstance(settings.method("ce"), CrossEntropy)
    assert load_settings("adni_regions", {}).augmentation() is None
    with pytest.raises(ValueError, match="method is 'magic'"):
        settings.method("magic")


def test_a_warm_start_trains_its_own_network_and_methods_train_linear_ones() -> None:
    settings = load_settings("adni_voxels_cpu", {})
    assert settings.warm_start == "both"
    assert isinstance(settings.encoder(), Grid3DConfig) and settings.classifier() == MLPConfig()
    assert settings.warm_up() == WarmStart(tasks=("targets", "cross_modal"))


def test_on_a_gpu_voxels_begin_with_the_same_warm_start_and_without_it_are_the_paper_s() -> None:
    warm, scratch = (load_settings("adni_voxels_gpu", {"warm_start": name}) for name in ("both", "none"))
    assert load_settings("adni_voxels_gpu", {}) == warm
    assert warm.warm_up() == load_settings("adni_voxels_cpu", {}).warm_up()
    assert warm.train_for("tcgm") == load_settings("adni_voxels_cpu", {}).train_for("tcgm")
    assert warm.encoder().build((1, 64, 64, 64), 16).head.out_features == 16
    assert scratch.classifier() == DenseNet3DConfig.paper() and scratch.data.crop == "paper64"
    paper = scratch.train_for("tcgm")
    assert (paper.batch_size_labeled, paper.batch_size_unlabeled) == (12, 12)
    assert (paper.gamma_l, paper.gamma_u, paper.weight_decay) == (1e-3, 1e-3, 0)


def test_training_from_scratch_may_have_another_network_and_other_rounds() -> None:
    settings = load_settings("adni_voxels_cpu", {"warm_start": "none"})
    assert settings.classifier() == DenseNet3DConfig.slim() and settings.warm_up() is None
    assert (settings.train_for("tcgm").rounds, load_settings("adni_voxels_cpu", {}).train_for("tcgm").rounds) == (
        60,
        150,
    )


def test_a_method_s_own_training_beats_that_of_the_warm_start() -> None:
    overrides = {"warm_start": "none", "methods.tcgm.train.rounds": 7}
    assert load_settings("adni_voxels_cpu", overrides).train_for("tcgm").rounds == 7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"warm_start": "jigsaw"}, "warm_start is 'jigsaw'; choose one of none, regions, cross_modal, both"),
        ({"warm_starts.mine.taks": ["targets"]}, "warm_starts.mine: unknown key 'taks'; did you mean 'tasks'"),
        ({"warm_starts.mine.net": "unet"}, "warm_starts.mine: net is 'unet'; choose one of paper, slim, grid"),
        ({"warm_starts.mine.train.round": 3}, "warm_starts.mine.train: unknown key 'round'; did you mean 'rounds'"),
        (
            {"warm_starts.none.tasks": ["targets"]},
            "warm_starts.none has tasks; without a warm start there are only net",
        ),
        ({"warm_starts.mine": {"source": []}}, "source names no data set"),
    ],
)
def test_a_wrong_warm_start_is_refused_before_anything_runs(overrides, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_settings("adni_voxels_cpu", overrides)
