"""What a training is expected to take, and what it does about too little memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adni_tcgm.checkpoint_file import CheckpointFile
from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import TrainConfig, Training, fit
from benchmarks.gain import measure_memory
from pipelines import training_cost
from pipelines.training_cost import Estimate, describe_volumes, estimate

NET = DenseNet3DConfig(blocks=(2, 2), growth=8, init=8)
CONFIG = TrainConfig(steps=100, supervised_steps=50, batch_size_labeled=8, batch_size_unlabeled=8, device="cpu")


@pytest.fixture(scope="module")
def splits() -> Splits:
    def draw(size: int) -> MultimodalBatch:
        inputs = {name: torch.randn(size, 16, 16, 16) for name in ("mri", "pet")}
        return MultimodalBatch(
            [str(i) for i in range(size)], inputs, torch.ones(size, 2, dtype=torch.bool), torch.arange(size) % 2
        )

    return Splits([Modality(n, (16, 16, 16)) for n in ("mri", "pet")], ("a", "b"), draw(20), draw(6), draw(6))


def test_the_expected_memory_of_a_batch_is_near_what_a_step_takes(splits) -> None:
    expected = estimate(CrossEntropy(NET), splits, CONFIG, None)
    model = CrossEntropy(NET)
    built = model.build(Spec(splits.modalities, splits.classes, torch.tensor([0.5, 0.5]).log()))
    batch = splits.train.select(torch.arange(8))
    measured = 1e6 * measure_memory(lambda: model.labeled_loss(built, batch).backward(), "cpu")
    assert 0.7 < (expected.needed - expected.fixed) / measured < 1.6
    assert expected.parameters == sum(p.numel() for p in built.parameters())


def test_the_unlabeled_step_takes_time_and_no_more_memory_than_the_labeled_one(splits) -> None:
    one = estimate(TCGM(NET), splits, CONFIG, None)
    assert one.seconds > 0 and one.per_sample > 16**3 * 4
    ce = estimate(CrossEntropy(NET), splits, CONFIG, None)
    assert ce.seconds > 0 and ce.per_sample == pytest.approx(one.per_sample, rel=0.2)


def test_an_estimate_changes_nothing_of_the_training_after_it(splits) -> None:
    config = replace(CONFIG, steps=3, supervised_steps=1, validate_every=3)
    before = fit(TCGM(NET), splits, config).model.state_dict()
    state = torch.get_rng_state()
    estimate(TCGM(NET), splits, config, None)
    assert torch.equal(torch.get_rng_state(), state)
    after = fit(TCGM(NET), splits, config).model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_short_memory_names_the_largest_micro_batch_that_fits() -> None:
    room = Estimate(
        parameters=1_000_000,
        data=0,
        per_sample=80e6,
        batch_size=12,
        micro_batch=None,
        seconds=4000,
        device="CPU",
        free=10e9,
    )
    assert room.fits and room.fitting_micro_batch is None and "warning" not in str(room)
    assert "67 minutes" in str(room)
    short = replace(room, free=0.6e9)  # of which 90 % less 28 MB of weights: five samples of 100 MB
    assert not short.fits and short.fitting_micro_batch == 5
    assert "--set train.micro_batch=5" in str(short)
    assert replace(short, micro_batch=5).fits
    assert replace(room, free=1e6).fitting_micro_batch == 1
    assert replace(room, free=None).fits and "unknown" in str(replace(room, free=None))


def test_samples_that_are_in_memory_already_are_not_counted_again(splits, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(training_cost, "free_bytes", lambda device: asked.append(device.type) or 1e9)
    monkeypatch.setattr(training_cost, "Training", lambda *given: asked.append("model") or Training(*given))
    expected = estimate(CrossEntropy(NET), splits, CONFIG, None)
    assert asked == ["cpu", "model"]  # what is free, before the model takes some of it
    assert expected.data == 0 and expected.fixed == training_cost.COPIES * 4 * expected.parameters


def test_volumes_that_may_not_fit_are_told_of() -> None:
    assert describe_volumes(14_000_000_000, 20e9) == "volumes   14 GB in main memory, 20.0 GB free"
    assert "warning   memory may run out" in describe_volumes(14_000_000_000, 15e9)
    assert "unknown" in describe_volumes(14_000_000_000, None)


def test_tensorboard_holds_every_finite_number_of_the_history(tmp_path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    checkpoint = CheckpointFile(tmp_path / "state", "key", tensorboard=tmp_path / "board")
    checkpoint.record({"round": 5, "gain": 0.25, "validation_loss": float("nan")})
    checkpoint.record({"round": 10, "gain": 0.5, "validation_loss": 0.7})
    log = events.EventAccumulator(str(tmp_path / "board"))
    log.Reload()
    assert [(e.step, e.value) for e in log.Scalars("gain")] == [(5, 0.25), (10, 0.5)]
    assert [e.step for e in log.Scalars("validation_loss")] == [10]
