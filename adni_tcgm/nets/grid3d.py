"""A small network for volumes that lie in one space: it keeps where things are.

A network that ends in a mean over all places, as a DenseNet does, must recognize the hippocampus before it can measure
it. In registered volumes the hippocampus is where it always is: here the last layer has weights of its own for every
place. It learns regional volumes from 200 volumes in seconds, and costs a hundredth of the slim DenseNet.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from adni_tcgm.nets.pooling import MeanPool3d


@dataclass(frozen=True)
class Grid3DConfig:
    """patch: voxels of each axis that the first layer joins. widths: channels of the two convolutions.

    pool: patches of each axis that are averaged before the last layer.

    >>> Grid3DConfig(patch=4).build((16, 16, 16), 5).__class__.__name__
    'Grid3D'
    """

    patch: int = 4
    widths: tuple[int, ...] = (8, 16)
    pool: int = 2

    def build(self, shape: tuple[int, ...], classes: int) -> Grid3D:
        if len(shape) not in (3, 4):
            raise ValueError(f"input shape {shape}; the grid takes volumes, shape (D, H, W) or (channels, D, H, W)")
        size, step = shape[-3:], self.patch * self.pool
        if min(size) < step:
            raise ValueError(f"volumes of {size} voxels; patch {self.patch} and pool {self.pool} need {step} or more")
        return Grid3D(self, channels=1 if len(shape) == 3 else shape[0], size=size, outputs=classes)


class Grid3D(nn.Module):
    """(B, D, H, W) or (B, channels, D, H, W) volumes -> (B, outputs).

    >>> import torch
    >>> Grid3DConfig().build((16, 16, 16), 5)(torch.zeros(2, 16, 16, 16)).shape
    torch.Size([2, 5])
    """

    def __init__(self, config: Grid3DConfig, channels: int, size: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        first, second = config.widths
        self.body = nn.Sequential(
            nn.Conv3d(channels, first, config.patch, stride=config.patch, bias=False),
            nn.BatchNorm3d(first),
            nn.ReLU(inplace=True),
            nn.Conv3d(first, second, 3, padding=1, bias=False),
            nn.BatchNorm3d(second),
            nn.ReLU(inplace=True),
            MeanPool3d(config.pool),
            nn.Flatten(),
        )
        places = 1
        for length in size:
            places *= length // config.patch // config.pool
        self.head = nn.Linear(second * places, outputs)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x.unsqueeze(1) if x.ndim == 4 else x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))
