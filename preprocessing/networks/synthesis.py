"""Images drawn from label maps: any contrast, resolution, bias, noise, pose and shape.

After Billot et al. (SynthSeg, Medical Image Analysis 2023): a network that has seen every contrast needs no particular
one. Here, besides: most of the images have the order of contrasts of a T1; each voxel is the mean of four points, and
its target the share of each class among them, so that what the network says of a boundary adds up to a volume; and the
hippocampus is made smaller and larger by itself, far beyond the heads that are there, since atrophy is what is sought.
Nothing here is shared with `simulated`, whose images judge what was trained here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from preprocessing.networks.labels import (
    FLUID_AROUND_BRAIN,
    HIPPOCAMPUS_CLASSES,
    KINDS,
    LEFT_HIPPOCAMPUS,
    LEFT_OF,
    RIGHT_HIPPOCAMPUS,
    LabelMap,
)

NUMBERS = 600  # label numbers are below
# Where a voxel is looked at, in voxels from its middle: four corners of a cube half as wide, no two on one edge.
LOOKS = 0.25 * torch.tensor([[-1.0, -1, -1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
FAR_MM = 4.0  # beyond this distance from its surface a hippocampus is never grown or shrunk


@dataclass(frozen=True)
class Atlas:
    """Blocks around hippocampi, stacked on one device. numbers: (m, i, j, k) int16; centers: (m, 3) voxels, where boxes
    are drawn; depth: (m, i, j, k) float16, the distance in mm to the surface of the hippocampus, negative inside;
    beside: (m, i, j, k) int16, the nearest label that is not hippocampus.
    """

    numbers: Tensor
    centers: Tensor
    depth: Tensor
    beside: Tensor

    def to(self, device: str | torch.device) -> Atlas:
        return Atlas(*(values.to(device) for values in vars(self).values()))


def hippocampal_atlas(maps: list[LabelMap], block: tuple[int, int, int] = (88, 112, 88)) -> Atlas:
    """Blocks of both sides of every head around the hippocampus, the right ones mirrored and renumbered as left."""
    blocks, depths, besides = [], [], []
    for one in maps:
        for side in (LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS):
            numbers = _cut(one.numbers, one.centroid((side,)), block)
            if side == RIGHT_HIPPOCAMPUS:
                numbers = np.ascontiguousarray(mirror_numbers(numbers[::-1]))
            depth, beside = _depth(numbers)
            blocks.append(numbers)
            depths.append(depth)
            besides.append(beside)
    centers = torch.tensor([(n - 1) / 2 for n in block]).expand(len(blocks), 3)
    numbers, besides = (torch.from_numpy(np.stack(values)) for values in (blocks, besides))
    return Atlas(numbers, centers, torch.from_numpy(np.stack(depths)).half(), besides)


def _depth(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance in mm to the surface of the hippocampus, negative inside, up to FAR_MM; the nearest other label."""
    depth, beside = np.full(numbers.shape, FAR_MM, np.float32), numbers.copy()
    found = np.argwhere(numbers == LEFT_HIPPOCAMPUS)
    margin = int(FAR_MM) + 2
    near = tuple(
        slice(max(low - margin, 0), high + margin) for low, high in zip(found.min(0), found.max(0), strict=True)
    )
    inside = numbers[near] == LEFT_HIPPOCAMPUS
    outward, nearest = ndimage.distance_transform_edt(inside, return_indices=True)
    signed = ndimage.distance_transform_edt(~inside) - outward
    # Half a voxel: distances are between the middles of voxels, and the surface lies between two of them.
    depth[near] = np.clip(signed - 0.5 * np.sign(signed), -FAR_MM, FAR_MM)
    beside[near] = numbers[near][tuple(nearest)]
    return depth, beside


def mirror_numbers(numbers: np.ndarray) -> np.ndarray:
    """Left labels for right ones, and right for left."""
    table = np.arange(NUMBERS, dtype=np.int16)
    for right, left in LEFT_OF.items():
        table[right], table[left] = left, right
    return table[numbers]


def _cut(numbers: np.ndarray, center: np.ndarray, block: tuple[int, int, int]) -> np.ndarray:
    """The block of this shape around `center`, zero where the head ends."""
    start = [round(c - (n - 1) / 2) for c, n in zip(center, block, strict=True)]
    padded = np.pad(numbers, [(n, n) for n in block])
    return padded[tuple(slice(s + n, s + 2 * n) for s, n in zip(start, block, strict=True))]


@dataclass(frozen=True)
class Range:
    """How far images are changed. Lengths in mm, angles in degrees."""

    voxel_mm: float
    shape: tuple[int, int, int]
    shift_mm: float  # of the box, to every side
    turn: float = 16.0
    scale: float = 0.16
    shear: float = 0.1
    bend_mm: float = 3.0
    bend_every_mm: float = 24.0
    grow_mm: tuple[float, float] = (-1.1, 0.8)  # of the hippocampus's surface
    bell: tuple[float, float] = (-0.3, 0.35)  # strength of a local stretch; positive: what is there shrinks
    strip: float = 0.0  # share of images whose skull is taken off
    like_t1: float = 0.7


HIPPOCAMPUS_RANGE = Range(1.0, (40, 64, 40), 5.0)


def classes_of(classes: dict[str, tuple[int, ...]]) -> Tensor:
    """(NUMBERS,) index of the class of each label."""
    table = torch.zeros(NUMBERS, dtype=torch.long)
    for index, numbers in enumerate(classes.values()):
        table[list(numbers)] = index
    return table


class Drawing:
    """Draws images and targets from an atlas. The same seed gives the same images on the same kind of device.

    classes: HIPPOCAMPUS_CLASSES, or others whose first is background.
    """

    def __init__(self, atlas: Atlas, classes: dict[str, tuple[int, ...]], wide: Range) -> None:
        self.atlas, self.wide, self.device = atlas, wide, atlas.numbers.device
        self.count = len(classes)
        self.class_of = classes_of(classes).to(self.device)

    def draw(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Images (n, 1, *shape), mean 0 and SD 1, and the share of each class in each voxel, (n, classes, *shape)."""
        few = torch.Generator().manual_seed(seed)  # numbers of which each image needs a few
        many = torch.Generator(self.device).manual_seed(seed)  # fields and noise
        chosen = torch.randint(len(self.atlas.numbers), (n,), generator=few)
        points, axes = self._points(chosen, few, many)
        grow, becomes_fluid = self._growth(n, few, many), torch.rand(n, generator=few).to(self.device) < 0.5
        table, texture = (values.to(self.device) for values in contrast(n, self.wide.like_t1, few))
        looks, shape = LOOKS.to(self.device), (n, len(LOOKS), *self.wide.shape)
        offsets = torch.einsum("nab,lb->nla", axes, looks).view(n, len(looks), 1, 1, 1, 3)
        # All looks of an image one behind the other along its first axis.
        places = (points.unsqueeze(1) + offsets).view(n, -1, *self.wide.shape[1:], 3)
        numbers = self._labels(chosen, places, grow.repeat(1, len(looks), 1, 1), becomes_fluid).view(shape)
        image, rough = (values.gather(1, numbers.view(n, -1)).view(shape).mean(1) for values in (table, texture))
        share = torch.zeros((n, self.count, *self.wide.shape), device=self.device)
        one = torch.full((n, 1, *self.wide.shape), 1 / len(looks), device=self.device)
        for index in self.class_of[numbers].unbind(1):
            share.scatter_add_(1, index.unsqueeze(1), one)
        return normalize(self._scan(image, rough, few, many)), share

    def _points(self, chosen: Tensor, few: torch.Generator, many: torch.Generator) -> tuple[Tensor, Tensor]:
        """Atlas voxels of the middles of the image's voxels (n, *shape, 3), and the image's axes there (n, 3, 3)."""
        n, wide = len(chosen), self.wide
        axes = affines(n, wide, few) * wide.voxel_mm
        shift = wide.shift_mm * (2 * torch.rand(n, 3, generator=few) - 1)
        centers = (self.atlas.centers[chosen].cpu() + shift).to(self.device)
        axes = axes.to(self.device)
        middle = [torch.arange(size, device=self.device) - (size - 1) / 2 for size in wide.shape]
        grid = torch.stack(torch.meshgrid(*middle, indexing="ij"), -1)
        points = torch.einsum("nab,ijkb->nijka", axes, grid) + centers.view(n, 1, 1, 1, 3)
        bend = wide.bend_mm * torch.rand(n, 1, 1, 1, 1, generator=few).to(self.device)
        points = points + bend * self._smooth(n, 3, wide.bend_every_mm / wide.voxel_mm, many).movedim(1, -1)
        return self._bells(points, chosen, few), axes

    def _bells(self, points: Tensor, chosen: Tensor, few: torch.Generator) -> Tensor:
        """Stretch around two points near the centers: positive strengths read from farther out, so things shrink."""
        n = len(chosen)
        for _ in range(2):
            low, high = self.wide.bell
            strength = (low + (high - low) * torch.rand(n, 1, 1, 1, 1, generator=few)).to(self.device)
            width = (5 + 7 * torch.rand(n, 1, 1, 1, 1, generator=few)).to(self.device)
            spread = torch.tensor([4.0, 10.0, 4.0])
            at = (self.atlas.centers[chosen].cpu() + spread * torch.randn(n, 3, generator=few)).to(self.device)
            away = points - at.view(n, 1, 1, 1, 3)
            points = points + strength * torch.exp(-(away**2).sum(-1, keepdim=True) / (2 * width**2)) * away
        return points

    def _growth(self, n: int, few: torch.Generator, many: torch.Generator) -> Tensor:
        """By how many mm the hippocampus's surface moves out, (n, *shape)."""
        low, high = self.wide.grow_mm
        mean = (low + (high - low) * torch.rand(n, 1, 1, 1, generator=few)).to(self.device)
        moved = torch.rand(n, 1, 1, 1, generator=few).to(self.device) < 0.7
        field = 0.4 * self._smooth(n, 1, 14.0, many).squeeze(1)
        return torch.where(moved, mean + field, 0)

    def _labels(self, chosen: Tensor, points: Tensor, grow: Tensor, becomes_fluid: Tensor) -> Tensor:
        """Label numbers at points, 0 outside the atlas: (n, *shape) int64."""
        atlas, size = self.atlas, self.atlas.numbers.shape[1:]
        voxel = points.round().long()
        inside = torch.ones(voxel.shape[:-1], dtype=torch.bool, device=self.device)
        flat = chosen.to(self.device).view(-1, 1, 1, 1)
        for axis, length in enumerate(size):
            inside &= (voxel[..., axis] >= 0) & (voxel[..., axis] < length)
            flat = flat * length + voxel[..., axis].clamp(0, length - 1)
        numbers = torch.where(inside, atlas.numbers.view(-1)[flat].long(), 0)
        place = 2 * points / torch.tensor([n - 1 for n in size], device=self.device) - 1
        depth = functional.grid_sample(
            atlas.depth[chosen.to(self.device)].unsqueeze(1).float(), place.flip(-1), align_corners=True
        ).squeeze(1)
        beside = atlas.beside.view(-1)[flat].long()
        beside = torch.where(becomes_fluid.view(-1, 1, 1, 1), FLUID_AROUND_BRAIN, beside)
        within = (depth < grow) & inside
        return torch.where(within, LEFT_HIPPOCAMPUS, torch.where(numbers == LEFT_HIPPOCAMPUS, beside, numbers))

    def _scan(self, image: Tensor, rough: Tensor, few: torch.Generator, many: torch.Generator) -> Tensor:
        """What a scanner makes of the signals (n, *shape): texture, blur, thick slices, bias, noise, another scale."""
        n = len(image)

        def uniform(low: float, high: float) -> Tensor:
            return (low + (high - low) * torch.rand(n, 1, 1, 1, generator=few)).to(self.device)

        image = (image + rough * self._noise(many, image)).unsqueeze(1)
        image = _blurred(image, few, self.wide.voxel_mm).squeeze(1)
        bias = uniform(0, 0.4) * self._smooth(n, 1, max(self.wide.shape) / 2.5, many).squeeze(1)
        image = image * torch.exp(bias)
        noise = uniform(0, 1) ** 2 * 0.08
        image = torch.hypot(image + noise * self._noise(many, image), noise * self._noise(many, image))
        top = image.flatten(1).amax(1).view(n, 1, 1, 1).clamp(min=1e-6)
        return ((image / top) ** torch.exp(uniform(-0.3, 0.3))).unsqueeze(1)

    def _noise(self, many: torch.Generator, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=many, device=self.device)

    def _smooth(self, n: int, channels: int, every: float, many: torch.Generator) -> Tensor:
        """Smooth random fields of SD about 1 that change over `every` voxels: (n, channels, *shape)."""
        coarse = [max(2, math.ceil(size / every) + 1) for size in self.wide.shape]
        values = torch.randn((n, channels, *coarse), generator=many, device=self.device)
        return functional.interpolate(values, self.wide.shape, mode="trilinear", align_corners=True)


def contrast(n: int, like_t1: float, few: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean signal and roughness of each label, (n, NUMBERS) each; signals between 0 and about 1.

    like_t1: share of images with the order of a T1's contrasts; the others have any.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=few)

    any_contrast = uniform(0, 1, NUMBERS)
    t1 = uniform(0.05, 1.1, NUMBERS)  # what lies around the brain can have any signal
    white, gray, fluid = uniform(0.75, 1), uniform(0.5, 0.85), uniform(0.05, 0.45)
    gray, fluid = white * gray, white * gray * fluid * 1.2
    # Between grey (0) and white matter (1).
    between = {"stem": (0.5, 1.0), "cortex": (0, 0), "limbic": (-0.1, 0.3), "thalamus": (0.2, 0.9)}
    between |= {"striatum": (0, 0.6), "pallidum": (0.4, 1.0), "white": (1, 1), "lesion": (-0.2, 0.8)}
    for kind, numbers in KINDS.items():
        if kind == "fluid":
            value = fluid
        elif kind == "plexus":
            value = fluid + uniform(-0.5, 0.7).clamp(min=0) * (gray - fluid)
        elif kind == "vessel":
            value = uniform(0.05, 1.1)
        else:
            value = gray + uniform(*between[kind]) * (white - gray)
        t1[:, list(numbers)] = value.unsqueeze(1)
        any_contrast[:, list(numbers)] = uniform(0, 1).unsqueeze(1)
    # Labels of one kind differ a little, the two sides and two neighbors alike.
    jitter = 0.02 * torch.randn(n, NUMBERS, generator=few)
    chosen = torch.rand(n, 1, generator=few) < like_t1
    table = (torch.where(chosen, t1, any_contrast) + jitter).clamp(min=0)
    table[:, 0] = uniform(0, 0.05) * (torch.rand(n, generator=few) < 0.7)
    texture = uniform(0, 0.06, NUMBERS)
    texture[:, 0] = 0
    return table, texture


def normalize(image: Tensor) -> Tensor:
    """Clipped to the 1st and 99.5th percentile of what is not zero, then mean 0 and SD 1: (n, 1, i, j, k)."""
    flat = image.flatten(1)
    some = flat[:, :: max(1, flat.shape[1] // 50_000)].float()
    ends = torch.tensor([0.01, 0.995], device=image.device)
    low, high = torch.nanquantile(torch.where(some > 0, some, torch.nan), ends, dim=1).nan_to_num(0.0)
    flat = torch.clamp(flat, low.unsqueeze(1), high.unsqueeze(1))
    flat = flat - flat.mean(1, keepdim=True)
    return (flat / flat.std(1, keepdim=True).clamp(min=1e-6)).view(image.shape)


def affines(n: int, wide: Range, few: torch.Generator) -> Tensor:
    """Rotations, scales and shears, (n, 3, 3)."""
    angles = torch.deg2rad(wide.turn * (2 * torch.rand(n, 3, generator=few) - 1))
    result = torch.eye(3).expand(n, 3, 3)
    for axis, (first, second) in enumerate(((1, 2), (0, 2), (0, 1))):
        turn = torch.eye(3).repeat(n, 1, 1)
        turn[:, first, first] = turn[:, second, second] = torch.cos(angles[:, axis])
        turn[:, first, second], turn[:, second, first] = -torch.sin(angles[:, axis]), torch.sin(angles[:, axis])
        result = result @ turn
    scale = torch.exp(wide.scale * (2 * torch.rand(n, 1, generator=few) - 1))
    each = torch.exp(0.4 * wide.scale * (2 * torch.rand(n, 3, generator=few) - 1))
    shear = torch.eye(3) + wide.shear * (2 * torch.rand(n, 3, 3, generator=few) - 1) * (1 - torch.eye(3))
    return result @ shear @ torch.diag_embed(scale * each)


def _blurred(images: Tensor, few: torch.Generator, voxel_mm: float) -> Tensor:
    """Images (n, 1, i, j, k) with the resolution of some scanner: a blur an axis; some of them with thick slices."""
    n, device = len(images), images.device
    sigmas = (0.05 + 0.85 * torch.rand(n, 3, generator=few) * torch.rand(n, 1, generator=few)).to(device)
    offsets = torch.arange(-2, 3, device=device)
    blurred = images.transpose(0, 1)
    for axis in range(3):
        weights = torch.exp(-(offsets**2) / (2 * sigmas[:, axis : axis + 1] ** 2))
        shape, padding = [n, 1, 1, 1, 1], [0, 0, 0]
        shape[axis + 2], padding[axis] = 5, 2
        weights = (weights / weights.sum(1, keepdim=True)).view(shape)
        blurred = functional.conv3d(blurred, weights, padding=padding, groups=n)
    blurred = blurred.transpose(0, 1)
    thickness, axis = (
        (1 + 3 * torch.rand(1, generator=few).item()) / voxel_mm,
        int(torch.randint(3, (1,), generator=few)),
    )
    thick = (torch.rand(n, 1, 1, 1, 1, generator=few) < 0.3).to(device)
    return torch.where(thick, thick_slices(blurred, axis, thickness), blurred) if thickness > 1 else blurred


def thick_slices(image: Tensor, axis: int, thickness: float) -> Tensor:
    """Slices of `thickness` voxels along an axis, and back by linear interpolation."""
    shape = list(image.shape[2:])
    coarse = [max(2, round(size / thickness)) if other == axis else size for other, size in enumerate(shape)]
    return functional.interpolate(
        functional.interpolate(image, coarse, mode="area"), shape, mode="trilinear", align_corners=False
    )


def hippocampal_drawing(maps: list[LabelMap], device: str | torch.device = "cpu") -> Drawing:
    return Drawing(hippocampal_atlas(maps).to(device), HIPPOCAMPUS_CLASSES, HIPPOCAMPUS_RANGE)
