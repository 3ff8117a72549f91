"""Pretraining: what encoders learn without labels, and what methods make of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from torch import Generator, nn

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.lmf import LMF
from adni_tcgm.methods.mean_teacher import MeanTeacher
from adni_tcgm.methods.pvcc import PVCC
from adni_tcgm.methods.soft_hgr import SoftHGR
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.methods.vat import VAT
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.grid3d import Grid3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.pretraining.loop import Place
from adni_tcgm.pretraining.pretext import (
    Pretraining,
    pretrain,
    principal_components,
    task_loss,
    with_targets,
)
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.encoders import encode, fit_encoded, represent
from adni_tcgm.tcgm.trainer import TrainConfig, predict

LINEAR = MLPConfig()
QUICK = Pretraining(steps=200, rate=1e-2)
CROSS = replace(QUICK, tasks=("cross_modal",))
STEPS = TrainConfig(steps=40, supervised_steps=5, validate_every=10, lr_labeled=1e-2, lr_unlabeled=1e-2)


def draw(size: int, seed: int, labeled: int | None = None) -> MultimodalBatch:
    """Two modalities of six numbers: the first follows what they share (and the class with it), the second is twice as
    strong and each modality's own. The targets are those two."""
    generator = Generator().manual_seed(seed)
    labels = torch.randint(2, (size,), generator=generator)
    shared = torch.randn(size, generator=generator) + 2 * labels - 1
    inputs, targets = {}, {}
    for name in ("mri", "pet"):
        own = torch.randn(size, generator=generator)
        values = 0.3 * torch.randn((size, 6), generator=generator)
        values[:, 0] += shared
        values[:, 1] += 2 * own
        inputs[name], targets[name] = values, torch.stack([shared / 1.4, own], 1)
    visible = torch.where(torch.arange(size) < (size if labeled is None else labeled), labels, UNLABELED)
    ids = [str(i) for i in range(size)]
    return MultimodalBatch(ids, inputs, torch.ones(size, 2, dtype=torch.bool), visible, targets=targets)


def splits() -> Splits:
    modalities = [Modality(name, (6,)) for name in ("mri", "pet")]
    return Splits(modalities, ("no", "yes"), draw(200, 0, labeled=10), draw(60, 1), draw(200, 2))


def start(pretraining: Pretraining = QUICK, train: MultimodalBatch | None = None, seed: int = 0):
    known = splits()
    return pretrain(pretraining, LINEAR, known.modalities, train or known.train, seed=seed, place=Place("cpu"))


def weights(model: nn.Module) -> bytes:
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return abs(torch.corrcoef(torch.stack([a, b]))[0, 1].item())


def test_encoders_predict_the_targets_of_samples_they_never_saw():
    unseen = splits().test
    found = encode(start(), unseen).inputs["pet"]
    for column in range(2):
        assert correlation(found[:, column], unseen.targets["pet"][:, column]) > 0.95


def test_cross_modal_encoders_keep_what_is_shared_and_drop_what_is_the_modality_s_own():
    unseen = splits().test
    found = encode(start(CROSS), unseen).inputs["mri"][:, 0]
    shared, own = unseen.targets["mri"].T
    assert correlation(found, shared) > 0.9
    assert correlation(found, own) < 0.3


def test_both_tasks_give_the_outputs_of_both():
    encoders = start(replace(QUICK, tasks=("targets", "cross_modal"), steps=1))
    assert encoders.widths == {"mri": 4, "pet": 4}


def test_no_label_is_read():
    train = splits().train
    hidden = replace(train, labels=torch.full_like(train.labels, UNLABELED))
    assert weights(start(train=train)) == weights(start(train=hidden))


def test_one_seed_gives_the_same_bytes_and_leaves_the_global_random_state_alone():
    state = torch.get_rng_state()
    first = start()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert weights(first) == weights(start())
    assert weights(first) != weights(start(seed=1))


def test_unknown_targets_count_nothing():
    batch = draw(8, 0)
    outputs = torch.randn(8, 2, generator=Generator().manual_seed(0))
    holes = {name: values.clone() for name, values in batch.targets.items()}
    holes["mri"][3:] = torch.nan
    with_holes = task_loss(outputs, replace(batch, targets=holes), "mri", ("targets",))
    known = task_loss(outputs[:3], batch.select(torch.arange(3)), "mri", ("targets",))
    assert with_holes.item() == pytest.approx(known.item())


def test_other_modalities_targets_are_judged_by_their_absolute_error():
    batch = draw(8, 0)
    outputs = torch.zeros(8, 2)
    loss = task_loss(outputs, batch, "mri", ("cross_modal",))
    assert loss.item() == pytest.approx(batch.targets["pet"].abs().mean().item())


def test_an_absent_modality_is_never_shown_and_is_represented_by_zeros():
    batch = draw(20, 0)
    present = torch.ones(20, 2, dtype=torch.bool)
    present[:7, 1] = False
    poisoned = replace(batch, present=present)
    poisoned.inputs["pet"][:7] = torch.nan
    encoded = encode(start(), poisoned)
    assert torch.equal(encoded.inputs["pet"][:7], torch.zeros(7, 2))
    assert not encoded.inputs["pet"].isnan().any()


def test_representations_are_standardized_over_the_training_samples():
    values = encode(start(CROSS), splits().train).inputs["pet"]
    assert torch.allclose(values.mean(0), torch.zeros(2), atol=1e-4)
    assert torch.allclose(values.std(0, correction=0), torch.ones(2), atol=1e-4)


def test_samples_kept_in_float16_are_represented_in_float32():
    encoders, train = start(replace(QUICK, steps=2)), draw(20, 0)
    halved = train.with_inputs({name: values.half() for name, values in train.inputs.items()})
    found, expected = encode(encoders, halved), encode(encoders, halved.in_float32())
    for name, values in found.inputs.items():
        assert values.dtype == torch.float32 and torch.equal(values, expected.inputs[name])


def test_without_given_targets_they_are_principal_components():
    batch = replace(draw(50, 0), targets={})
    found = with_targets(batch, 3).targets["mri"]
    wanted = PCA(3, whiten=True).fit_transform(batch.inputs["mri"].numpy())
    for column in range(3):
        assert correlation(found[:, column], torch.tensor(wanted[:, column], dtype=torch.float32)) > 0.9999
    assert torch.allclose(found.square().mean(0), torch.ones(3), atol=1e-4)


def test_principal_components_of_absent_samples_are_unknown_and_do_not_shift_the_others():
    values, present = draw(30, 0).inputs["mri"], torch.arange(30) >= 4
    found = principal_components(values, present, 2)
    values[:4] = 1e6
    assert found[:4].isnan().all()
    assert torch.equal(found[4:], principal_components(values, present, 2)[4:])


@pytest.fixture(scope="module")
def crossed():
    """Encoders by cross-modal pretraining; what learns on them leaves them as they are."""
    return start(CROSS)


@pytest.mark.parametrize(
    "method", [*(kind(LINEAR) for kind in (CrossEntropy, TCGM, VAT, SoftHGR, LMF, MeanTeacher)), PVCC(iterations=10)]
)
def test_every_method_learns_on_encoders(method, crossed):
    known = replace(splits(), train=draw(200, 0, labeled=100))
    fitted = fit_encoded(method, crossed, represent(crossed, known), known.modalities, STEPS)
    found = predict(fitted, known.test)["all"]
    assert torch.allclose(found.exp().sum(1), torch.ones(200), atol=1e-4)
    # By rank: after 40 steps the methods do not agree yet where one class ends.
    assert roc_auc_score(known.test.labels, found[:, 1] - found[:, 0]) > 0.8


def test_encoders_stay_as_they_were():
    encoders, known = start(), splits()
    fitted = fit_encoded(TCGM(LINEAR), encoders, represent(encoders, known), known.modalities, STEPS)
    assert weights(fitted.model.encoders) == weights(encoders)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"tasks": ("jigsaw",)}, r"tasks is 'jigsaw'; choose one of targets, cross_modal"),
        ({"tasks": ()}, "tasks is empty"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Pretraining(**wrong)


def test_encoders_are_built_for_what_an_augmentation_leaves_of_a_volume():
    volumes = {"mri": torch.randn(20, 1, 22, 22, 22, generator=Generator().manual_seed(0))}
    batch = MultimodalBatch(
        [str(i) for i in range(20)], volumes, torch.ones(20, 1, dtype=torch.bool), torch.zeros(20).long()
    )
    augment = Augment3D((16, 16, 16), 3)
    pretraining = Pretraining(steps=2, components=3)
    modalities = [Modality("mri", (1, 22, 22, 22))]
    encoders = pretrain(pretraining, Grid3DConfig(pool=1), modalities, batch, place=Place("cpu"), augment=augment)
    assert encode(encoders, batch, augment).inputs["mri"].shape == (20, 3)
