"""Precision, memory and micro-batches: what they may change of a step, and what they must not."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor, nn

from adni_tcgm.checkpoint_file import CheckpointFile
from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.lmf import LMF
from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.soft_hgr import SoftHGR
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.nets.sequence import EncoderConfig
from adni_tcgm.tcgm import precision, processes, trainer
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.execution import in_pieces, kept_running_statistics, set_micro_batch
from adni_tcgm.tcgm.precision import Probe, choose_precision
from adni_tcgm.tcgm.trainer import TrainConfig, Training, fit, predict

DENSENET = DenseNet3DConfig(blocks=(1, 1), growth=4, init=4, bottleneck=2)
LINEAR = MLPConfig(hidden=(8,), dropout=0.3)
STEPS = TrainConfig(steps=6, supervised_steps=1, validate_every=3, batch_size_labeled=6, batch_size_unlabeled=9)


def samples(size: int, shape: tuple[int, ...], seed: int = 0) -> MultimodalBatch:
    generator = Generator().manual_seed(seed)
    labels = torch.arange(size) % 2
    inputs = {name: torch.randn((size, *shape), generator=generator) for name in ("mri", "pet")}
    for values in inputs.values():
        values.flatten(1)[:, 0] += labels
    return MultimodalBatch([f"{seed}-{i}" for i in range(size)], inputs, torch.ones(size, 2, dtype=torch.bool), labels)


def splits_of(shape: tuple[int, ...]) -> Splits:
    parts = [samples(size, shape, seed) for seed, size in enumerate((20, 8, 8))]
    return Splits([Modality(name, shape) for name in ("mri", "pet")], ("stable", "converter"), *parts)


def weights(model: nn.Module) -> bytes:
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())


class Crowded:
    """A method on a device that has room for so many samples at a time; it fails after some of the work."""

    shares_batches = True

    def __init__(self, method: TCGM, room: int, from_step: int = 1) -> None:
        self.method, self.room, self.left = method, room, from_step
        self.build, self.predict, self.after_step = method.build, method.predict, method.after_step
        self.refused: list[int | None] = []

    def labeled_loss(self, model: nn.Module, batch: MultimodalBatch) -> Tensor:
        return self._fail_when_crowded(self.method.labeled_loss, model, batch)

    def unlabeled_loss(self, model: nn.Module, batch: MultimodalBatch) -> Tensor | None:
        return self._fail_when_crowded(self.method.unlabeled_loss, model, batch)

    def _fail_when_crowded(self, loss_of, model: nn.Module, batch: MultimodalBatch) -> Tensor | None:
        self.left -= 1
        loss = loss_of(model, batch)
        if self.left < 1 and min(getattr(model, "micro_batch", None) or len(batch), len(batch)) > self.room:
            self.refused.append(getattr(model, "micro_batch", None))
            raise torch.OutOfMemoryError("no memory left on this device")
        return loss


@pytest.mark.parametrize("step", ["labeled_loss", "unlabeled_loss"])
def test_micro_batches_give_the_loss_of_the_whole_batch_and_its_gradient(step) -> None:
    batch, method = samples(11, (5,)), TCGM(MLPConfig(hidden=(8,)))
    results = []
    for size in (None, 3):
        torch.manual_seed(0)
        model = method.build(
            Spec([Modality(n, (5,)) for n in batch.inputs], ("a", "b"), torch.tensor([0.5, 0.5]).log())
        )
        assert set_micro_batch(model, size)
        loss = getattr(method, step)(model, batch)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters())])
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, parts, atol=1e-6, rtol=1e-5)
    assert len(results[0]) == 9


def test_no_more_samples_than_the_micro_batch_go_through_a_network_at_a_time() -> None:
    seen = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x)

    outputs = in_pieces(Watched(5, 2), torch.randn(11, 5), 4)
    assert outputs.shape == (11, 2) and seen == [4, 4, 3]


def test_what_is_computed_again_in_a_thread_of_its_own_shares_the_batch_as_it_did(monkeypatch) -> None:
    """Gradients on a GPU come from threads that know nothing of the context of the forward pass."""
    monkeypatch.setattr(processes, "world", lambda: 2)
    monkeypatch.setattr(processes.distributed, "get_backend", lambda: "gloo")
    monkeypatch.setattr(processes.distributed, "all_reduce", lambda tensor, operation=None: None)
    seen = []

    class Watched(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(processes.is_sharing())
            return super().forward(inputs)

    with processes.sharing():
        loss = in_pieces(Watched(5, 2), torch.randn(11, 5), 4).square().sum()
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    assert seen == [True] * 6 and not processes.is_sharing()


def test_a_second_forward_pass_does_not_count_in_the_running_statistics() -> None:
    once = fit(CrossEntropy(DENSENET), splits_of((8, 8, 8)), replace(STEPS, micro_batch=6, steps=3))
    parts = fit(CrossEntropy(DENSENET), splits_of((8, 8, 8)), replace(STEPS, micro_batch=3, steps=3))
    for fitted, passes in ((once, 3), (parts, 6)):
        counts = {int(v) for name, v in fitted.model.state_dict().items() if name.endswith("num_batches_tracked")}
        assert counts == {passes}
    norm = nn.BatchNorm1d(2)
    with kept_running_statistics(norm):
        norm(torch.randn(4, 2))
    assert norm.num_batches_tracked == 0 and torch.equal(norm.running_mean, torch.zeros(2))


def test_out_of_memory_halves_the_micro_batch_until_it_fits_and_is_recorded() -> None:
    method = Crowded(TCGM(LINEAR), room=2, from_step=4)
    fitted = fit(method, splits_of((5,)), STEPS)
    assert method.refused == [None, 3]
    assert fitted.execution["micro_batch"] == 2
    assert fitted.execution["out_of_memory"] == [{"step": 3, "micro_batch": 3}, {"step": 3, "micro_batch": 2}]
    assert fitted.history[-1]["round"] == 6


def test_a_step_that_ran_out_of_memory_is_taken_again_as_if_for_the_first_time() -> None:
    splits, config = splits_of((5,)), replace(STEPS, micro_batch=3)
    crowded = fit(Crowded(TCGM(LINEAR), room=3), splits, STEPS)  # from the first step on, in threes
    plain = fit(TCGM(LINEAR), splits, config)
    # The unlabeled batch of nine went in threes in both; the labeled one of six as well.
    assert crowded.execution["micro_batch"] == 3 and weights(crowded.model) == weights(plain.model)


def test_memory_that_does_not_do_for_one_sample_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        fit(Crowded(TCGM(LINEAR), room=0), splits_of((5,)), STEPS)


def test_a_model_that_knows_no_micro_batches_refuses_them() -> None:
    assert not set_micro_batch(nn.Linear(2, 2), 3)
    with pytest.raises(ValueError, match="LMF knows no micro-batches"):
        fit(LMF(EncoderConfig()), splits_of((5,)), replace(STEPS, micro_batch=2))
    with pytest.raises(ValueError, match="micro_batch is 0"):
        TrainConfig(micro_batch=0)


def test_prediction_goes_on_with_smaller_chunks_where_memory_runs_out() -> None:
    splits = splits_of((5,))
    fitted = fit(TCGM(LINEAR), splits, STEPS)
    expected, sizes = predict(fitted, splits.test), []

    class Small:
        def predict(self, model: nn.Module, batch: MultimodalBatch) -> dict[str, Tensor]:
            sizes.append(len(batch))
            if len(batch) > 3:
                raise torch.OutOfMemoryError
            return fitted.method.predict(model, batch)

    found = predict(replace(fitted, method=Small()), splits.test)
    assert sizes == [8, 8, 8, 4, 2, 2, 2, 2]  # chunks of 32, 16, 8, 4 and 2
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_bfloat16_is_for_the_networks_alone_and_losses_gain_and_weights_stay_float32(monkeypatch) -> None:
    monkeypatch.setattr(precision, "probe_bfloat16", lambda model, forward: Probe())  # types, on any processor
    kinds: dict[str, set[torch.dtype]] = {"logits": set(), "features": set()}
    method = TCGM(DENSENET)

    class Watching(Crowded):
        def build(self, spec: Spec) -> nn.Module:  # type: ignore[override]
            model = method.build(spec)
            net = model.classifiers["mri"]
            net.head.register_forward_hook(lambda _, inputs, output: kinds["logits"].add(output.dtype))
            net.body.stem[0].register_forward_hook(lambda _, inputs, output: kinds["features"].add(output.dtype))
            return model

    watching = Watching(method, room=99)
    del watching.build  # the class's own
    config = replace(STEPS, precision="bfloat16", steps=2, validate_every=5)
    fitted = fit(watching, replace(splits_of((8, 8, 8)), validation=samples(0, (8, 8, 8))), config)
    assert kinds == {"logits": {torch.bfloat16}, "features": {torch.bfloat16}}
    assert {value.dtype for value in fitted.model.parameters()} == {torch.float32}
    assert fitted.execution["precision"] == "bfloat16"
    # Channels last is for GPUs: on a CPU, bfloat16 gradients in that layout were found wrong.
    assert fitted.model.classifiers["mri"].body.stem[0].weight.is_contiguous()


def test_bfloat16_trains_to_nearly_the_same_predictions_as_float32() -> None:
    splits = splits_of((8, 8, 8))
    fits = [fit(TCGM(DENSENET), splits, replace(STEPS, precision=name)) for name in ("float32", "bfloat16")]
    if fits[1].execution["bfloat16_fault"]:
        pytest.skip(f"bfloat16 on this processor: {fits[1].execution['bfloat16_fault']}")
    exact, rough = (predict(fitted, splits.test) for fitted in fits)
    difference = (exact["all"].exp() - rough["all"].exp()).abs().max()
    assert 0 < difference < 0.05


def test_precision_follows_the_device_and_an_unknown_one_is_refused(monkeypatch) -> None:
    assert choose_precision("auto", torch.device("cpu")) == torch.float32
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
        assert choose_precision("auto", torch.device("cuda")) == expected
    with pytest.raises(ValueError, match="precision is 'half'"):
        TrainConfig(precision="half")


def test_complete_samples_are_known_without_a_look_at_them_once_they_are_on_a_device() -> None:
    batch = samples(6, (5,))
    gaps = replace(batch, present=batch.present & torch.tensor([[True, False]] + 5 * [[True, True]]))
    assert batch.complete and not gaps.complete
    assert gaps.select(torch.tensor([1, 2])).complete
    meta = batch.to("meta")
    assert meta.complete and meta.with_inputs(dict(meta.inputs)).complete


@pytest.mark.parametrize("method", [CrossEntropy(DENSENET), SoftHGR(DENSENET), TCGM(DENSENET)])
def test_a_step_on_complete_samples_never_waits_for_its_device(method, monkeypatch) -> None:
    """The stand-in for a GPU is a device without values, on which every question for one is an error."""
    monkeypatch.setattr(trainer, "place", lambda samples, device: samples.to(device))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    config = replace(STEPS, steps=100, validate_every=100, device="meta", precision="float32")
    training = Training(method, splits_of((12, 12, 12)), config, Augment3D.paper((8, 8, 8), margin=2))
    for _ in range(3):
        training.run_step()
    pending = training.losses_l.pending + training.losses_u.pending
    assert len(pending) == (3 if isinstance(method, CrossEntropy) else 3 + 2)  # one supervised step
    assert all(loss.device.type == "meta" for _, loss in pending)


def test_only_networks_that_gain_by_it_are_compiled_and_only_when_asked(monkeypatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    fit(TCGM(DENSENET), splits_of((8, 8, 8)), replace(STEPS, steps=1))
    assert compiled == []
    fit(TCGM(DENSENET), splits_of((8, 8, 8)), replace(STEPS, steps=1, compile=True))
    fit(TCGM(LINEAR), splits_of((5,)), replace(STEPS, steps=1, compile=True))
    assert compiled == ["DenseNet3D", "DenseNet3D"]


def test_a_micro_batch_that_was_lowered_stays_low_after_a_kill(tmp_path) -> None:
    splits, config = splits_of((5,)), replace(STEPS, steps=4)
    first = fit(Crowded(TCGM(LINEAR), room=3), splits, config, checkpoint=CheckpointFile(tmp_path, "key", every_s=0))
    again = fit(TCGM(LINEAR), splits, replace(config, steps=6), checkpoint=CheckpointFile(tmp_path, "key", every_s=0))
    assert again.history[-1]["round"] == 6
    assert again.execution == first.execution and again.execution["micro_batch"] == 3
    assert again.model.micro_batch == 3


@pytest.mark.slow
def test_compiled_networks_learn_what_the_others_learn() -> None:
    splits = splits_of((8, 8, 8))
    plain, compiled = (
        predict(fit(TCGM(DENSENET), splits, replace(STEPS, steps=3, compile=flag)), splits.test)
        for flag in (False, True)
    )
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, atol=1e-4, rtol=1e-4)
