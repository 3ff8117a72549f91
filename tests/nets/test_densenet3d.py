"""The paper's DenseNet against MONAI's, and what it accepts."""

from __future__ import annotations

import pytest
import torch

from adni_tcgm.nets.densenet3d import DenseNet3DConfig


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_paper_network_is_monais_densenet121_with_another_stem() -> None:
    densenet = pytest.importorskip("monai.networks.nets").DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)
    ours = DenseNet3DConfig.paper().build((64, 64, 64), classes=2)
    their_stem = count(densenet.features.conv0) + count(densenet.features.norm0)
    assert count(ours) - count(ours.body.stem) == count(densenet) - their_stem
    assert count(ours.body.stem) == 27 * 64 + 27 * 64 * 64 + 2 * 2 * 64
    assert count(ours) == 11_335_170


def test_the_slim_network_keeps_the_depth_with_a_seventh_of_the_parameters() -> None:
    slim, paper = DenseNet3DConfig.slim(), DenseNet3DConfig.paper()
    assert slim.blocks == paper.blocks == (6, 12, 24, 16)
    assert count(slim.build((48, 32, 32), 2)) < 1.6e6


@pytest.mark.parametrize("shape", [(48, 32, 32), (1, 48, 32, 32)])
def test_logits_are_the_head_of_the_features_for_volumes_with_or_without_a_channel(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = DenseNet3DConfig(blocks=(2, 2), growth=4, init=8).build(shape, classes=3).eval()
    x = torch.randn(2, *shape)
    assert net.features(x).shape == (2, (8 + 8) // 2 + 8)
    assert net(x).shape == (2, 3)
    assert torch.equal(net(x), net.head(net.features(x)))


def test_the_stem_alone_halves_the_volume_before_the_first_block() -> None:
    net = DenseNet3DConfig(blocks=(1,), growth=4, init=8).build((48, 32, 32), classes=2)
    assert net.body.stem(torch.zeros(1, 1, 48, 32, 32)).shape == (1, 8, 24, 16, 16)


def test_one_sample_can_be_trained_on() -> None:
    net = DenseNet3DConfig.slim().build((32, 32, 32), classes=2).train()
    net(torch.randn(1, 32, 32, 32)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_a_vector_modality_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"shape \(20,\)"):
        DenseNet3DConfig.slim().build((20,), classes=2)
