"""A small three-dimensional U-Net (Çiçek et al., MICCAI 2016), and its weights as a safetensors file."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP = 4  # channels that share a normalization
FOLD = 2


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
            [_layers(before, width, 2) for before, width in zip((1, *channels), channels, strict=False)]
        )
        self.up = nn.ModuleList(
            [_layers(below + width, width, 2) for width, below in zip(channels, channels[1:], strict=False)]
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


class FoldedUNet(nn.Module):
    """A U-Net on voxels twice as wide that sees and says eight values a voxel, for a whole head on a CPU.

    The image is folded: each cube of 2 x 2 x 2 voxels becomes one voxel of eight channels (space to depth; Shi et al.,
    CVPR 2016), and learns where in the box it lies, since heads lie in the middle. What comes up is added to what was
    passed by, which costs half of joining the two.

    classes, channels: as of UNet. Takes (n, 1, i, j, k) with sizes that can be halved `len(channels)` times, gives
    logits (n, classes, i, j, k).

    >>> FoldedUNet(("background", "cortex"), (8, 16))(torch.zeros(1, 1, 8, 8, 8)).shape
    torch.Size([1, 2, 8, 8, 8])
    """

    def __init__(self, classes: tuple[str, ...], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.classes, self.channels = tuple(classes), tuple(channels)
        pairs = list(pairwise(channels))
        entering = FOLD**3 + 3  # values and place
        self.down = nn.ModuleList([_layers(entering, channels[0], 1), *(_layers(a, b, 2) for a, b in pairs)])
        self.narrow = nn.ModuleList([nn.Conv3d(below, width, 1) for width, below in pairs])
        self.up = nn.ModuleList([_layers(a, a, 2 if number else 1) for number, (a, _) in enumerate(pairs)])
        self.last = nn.Linear(channels[0] + entering, FOLD**3 * len(classes))

    def expect(self, shares: Tensor) -> None:
        """Start from how common each class is (classes,), so that training needs not find that out first."""
        logits = (shares / shares.sum()).clamp(min=1e-4).log()
        with torch.no_grad():
            self.last.bias.copy_(logits.repeat(FOLD**3))

    def forward(self, image: Tensor) -> Tensor:
        n, _, *sizes = image.shape
        halves = [size // FOLD for size in sizes]
        logits = self.folded(image).view(n, *halves, FOLD, FOLD, FOLD, len(self.classes))
        return logits.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(n, len(self.classes), *sizes)

    def folded(self, image: Tensor) -> Tensor:
        """Logits (n, voxels, classes), the eight voxels of a cube one behind the other; in training half as costly."""
        cubes = fold(image)
        axes = [torch.linspace(-1, 1, size, device=image.device) for size in cubes.shape[2:]]
        place = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(image), -1, -1, -1, -1)
        entered = image = torch.cat([cubes, place], 1).contiguous(memory_format=torch.channels_last_3d)
        passed = []
        for number, layers in enumerate(self.down):
            image = layers(functional.max_pool3d(image, 2) if number else image)
            passed.append(image)
        image = passed.pop()
        for layers, narrow in zip(reversed(self.up), reversed(self.narrow), strict=True):
            wider = functional.interpolate(narrow(image), scale_factor=2, mode="trilinear", align_corners=False)
            image = layers(wider + passed.pop())
        rows = torch.cat([image, entered], 1).movedim(1, -1).flatten(1, 3)
        return self.last(rows).view(len(rows), -1, len(self.classes))


def fold(image: Tensor) -> Tensor:
    """Each cube of FOLD voxels a side as one voxel with channels: (n, 1, i, j, k) -> (n, FOLD**3, i/2, j/2, k/2)."""
    n, _, i, j, k = image.shape
    cubes = image.reshape(n, i // FOLD, FOLD, j // FOLD, FOLD, k // FOLD, FOLD)
    return cubes.permute(0, 2, 4, 6, 1, 3, 5).reshape(n, FOLD**3, i // FOLD, j // FOLD, k // FOLD)


def _layers(before: int, width: int, number: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for entering in (before, *[width] * (number - 1)):
        layers += [
            nn.Conv3d(entering, width, 3, padding=1, bias=False),
            nn.GroupNorm(width // GROUP, width),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


NETWORKS = {"UNet": UNet, "FoldedUNet": FoldedUNet}


def save_network(network: UNet | FoldedUNet, path: Path, about: dict[str, str]) -> None:
    """Weights in half precision, with the shape of the network and `about` in the file's metadata."""
    from safetensors.torch import save_file

    shape = {
        "network": type(network).__name__,
        "classes": json.dumps(network.classes),
        "channels": json.dumps(network.channels),
    }
    weights = {name: values.detach().cpu().half().contiguous() for name, values in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, metadata=shape | about)


def load_network(path: Path) -> UNet | FoldedUNet:
    """The network of a file that `save_network` wrote, in float32, for use and not for training."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)
    kind = NETWORKS[about.get("network", "UNet")]
    network = kind(tuple(json.loads(about["classes"])), tuple(json.loads(about["channels"])))
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)
