"""Average pooling of volumes whose gradient can be repeated to the bit on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MeanPool3d(nn.AvgPool3d):
    """The mean of each cube of `kernel_size` voxels; what fills no cube is left out.

    On a GPU torch's own has a gradient that is not deterministic, and leaves the channels first, so that every layer
    behind it would put them last again; there the mean of a view is taken.

    >>> import torch
    >>> MeanPool3d(2)(torch.ones(1, 1, 4, 4, 5)).shape
    torch.Size([1, 1, 2, 2, 2])
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            return mean_of_cubes(x, self.kernel_size)
        return super().forward(x)


def mean_of_cubes(x: Tensor, side: int) -> Tensor:
    """(B, C, D, H, W) -> (B, C, D // side, H // side, W // side), with the channels last in memory if they were.

    >>> import torch
    >>> mean_of_cubes(torch.arange(8.0).view(1, 1, 2, 2, 2), 2).item()
    3.5
    """
    d, h, w = (length // side for length in x.shape[2:])
    cubes = x[:, :, : side * d, : side * h, : side * w]
    # Axes in the order of the memory: the mean of a tensor comes out in the order of its axes.
    last = x.is_contiguous(memory_format=torch.channels_last_3d)
    cubes = cubes.permute(0, 2, 3, 4, 1) if last else cubes
    first = 1 if last else 2
    for axis, length in zip((first + 2, first + 1, first), (w, h, d), strict=True):
        cubes = cubes.unflatten(axis, (length, side))
    means = cubes.mean((first + 1, first + 3, first + 5))
    return means.permute(0, 4, 1, 2, 3) if last else means
