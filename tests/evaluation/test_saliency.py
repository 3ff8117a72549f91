"""Saliency is judged where the truth is known: small networks that learned lesions planted in noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from adni_tcgm.evaluation.calibration import fit_rescaling
from adni_tcgm.evaluation.saliency import (
    QUICK_STEPS,
    edge_map,
    integrate_gradients,
    log_odds,
    measure_fidelity,
    occlude,
    points_inside,
    rank_voxels,
    share_inside,
    smooth_gradients,
)
from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import TrainConfig, fit

SHAPE = (16, 12, 12)
LEFT, RIGHT = (np.zeros((1, *SHAPE), bool) for _ in range(2))
LEFT[:, 2:6, 4:8, 4:8] = True
RIGHT[:, 10:14, 4:8, 4:8] = True
DEPTH = -2.0


def plant(samples: int, seed: int, where: dict[str, np.ndarray]) -> MultimodalBatch:
    """Noise in two modalities; class 1 lacks tissue in the places given: modality -> region."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 2
    inputs = {}
    for name in ("mri", "pet"):
        values = rng.normal(0, 1, (samples, 1, *SHAPE))
        if name in where:
            values[labels == 1] += DEPTH * where[name]
        inputs[name] = torch.tensor(values, dtype=torch.float32)
    names = [f"{seed}-{i}" for i in range(samples)]
    return MultimodalBatch(names, inputs, torch.ones(samples, 2, dtype=torch.bool), torch.tensor(labels))


def train(where: dict[str, np.ndarray]):
    parts = [plant(samples, seed, where) for seed, samples in enumerate((96, 24, 24))]
    splits = Splits([Modality(name, (1, *SHAPE)) for name in ("mri", "pet")], ("stable", "converter"), *parts)
    method = CrossEntropy(DenseNet3DConfig(blocks=(2, 2), growth=6, init=6))
    config = TrainConfig(steps=40, batch_size_labeled=24, lr_labeled=1e-2, validate_every=40, device="cpu")
    return fit(method, splits, config).model.classifiers, parts[2], splits.train


@pytest.fixture(scope="module")
def left():
    """A lesion on the left, in MRI alone."""
    return train({"mri": LEFT})


@pytest.fixture(scope="module")
def right_pet():
    """A lesion on the right, in PET alone."""
    return train({"pet": RIGHT})


def explain(trained, modality: str, method=integrate_gradients, count: int = 4, **options):
    """Attributions of test people with the lesion; the baseline is the mean of training people without."""
    classifiers, test, training = trained
    baseline = training.inputs[modality][training.labels == 0].mean(0, keepdim=True)
    answer = log_odds(classifiers[modality].eval())
    people = test.inputs[modality][test.labels == 1][:count]
    return [method(answer, person[None], baseline, **options) for person in people], answer, people, baseline


@pytest.fixture(scope="module")
def explained(left):
    """By integrated gradients: who has the lesion on the left."""
    return explain(left, "mri")


METHODS = [
    pytest.param(integrate_gradients, {}, id="integrated-gradients"),
    pytest.param(integrate_gradients, {"steps": QUICK_STEPS}, id="as-every-report-shows"),
    pytest.param(smooth_gradients, {"noise_sd": 0.3}, id="smoothgrad"),
    pytest.param(occlude, {"window": 4, "stride": 2}, id="occlusion"),
]


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_a_lesion_planted_left_is_shown_left_and_speaks_for_its_class(left, method, options):
    maps, *_ = explain(left, "mri", method, **options)
    # The lesion holds 2.8 % of the voxels.
    assert np.mean([share_inside(found, LEFT) for found in maps]) > 5 * LEFT.mean()
    assert np.mean([share_inside(found, LEFT) for found in maps]) > 5 * np.mean([share_inside(f, RIGHT) for f in maps])
    assert np.mean([found.values[LEFT].sum() for found in maps]) > 0


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_a_lesion_planted_right_is_shown_right(right_pet, method, options):
    maps, *_ = explain(right_pet, "pet", method, **options)
    assert np.mean([share_inside(f, RIGHT) for f in maps]) > 5 * np.mean([share_inside(f, LEFT) for f in maps])


def test_the_strongest_voxel_lies_in_the_lesion(explained):
    maps, *_ = explained
    assert np.mean([points_inside(found, LEFT) for found in maps]) >= 5 / 6


def calibrated_answer(trained, modality: str, validation: MultimodalBatch):
    """Log-odds as the reports show them: divided by the temperature that validation people gave."""
    network = trained[0][modality].eval()
    with torch.no_grad():
        found = network(validation.inputs[modality]).log_softmax(-1).numpy()
    return log_odds(network, 1 / fit_rescaling(found, validation.labels.numpy()).temperature)


@pytest.mark.parametrize(
    ("fixture", "seen", "unseen", "where"), [("left", "mri", "pet", LEFT), ("right_pet", "pet", "mri", RIGHT)]
)
def test_an_effect_in_one_modality_is_attributed_to_that_modality(request, fixture, seen, unseen, where):
    trained = request.getfixturevalue(fixture)
    _, test, training = trained
    validation = plant(120, 9, {seen: where})
    total, net = {}, {}
    for modality in (seen, unseen):
        answer = calibrated_answer(trained, modality, validation)
        baseline = training.inputs[modality][training.labels == 0].mean(0, keepdim=True)
        people = test.inputs[modality][test.labels == 1][:4]
        maps = [integrate_gradients(answer, person[None], baseline) for person in people]
        total[modality] = np.mean([np.abs(found.values).sum() for found in maps])
        net[modality] = np.mean([abs(found.answer - found.baseline) for found in maps])
    assert total[seen] > 3 * total[unseen]
    assert net[seen] > 5 * net[unseen]


def test_integrated_gradients_are_complete(explained):
    maps, *_ = explained
    for found in maps:
        assert found.completeness_error < 0.05 * abs(found.answer - found.baseline)


def test_random_weights_destroy_the_map(explained):
    maps, _, people, baseline = explained
    torch.manual_seed(0)
    random = DenseNet3DConfig(blocks=(2, 2), growth=6, init=6).build((1, *SHAPE), 2).eval()
    others = [integrate_gradients(log_odds(random), person[None], baseline) for person in people]
    alike = [
        # With their signs: both maps are a gradient times the same input, whose size they share.
        spearmanr(a.values.ravel(), b.values.ravel()).statistic
        for a, b in zip(maps, others, strict=True)
    ]
    own, foreign = (np.mean([share_inside(found, LEFT) for found in these]) for these in (maps, others))
    assert abs(np.mean(alike)) < 0.2
    assert foreign < own / 3


def test_deletion_and_insertion_beat_a_random_order_and_an_edge_map(explained):
    maps, answer, people, baseline = explained
    rng = np.random.default_rng(0)
    found = {"map": [], "random": [], "edges": []}
    for attribution, person in zip(maps, people, strict=True):
        rankings = {"map": rank_voxels(attribution), "random": rng.random((1, *SHAPE)), "edges": edge_map(person[None])}
        for name, ranking in rankings.items():
            found[name].append(measure_fidelity(answer, person[None], baseline, ranking))
    deletion = {name: np.mean([f.deletion for f in values]) for name, values in found.items()}
    insertion = {name: np.mean([f.insertion for f in values]) for name, values in found.items()}
    for rival in ("random", "edges"):
        assert deletion["map"] < deletion[rival] - 0.1
        assert insertion["map"] > insertion[rival] + 0.1


def test_a_mirrored_input_has_a_mirrored_map():
    """A network that sums all voxels alike knows no side, so its map must turn with the input."""

    class Symmetric(nn.Module):
        def forward(self, x):
            total = torch.tanh(x).sum((1, 2, 3, 4))
            return torch.stack([torch.zeros_like(total), total], 1)

    person = torch.randn((1, 1, *SHAPE), generator=torch.Generator().manual_seed(0))
    answer, baseline = log_odds(Symmetric()), torch.zeros((1, 1, *SHAPE))
    maps = [integrate_gradients(answer, values, baseline).values for values in (person, person.flip(2))]
    np.testing.assert_allclose(maps[1], maps[0][:, ::-1], atol=1e-6)


def test_calibration_scales_the_map(left):
    classifiers, test, _ = left
    person, baseline = test.inputs["mri"][1:2], torch.zeros((1, 1, *SHAPE))
    one, half = (
        integrate_gradients(log_odds(classifiers["mri"].eval(), scale), person, baseline) for scale in (1.0, 0.5)
    )
    np.testing.assert_allclose(half.values, one.values / 2, atol=1e-5)


def test_the_same_seed_gives_the_same_smooth_map(left):
    first, *_ = explain(left, "mri", smooth_gradients, count=1, noise_sd=0.3)
    second, *_ = explain(left, "mri", smooth_gradients, count=1, noise_sd=0.3)
    assert np.array_equal(first[0].values, second[0].values)
