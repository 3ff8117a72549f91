"""Labels held out one fold at a time: nobody is predicted by a training that saw him."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from adni_tcgm.evaluation.cross_fitting import FEWEST_TO_SHARPEN, HeldOut, calibrate_held_out, cross_predict
from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import TrainConfig, fit

CONFIG = TrainConfig(schedule="joint", steps=60, batch_size_labeled=100, lr_labeled=0.05, ridge=1.0, supervised_steps=0)
PRIOR = np.log([0.5, 0.5])


def draw(size: int, labeled: int, groups: int | None = None) -> Splits:
    generator = Generator().manual_seed(0)
    truth = torch.arange(size) % 2
    inputs = {name: torch.randn((size, 3), generator=generator) for name in ("mri", "pet")}
    for values in inputs.values():
        values[:, 0] += 2 * truth
    labels = torch.where(torch.arange(size) < labeled, truth, UNLABELED)
    names = [f"s{i}" for i in range(size)]
    belongs = [f"g{i % groups}" for i in range(size)] if groups else names
    train = MultimodalBatch(names, inputs, torch.ones(size, 2, dtype=torch.bool), labels, belongs)
    nobody = train.select(torch.arange(0))
    return Splits([Modality("mri", (3,)), Modality("pet", (3,))], ("no", "yes"), train, nobody, nobody)


def test_each_labeled_sample_is_judged_by_a_training_without_its_group():
    splits, seen = draw(60, 20, groups=15), []

    def remember(part: Splits):
        seen.append(set(part.train.groups))
        return fit(CrossEntropy(MLPConfig()), part, CONFIG)

    found = cross_predict(remember, splits)
    assert list(found.samples.sample_ids) == [f"s{i}" for i in range(20)]
    for group, fold in zip(found.samples.groups, found.fold, strict=True):
        assert group not in seen[fold]
    assert len(seen) == 5 and all(len(groups) == 12 for groups in seen)
    probability = np.exp(found.log_posteriors["all"])
    assert np.allclose(probability.sum(1), 1, atol=1e-5)
    assert (probability.argmax(1) == found.samples.labels.numpy()).mean() > 0.8


@pytest.mark.parametrize("labeled", [0, 1, 3])
def test_nobody_is_held_out_where_a_class_has_fewer_than_two_labels(labeled):
    assert cross_predict(lambda part: pytest.fail("trained"), draw(20, labeled)) is None
    calibration, about = calibrate_held_out(None, ["mri", "pet"], PRIOR)
    assert about["applied"] is False and about["samples"] == 0
    said = {name: np.log([[0.2, 0.8]]) for name in ("mri", "pet", "all")}
    there = calibration.apply(said, np.ones((1, 2), bool))
    assert np.allclose(there["mri"], said["mri"])
    assert np.exp(there["all"])[0, 1] == pytest.approx(16 / 17)


def held_out(sharpness: float, size: int = 200) -> HeldOut:
    """Two modalities whose log-odds are right at sharpness 1."""
    rng = np.random.default_rng(0)
    labels = np.arange(size) % 2
    samples = replace(draw(size, size).train, labels=torch.from_numpy(labels))
    found = {}
    for name in ("mri", "pet"):
        z = rng.normal(size=size) + np.where(labels, 0.5, -0.5)
        odds = sharpness * z
        found[name] = np.stack([-np.logaddexp(0, odds), -np.logaddexp(0, -odds)], 1)
    found["all"] = found["mri"]
    return HeldOut(samples, found, np.arange(size) // 2 % 5)


def test_who_is_too_sure_becomes_less_sure_and_who_is_right_stays():
    sure, about = calibrate_held_out(held_out(8.0), ["mri", "pet"], PRIOR)
    assert about["applied"] and about["log_loss"]["with"] < about["log_loss"]["without"]
    assert sure.rescalings["mri"].temperature > 3
    right, _ = calibrate_held_out(held_out(1.0), ["mri", "pet"], PRIOR)
    assert all(r.temperature == pytest.approx(1, abs=0.2) for r in right.rescalings.values())


def test_eighteen_labels_make_nobody_surer_and_no_class_likelier_and_two_hundred_may():
    """A fifth of the log odds that would be right. 18 labels that happen to be right would make it sure of anything."""
    few, about = calibrate_held_out(held_out(0.2, FEWEST_TO_SHARPEN - 2), ["mri", "pet"], PRIOR)
    assert {(r.temperature, r.intercept) for r in few.rescalings.values()} == {(1.0, (0.0, 0.0))}
    assert about["only_softened"]
    many, about = calibrate_held_out(held_out(0.2), ["mri", "pet"], PRIOR)
    assert about["applied"] and not about["only_softened"]
    assert many.rescalings["mri"].temperature < 0.5


def test_a_calibration_that_raises_the_log_loss_of_held_out_samples_is_not_applied():
    """Nineteen of twenty are right, one is wrong and very sure: without that one's fold nobody would be softened, and
    with it all are."""
    samples = held_out(1.0, size=20)
    labels = samples.samples.labels.numpy()
    odds = np.where(labels, 3.0, -3.0)
    odds[0] = 8.0
    said = np.stack([-np.logaddexp(0, odds), -np.logaddexp(0, -odds)], 1)
    wrong_once = replace(samples, log_posteriors=dict.fromkeys(("mri", "pet", "all"), said))
    none, about = calibrate_held_out(wrong_once, ["mri", "pet"], PRIOR)
    assert about["log_loss"]["with"] - about["log_loss"]["without"] > about["margin"] and not about["applied"]
    assert {r.temperature for r in none.rescalings.values()} == {1.0}
