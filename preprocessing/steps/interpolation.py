"""Linear interpolation and Gaussian filters of several whole maps at once, many times as fast as `scipy.ndimage`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    import torch


def trilinear(
    maps: np.ndarray, where: np.ndarray, outside: str = "border", shape: tuple[int, int, int] | None = None
) -> np.ndarray:
    """Values of `maps` (C, I, J, K) at voxel positions `where` (3, ...): (C, ...) float32.

    outside: "border": constant there; "zeros". shape: of a grid over whose whole width the positions, (3, i, j, k) of
    it, are stretched first, linear between them: (C, *shape).
    """
    import torch

    torch.set_num_threads(1)  # one process a person, one thread a process
    # grid_sample counts from -1 to 1, and names the last axis first.
    grid = np.empty((*where.shape[1:], 3), np.float32)
    for axis, size in enumerate(maps.shape[1:]):
        np.multiply(where[axis], np.float32(2 / (size - 1)), out=grid[..., 2 - axis], casting="same_kind")
    grid -= 1
    places = torch.from_numpy(grid)
    if shape:
        places = _stretched(places.permute(3, 0, 1, 2), shape, corners=True).permute(1, 2, 3, 0)
    found = torch.nn.functional.grid_sample(
        torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[None],
        places.reshape(1, 1, 1, -1, 3),
        padding_mode=outside,
        align_corners=True,
    )
    return found.numpy().reshape(len(maps), *(shape or where.shape[1:]))


def stretched(values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A map (I, J, K) on a finer grid over the same box, linear between its voxels: `shape`, float32."""
    import torch

    return _stretched(torch.from_numpy(values[None].astype(np.float32)), shape, corners=False)[0].numpy()


def _stretched(values: torch.Tensor, shape: tuple[int, int, int], corners: bool) -> torch.Tensor:
    """(C, I, J, K) -> (C, *shape); corners: first and last voxels lie in the same places, else the outer faces do."""
    import torch

    return torch.nn.functional.interpolate(values[None], shape, mode="trilinear", align_corners=corners)[0]


def gaussian(values: np.ndarray, sigma_voxels: float | np.ndarray) -> np.ndarray:
    """`ndimage.gaussian_filter` over the last three axes, each by one product with a matrix.

    sigma_voxels: of all three axes, or of each.
    """
    sigmas = np.broadcast_to(sigma_voxels, 3)
    along = [
        ndimage.gaussian_filter1d(np.eye(size, dtype=np.float32), sigma, axis=0)
        for size, sigma in zip(values.shape[-3:], sigmas, strict=True)
    ]
    planes = values.reshape(*values.shape[:-2], -1)
    return along[1] @ (along[0] @ planes).reshape(values.shape) @ along[2].T
