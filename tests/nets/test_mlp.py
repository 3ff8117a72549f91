"""The classifier for vectors."""

from __future__ import annotations

import pytest
import torch

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import Modality
from adni_tcgm.tcgm.trainer import Spec


def test_without_hidden_layers_it_is_linear() -> None:
    net = MLPConfig().build((5,), classes=3)
    x = torch.randn(4, 5)
    assert torch.equal(net(x), x @ net.head.weight.T + net.head.bias)
    assert sum(parameter.numel() for parameter in net.parameters()) == 5 * 3 + 3


def test_without_bias_a_document_without_words_has_equal_logits() -> None:
    net = MLPConfig(bias=False).build((5,), classes=3)
    x = torch.randn(4, 5)
    assert torch.equal(net(torch.zeros(1, 5)), torch.zeros(1, 3))
    assert torch.equal(net(x), x @ net.head.weight.T)


def test_a_classifier_without_bias_can_be_trained_by_a_method() -> None:
    spec = Spec([Modality("text", (5,))], ["a", "b"], torch.tensor([0.5, 0.5]).log())
    model = CrossEntropy(MLPConfig(bias=False)).build(spec)
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]


def test_logits_are_the_head_of_the_features() -> None:
    net = MLPConfig(hidden=(8, 6), dropout=0.5).build((5,), classes=3).eval()
    x = torch.randn(4, 5)
    assert net.features(x).shape == (4, 6)
    assert torch.equal(net(x), net.head(net.features(x)))


def test_dropout_acts_in_training_only() -> None:
    net = MLPConfig(hidden=(64,), dropout=0.5).build((5,), classes=2)
    x = torch.ones(1, 5)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_a_volume_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 4, 4\)"):
        MLPConfig().build((4, 4, 4), classes=2)
