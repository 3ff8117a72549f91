"""bfloat16 on a CPU is used only where every layer computes in it as in float32; otherwise float32, with a warning."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import Tensor, nn

from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.tcgm import precision
from adni_tcgm.tcgm.precision import Probe, probe_bfloat16
from adni_tcgm.tcgm.trainer import fit
from tests.tcgm.test_execution import DENSENET, STEPS, splits_of, weights

CALLS = count(1)


class _Distorted(torch.autograd.Function):
    """The identity, whose gradient comes out times `factor`."""

    @staticmethod
    def forward(context, x: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return x.clone()

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.factor, None


class Faulty(nn.Conv3d):
    """A convolution whose gradients in bfloat16 are off by a factor that may change from call to call."""

    def __init__(self, factor_of_call) -> None:
        super().__init__(3, 4, 3, padding=1)
        self.factor_of_call = factor_of_call

    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        return _Distorted.apply(output, self.factor_of_call(next(CALLS))) if x.dtype == torch.bfloat16 else output


def probe(layer: nn.Module) -> Probe:
    model = nn.Sequential(nn.Identity(), layer)
    return probe_bfloat16(model, lambda: model(torch.zeros(2, 3, 4, 4, 4)))


def test_a_layer_that_computes_alike_passes() -> None:
    assert probe(Faulty(lambda call: 1.0)) == Probe(None, True)


@pytest.mark.parametrize(("factor", "words"), [(2.0, "differs by 100 %"), (float("nan"), "gives NaN")])
def test_wrong_gradients_are_named_with_their_layer_and_shape(factor: float, words: str) -> None:
    found = probe(Faulty(lambda call: factor))
    assert found.fault == f"1 (Faulty of 2 x 3 x 4 x 4 x 4) {words}" and not found.repeatable


def test_gradients_that_are_wrong_only_now_and_then_are_found() -> None:
    assert probe(Faulty(lambda call: 3.0 if call % 3 == 0 else 1.0)).fault is not None


def test_gradients_that_change_within_rounding_are_right_but_not_repeatable() -> None:
    assert probe(Faulty(lambda call: 1.0 + 0.01 * (call % 3))) == Probe(None, False)


def test_a_probe_leaves_the_model_and_the_random_state_alone() -> None:
    model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.Flatten(), nn.Linear(32, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    probe_bfloat16(model, lambda: model(torch.zeros(2, 3, 4, 4, 4)))
    assert torch.equal(torch.rand(3), expected) and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_where_bfloat16_is_wrong_training_is_that_of_float32_and_says_so(monkeypatch) -> None:
    splits, steps = splits_of((8, 8, 8)), replace(STEPS, steps=3)
    exact = fit(TCGM(DENSENET), splits, replace(steps, precision="float32"))
    monkeypatch.setattr(precision, "probe_bfloat16", lambda model, forward: Probe("stem differs", False))
    with pytest.warns(UserWarning, match="float32 instead of bfloat16, .* computes wrongly: stem differs"):
        fallen = fit(TCGM(DENSENET), splits, replace(steps, precision="bfloat16"))
    assert weights(fallen.model) == weights(exact.model)
    assert fallen.execution["precision"] == "float32" and fallen.execution["bfloat16_fault"] == "stem differs"
    assert fallen.execution["deterministic"]


def test_bfloat16_is_called_deterministic_only_where_it_repeats(monkeypatch) -> None:
    for repeatable in (True, False):
        monkeypatch.setattr(precision, "probe_bfloat16", lambda model, forward, r=repeatable: Probe(None, r))
        fitted = fit(TCGM(DENSENET), splits_of((8, 8, 8)), replace(STEPS, steps=1, precision="bfloat16"))
        assert fitted.execution["deterministic"] is repeatable and fitted.execution["precision"] == "bfloat16"


def test_every_layer_is_tried_in_the_shapes_of_both_batches(monkeypatch) -> None:
    seen = []

    def watch(model: nn.Module, forward) -> Probe:
        hook = (
            model.classifiers["mri"]
            .body.stem[0]
            .register_forward_hook(lambda layer, inputs, output: seen.append(tuple(inputs[0].shape)))
        )
        forward()
        hook.remove()
        return Probe()

    monkeypatch.setattr(precision, "probe_bfloat16", watch)
    fit(TCGM(DENSENET), splits_of((8, 8, 8)), replace(STEPS, steps=1, precision="bfloat16"))
    assert seen == [(6, 1, 8, 8, 8), (9, 1, 8, 8, 8)]
