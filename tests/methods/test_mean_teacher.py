"""The teachers as an average of the students, and the distance that the students are trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import exp, nan

import pytest
import torch

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.mean_teacher import MeanTeacher, ramp_up
from adni_tcgm.methods.method import Spec
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.aggregator import aggregate
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import TrainConfig, fit, predict


def test_teachers_are_a_plain_mean_first_and_an_exponential_one_later(spec: Spec) -> None:
    method = MeanTeacher(MLPConfig(), decay=0.6)
    model = method.build(spec)
    student, teacher = (part.classifiers["view0"].head for part in (model.students, model.teachers))
    history = []
    for value in (1.0, 2.0, 4.0, 8.0):
        torch.nn.init.constant_(student.bias, value)
        method.after_step(model)
        history.append(teacher.bias[0].item())
    third = 0.6 * 1.5 + 0.4 * 4
    assert history == pytest.approx([1.0, 1.5, third, 0.6 * third + 0.4 * 8])
    assert not any(p.requires_grad for p in model.teachers.parameters())


def test_teachers_copy_running_statistics_and_never_leave_evaluation_mode() -> None:
    modalities = [Modality("mri", (16, 16, 16)), Modality("pet", (16, 16, 16))]
    spec = Spec(modalities, ("a", "b"), torch.tensor([0.5, 0.5]).log())
    method = MeanTeacher(DenseNet3DConfig(blocks=(1,), growth=4, init=4, bottleneck=2), decay=0.9)
    model = method.build(spec).train()
    torch.manual_seed(0)
    inputs = {name: torch.randn(4, 16, 16, 16) + 3 for name in ("mri", "pet")}
    batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, 0, 1]))
    method.labeled_loss(model, batch)
    method.after_step(model)
    students = dict(model.students.named_buffers())
    assert all(torch.equal(value, students[name]) for name, value in model.teachers.named_buffers())
    assert not any(module.training for module in model.teachers.modules())
    assert model.students.training
    before = {name: value.clone() for name, value in model.teachers.state_dict().items()}
    method.unlabeled_loss(model, batch)
    assert all(torch.equal(value, before[name]) for name, value in model.teachers.state_dict().items())


def test_the_loss_is_the_mean_squared_distance_to_the_own_and_to_the_joint_teacher(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    method = MeanTeacher(MLPConfig(), consistency=3.0, aggregated_share=0.25, ramp_up_steps=4, dropout=0.0)
    model, batch = method.build(spec), with_gaps(batch, 0.0)
    for net in model.teachers.classifiers.values():
        torch.nn.init.normal_(net.head.weight)
    students, own = model.students.log_posteriors(batch).exp(), model.teachers.log_posteriors(batch)
    joint = aggregate(own, spec.log_prior, batch.present).exp()
    expected = 0.0
    for m in range(3):
        distances = [
            0.25 * (students[m, i] - joint[i]).square().mean()
            + 0.75 * (students[m, i] - own[m, i].exp()).square().mean()
            for i in range(12)
            if batch.present[i, m]
        ]
        expected = expected + sum(distances) / len(distances)
    for step in (1, 2):
        weight = 3 * exp(-5 * (1 - step / 4) ** 2)
        torch.testing.assert_close(method.unlabeled_loss(model, batch), weight * expected)
    assert ramp_up(4, 4) == ramp_up(9, 4) == ramp_up(1, 0) == 1


def test_students_alone_get_a_gradient(spec: Spec, batch: MultimodalBatch) -> None:
    method = MeanTeacher(MLPConfig())
    model = method.build(spec)
    method.unlabeled_loss(model, batch).backward()
    assert all(p.grad is not None for p in model.students.parameters())
    assert all(p.grad is None for p in model.teachers.parameters())


def test_predictions_are_those_of_the_teachers(spec: Spec, batch: MultimodalBatch) -> None:
    method = MeanTeacher(MLPConfig())
    model = method.build(spec)
    before = method.predict(model, batch)
    for net in model.students.classifiers.values():
        torch.nn.init.zeros_(net.head.weight)
    after = method.predict(model, batch)
    assert all(torch.equal(after[name], before[name]) for name in before)
    torch.testing.assert_close(
        after["view1"], model.teachers.classifiers["view1"](batch.inputs["view1"]).log_softmax(-1)
    )


def test_what_stands_in_absent_rows_changes_nothing(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    method, found = MeanTeacher(MLPConfig()), []
    for filling in (0.0, nan):
        torch.manual_seed(3)
        model = method.build(spec)
        found.append(method.unlabeled_loss(model, with_gaps(batch, filling)))
    assert found[0].isfinite() and found[0] > 0
    assert torch.equal(*found)


def test_without_consistency_and_memory_it_is_the_baseline_to_the_last_bit(gaussian_toy: Callable[..., Splits]) -> None:
    splits, config = gaussian_toy(labeled=20), TrainConfig(steps=30)
    off = predict(fit(MeanTeacher(MLPConfig(), consistency=0, decay=0), splits, config), splits.test)
    baseline = predict(fit(CrossEntropy(MLPConfig()), splits, config), splits.test)
    assert all(torch.equal(off[name], baseline[name]) for name in baseline)
    on = predict(fit(MeanTeacher(MLPConfig()), splits, replace(config, steps=40)), splits.test)
    assert not torch.equal(on["all"], baseline["all"])


def test_a_consistency_of_zero_takes_no_unlabeled_step(spec: Spec, batch: MultimodalBatch) -> None:
    method = MeanTeacher(MLPConfig(), consistency=0)
    assert method.unlabeled_loss(method.build(spec), batch) is None


def test_unlabeled_samples_take_it_above_the_baseline(accuracy: Callable[..., float]) -> None:
    assert accuracy(MeanTeacher(MLPConfig())) > accuracy(CrossEntropy(MLPConfig())) + 0.1
