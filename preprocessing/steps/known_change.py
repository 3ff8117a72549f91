"""Known changes put into somebody's own scans: hippocampi that shrink by a set share, and a set loss of FDG uptake.

The change lies where the atlas's regions come to lie in the person, by the person's own registration; no segmentation
of the person enters. Atrophy is one fixed smooth deformation around the atlas's hippocampi (a curl-free field whose
divergence is even over them and 6 mm around, and which the tissue further out makes good), carried over with the
affine part of the registration. Its strength is set so that the carried atlas hippocampi lose the wanted share.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import fft, ndimage

from preprocessing.steps import resample, template
from preprocessing.steps.register import Transforms

EVEN_STEPS, FAR_STEPS, END_STEPS = 3, 8, 14  # dilations of the 2 mm grid: where the field is even, made good, and over
BISECTIONS = 14
STRONGEST = 0.6
MARGIN_MM = 12.0
UPTAKE_STEPS = 2  # dilations: the PET's loss is whole within the region at the PET's resolution


@cache
def shrinking_field() -> np.ndarray:
    """(3, 91, 109, 91) mm: where to look, from a point of the template, per unit of log-volume that is taken away."""
    hippocampi = template.region_mask("hippocampus")
    core = ndimage.gaussian_filter(ndimage.binary_dilation(hippocampi, iterations=EVEN_STEPS).astype(float), 1)
    near = ndimage.binary_dilation(hippocampi, iterations=EVEN_STEPS + 1)
    rim = ndimage.binary_dilation(hippocampi, iterations=FAR_STEPS) & ~near
    shell = ndimage.gaussian_filter(rim.astype(float), 1)
    source = core / core.max() - shell * (core.sum() / core.max() / shell.sum())
    waves = np.meshgrid(
        *(np.sin(2 * np.pi * fft.fftfreq(n)) / template.SPACING_MM for n in source.shape), indexing="ij"
    )
    square = sum(wave**2 for wave in waves)
    potential = np.where(square > 1e-12, -fft.fftn(source) / np.maximum(square, 1e-12), 0)
    field = np.stack([fft.ifftn(1j * wave * potential).real for wave in waves])
    end = ndimage.binary_dilation(hippocampi, iterations=END_STEPS).astype(float)
    return (field * ndimage.gaussian_filter(end, 1.5)).astype(np.float32)


def put_atrophy(t1: nib.Nifti1Image, transforms: Transforms, loss: float) -> tuple[nib.Nifti1Image, float]:
    """The T1 with both hippocampi smaller by the share `loss` (0.05: 5 %), and the share that was taken.

    transforms: of the very T1, to the template. The second value is an integral on the T1's grid: by how much the
    atlas's hippocampi, carried there, are smaller after the deformation. Raises ValueError for a loss outside (0, 0.3].
    """
    if not 0 < loss <= 0.3:
        raise ValueError(f"loss of hippocampal volume is {loss}; a share above 0 and up to 0.3 is needed")
    box = _box_around_hippocampi(t1, transforms)
    values = t1.get_fdata(dtype=np.float32)
    offset = np.array([part.start for part in box])[:, None, None, None]
    voxels = np.indices([part.stop - part.start for part in box], dtype=np.float32) + offset
    places = _to_template(resample.through(t1.affine, voxels), transforms)
    linear = np.linalg.inv(t1.affine[:3, :3]) @ resample.matrix_of(transforms.affine)[:3, :3]
    field = np.stack([resample.sample(template.grid_image(part), places) for part in shrinking_field()])
    steps = np.einsum("ij,j...->i...", linear.astype(np.float32), field)  # voxels of the T1
    atlas = resample.sample(template.grid_image(template.region_mask("hippocampus").astype(np.float32)), places)
    low, high = 0.0, STRONGEST
    for _ in range(BISECTIONS):
        strength = (low + high) / 2
        low, high = (strength, high) if share_lost(atlas, strength * steps) < loss else (low, strength)
    strength = (low + high) / 2
    # Cubic: between voxels that do not move it changes nothing, and blurs little where they do.
    changed = values.copy()
    changed[box] = ndimage.map_coordinates(values, voxels + strength * steps, order=3, mode="nearest")
    still = np.abs(strength * steps).max(0) < 1e-3
    changed[box][still] = values[box][still]
    return _like(t1, changed), share_lost(atlas, strength * steps)


def share_lost(weights: np.ndarray, steps: np.ndarray) -> float:
    """By how much what `weights` (X, Y, Z) marks is smaller where each voxel x of the new image shows x + steps(x).

    steps: (3, X, Y, Z) voxels. What lies at y comes to lie where x + steps(x) = y, and takes up 1 / det(1 + gradient)
    of its place: an integral over the weights, since counting voxels of the moved image errs by half a movement.
    """
    marked = np.nonzero(weights)
    units = np.eye(3)[..., None, None, None]
    x, y, z = (unit + np.stack(np.gradient(part)) for unit, part in zip(units, steps, strict=True))
    determinant = (x * np.cross(y, z, axis=0)).sum(0)
    places = np.stack(marked).astype(float)
    origins = places - steps[:, *marked]
    origins = places - np.stack([ndimage.map_coordinates(part, origins, order=1, mode="nearest") for part in steps])
    there = ndimage.map_coordinates(determinant, origins, order=1, mode="nearest")
    return 1 - float((weights[marked] / there).sum() / weights[marked].sum())


def _box_around_hippocampi(t1: nib.Nifti1Image, transforms: Transforms) -> tuple[slice, slice, slice]:
    """Slices of the T1 that hold the deformation."""
    corners = np.stack(np.nonzero(ndimage.binary_dilation(template.region_mask("hippocampus"), iterations=END_STEPS)))
    ends = np.stack(np.meshgrid(*zip(corners.min(1), corners.max(1), strict=True), indexing="ij")).reshape(3, -1)
    points = resample.through(resample.matrix_of(transforms.affine) @ template.GRID_AFFINE, ends.astype(np.float32))
    voxels = resample.through(np.linalg.inv(t1.affine), points)
    margin = np.ceil(MARGIN_MM / np.array(t1.header.get_zooms()[:3])).astype(int)
    first = np.maximum(np.floor(voxels.min(1)).astype(int) - margin, 0)
    last = np.minimum(np.ceil(voxels.max(1)).astype(int) + margin + 1, t1.shape[:3])
    return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))


def _to_template(points: np.ndarray, transforms: Transforms, rigid: Path | None = None) -> np.ndarray:
    """Points (3, ...) of the T1 (of the PET, with `rigid`) in mm -> where they lie in the template."""
    matrix = np.linalg.inv(resample.matrix_of(transforms.affine))
    if rigid is not None:
        matrix = matrix @ np.linalg.inv(resample.matrix_of(rigid))
    return resample.displaced(resample.through(matrix, points), transforms.inverse_warp)


def put_hypometabolism(
    pet: nib.Nifti1Image, transforms: Transforms, rigid: Path, loss: float
) -> tuple[nib.Nifti1Image, float]:
    """The PET with the share `loss` of its uptake taken from the meta-ROI proxy, and the mean share that was taken.

    rigid: map from the PET to the T1; every frame of a dynamic PET loses the same. Raises ValueError for a loss outside
    (0, 0.5].
    """
    if not 0 < loss <= 0.5:
        raise ValueError(f"loss of uptake is {loss}; a share above 0 and up to 0.5 is needed")
    region = template.meta_roi_mask()
    soft = ndimage.gaussian_filter(ndimage.binary_dilation(region, iterations=UPTAKE_STEPS).astype(np.float32), 1)
    places = _to_template(resample.grid_points(pet.shape[:3], pet.affine), transforms, rigid)
    kept = 1 - loss * resample.sample(template.grid_image(soft), places)
    values = pet.get_fdata(dtype=np.float32)
    changed = values * (kept[..., None] if values.ndim == 4 else kept)
    return _like(pet, changed), loss * float(soft[region].mean())


def _like(image: nib.Nifti1Image, values: np.ndarray) -> nib.Nifti1Image:
    header = image.header.copy()
    header.set_data_dtype(np.float32)
    header.set_slope_inter(1, 0)
    return nib.Nifti1Image(values.astype(np.float32), image.affine, header)
