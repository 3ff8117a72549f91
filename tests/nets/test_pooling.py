"""Pooling with a deterministic gradient pools as the usual one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from adni_tcgm.nets.pooling import MeanPool3d, mean_of_cubes


@pytest.mark.parametrize("shape", [(8, 8, 8), (7, 6, 5)])
@pytest.mark.parametrize("side", [2, 3])
def test_means_of_cubes_and_their_gradient_are_those_of_average_pooling(shape, side) -> None:
    x = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    found = []
    for pool in (lambda x: mean_of_cubes(x, side), lambda x: F.avg_pool3d(x, side), MeanPool3d(side)):
        leaf = x.clone().requires_grad_()
        pooled = pool(leaf)
        pooled.square().sum().backward()
        found.append((pooled.detach(), leaf.grad))
    for values in zip(*found, strict=True):
        torch.testing.assert_close(values[0], values[1])
        assert torch.equal(values[1], values[2])


def test_channels_that_are_last_in_memory_stay_last() -> None:
    x = torch.randn(2, 3, 7, 8, 9).contiguous(memory_format=torch.channels_last_3d)
    pooled = mean_of_cubes(x, 2)
    assert pooled.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(pooled, F.avg_pool3d(x, 2))
    assert mean_of_cubes(x.contiguous(), 2).is_contiguous()
