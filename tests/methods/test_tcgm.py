"""TCGM against its baseline: the same when switched off, better where its assumption holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.gain import total_correlation_gain
from adni_tcgm.tcgm.trainer import TrainConfig, fit, predict

TINY_DENSENET = DenseNet3DConfig(blocks=(1, 1), growth=4, init=4, bottleneck=2)
QUICK = TrainConfig(steps=8, supervised_steps=2, validate_every=4, batch_size_labeled=4, batch_size_unlabeled=6)


def gaussian_splits(labeled: int, seed: int) -> Splits:
    """Four classes through three conditionally independent modalities: class means N(0, .7²), noise N(0, 1)."""
    generator = Generator().manual_seed(seed)
    means = 0.7 * torch.randn((3, 4, 10), generator=generator)

    def draw(size: int, shown: int) -> MultimodalBatch:
        labels = torch.randint(4, (size,), generator=generator)
        inputs = {f"view{m}": means[m][labels] + torch.randn((size, 10), generator=generator) for m in range(3)}
        visible = torch.where(torch.arange(size) < shown, labels, UNLABELED)
        return MultimodalBatch([str(i) for i in range(size)], inputs, torch.ones(size, 3, dtype=torch.bool), visible)

    modalities = [Modality(f"view{m}", (10,)) for m in range(3)]
    return Splits(modalities, tuple("abcd"), draw(1000, labeled), draw(100, 100), draw(1000, 1000))


def volumes(size: int, labeled: int, seed: int, without_pet: int = 0) -> MultimodalBatch:
    """16³ noise, brighter in class 1; the last `without_pet` samples have no PET, and NaN where it would be."""
    generator = Generator().manual_seed(seed)
    labels = torch.arange(size) % 2
    inputs = {
        n: torch.randn((size, 16, 16, 16), generator=generator) + labels.view(-1, 1, 1, 1) for n in ("mri", "pet")
    }
    present = torch.ones(size, 2, dtype=torch.bool)
    if without_pet:
        present[-without_pet:, 1] = False
        inputs["pet"][-without_pet:] = float("nan")
    visible = torch.where(torch.arange(size) < labeled, labels, UNLABELED)
    return MultimodalBatch([f"{seed}-{i}" for i in range(size)], inputs, present, visible)


def volume_splits(labeled: int = 6, without_pet: int = 0) -> Splits:
    return Splits(
        modalities=[Modality("mri", (16, 16, 16)), Modality("pet", (16, 16, 16))],
        classes=("stable", "converter"),
        train=volumes(20, labeled, seed=0, without_pet=without_pet),
        validation=volumes(8, 8, seed=1),
        test=volumes(8, 8, seed=2, without_pet=without_pet and 3),
    )


def test_switched_off_it_is_the_baseline_to_the_last_bit_with_batch_normalization_and_augmentation() -> None:
    splits, augment = volume_splits(), Augment3D((12, 12, 12), margin=2)
    baseline, off, on = (
        fit(method, splits, QUICK, augment)
        for method in (CrossEntropy(TINY_DENSENET), TCGM(TINY_DENSENET, gain_weight=0), TCGM(TINY_DENSENET))
    )
    expected, switched_off, switched_on = (predict(fitted, splits.test) for fitted in (baseline, off, on))
    for name in expected:
        assert torch.equal(expected[name], switched_off[name])
    for name, value in baseline.model.state_dict().items():
        assert torch.equal(value, off.model.state_dict()[name])
    assert not torch.equal(expected["all"], switched_on["all"])


def test_a_gain_weight_of_zero_takes_no_unlabeled_step() -> None:
    method, batch = TCGM(MLPConfig(), gain_weight=0), gaussian_splits(10, seed=0).validation
    spec = Spec([Modality(f"view{m}", (10,)) for m in range(3)], tuple("abcd"), torch.full((4,), 0.25).log())
    assert method.unlabeled_loss(method.build(spec), batch) is None


def test_the_unlabeled_loss_is_the_weighted_negative_gain_and_reads_no_label() -> None:
    batch = gaussian_splits(10, seed=0).validation
    spec = Spec([Modality(f"view{m}", (10,)) for m in range(3)], tuple("abcd"), torch.full((4,), 0.25).log())
    method = TCGM(MLPConfig(), gain_weight=3.0)
    model = method.build(spec)
    gain = total_correlation_gain(model.log_posteriors(batch), spec.log_prior)
    torch.testing.assert_close(method.unlabeled_loss(model, batch), -3 * gain)
    hidden = replace(batch, labels=torch.full_like(batch.labels, UNLABELED))
    assert torch.equal(method.unlabeled_loss(model, hidden), method.unlabeled_loss(model, batch))


def test_ten_labels_of_a_thousand_take_it_far_above_the_baseline_on_gaussian_views() -> None:
    config = TrainConfig(steps=150, batch_size_unlabeled=64, lr_labeled=1e-2, lr_unlabeled=1e-2)
    for seed in range(2):
        splits = gaussian_splits(labeled=10, seed=seed)
        accuracy = {}
        for method in (CrossEntropy(MLPConfig()), TCGM(MLPConfig())):
            fitted = fit(method, splits, replace(config, seed=seed))
            predicted = predict(fitted, splits.test)["all"].argmax(1)
            accuracy[type(method)] = (predicted == splits.test.labels).float().mean().item()
        assert accuracy[TCGM] > accuracy[CrossEntropy] + 0.1, (seed, accuracy)


@pytest.mark.parametrize("method", [CrossEntropy(TINY_DENSENET), TCGM(TINY_DENSENET)])
def test_samples_without_pet_train_the_mri_classifier_and_get_a_prediction(method: CrossEntropy | TCGM) -> None:
    splits = volume_splits(labeled=20, without_pet=10)
    config = replace(QUICK, batch_size_labeled=20)
    fitted = fit(method, splits, config)
    only_complete = replace(splits, train=splits.train.select(torch.arange(10)))
    without_them = fit(method, only_complete, replace(config, supervised_steps=100))
    mri = "classifiers.mri.head.weight"
    assert not torch.equal(fitted.model.state_dict()[mri], without_them.model.state_dict()[mri])

    log_posteriors, test = predict(fitted, splits.test), splits.test
    absent = ~test.present[:, 1]
    assert absent.sum() == 3
    assert all(value.isfinite().all() for value in log_posteriors.values())
    assert torch.equal(log_posteriors["pet"][absent], fitted.prior.expand(3, 2))
    torch.testing.assert_close(log_posteriors["all"][absent], log_posteriors["mri"][absent])


def test_a_classifier_whose_modality_nobody_has_keeps_its_first_weights_and_statistics() -> None:
    splits = volume_splits(labeled=4)
    present = splits.train.present & torch.tensor([True, False])
    splits = replace(splits, train=replace(splits.train, present=present))
    one_step, many_steps = (
        fit(TCGM(TINY_DENSENET), splits, replace(QUICK, steps=steps, validate_every=steps)).model.classifiers
        for steps in (1, 8)
    )
    for name, value in many_steps["pet"].state_dict().items():
        assert torch.equal(value, one_step["pet"].state_dict()[name])
    assert not torch.equal(many_steps["mri"].head.weight, one_step["mri"].head.weight)


def test_running_statistics_follow_every_labeled_step_and_no_unlabeled_one() -> None:
    fitted = fit(TCGM(TINY_DENSENET), volume_splits(), replace(QUICK, supervised_steps=0))
    counts = {int(value) for name, value in fitted.model.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {fitted.best_step}


def test_a_prediction_does_not_depend_on_the_other_samples_and_changes_nothing() -> None:
    splits = volume_splits()
    fitted = fit(TCGM(TINY_DENSENET), splits, replace(QUICK, steps=5))
    before = {name: value.clone() for name, value in fitted.model.state_dict().items()}
    together, alone = predict(fitted, splits.test), predict(fitted, splits.test.select(torch.tensor([3])))
    for name, log_posterior in alone.items():
        torch.testing.assert_close(log_posterior, together[name][3:4])
    assert all(torch.equal(value, before[name]) for name, value in fitted.model.state_dict().items())


def test_one_labeled_sample_is_enough_to_train_on_volumes_and_on_vectors() -> None:
    fitted = fit(TCGM(TINY_DENSENET), volume_splits(labeled=1), QUICK)
    assert all(value.isfinite().all() for value in fitted.model.state_dict().values())
    fitted = fit(TCGM(MLPConfig(hidden=(4,))), gaussian_splits(labeled=1, seed=0), QUICK)
    assert all(value.isfinite().all() for value in fitted.model.state_dict().values())


def test_each_modality_can_have_a_network_of_its_own() -> None:
    splits = volume_splits()

    def with_flat_pet(batch: MultimodalBatch) -> MultimodalBatch:
        return batch.with_inputs({"mri": batch.inputs["mri"], "pet": batch.inputs["pet"].flatten(1)})

    mixed = replace(
        splits,
        modalities=[Modality("mri", (16, 16, 16)), Modality("pet", (16**3,))],
        train=with_flat_pet(splits.train),
        validation=with_flat_pet(splits.validation),
    )
    fitted = fit(TCGM({"mri": TINY_DENSENET, "pet": MLPConfig()}), mixed, QUICK, Augment3D((12, 12, 12), margin=2))
    assert fitted.model.classifiers["pet"].head.in_features == 16**3
    assert fitted.model.classifiers["mri"].head.in_features == 8


def test_permuting_modalities_or_class_names_permutes_the_results_and_nothing_else() -> None:
    splits = gaussian_splits(labeled=20, seed=0)
    config = TrainConfig(steps=60, supervised_steps=5, batch_size_unlabeled=64, lr_labeled=1e-2, lr_unlabeled=1e-2)
    expected = predict(fit(TCGM(MLPConfig()), splits, config), splits.test)

    def turned(batch: MultimodalBatch) -> MultimodalBatch:
        return replace(batch, inputs={name: batch.inputs[name] for name in ("view2", "view0", "view1")})

    parts = {name: turned(getattr(splits, name)) for name in ("train", "validation", "test")}
    other = replace(splits, modalities=[splits.modalities[m] for m in (2, 0, 1)], **parts)
    found = predict(fit(TCGM(MLPConfig()), other, config), other.test)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4)

    order = torch.tensor([2, 0, 3, 1])  # class c is now called number order.index(c)
    position = order.argsort()

    def renamed(batch: MultimodalBatch) -> MultimodalBatch:
        labels = torch.where(batch.labels == UNLABELED, UNLABELED, position[batch.labels.clamp(min=0)])
        return replace(batch, labels=labels)

    parts = {name: renamed(getattr(splits, name)) for name in ("train", "validation", "test")}
    other = replace(splits, classes=[splits.classes[c] for c in order.tolist()], **parts)
    found = predict(fit(TCGM(MLPConfig()), other, config), other.test)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value[:, order], atol=1e-4, rtol=1e-4)


def with_nuisance_groups(splits: Splits, names: list[str]) -> Splits:
    def named(batch: MultimodalBatch) -> MultimodalBatch:
        return replace(batch, nuisance_groups=[names[i % len(names)] for i in range(len(batch))])

    return replace(splits, train=named(splits.train), validation=named(splits.validation))


def test_one_nuisance_group_with_the_global_prior_changes_nothing() -> None:
    splits = with_nuisance_groups(gaussian_splits(labeled=20, seed=0), ["only"])
    prior = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    model = TCGM(MLPConfig()).build(Spec(splits.modalities, splits.classes, prior, {"only": prior}))
    within, plain = (
        TCGM(MLPConfig(), within_nuisance_groups=flag).unlabeled_loss(model, splits.train) for flag in (True, False)
    )
    torch.testing.assert_close(within, plain)


def test_within_nuisance_groups_the_gain_is_the_weighted_mean_of_the_groups_gains_with_their_priors() -> None:
    splits = with_nuisance_groups(gaussian_splits(labeled=200, seed=0), ["a", "a", "b"])
    priors = {"a": torch.tensor([0.4, 0.3, 0.2, 0.1]).log(), "b": torch.tensor([0.1, 0.2, 0.3, 0.4]).log()}
    spec = Spec(splits.modalities, splits.classes, torch.full((4,), 0.25).log(), priors)
    method, batch = TCGM(MLPConfig(), within_nuisance_groups=True), splits.train.select(torch.arange(60))
    model = method.build(spec)
    log_posteriors = model.log_posteriors(batch)
    in_a = torch.arange(60) % 3 < 2
    by_hand = sum(
        share * total_correlation_gain(log_posteriors[:, rows], priors[name])
        for name, rows, share in (("a", in_a, 2 / 3), ("b", ~in_a, 1 / 3))
    )
    torch.testing.assert_close(method.unlabeled_loss(model, batch), -by_hand)
    with pytest.raises(ValueError, match="the samples have no nuisance groups"):
        method.unlabeled_loss(model, replace(batch, nuisance_groups=()))


def test_a_nuisance_shared_within_groups_misleads_the_plain_gain_more_than_the_one_within_groups() -> None:
    """Both views show the site three times as strongly as the class."""
    generator = Generator().manual_seed(0)

    def draw(size: int, shown: int) -> MultimodalBatch:
        labels, site = (torch.randint(2, (size,), generator=generator) for _ in range(2))
        inputs = {name: torch.randn((size, 4), generator=generator) for name in ("one", "two", "three")}
        for values in inputs.values():
            values[:, 0] += 1.2 * labels
            values[:, 1] += 4.0 * site
        visible = torch.where(torch.arange(size) < shown, labels, UNLABELED)
        ids, nuisance_groups = [str(i) for i in range(size)], [str(s) for s in site.tolist()]
        return MultimodalBatch(
            ids, inputs, torch.ones(size, 3, dtype=torch.bool), visible, nuisance_groups=nuisance_groups
        )

    modalities = [Modality(name, (4,)) for name in ("one", "two", "three")]
    splits = Splits(modalities, ("no", "yes"), draw(600, 12), draw(100, 100), draw(2000, 2000))
    config = TrainConfig(steps=150, batch_size_unlabeled=200, lr_labeled=1e-2, lr_unlabeled=1e-2)
    accuracy = {}
    for within in (False, True):
        fitted = fit(TCGM(MLPConfig(), within_nuisance_groups=within), splits, config)
        accuracy[within] = (predict(fitted, splits.test)["all"].argmax(1) == splits.test.labels).float().mean().item()
    assert accuracy[True] > accuracy[False] + 0.05, accuracy
