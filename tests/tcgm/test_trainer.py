"""The training loop: its samplers of batches, its choice of weights, and what it must leave alone."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import pytest
import torch
from torch import Generator, Tensor, nn

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import TrainConfig, Training, fit, frozen_running_statistics, predict, tempered_log_loss

LINEAR = MLPConfig()
QUICK = TrainConfig(steps=30, supervised_steps=5, validate_every=5, lr_labeled=1e-2, lr_unlabeled=1e-2)


def draw(part: str, size: int, labeled: int, seed: int) -> MultimodalBatch:
    """Two modalities of five numbers, the first of which follows the class."""
    generator = Generator().manual_seed(seed)
    labels = torch.randint(2, (size,), generator=generator)
    inputs = {name: torch.randn((size, 5), generator=generator) for name in ("mri", "pet")}
    for values in inputs.values():
        values[:, 0] += 2 * labels
    visible = torch.where(torch.arange(size) < labeled, labels, UNLABELED)
    ids = [f"{part}{i}" for i in range(size)]
    return MultimodalBatch(ids, inputs, torch.ones(size, 2, dtype=torch.bool), visible)


def two_views(labeled: int = 8, size: int = 50) -> Splits:
    return Splits(
        modalities=[Modality("mri", (5,)), Modality("pet", (5,))],
        classes=("stable", "converter"),
        train=draw("train", size, labeled, seed=0),
        validation=draw("validation", 40, 40, seed=1),
        test=None,  # training must not even look at it
    )


def weights(model: nn.Module) -> bytes:
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())


class Recorder:
    """CE that notes which samples it is given; its unlabeled step only serves to disturb."""

    def __init__(self, unlabeled_step: bool) -> None:
        self.ce, self.unlabeled_step = CrossEntropy(LINEAR), unlabeled_step
        self.build, self.predict = self.ce.build, self.ce.predict
        self.labeled: list[MultimodalBatch] = []
        self.unlabeled: list[MultimodalBatch] = []
        self.training: list[bool] = []
        self.steps = 0

    def labeled_loss(self, model: nn.Module, batch: MultimodalBatch) -> Tensor:
        self.labeled.append(batch)
        self.training.append(model.training)
        return self.ce.labeled_loss(model, batch)

    def unlabeled_loss(self, model: nn.Module, batch: MultimodalBatch) -> Tensor | None:
        self.unlabeled.append(batch)
        return model.log_posteriors(batch).mean() if self.unlabeled_step else None

    def after_step(self, model: nn.Module) -> None:
        self.steps += 1


class Jitter:
    """An augmentation of vectors, to see the sampler that feeds it."""

    def __call__(self, batch: MultimodalBatch, generator: Generator) -> MultimodalBatch:
        noise = torch.randn(batch.inputs["mri"].shape, generator=generator)
        return batch.with_inputs({name: values + noise for name, values in batch.inputs.items()})

    def center(self, batch: MultimodalBatch) -> MultimodalBatch:
        return batch.with_inputs({name: 0 * values for name, values in batch.inputs.items()})


def test_two_fits_with_one_seed_give_identical_bytes_and_another_seed_does_not() -> None:
    splits, method = two_views(), TCGM(MLPConfig(hidden=(8,), dropout=0.2))
    torch.manual_seed(0)
    first = fit(method, splits, replace(QUICK, seed=3), Jitter())
    torch.manual_seed(1)  # the global state must not matter
    again, other = (fit(method, splits, replace(QUICK, seed=seed), Jitter()) for seed in (3, 4))
    assert weights(first.model) == weights(again.model)
    without_time = [[{**row, "seconds": 0} for row in fitted.history] for fitted in (first, again)]
    assert str(without_time[0]) == str(without_time[1])
    assert weights(first.model) != weights(other.model)


def test_the_global_random_state_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    fit(TCGM(LINEAR), two_views(), QUICK)
    assert torch.equal(torch.get_rng_state(), before)


def test_history_has_exactly_the_columns_of_the_contract() -> None:
    fitted = fit(TCGM(LINEAR), two_views(), QUICK)
    columns = "round loss_labeled loss_unlabeled gain validation_loss validation_accuracy lr_l lr_u seconds"
    assert [" ".join(row) for row in fitted.history] == [columns] * 6
    assert [row["round"] for row in fitted.history] == [5, 10, 15, 20, 25, 30]
    assert isnan(fitted.history[0]["loss_unlabeled"])  # none yet
    assert not isnan(fitted.history[1]["loss_unlabeled"])
    assert fitted.unlabeled_from == 6


def test_the_labeled_sampler_is_the_same_with_and_without_an_unlabeled_step() -> None:
    without, with_step = Recorder(unlabeled_step=False), Recorder(unlabeled_step=True)
    fit(without, two_views(labeled=30), replace(QUICK, batch_size_unlabeled=20), Jitter())
    fit(with_step, two_views(labeled=30), QUICK, Jitter())
    for batch, other in zip(without.labeled, with_step.labeled, strict=True):
        assert batch.sample_ids == other.sample_ids
        assert torch.equal(batch.inputs["mri"], other.inputs["mri"])
    assert (without.steps, with_step.steps) == (30, 30 + 25)  # five supervised steps


def test_training_keeps_no_copy_of_its_samples() -> None:
    splits = two_views(labeled=30)
    training = Training(CrossEntropy(LINEAR), splits, QUICK, None)
    assert training.labeled_sampler.samples is training.unlabeled_sampler.samples is splits.train
    assert training.validation is splits.validation
    some = replace(splits, validation=draw("validation", 40, 25, seed=1))
    assert training.labeled_sampler.rows.tolist() == list(range(30))
    assert len(Training(CrossEntropy(LINEAR), some, QUICK, None).validation) == 25


def test_another_seed_draws_other_batches_and_no_two_samplers_run_in_step() -> None:
    zero, one = Recorder(unlabeled_step=True), Recorder(unlabeled_step=True)
    for seed, method in enumerate((zero, one)):
        fit(method, two_views(labeled=50), replace(QUICK, seed=seed, supervised_steps=0))
    samplers = [[batch.sample_ids for batch in sampler] for m in (zero, one) for sampler in (m.labeled, m.unlabeled)]
    for i, sampler in enumerate(samplers):
        assert all(ids != other_ids for other in samplers[:i] for ids, other_ids in zip(sampler, other, strict=True))


def test_each_batch_holds_distinct_samples_and_every_sample_comes_up() -> None:
    method = Recorder(unlabeled_step=True)
    fit(method, two_views(labeled=8), replace(QUICK, batch_size_labeled=12, batch_size_unlabeled=20))
    assert all(sorted(batch.sample_ids) == sorted(f"train{i}" for i in range(8)) for batch in method.labeled)
    assert all((batch.labels != UNLABELED).all() for batch in method.labeled)
    assert all(len(set(batch.sample_ids)) == 20 for batch in method.unlabeled)
    assert {name for batch in method.unlabeled for name in batch.sample_ids} == {f"train{i}" for i in range(50)}


def test_the_weights_with_the_lowest_validation_log_loss_are_restored() -> None:
    splits = two_views(labeled=4)
    fitted = fit(CrossEntropy(LINEAR), splits, replace(QUICK, steps=200, lr_labeled=0.1))
    losses = {row["round"]: row["validation_loss"] for row in fitted.history}
    assert fitted.best_step == min(losses, key=losses.get)
    assert losses[fitted.best_step] < losses[200]  # it did overfit, so the last weights were not the best
    log_posteriors = predict(fitted, splits.validation)
    restored = sum(tempered_log_loss(values, splits.validation.labels) for values in log_posteriors.values()) / 3
    assert len(log_posteriors) == 3 and restored == pytest.approx(losses[fitted.best_step], abs=1e-6)


def test_training_stops_after_patience_validations_without_improvement() -> None:
    fitted = fit(CrossEntropy(LINEAR), two_views(labeled=4), replace(QUICK, steps=400, lr_labeled=0.1, patience=3))
    assert fitted.history[-1]["round"] == fitted.best_step + 3 * QUICK.validate_every


def test_training_mode_returns_after_each_validation_and_evaluation_mode_stays_at_the_end() -> None:
    method = Recorder(unlabeled_step=True)
    fitted = fit(method, two_views(), QUICK)
    assert method.training == [True] * 30
    assert not fitted.model.training


def test_without_validation_labels_the_last_weights_stay() -> None:
    splits = two_views()
    hidden = replace(splits.validation, labels=torch.full((40,), UNLABELED))
    fitted = fit(CrossEntropy(LINEAR), replace(splits, validation=hidden), QUICK)
    assert fitted.best_step == 30
    assert all(isnan(row["validation_loss"]) for row in fitted.history)


def test_the_prior_is_that_of_the_visible_labels_smoothed() -> None:
    splits = two_views(labeled=8)
    converters = int((splits.train.labels == 1).sum())
    fitted = fit(CrossEntropy(LINEAR), splits, QUICK)
    assert fitted.prior.exp().tolist() == pytest.approx([(8 - converters + 1) / 10, (converters + 1) / 10])


def test_training_without_any_label_is_possible() -> None:
    fitted = fit(TCGM(LINEAR), two_views(labeled=0), QUICK)
    assert isnan(fitted.history[-1]["loss_labeled"])
    assert fitted.history[-1]["loss_unlabeled"] < fitted.history[1]["loss_unlabeled"]


def test_prediction_does_not_depend_on_the_chunks_and_sees_the_fixed_view() -> None:
    splits = two_views()
    fitted = fit(CrossEntropy(LINEAR), splits, QUICK)
    whole, parts = predict(fitted, splits.validation, chunk=100), predict(fitted, splits.validation, chunk=7)
    assert list(whole) == ["mri", "pet", "all"]
    for name, log_posterior in whole.items():
        assert log_posterior.shape == (40, 2)
        torch.testing.assert_close(parts[name], log_posterior)
        torch.testing.assert_close(log_posterior.exp().sum(1), torch.ones(40))
    fixed_view = predict(replace(fitted, augment=Jitter()), splits.validation)["mri"]
    torch.testing.assert_close(fixed_view, fixed_view[:1].expand(40, 2))


def test_no_samples_give_predictions_of_no_rows() -> None:
    splits = two_views()
    fitted = fit(CrossEntropy(LINEAR), splits, QUICK)
    assert predict(fitted, splits.validation.select(torch.arange(0)))["all"].shape == (0, 2)


def test_an_unlabeled_pass_leaves_the_running_statistics_alone_but_normalizes_by_its_batch() -> None:
    norm, x = nn.BatchNorm3d(3), 5 + torch.randn(4, 3, 2, 2, 2)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with frozen_running_statistics(norm):
        y = norm(x)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    torch.testing.assert_close(y.mean((0, 2, 3, 4)), torch.zeros(3), rtol=0, atol=1e-6)
    norm(x)
    assert norm.num_batches_tracked == 1
    assert not torch.equal(norm.running_mean, before["running_mean"])


def test_a_loss_that_is_not_finite_stops_training_and_names_the_round() -> None:
    splits = two_views()
    splits.train.inputs["pet"][0, 0] = float("nan")  # train0 is labeled
    with pytest.raises(FloatingPointError, match="labeled loss of step 1 is nan"):
        fit(CrossEntropy(LINEAR), splits, QUICK)


def test_a_schedule_without_a_step_or_with_empty_batches_is_an_error() -> None:
    with pytest.raises(ValueError, match="steps is 0"):
        TrainConfig(steps=0)
    with pytest.raises(ValueError, match="batch_size_unlabeled is -1"):
        TrainConfig(batch_size_unlabeled=-1)


def test_overconfidence_alone_does_not_raise_the_loss_that_chooses_the_weights() -> None:
    generator = Generator().manual_seed(0)
    labels = torch.randint(3, (200,), generator=generator)
    logits = 1.5 * torch.eye(3)[labels] + torch.randn((200, 3), generator=generator)
    honest, too_sure = logits.log_softmax(-1), (8 * logits).log_softmax(-1)
    plain = [torch.nn.functional.nll_loss(values, labels).item() for values in (honest, too_sure)]
    assert plain[1] > 1.5 * plain[0]
    chosen_by = [tempered_log_loss(values, labels) for values in (honest, too_sure)]
    assert chosen_by[1] == pytest.approx(chosen_by[0], rel=0.02) and chosen_by[0] <= plain[0]
    certain = torch.tensor([[0.0, -torch.inf]])
    assert tempered_log_loss(certain, torch.tensor([0])) == pytest.approx(0, abs=1e-6)


def test_a_modality_is_judged_on_the_validation_samples_that_have_it() -> None:
    splits = two_views(labeled=20)
    absent = replace(splits.validation, present=splits.validation.present.clone())
    absent.present[:30, 1] = False
    garbage = absent.with_inputs({**absent.inputs, "pet": absent.inputs["pet"].clone()})
    garbage.inputs["pet"][:30] = float("nan")
    losses = [fit(CrossEntropy(LINEAR), replace(splits, validation=v), QUICK).history for v in (absent, garbage)]
    assert [row["validation_loss"] for row in losses[0]] == [row["validation_loss"] for row in losses[1]]


def test_a_joint_step_is_one_update_along_the_sum_of_both_losses():
    class Halves:
        """Two losses whose sum has no gradient: a joint step stays where it is, alternating ones do not."""

        def __init__(self) -> None:
            self.ce = CrossEntropy(LINEAR)
            self.build, self.predict = self.ce.build, self.ce.predict
            self.steps = 0

        def labeled_loss(self, model: nn.Module, batch: MultimodalBatch) -> Tensor:
            return sum(p.sum() for p in model.parameters())

        def unlabeled_loss(self, model: nn.Module, batch: MultimodalBatch) -> Tensor:
            return -sum(p.sum() for p in model.parameters())

        def after_step(self, model: nn.Module) -> None:
            self.steps += 1

    def moved(schedule: str) -> tuple[bool, int]:
        method = Halves()
        training = Training(method, two_views(), replace(QUICK, schedule=schedule, supervised_steps=0), None)
        before = weights(training.model)
        training.run_step()
        return weights(training.model) != before, method.steps

    assert moved("joint") == (False, 1)
    assert moved("alternating")[1] == 2


def test_the_ridge_is_the_squared_weights_over_the_number_of_visible_labels():
    method = CrossEntropy(LINEAR)
    for labeled in (8, 32):
        splits = two_views(labeled)
        training = Training(method, splits, replace(QUICK, ridge=3.0), None)
        batch = splits.train.select(splits.train.labels != UNLABELED)
        added = training._labeled_loss(batch) - method.labeled_loss(training.model, batch)
        squares = sum(net.head.weight.square().sum() for net in training.model.classifiers.values())
        assert added.item() == pytest.approx(3 / labeled * squares.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"), [({"schedule": "both"}, "schedule is 'both'"), ({"ridge": -0.1}, "ridge is -0.1")]
)
def test_objectives_that_do_not_exist_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**wrong)
