"""Shared and private factors: the shared code carries what both modalities show, and nothing of one alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

import adni_tcgm as at
from adni_tcgm.evaluation.calibration import Calibration, Rescaling
from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.model import TrainedModel
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.pretraining.loop import Place
from adni_tcgm.pretraining.shared_private import (
    SharedPrivate,
    capacity_bits,
    pair_loss,
    pretrain_shared,
)
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.encoders import Encoders, encode, fit_encoded, represent
from adni_tcgm.tcgm.trainer import TrainConfig
from pipelines.config import load_settings

NAMES = ("mri", "pet")
MODALITIES = [Modality(name, (6,)) for name in NAMES]
QUICK = SharedPrivate(private=2, shared=1, components=2, steps=150, rate=1e-2)


def draw(size: int, seed: int) -> tuple[MultimodalBatch, Tensor, dict[str, Tensor]]:
    """Two modalities of six numbers that follow one shared factor and, twice as strong, one of their own; and these."""
    generator = Generator().manual_seed(seed)
    shared, inputs, private = torch.randn(size, generator=generator), {}, {}
    for name in NAMES:
        private[name] = torch.randn(size, generator=generator)
        values = 0.1 * torch.randn((size, 6), generator=generator)
        values[:, :3] += shared[:, None]
        values[:, 2:] += 2 * private[name][:, None]
        inputs[name] = values
    present = torch.ones(size, 2, dtype=torch.bool)
    ids = [str(i) for i in range(size)]
    return MultimodalBatch(ids, inputs, present, torch.full((size,), UNLABELED)), shared, private


@cache
def learned(config: SharedPrivate = QUICK) -> Encoders:
    return pretrain_shared(config, MLPConfig(), MODALITIES, draw(400, 0)[0], place=Place("cpu"))


def squared_correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1] ** 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_shared_code_of_unseen_samples_is_the_shared_factor_and_not_their_own(name: str):
    batch, shared, private = draw(300, 1)
    code = encode(learned(), batch).inputs[name][:, 0]
    assert squared_correlation(code, shared) > 0.9
    assert squared_correlation(code, private[name]) < 0.1


def test_both_modalities_give_the_same_code_of_one_sample():
    codes = encode(learned(), draw(300, 1)[0]).inputs
    assert torch.corrcoef(torch.cat([codes["mri"], codes["pet"]], 1).T)[0, 1] > 0.9


def test_the_bound_of_the_capacity_is_that_of_independent_normal_numbers():
    codes = 2.0 * torch.randn(200_000, 3, generator=Generator().manual_seed(0))
    exact = 3 * 0.5 * torch.log2(torch.tensor(1 + 4.0 / 0.25))  # k Gaussian channels of signal 4 and noise 1/4
    assert capacity_bits(codes, noise=0.5) == pytest.approx(float(exact), rel=1e-2)
    assert capacity_bits(torch.zeros(5, 3), noise=0.5) == 0


def test_a_dear_capacity_closes_the_private_channel():
    """Of the private part of the targets, an open channel draws most and a closed one nothing."""

    def bits(weight: float) -> float:
        encoder = learned(replace(QUICK, capacity_weight=weight)).nets["mri"]
        private = encoder.net.net(draw(300, 1)[0].inputs["mri"])[:, QUICK.shared :].detach()
        return float(capacity_bits(private, QUICK.noise))

    assert bits(0.01) > 2 > 0.2 > bits(10.0)


def test_the_loss_asks_for_codes_that_agree_and_counts_known_targets_alone():
    own, other, private = torch.ones(4, 1), torch.full((4, 1), 3.0), torch.zeros(4, 2)
    wanted = torch.tensor([[1.0], [1.0], [float("nan")], [1.0]])

    def draw_nothing(codes: Tensor) -> Tensor:
        return torch.zeros(len(codes), 1)

    config = replace(QUICK, honesty_weight=0.5)
    assert pair_loss(config, draw_nothing, own, other, private, wanted) == pytest.approx(1.0 + 0.5 * 4.0)


def test_a_sample_with_one_modality_teaches_nothing_and_still_has_its_code():
    batch, shared, _ = draw(400, 0)
    present = batch.present.clone()
    present[200:, 1] = False
    half = replace(batch, present=present)
    encoders = pretrain_shared(QUICK, MLPConfig(), MODALITIES, half, place=Place("cpu"))
    codes = encode(encoders, half).inputs
    assert squared_correlation(codes["mri"][200:, 0], shared[200:]) > 0.9
    assert not codes["pet"][200:].any()


def test_without_pairs_there_is_nothing_to_share():
    batch = draw(10, 0)[0]
    present = torch.tensor([[True, False]] * 10)
    with pytest.raises(ValueError, match="0 of 10 samples have two modalities"):
        pretrain_shared(QUICK, MLPConfig(), MODALITIES, replace(batch, present=present), place=Place("cpu"))


@pytest.mark.parametrize("wrong", [{"private": 0}, {"noise": 0.0}, {"batch_size": 1}, {"honesty_weight": -1.0}])
def test_settings_without_a_meaning_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(QUICK, **wrong)


def test_the_same_seed_gives_the_same_encoders_and_leaves_the_random_state():
    state = torch.get_rng_state()
    again = pretrain_shared(QUICK, MLPConfig(), MODALITIES, draw(400, 0)[0], place=Place("cpu"))
    assert torch.equal(torch.get_rng_state(), state)
    batch = draw(300, 1)[0]
    assert torch.equal(encode(again, batch).inputs["mri"], encode(learned(), batch).inputs["mri"])


def test_a_model_on_shared_codes_is_kept_and_says_the_same(tmp_path: Path):
    batch, shared, _ = draw(40, 2)
    train = replace(batch, labels=(shared > 0).long(), groups=batch.sample_ids)
    splits = Splits(MODALITIES, ("no", "yes"), train, train, train)
    config = TrainConfig(steps=3, supervised_steps=1, device="cpu")
    encoders = learned()
    represented = represent(encoders, splits)
    fitted = fit_encoded(CrossEntropy(MLPConfig()), encoders, represented, splits.modalities, config)
    calibration = Calibration({n: Rescaling(2.0, (0.1, 0.0), 6) for n in (*NAMES, "all")}, (-0.7, -0.7))
    model = TrainedModel(fitted, calibration, {}, ("no", "yes"))
    again = at.load(model.save(tmp_path / "model"))
    for first, second in zip(model.posteriors_of(train), again.posteriors_of(train), strict=True):
        assert all(torch.equal(torch.as_tensor(first[name]), torch.as_tensor(second[name])) for name in (*NAMES, "all"))


def test_a_private_width_in_the_settings_asks_for_it():
    settings = load_settings("newsgroup_m5", {"pretraining": "ours", "pretrainings.ours": {"private": 3}})
    assert settings.chosen_pretraining() == SharedPrivate(private=3)
    assert settings.describe_pretraining()["tasks"] == ["shared"]
