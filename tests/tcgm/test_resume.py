"""A training that was killed goes on as if it had not been: the same bytes in weights, history and predictions."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, nn

from adni_tcgm.checkpoint_file import CHECKPOINT, CheckpointFile
from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.mean_teacher import MeanTeacher
from adni_tcgm.methods.stil import STiL
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.methods.vat import VAT
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import Fitted, TrainConfig, fit, predict

STEPS = TrainConfig(steps=13, supervised_steps=3, validate_every=4, batch_size_labeled=5, batch_size_unlabeled=7)
NET = MLPConfig(hidden=(6,), dropout=0.3)
DENSENET = DenseNet3DConfig(blocks=(1, 1), growth=4, init=4, bottleneck=2, dropout=0.2)
MANY_STEPS = replace(STEPS, steps=90)
AUGMENT = Augment3D((8, 8, 8), margin=2)


class Kill(Exception):
    """Stands for a kill in a place that a test chooses."""


class KilledIn:
    """A method whose process dies in its n-th update, in the middle of a step."""

    def __init__(self, method: TCGM, step: int) -> None:
        self.method, self.left = method, step
        self.build, self.predict, self.after_step = method.build, method.predict, method.after_step

    def labeled_loss(self, model: nn.Module, batch: MultimodalBatch) -> torch.Tensor:
        return self._count(self.method.labeled_loss, model, batch)

    def unlabeled_loss(self, model: nn.Module, batch: MultimodalBatch) -> torch.Tensor | None:
        return self._count(self.method.unlabeled_loss, model, batch)

    def _count(self, loss_of, model: nn.Module, batch: MultimodalBatch) -> torch.Tensor | None:
        self.left -= 1
        loss = loss_of(model, batch)
        if self.left == 0:
            raise Kill
        return loss


def draw(size: int, labeled: int, shape: tuple[int, ...], seed: int) -> MultimodalBatch:
    generator = Generator().manual_seed(seed)
    labels = torch.arange(size) % 2
    inputs = {name: torch.randn((size, *shape), generator=generator) for name in ("mri", "pet")}
    for values in inputs.values():
        values.flatten(1)[:, :3] += labels.unsqueeze(1)
    visible = torch.where(torch.arange(size) < labeled, labels, UNLABELED)
    present = torch.ones(size, 2, dtype=torch.bool)
    present[::5, 1] = False
    return MultimodalBatch([f"{seed}-{i}" for i in range(size)], inputs, present, visible)


def splits_of(shape: tuple[int, ...]) -> Splits:
    parts = [draw(size, labeled, shape, seed) for seed, (size, labeled) in enumerate([(23, 11), (9, 9), (8, 8)])]
    return Splits([Modality(name, shape) for name in ("mri", "pet")], ("stable", "converter"), *parts)


def result(fitted: Fitted, splits: Splits) -> str:
    """Everything that comes out of a training, but for the seconds it took."""
    weights = {name: value.numpy().tobytes() for name, value in fitted.model.state_dict().items()}
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in fitted.history]
    predicted = {name: value.numpy().tobytes() for name, value in predict(fitted, splits.test).items()}
    return repr((weights, history, predicted, fitted.best_step))


def train_through_kills(method, splits, config, folder: Path, steps: list[int], augment=None) -> Fitted:
    """Every call dies in the given step after its start; the last one ends."""
    for step in steps:
        with pytest.raises(Kill):
            fit(KilledIn(method, step), splits, config, augment, checkpoint=CheckpointFile(folder, "key", every_s=0))
    return fit(method, splits, config, augment, checkpoint=CheckpointFile(folder, "key", every_s=0))


@pytest.mark.parametrize("method", [CrossEntropy(NET), TCGM(NET), VAT(NET), MeanTeacher(NET), STiL(NET, start_steps=2)])
def test_killed_in_four_places_it_ends_as_if_it_had_not_been(method, tmp_path) -> None:
    splits = splits_of((5,))
    undisturbed = result(fit(method, splits, STEPS), splits)
    torch.rand(7)  # whatever the caller's random state
    resumed = train_through_kills(method, splits, STEPS, tmp_path, [1, 3, 4, 6])
    assert result(resumed, splits) == undisturbed


def test_volumes_with_batch_normalization_dropout_and_augmentation_go_on_as_well(tmp_path) -> None:
    splits, method = splits_of((12, 12, 12)), TCGM(DENSENET)
    undisturbed = result(fit(method, splits, STEPS, AUGMENT), splits)
    resumed = train_through_kills(method, splits, STEPS, tmp_path, [5, 9], AUGMENT)
    assert result(resumed, splits) == undisturbed


def test_the_best_weights_so_far_survive_although_nothing_after_the_kill_is_better(tmp_path) -> None:
    splits, config = splits_of((5,)), replace(STEPS, lr_labeled=0.5, steps=40, patience=4)
    undisturbed = fit(CrossEntropy(NET), splits, config)
    assert undisturbed.best_step < undisturbed.history[-1]["round"] < 40  # its patience ended
    # Two updates a step after the supervised steps: this one lies two rows behind the best.
    step = 2 * (undisturbed.best_step + 9) - config.supervised_steps
    resumed = train_through_kills(CrossEntropy(NET), splits, config, tmp_path, [step])
    assert result(resumed, splits) == result(undisturbed, splits)


def test_a_finished_training_is_not_trained_again(tmp_path) -> None:
    splits = splits_of((5,))
    done = fit(TCGM(NET), splits, STEPS, checkpoint=CheckpointFile(tmp_path, "key", every_s=0))
    again = fit(KilledIn(TCGM(NET), 1), splits, STEPS, checkpoint=CheckpointFile(tmp_path, "key", every_s=0))
    assert result(again, splits) == result(done, splits)


def test_the_checkpoint_of_other_settings_is_not_read(tmp_path) -> None:
    splits = splits_of((5,))
    fit(TCGM(NET), splits, STEPS, checkpoint=CheckpointFile(tmp_path, "other", every_s=0))
    assert CheckpointFile(tmp_path, "key").restore() is None


def test_a_damaged_checkpoint_is_an_error_that_names_the_file(tmp_path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"\x08" + bytes(7) + b"nonsense")
    with pytest.raises(ValueError, match=f"{CHECKPOINT}: this is no checkpoint of a training"):
        CheckpointFile(tmp_path, "key").restore()


def test_a_save_that_fails_leaves_the_one_before_it_and_nothing_else(tmp_path, monkeypatch) -> None:
    splits = splits_of((5,))
    fit(TCGM(NET), splits, STEPS, checkpoint=CheckpointFile(tmp_path, "key", every_s=0))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(tensors, file: str, metadata) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("adni_tcgm.checkpoint_file.save_file", full)
    checkpoint = CheckpointFile(tmp_path, "key")
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(checkpoint.restore())
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_checkpoints_are_saved_after_a_time_and_the_history_with_every_row(tmp_path) -> None:
    checkpoint = CheckpointFile(tmp_path, "key", every_s=3600)
    fitted = fit(TCGM(NET), splits_of((5,)), STEPS, checkpoint=checkpoint)
    assert [file.name for file in tmp_path.iterdir()] == ["history.tsv"]
    assert len((tmp_path / "history.tsv").read_text().splitlines()) == 1 + len(fitted.history)


# A fork imports nothing anew; a process that has used a GPU cannot be forked.
START = "spawn" if torch.cuda.is_available() else "fork"


class DiesIn(KilledIn):
    """Its process is ended by the system."""

    def _count(self, *arguments) -> torch.Tensor | None:
        try:
            return super()._count(*arguments)
        except Kill:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(step: int, folder: Path, steps: TrainConfig) -> None:
    torch.set_num_threads(1)
    checkpoint = CheckpointFile(folder, "key", every_s=0)
    fit(DiesIn(TCGM(DENSENET), step), splits_of((12, 12, 12)), steps, AUGMENT, checkpoint=checkpoint)


def die_in_step(step: int, folder: Path, steps: TrainConfig) -> int:
    """Train in a process of its own, which the system kills in that step; its exit status."""
    process = multiprocessing.get_context(START).Process(target=train_until_killed, args=(step, folder, steps))
    process.start()
    process.join()
    return process.exitcode


def test_a_process_killed_by_the_system_is_taken_up_by_another_one(tmp_path) -> None:
    assert die_in_step(12, tmp_path, STEPS) == -signal.SIGKILL
    assert (tmp_path / CHECKPOINT).is_file()
    splits, method = splits_of((12, 12, 12)), TCGM(DENSENET)
    resumed = fit(method, splits, STEPS, AUGMENT, checkpoint=CheckpointFile(tmp_path, "key"))
    assert result(resumed, splits) == result(fit(method, splits, STEPS, AUGMENT), splits)


@pytest.mark.slow
def test_ten_kills_at_random_steps_change_no_byte(tmp_path) -> None:
    rng = random.Random(20261121)
    for _ in range(10):
        assert die_in_step(rng.randint(2, 14), tmp_path, MANY_STEPS) == -signal.SIGKILL
    splits, method = splits_of((12, 12, 12)), TCGM(DENSENET)
    checkpoint = CheckpointFile(tmp_path, "key")
    assert 0 < checkpoint.restore().values["step"] < MANY_STEPS.steps
    resumed = fit(method, splits, MANY_STEPS, AUGMENT, checkpoint=checkpoint)
    assert result(resumed, splits) == result(fit(method, splits, MANY_STEPS, AUGMENT), splits)
