"""MURAUER: what each of its losses does to the mapping from target to source."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Generator

from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.pretraining.loop import Place
from adni_tcgm.pretraining.murauer import Murauer, find_pairs, pretrain_murauer, with_shared_targets
from adni_tcgm.pretraining.pretext import principal_components
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, join
from adni_tcgm.tcgm.encoders import Encoders, encode

MODALITIES = [Modality(name, (5,)) for name in ("mri", "pet")]
QUICK = Murauer(source=("elsewhere",), latent=6, hidden=16, source_steps=100, steps=100, batch_size=32, rate=1e-2)
NONE = replace(QUICK, lambda_g=0.0, lambda_m=0.0)


def draw(size: int, seed: int, shift: float = 0.0, visible: int | None = None) -> MultimodalBatch:
    """Both modalities show the class in their first number and something of their own in the second; the target's
    numbers are shifted. The targets of the view prediction are the first numbers before the shift."""
    generator = Generator().manual_seed(seed)
    labels = torch.randint(2, (size,), generator=generator)
    shared = 3.0 * labels - 1.5 + 0.7 * torch.randn(size, generator=generator)
    inputs, targets = {}, {}
    for name in ("mri", "pet"):
        values = torch.randn((size, 5), generator=generator)
        values[:, 0] = shared + 0.3 * values[:, 0]
        inputs[name], targets[name] = values + shift, shared[:, None] / 1.7
    shown = torch.arange(size) < (size if visible is None else visible)
    there = torch.ones(size, 2, dtype=torch.bool)
    ids = [f"{seed}-{i}" for i in range(size)]
    return MultimodalBatch(ids, inputs, there, torch.where(shown, labels, UNLABELED), targets=targets)


SOURCE, TARGET = draw(300, 0), draw(200, 1, shift=1.5, visible=0)


@cache
def learned(config: Murauer) -> Encoders:
    """Without any label of the target."""
    return learn(config)


def learn(config: Murauer = QUICK, source: MultimodalBatch = SOURCE, target: MultimodalBatch = TARGET) -> Encoders:
    return pretrain_murauer(config, MLPConfig(), MODALITIES, source, target, place=Place("cpu"))


def accuracy(encoders: Encoders) -> float:
    """Of the class scores of unseen samples of the target, as trained: before they are standardized."""
    unseen = draw(400, 2, shift=1.5)
    encoder = encoders.nets["mri"]
    scores = encode(encoders, unseen).inputs["mri"] * encoder.sd + encoder.mean
    return (scores[:, :2].argmax(1) == unseen.labels).float().mean().item()


def distance(encoders: Encoders) -> float:
    """Between the mean latent representations of the source and of the mapped target, in the source's SDs."""
    net = encoders.nets["mri"].net
    with torch.no_grad():
        z, mapped = net.f(SOURCE.inputs["mri"]), net.m(net.f(TARGET.inputs["mri"]))
    return ((z.mean(0) - mapped.mean(0)) / z.std(0)).norm().item()


def test_the_target_is_classified_better_with_both_losses_than_with_the_source_alone_and_no_label_of_it():
    assert accuracy(learned(replace(QUICK, lambda_m=1.0))) > accuracy(learned(NONE)) + 0.1


def test_the_adversarial_loss_brings_the_mapped_target_closer_to_the_source():
    longer = replace(NONE, steps=250)
    assert distance(learned(replace(longer, lambda_m=1.0))) < 0.7 * distance(learned(longer))


def test_view_prediction_makes_the_mapped_target_predict_the_other_modality():
    def error(encoders: Encoders) -> float:
        unseen = draw(400, 2, shift=1.5)
        net = encoders.nets["mri"].net
        with torch.no_grad():
            return (net.g(net.m(net.f(unseen.inputs["mri"]))) - unseen.targets["pet"]).abs().mean().item()

    assert error(learned(replace(NONE, lambda_g=1.0))) < 0.7 * error(learned(NONE))


def test_pairs_bring_the_mapped_target_closer_to_the_source():
    paired = replace(draw(300, 0, shift=1.5, visible=20), targets=SOURCE.targets)
    with_pairs, without = (learn(replace(NONE, lambda_c=weight), target=paired) for weight in (1.0, 0.0))
    assert distance(with_pairs) < 0.7 * distance(without)


def test_pairs_are_found_by_id_and_only_where_the_modalities_are_the_same():
    labeled = SOURCE.select(torch.tensor([7, 3, 5]))
    present = labeled.present.clone()
    present[0, 1] = False
    here, there = find_pairs(replace(labeled, present=present), SOURCE)
    assert list(here.sample_ids) == list(there.sample_ids) == ["0-3", "0-5"]


def test_correspondence_without_pairs_is_refused():
    with pytest.raises(ValueError, match="0 of 20 labeled samples have their id in the source"):
        learn(replace(QUICK, lambda_c=1.0), target=draw(200, 1, visible=20))


def test_an_unlabeled_sample_in_the_source_is_refused():
    with pytest.raises(ValueError, match="a sample of the source has no label"):
        learn(source=draw(50, 0, visible=40))


def test_the_source_is_named_and_weights_are_not_negative():
    with pytest.raises(ValueError, match="source names no data set"):
        Murauer(source=())
    with pytest.raises(ValueError, match="must be 0 or more"):
        Murauer(source=("a",), lambda_m=-1)


def test_encoders_say_class_scores_and_other_views_standardized_over_the_target():
    values = encode(learn(replace(QUICK, steps=5, source_steps=5)), TARGET).inputs["pet"]
    assert values.shape == (200, 3)
    assert torch.allclose(values.std(0, correction=0), torch.ones(3), atol=1e-3)


def test_without_given_targets_both_domains_have_the_same_principal_components():
    both = [replace(batch, targets={}) for batch in (SOURCE, TARGET)]
    source, target = with_shared_targets(*both, 2)
    together = principal_components(join(both).inputs["mri"], join(both).present[:, 0], 2)
    assert torch.equal(torch.cat([source.targets["mri"], target.targets["mri"]]), together)
