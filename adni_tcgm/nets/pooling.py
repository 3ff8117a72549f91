"""Average pooling of volumes whose gradient can be repeated to the bit on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MeanPool3d(nn.AvgPool3d):
    """The mean of each cube of `kernel_size` voxels; what fills no cube is left out.

    On a GPU the gradient of average pooling is not deterministic; where that is asked for, the mean of a view is taken.

    >>> import torch
    >>> MeanPool3d(2)(torch.ones(1, 1, 4, 4, 5)).shape
    torch.Size([1, 1, 2, 2, 2])
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda and torch.are_deterministic_algorithms_enabled():
            return mean_of_cubes(x, self.kernel_size)
        return super().forward(x)


def mean_of_cubes(x: Tensor, side: int) -> Tensor:
    """(B, C, D, H, W) -> (B, C, D // side, H // side, W // side).

    >>> import torch
    >>> mean_of_cubes(torch.arange(8.0).view(1, 1, 2, 2, 2), 2).item()
    3.5
    """
    d, h, w = (length // side for length in x.shape[2:])
    cubes = x[:, :, : side * d, : side * h, : side * w]
    return cubes.unflatten(4, (w, side)).unflatten(3, (h, side)).unflatten(2, (d, side)).mean((3, 5, 7))
