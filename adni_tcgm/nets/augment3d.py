"""Augmentation of volumes: one transform a sample, the same for all of its modalities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations

import torch
from torch import Generator, Tensor

from adni_tcgm.tcgm.batch import MultimodalBatch

_AXIS_ORDERS = tuple(permutations(range(3)))


@dataclass(frozen=True)
class Augment3D:
    """Random crops, flips and transpositions of co-registered volumes; vectors pass unchanged.

    crop: size of what is cut, in voxels. The input volumes carry at least `margin` voxels more on every side.
    margin: the crop lies up to this many voxels off the center, on each axis.
    flip: which of the three axes are mirrored, each with probability 1/2. Axis 0 is left-right.
    transpose: reorder the axes at random; cubic crops only.

    >>> import torch
    >>> present, labels = torch.ones(1, 1, dtype=torch.bool), torch.tensor([-1])
    >>> batch = MultimodalBatch(["a"], {"mri": torch.zeros(1, 8, 8, 8)}, present, labels)
    >>> Augment3D(crop=(4, 4, 4)).center(batch).inputs["mri"].shape
    torch.Size([1, 4, 4, 4])
    """

    crop: tuple[int, int, int]
    margin: int = 2
    flip: tuple[bool, bool, bool] = field(default=(True, False, False))
    transpose: bool = False

    def __post_init__(self) -> None:
        if self.transpose and len(set(self.crop)) > 1:
            raise ValueError(f"crop {self.crop} is not a cube; a random transposition of axes would change its shape")

    @classmethod
    def paper(cls, crop: tuple[int, int, int], margin: int) -> Augment3D:
        """Random crop, random flip of every axis, random transposition (paper section 6.3)."""
        return cls(crop, margin, flip=(True, True, True), transpose=True)

    def __call__(self, batch: MultimodalBatch, generator: Generator) -> MultimodalBatch:
        """A random view of each sample. The number of draws depends on the size of the batch only."""
        size = len(batch)
        shifts = torch.randint(-self.margin, self.margin + 1, (size, 3), generator=generator)
        flips = (torch.rand((size, 3), generator=generator) < 0.5) & torch.tensor(self.flip)
        orders = torch.randint(len(_AXIS_ORDERS), (size,), generator=generator) * self.transpose
        return self._map_volumes(
            batch,
            lambda volume, i: _orient(
                self._cut(volume, shifts[i].tolist()), flips[i].tolist(), _AXIS_ORDERS[orders[i]]
            ),
            self.margin,
        )

    def center(self, batch: MultimodalBatch) -> MultimodalBatch:
        """The central crop of each sample: what evaluation sees. The volumes need no margin for it."""
        return self._map_volumes(batch, lambda volume, _: self._cut(volume, [0, 0, 0]), 0)

    def _map_volumes(
        self, batch: MultimodalBatch, transform: Callable[[Tensor, int], Tensor], margin: int
    ) -> MultimodalBatch:
        inputs = dict(batch.inputs)
        for name, values in inputs.items():
            if values.ndim < 4:
                continue
            spare = min((have - want) // 2 for have, want in zip(values.shape[-3:], self.crop, strict=True))
            if spare < margin:
                raise ValueError(
                    f"modality {name!r} has volumes of {tuple(values.shape[-3:])} voxels; "
                    f"crop {self.crop} with margin {margin} needs {margin} more on every side"
                )
            views = [transform(values[i], i) for i in range(len(values))]
            inputs[name] = torch.stack(views) if views else values.new_zeros((0, *values.shape[1:-3], *self.crop))
        return batch.with_inputs(inputs)

    def _cut(self, volume: Tensor, shift: list[int]) -> Tensor:
        for axis, (size, offset) in enumerate(zip(self.crop, shift, strict=True), start=volume.ndim - 3):
            volume = volume.narrow(axis, (volume.shape[axis] - size) // 2 + offset, size)
        return volume


def _orient(volume: Tensor, flips: list[bool], order: tuple[int, ...]) -> Tensor:
    """Mirror the spatial axes marked in `flips`, then put the three in `order`."""
    first = volume.ndim - 3
    volume = volume.flip([first + axis for axis, flipped in enumerate(flips) if flipped])
    return volume.permute(*range(first), *(first + axis for axis in order))
