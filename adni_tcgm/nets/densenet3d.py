"""The paper's 3D DenseNet (section 6.3): two 3x3x3 convolutions in front, no first pooling.

Reference: Huang et al., Densely Connected Convolutional Networks, CVPR 2017. The paper is silent on the stride of the
two convolutions: here the first halves the volume, as the 7x7 convolution that they replace does.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adni_tcgm.nets.pooling import MeanPool3d


@dataclass(frozen=True)
class DenseNet3DConfig:
    """blocks: dense layers in each block. growth: channels a layer adds. init: channels of the stem.

    >>> DenseNet3DConfig.slim().growth < DenseNet3DConfig.paper().growth
    True
    """

    blocks: tuple[int, ...] = (6, 12, 24, 16)
    growth: int = 32
    init: int = 64
    bottleneck: int = 4
    dropout: float = 0.0

    @classmethod
    def paper(cls) -> DenseNet3DConfig:
        """11.3 M parameters; for a GPU."""
        return cls()

    @classmethod
    def slim(cls) -> DenseNet3DConfig:
        """The same depth with 1.6 M parameters; for a CPU."""
        return cls(growth=12, init=16)

    def build(self, shape: tuple[int, ...], classes: int) -> DenseNet3D:
        if len(shape) not in (3, 4):
            raise ValueError(
                f"input shape {shape}; the 3D DenseNet takes volumes, shape (D, H, W) or (channels, D, H, W)"
            )
        return DenseNet3D(self, channels=1 if len(shape) == 3 else shape[0], classes=classes)


class DenseNet3D(nn.Module):
    """(B, D, H, W) or (B, channels, D, H, W) volumes -> (B, classes) logits.

    >>> import torch
    >>> net = DenseNet3DConfig(blocks=(2, 2), growth=4, init=4).build((16, 16, 16), 2)
    >>> net.eval()(torch.zeros(1, 16, 16, 16)).shape
    torch.Size([1, 2])
    """

    # Half of a step goes to what lies between the convolutions and can be fused.
    worth_compiling = True

    def __init__(self, config: DenseNet3DConfig, channels: int, classes: int) -> None:
        super().__init__()
        width = config.init
        layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_stem(channels, width))
        for number, depth in enumerate(config.blocks, start=1):
            if number > 1:
                layers[f"transition{number - 1}"] = _transition(width, width // 2)
                width //= 2
            layers[f"block{number}"] = _block(config, width, depth)
            width += depth * config.growth
        layers["norm"] = _BatchNorm(width)
        layers["relu"] = nn.ReLU(inplace=True)
        self.body = nn.Sequential(layers)
        self.head = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            x = x.unsqueeze(1)
        # A plain mean, because the gradient of adaptive pooling is not deterministic on a GPU.
        return self.body(x).mean((2, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class _BatchNorm(nn.BatchNorm3d):
    """Batch normalization that takes a volume with its channels last for an image: the same numbers in the same memory,
    for which a GPU's kernels are faster where maps are large (benchmarks/RESULTS.md)."""

    def forward(self, x: Tensor) -> Tensor:
        if not (x.is_cuda and x.is_contiguous(memory_format=torch.channels_last_3d)):
            return super().forward(x)
        batch, channels, depth, height, width = x.shape
        image = x.permute(0, 2, 3, 4, 1).reshape(batch, depth * height, width, channels).permute(0, 3, 1, 2)
        normalized = super().forward(image)
        return normalized.permute(0, 2, 3, 1).reshape(batch, depth, height, width, channels).permute(0, 4, 1, 2, 3)

    def _check_input_dim(self, input: Tensor) -> None:
        """4 axes or 5."""


class _DenseLayer(nn.Module):
    """Appends `growth` channels, computed from all channels so far."""

    def __init__(self, config: DenseNet3DConfig, width: int) -> None:
        super().__init__()
        inner = config.bottleneck * config.growth
        self.body = nn.Sequential(
            _BatchNorm(width),
            nn.ReLU(inplace=True),
            nn.Conv3d(width, inner, 1, bias=False),
            _BatchNorm(inner),
            nn.ReLU(inplace=True),
            nn.Conv3d(inner, config.growth, 3, padding=1, bias=False),
            nn.Dropout3d(config.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def _stem(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(channels, width, 3, stride=2, padding=1, bias=False),
        _BatchNorm(width),
        nn.ReLU(inplace=True),
        nn.Conv3d(width, width, 3, padding=1, bias=False),
        _BatchNorm(width),
        nn.ReLU(inplace=True),
    )


def _block(config: DenseNet3DConfig, width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(_DenseLayer(config, width + i * config.growth) for i in range(depth)))


def _transition(width: int, narrowed: int) -> nn.Sequential:
    return nn.Sequential(
        _BatchNorm(width), nn.ReLU(inplace=True), nn.Conv3d(width, narrowed, 1, bias=False), MeanPool3d(2)
    )
