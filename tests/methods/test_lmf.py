"""Low-rank fusion against the full tensor that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import torch
from torch import Generator

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.lmf import LMF
from adni_tcgm.methods.method import Method, Spec
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import TrainConfig, fit, predict


def test_it_equals_the_full_tensor_of_all_products_of_features(spec: Spec, batch: MultimodalBatch) -> None:
    method = LMF(MLPConfig(), dimension=3, rank=4)
    model = method.build(spec)
    factors = [model.factors[name] for name in batch.inputs]
    tensor = torch.einsum("r,ric,rjc,rkc->ijkc", model.weights, *factors)
    z = [torch.cat([torch.ones(12, 1), model.nets[name](x)], 1) for name, x in batch.inputs.items()]
    expected = torch.einsum("bi,bj,bk,ijkc->bc", *z, tensor) + model.bias
    torch.testing.assert_close(model(batch), expected)
    assert list(method.predict(model, batch)) == ["all"]


def test_an_absent_view_is_not_read_and_leaves_only_the_constant_of_its_factor(
    spec: Spec, batch: MultimodalBatch, with_gaps: Callable[..., MultimodalBatch]
) -> None:
    model = LMF(MLPConfig(), dimension=3, rank=4).build(spec)
    found = model(with_gaps(batch, nan))
    z = [torch.cat([torch.ones(12, 1), model.nets[name](x)], 1) for name, x in batch.inputs.items()]
    parts = [torch.einsum("bk,rkc->brc", z[m], model.factors[f"view{m}"]) for m in (0, 1)]
    expected = torch.einsum("r,brc->bc", model.weights, parts[0] * parts[1] * model.factors["view2"][:, 0]) + model.bias
    torch.testing.assert_close(found[::3], expected[::3])
    torch.testing.assert_close(found[1::3], model(batch)[1::3])


def test_factors_start_with_the_variance_of_xavier() -> None:
    torch.manual_seed(0)
    spec = Spec([Modality("a", (4,)), Modality("b", (4,))], tuple("abcde"), torch.full((5,), 0.2).log())
    model = LMF(MLPConfig(), dimension=60, rank=50).build(spec)
    torch.testing.assert_close(model.factors["a"].var(), torch.tensor(2 / (61 + 5)), rtol=0.05, atol=0)
    assert model.bias.abs().max() == 0


def test_it_takes_no_unlabeled_step(spec: Spec, batch: MultimodalBatch) -> None:
    method = LMF(MLPConfig())
    assert method.unlabeled_loss(method.build(spec), batch) is None


def test_it_learns_an_interaction_that_no_single_view_shows() -> None:
    generator = Generator().manual_seed(0)

    def draw(size: int) -> MultimodalBatch:
        inputs = {name: torch.randn((size, 3), generator=generator) for name in ("a", "b")}
        labels = (inputs["a"][:, 0] * inputs["b"][:, 0] > 0).long()
        return MultimodalBatch([str(i) for i in range(size)], inputs, torch.ones(size, 2, dtype=torch.bool), labels)

    splits = Splits([Modality("a", (3,)), Modality("b", (3,))], ("no", "yes"), draw(300), draw(100), draw(300))
    config = TrainConfig(steps=300, batch_size_labeled=64, lr_labeled=1e-2)

    def accuracy(method: Method) -> float:
        predicted = predict(fit(method, splits, config), splits.test)["all"].argmax(1)
        return (predicted == splits.test.labels).float().mean().item()

    assert accuracy(LMF(MLPConfig())) > 0.9
    assert accuracy(CrossEntropy(MLPConfig())) < 0.65


def test_without_a_dimension_the_networks_own_features_are_fused(spec: Spec, batch: MultimodalBatch) -> None:
    model = LMF(MLPConfig(hidden=(5,)), dimension=None, rank=2).build(spec).eval()
    assert {factor.shape for factor in model.factors.values()} == {(2, 6, 3)}
    z = [torch.cat([torch.ones(12, 1), model.nets[name].features(x)], 1) for name, x in batch.inputs.items()]
    factors = [model.factors[name] for name in batch.inputs]
    fused = torch.einsum("bi,bj,bk,ric,rjc,rkc,r->bc", *z, *factors, model.weights)
    torch.testing.assert_close(model(batch), fused + model.bias)
