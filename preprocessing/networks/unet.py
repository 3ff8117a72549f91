"""A small three-dimensional U-Net (Çiçek et al., MICCAI 2016), and its weights as a safetensors file."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP = 4  # channels that share a normalization


class UNet(nn.Module):
    """Two convolutions a level, halved by the maximum, doubled by linear interpolation, joined with what came before.

    classes: names of the outputs in their order; channels: width of each level. Takes (n, 1, i, j, k) with sizes that
    can be halved `len(channels) - 1` times, gives logits (n, classes, i, j, k).

    >>> UNet(("background", "hippocampus"), (4, 8))(torch.zeros(1, 1, 8, 8, 8)).shape
    torch.Size([1, 2, 8, 8, 8])
    """

    def __init__(self, classes: tuple[str, ...], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.classes, self.channels = tuple(classes), tuple(channels)
        self.down = nn.ModuleList(
            [_two_layers(before, width) for before, width in zip((1, *channels), channels, strict=False)]
        )
        self.up = nn.ModuleList(
            [_two_layers(below + width, width) for width, below in zip(channels, channels[1:], strict=False)]
        )
        self.last = nn.Conv3d(channels[0], len(classes), 1)

    def forward(self, image: Tensor) -> Tensor:
        passed = []
        for number, layers in enumerate(self.down):
            image = layers(functional.max_pool3d(image, 2) if number else image)
            passed.append(image)
        image = passed.pop()
        for layers in reversed(self.up):
            wider = functional.interpolate(image, scale_factor=2, mode="trilinear", align_corners=False)
            image = layers(torch.cat([wider, passed.pop()], 1))
        return self.last(image)


def _two_layers(before: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for entering in (before, width):
        layers += [
            nn.Conv3d(entering, width, 3, padding=1, bias=False),
            nn.GroupNorm(width // GROUP, width),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


def save_network(network: UNet, path: Path, about: dict[str, str]) -> None:
    """Weights in half precision, with the shape of the network and `about` in the file's metadata."""
    from safetensors.torch import save_file

    shape = {"classes": json.dumps(network.classes), "channels": json.dumps(network.channels)}
    weights = {name: values.detach().cpu().half().contiguous() for name, values in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, metadata=shape | about)


def load_network(path: Path) -> UNet:
    """The network of a file that `save_network` wrote, in float32, for use and not for training."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)
    network = UNet(tuple(json.loads(about["classes"])), tuple(json.loads(about["channels"])))
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)
