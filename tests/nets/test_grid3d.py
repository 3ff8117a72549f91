from __future__ import annotations

import pytest
import torch

from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.nets.grid3d import Grid3DConfig


def blob(depth: int) -> torch.Tensor:
    """(1, 1, 32, 16, 16), zero but for a cube at that depth."""
    volume = torch.zeros(1, 1, 32, 16, 16)
    volume[..., depth : depth + 4, 4:8, 4:8] = 1
    return volume


def distance_of_blobs(net: torch.nn.Module) -> float:
    """Between what the net makes of the same blob at two places, in units of its size."""
    net.eval()
    with torch.no_grad():
        one, other = net.features(blob(8)), net.features(blob(16))
    return ((one - other).norm() / (one - net.features(torch.zeros(1, 1, 32, 16, 16))).norm()).item()


def test_it_tells_where_something_is():
    torch.manual_seed(0)
    assert distance_of_blobs(Grid3DConfig().build((1, 32, 16, 16), 2)) > 1


def test_a_densenet_hardly_tells_where_something_is():
    torch.manual_seed(0)
    assert distance_of_blobs(DenseNet3DConfig(blocks=(2,), growth=4, init=4).build((1, 32, 16, 16), 2)) < 0.5


@pytest.mark.parametrize("shape", [(48, 32, 32), (1, 48, 32, 32), (1, 20, 17, 30)])
def test_volumes_with_and_without_channels_give_as_many_outputs_as_asked(shape):
    assert Grid3DConfig().build(shape, 5)(torch.zeros(2, *shape)).shape == (2, 5)


def test_vectors_and_volumes_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match=r"input shape \(9,\)"):
        Grid3DConfig().build((9,), 2)
    with pytest.raises(ValueError, match="need 8 or more"):
        Grid3DConfig().build((1, 7, 16, 16), 2)
