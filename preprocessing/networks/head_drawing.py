"""Images of whole heads drawn from label maps, quick on a CPU too: what `synthesis` says of drawing, at 2 mm.

Places are computed on a coarse grid and interpolated; labels are small numbers, gathered at four points a voxel.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from preprocessing.networks.labels import FLUID_AROUND_BRAIN, HEAD_CLASSES, INSIDE_SKULL, LabelMap
from preprocessing.networks.synthesis import (
    LOOKS,
    NUMBERS,
    Range,
    affines,
    classes_of,
    contrast,
    normalize,
    thick_slices,
)
from preprocessing.networks.unet import fold

HEAD_RANGE = Range(2.0, (88, 104, 88), 10.0, bend_mm=5.0, bend_every_mm=40.0, strip=0.25, like_t1=0.9)
COARSE = 4  # voxels between places that are computed
# Tools that take off the skull leave some of what lies around the brain: at most so many mm.
LEFT_ON_MM = (2, 6)
BORDER = 2  # voxels of air around an atlas


class HeadDrawing:
    """Draws images and targets from whole heads, on `device`. The same seed gives the same images on one device."""

    def __init__(self, maps: list[LabelMap], wide: Range = HEAD_RANGE, device: str | torch.device = "cpu") -> None:
        self.wide, self.device = wide, torch.device(device)
        numbers = np.unique(np.concatenate([np.unique(one.numbers) for one in maps]))
        self.numbers = torch.from_numpy(numbers.astype(np.int64))
        class_of = classes_of(HEAD_CLASSES)[self.numbers].repeat(len(LEFT_ON_MM) + 1)
        self.class_of = class_of.to(self.device, torch.uint8)
        self.count = len(HEAD_CLASSES)
        self.heads = [(head.to(self.device), center) for head, center in (_small(one, numbers) for one in maps)]

    def draw(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Images (n, 1, *shape), mean 0 and SD 1, and how many looks at each voxel saw each class, (n, voxels, classes)
        uint8, voxels in the order of `FoldedUNet.folded`."""
        images, counts = zip(*[self._draw(seed * 64 + number) for number in range(n)], strict=True)
        return torch.stack(images), torch.stack(counts)

    def _draw(self, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        many = torch.Generator(self.device).manual_seed(seed)
        head, center = self.heads[int(torch.randint(len(self.heads), (1,), generator=generator))]
        labels = self._labels(head, *self._places(center, generator))
        table, texture = (values[0, self.numbers] for values in contrast(1, self.wide.like_t1, generator))
        table, texture = (values.repeat(len(LEFT_ON_MM) + 1).to(self.device) for values in (table, texture))
        class_of = self.class_of.clone()
        if torch.rand(1, generator=generator) < self.wide.strip:
            first = len(self.numbers) * int(torch.randint(1, len(LEFT_ON_MM) + 1, (1,), generator=generator))
            table[first:], class_of[first:] = 0, 0
        image = sum(table.index_select(0, look) for look in labels).view(self.wide.shape) / len(labels)
        rough = texture.index_select(0, labels[0]).view(image.shape) * (image > 0)
        counts = torch.zeros((image.numel(), self.count), dtype=torch.uint8, device=self.device)
        one = torch.ones((1, 1), dtype=torch.uint8, device=self.device)
        for look in labels:
            seen = class_of.index_select(0, look).view(1, 1, *image.shape)
            index = fold(seen).movedim(1, -1).reshape(-1, 1).long()
            counts.scatter_add_(1, index, one.expand(index.shape))
        return normalize(self._scan(image, rough, generator, many)[None, None])[0], counts

    def _places(self, center: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Atlas voxels of the middles of the image's voxels, (3, *shape), and the image's axes there, (3, 3)."""
        wide = self.wide
        axes = affines(1, wide, generator)[0] * wide.voxel_mm
        axes[:, 0] *= 1 if torch.rand(1, generator=generator) < 0.5 else -1  # classes have no sides
        middle = center + wide.shift_mm * (2 * torch.rand(3, generator=generator) - 1)
        nodes = [torch.linspace(-(size - 1) / 2, (size - 1) / 2, math.ceil(size / COARSE) + 1) for size in wide.shape]
        grid = torch.stack(torch.meshgrid(*nodes, indexing="ij"))
        points = torch.einsum("ab,bijk->aijk", axes, grid) + middle.view(3, 1, 1, 1)
        bend = wide.bend_mm * torch.rand(1, generator=generator)
        every = wide.bend_every_mm / wide.voxel_mm / COARSE
        points = points + bend * _smooth(3, grid.shape[1:], every, generator)
        for _ in range(3):  # stretched around some points: positive strengths read from farther out, so things shrink
            low, high = wide.bell
            strength = low + (high - low) * torch.rand(1, generator=generator)
            width = 6 + 14 * torch.rand(1, generator=generator)
            away = points - (center + 25 * torch.randn(3, generator=generator)).view(3, 1, 1, 1)
            points = points + strength * torch.exp(-(away**2).sum(0) / (2 * width**2)) * away
        points = points[None].to(self.device)
        return functional.interpolate(points, wide.shape, mode="trilinear", align_corners=True)[0], axes

    @staticmethod
    def _labels(head: Tensor, points: Tensor, axes: Tensor) -> list[Tensor]:
        """Small numbers at each look, each (voxels,) int32."""
        rows, columns, depth = head.shape
        clamped = [points[axis].clamp(BORDER, size - 1 - BORDER) for axis, size in enumerate(head.shape)]
        flat, labels = head.view(-1), []
        for offset in (LOOKS @ axes.T + 0.5).tolist():
            i, j, k = ((values + by).int() for values, by in zip(clamped, offset, strict=True))
            place = i.mul_(columns).add_(j).mul_(depth).add_(k)
            labels.append(flat.index_select(0, place.view(-1)).int())
        return labels

    def _scan(self, image: Tensor, rough: Tensor, generator: torch.Generator, many: torch.Generator) -> Tensor:
        """What a scanner makes of the signals (*shape): texture, blur, thick slices, bias, noise, another scale."""

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * torch.rand(1, generator=generator).item()

        def noise() -> Tensor:
            return torch.randn(image.shape, generator=many, device=image.device)

        image = image + rough * noise()
        most = uniform(0, 1)
        for axis in range(3):
            image = _blurred(image, axis, 0.3 * most * uniform(0, 1))
        if uniform(0, 1) < 0.25:
            image = thick_slices(image[None, None], int(uniform(0, 3)), uniform(1, 2.5))[0, 0]
        bias = uniform(0, 0.4) * _smooth(1, image.shape, max(self.wide.shape) / 2.5, generator, image.device)[0]
        image = image * bias.exp_()
        sd = uniform(0, 1) ** 2 * 0.08
        image = torch.hypot(image + sd * noise(), sd * noise())
        return (image / image.max().clamp(min=1e-6)) ** math.exp(uniform(-0.3, 0.3))


def _small(one: LabelMap, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
    """The head cut out with air around it, uint8, and the middle of what lies inside the skull, (3,).

    The place of each label in `numbers`, plus their count for each of LEFT_ON_MM that it lies farther from the brain.
    """
    found = [(axis.min(), axis.max() + 1) for axis in np.nonzero(one.numbers)]
    cut = np.pad(one.numbers[tuple(slice(*ends) for ends in found)], BORDER + 1)
    place = np.zeros(NUMBERS, np.int16)
    place[numbers] = np.arange(len(numbers))
    small = place[cut]
    brain = np.isin(cut[::2, ::2, ::2], [number for number in INSIDE_SKULL if number != FLUID_AROUND_BRAIN])
    distance = ndimage.distance_transform_edt(~brain, sampling=2.0)
    level = sum((distance > mm).astype(np.uint8) for mm in LEFT_ON_MM)
    for axis in range(3):
        level = level.repeat(2, axis)
    small += len(numbers) * level[tuple(slice(size) for size in cut.shape)]
    center = one.centroid(INSIDE_SKULL) - [low - BORDER - 1 for low, _ in found]
    return torch.from_numpy(small.astype(np.uint8)), torch.from_numpy(center).float()


def _smooth(
    channels: int, shape: tuple[int, ...], every: float, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Tensor:
    """Smooth random fields of SD about 1 that change over `every` voxels: (channels, *shape)."""
    coarse = [max(2, math.ceil(size / every) + 1) for size in shape]
    values = torch.randn((1, channels, *coarse), generator=generator).to(device)
    return functional.interpolate(values, tuple(shape), mode="trilinear", align_corners=True)[0]


def _blurred(image: Tensor, axis: int, side: float) -> Tensor:
    """Each voxel mixed with its two neighbors along an axis, of which each has the weight `side`."""
    length = image.shape[axis]
    blurred = image * (1 - 2 * side)
    blurred.narrow(axis, 1, length - 1).add_(image.narrow(axis, 0, length - 1), alpha=side)
    blurred.narrow(axis, 0, length - 1).add_(image.narrow(axis, 1, length - 1), alpha=side)
    return blurred
