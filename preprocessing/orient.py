"""Read one scan, refuse what cannot be a brain image, and turn it to RAS+ (right, anterior, superior grow)."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np


class ScanError(ValueError):
    """A scan that cannot be used. `reason_code` is a word for the ledger, the message a sentence for people."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(reason_code, message)
        self.reason_code = reason_code
        self.message = message

    def __str__(self) -> str:
        return self.message


def read_scan(path: Path) -> nib.Nifti1Image:
    """Load a NIfTI file as a 3-D float32 image in RAS+.

    A 4-D file with a single volume counts as 3-D. No value is interpolated: axes are only swapped and flipped.
    Raises ScanError (unreadable, not_3d, voxel_size, not_finite, empty), naming the file.
    """
    image = _load(path)
    voxel_sizes = tuple(float(size) for size in image.header["pixdim"][1:4])
    affine_sizes = np.linalg.norm(image.affine[:3, :3], axis=0)
    if min(voxel_sizes) <= 0 or not np.all(np.isfinite(affine_sizes)) or affine_sizes.min() <= 0:
        raise ScanError("voxel_size", f"voxel size {voxel_sizes} mm; every size must be > 0 (file {path})")
    values = _values(image, path)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3 or min(values.shape) < 2:
        raise ScanError("not_3d", f"shape {values.shape}; a scan must have 3 axes of 2 voxels or more (file {path})")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ScanError("not_finite", f"{bad} voxels are NaN or infinite; all must be finite (file {path})")
    if values.max() == values.min():
        raise ScanError("empty", f"every voxel is {values.flat[0]:g}; a scan must have contrast (file {path})")
    return nib.as_closest_canonical(nib.Nifti1Image(values, image.affine))


def _load(path: Path) -> nib.Nifti1Image:
    if not Path(path).is_file():
        raise ScanError("unreadable", f"no such file ({path})")
    try:
        return nib.load(path)
    except Exception as error:  # nibabel, gzip and zlib each have their own exceptions for a broken header
        raise ScanError("unreadable", f"not a readable NIfTI image: {error} (file {path})") from error


def _values(image: nib.Nifti1Image, path: Path) -> np.ndarray:
    try:
        return np.asarray(image.dataobj, dtype=np.float32)
    except Exception as error:  # a truncated .nii is an OSError, a truncated .gz an EOFError or zlib.error
        what = str(error).split(" from ")[0]  # nibabel goes on with the path
        raise ScanError("truncated", f"the file ends early or is damaged: {what} (file {path})") from error


def crop_to(image: nib.Nifti1Image, mask: np.ndarray, margin_mm: float) -> tuple[slice, slice, slice]:
    """The box around `mask` with a margin, as slices into `image`; world coordinates stay as they are."""
    occupied = np.argwhere(mask)
    margin = np.ceil(margin_mm / np.array(image.header.get_zooms()[:3])).astype(int)
    first = np.maximum(occupied.min(0) - margin, 0)
    last = np.minimum(occupied.max(0) + margin + 1, mask.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
