"""The choice among trainings by their gain."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator

from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.restarts import fit_restarts
from adni_tcgm.tcgm.trainer import Fitted, TrainConfig, fit

NAMES = ("one", "two")


def splits() -> Splits:
    generator = Generator().manual_seed(0)
    labels = torch.randint(2, (300,), generator=generator)
    inputs = {name: 4 * labels.unsqueeze(1) - 2 + torch.randn((300, 1), generator=generator) for name in NAMES}
    batch = MultimodalBatch([str(i) for i in range(300)], inputs, torch.ones(300, 2, dtype=torch.bool), labels)
    hidden = replace(batch, labels=torch.full((300,), UNLABELED))
    return Splits([Modality(name, (1,)) for name in NAMES], ("no", "yes"), hidden, batch.select(labels >= 0), batch)


def given_slopes(slopes: dict[int, float], losses: dict[int, float], biases: dict[int, float] | None = None):
    """A training that ends with linear classifiers of the slope and bias that its seed has."""

    def train(config: TrainConfig) -> Fitted:
        fitted = fit(TCGM(MLPConfig(), gain_weight=0), splits(), replace(config, rounds=1, validate_every=1))
        for classifier in fitted.model.classifiers.values():
            classifier.head.bias.data = torch.tensor([0.0, (biases or {}).get(config.seed, 0.0)])
            classifier.head.weight.data = torch.tensor([[0.0], [slopes[config.seed]]])
        fitted.history = [{"round": fitted.best_round, "validation_loss": losses[config.seed]}]
        return fitted

    return train


def test_the_highest_gain_wins_where_gains_are_told_apart_whatever_validation_says() -> None:
    fitted, rows = fit_restarts(given_slopes({4: 0.1, 5: 2.0}, {4: 0.1, 5: 0.9}), splits(), TrainConfig(seed=2), 2)
    assert [row.seed for row in rows] == [4, 5] and [row.chosen for row in rows] == [False, True]
    assert fitted.config.seed == 5 and rows[0].behind > 2 * rows[0].standard_error > 0
    assert rows[1].behind == rows[1].standard_error == 0


def test_gains_within_two_standard_errors_leave_the_choice_to_validation() -> None:
    train = given_slopes({0: 1.0, 1: 1.0}, {0: 0.1, 1: 0.9}, biases={0: 0.4, 1: -0.4})
    fitted, rows = fit_restarts(train, splits(), TrainConfig(), 2)
    assert 0 < max(row.behind for row in rows) < 2 * max(row.standard_error for row in rows)
    assert fitted.config.seed == 0
    train = given_slopes({0: 1.0, 1: 1.0}, {0: 0.9, 1: 0.1}, biases={0: 0.4, 1: -0.4})
    assert fit_restarts(train, splits(), TrainConfig(), 2)[0].config.seed == 1


def test_one_restart_is_the_training_itself() -> None:
    config = TrainConfig(rounds=3, seed=7)
    trained, rows = fit_restarts(lambda c: fit(TCGM(MLPConfig()), splits(), c), splits(), config, 1)
    assert rows == [] and trained.config == config


def test_a_method_without_a_posterior_per_modality_is_refused() -> None:
    train = given_slopes({0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.0})

    class Joint(TCGM):
        def predict(self, model, batch):
            return {"all": super().predict(model, batch)["all"]}

    def joint(config: TrainConfig) -> Fitted:
        return replace(train(config), method=Joint(MLPConfig()))

    with pytest.raises(ValueError, match="no posterior for 'one' alone"):
        fit_restarts(joint, splits(), TrainConfig(), 2)


def test_visible_labels_tell_the_classes_from_permuted_ones_which_the_gain_cannot() -> None:
    given = splits()
    shown = replace(given.train, labels=torch.where(torch.arange(300) < 10, given.test.labels, UNLABELED))
    # Seed 0 calls the classes by each other's name and is a little surer of itself.
    train = given_slopes({0: -2.2, 1: 2.0}, {0: 0.1, 1: 0.9})
    fitted, rows = fit_restarts(train, replace(given, train=shown), TrainConfig(), 2)
    assert rows[0].gain > rows[1].gain and rows[0].labeled_loss > rows[1].labeled_loss
    assert fitted.config.seed == 1
