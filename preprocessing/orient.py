"""Read one scan, refuse what cannot be a brain image, and turn it to RAS+ (right, anterior, superior grow)."""

from __future__ import annotations

import gzip
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


# A head at 0.5 mm has 1.3e8 voxels. Above this a header is wrong, and reading it would take all memory.
MAX_VOXELS = 5e8
# From a microscope to a nuclear-medicine camera; outside it the numbers are not millimetres.
VOXEL_SIZES_MM = (0.1, 20.0)
# What a header may put between itself and the voxels (extensions), in bytes.
MAX_EXTENSIONS = 2**20
# A real scan is noisy: compressed, it shrinks 2 to 20 times. Beyond this, a large one holds nothing but a bomb.
MAX_SCAN_SHRINK = 200
LARGE_BYTES = 64 * 2**20


def read_scan(path: Path) -> nib.Nifti1Image:
    """Load a NIfTI file as a 3-D float32 image in RAS+.

    A 4-D file with a single volume counts as 3-D. No value is interpolated: axes are only swapped and flipped.
    Raises ScanError, naming the file, with one of the codes unreadable, data_type, too_large, not_3d, voxel_size,
    units, no_orientation, truncated, not_finite, empty, negative. The header is judged before any voxel is read.
    """
    image = _load(path)
    _check_header(image, path)
    values = _values(image, path)
    if values.ndim == 4:
        values = values[..., 0]
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ScanError("not_finite", f"{bad} voxels are NaN or infinite; all must be finite (file {path})")
    if values.max() == values.min():
        raise ScanError("empty", f"every voxel is {values.flat[0]:g}; a scan must have contrast (file {path})")
    low, high = np.percentile(values[::2, ::2, ::2], [1, 99])
    if -low > max(high, 0):
        limits = f"1 % of the voxels lie below {low:.4g} and 1 % above {high:.4g}"
        raise ScanError("negative", f"{limits}; a T1 or a PET is mostly positive (file {path})")
    return nib.as_closest_canonical(nib.Nifti1Image(values, image.affine))


def _load(path: Path) -> nib.Nifti1Image:
    path = Path(path)
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise ScanError("unreadable", f"{what} ({path})")
    try:
        _check_offset(path)
        return nib.load(path)
    except ScanError:
        raise
    except Exception as error:  # nibabel, gzip and zlib each have their own exceptions for a broken header
        raise ScanError("unreadable", f"not a readable NIfTI image: {error} (file {path})") from error


def _check_offset(path: Path) -> None:
    """Whether the voxels begin near the header: what lies between is read into memory before anything can be judged."""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        start = file.read(nib.Nifti2Header.sizeof_hdr)
    kind = next((k for k in (nib.Nifti1Header, nib.Nifti2Header) if k.may_contain_header(start)), None)
    if kind is None:
        return  # no header at all: the reader has a sentence for that
    offset = float(kind(start[: kind.sizeof_hdr], check=False)["vox_offset"])
    if not 0 <= offset <= MAX_EXTENSIONS:
        raise ScanError(
            "too_large", f"voxels begin at byte {offset:g}; at most {MAX_EXTENSIONS} are read (file {path})"
        )


def _check_header(image: nib.Nifti1Image, path: Path) -> None:
    """Shape, number type, voxel size, units and orientation, in this order."""
    shape = image.shape
    if min(shape, default=0) < 1 or np.prod(shape, dtype=float) > MAX_VOXELS:
        raise ScanError("too_large", f"shape {shape}; 1 to {MAX_VOXELS:.0e} voxels are read (file {path})")
    claimed, there = np.prod(shape, dtype=float) * image.get_data_dtype().itemsize, path.stat().st_size
    if claimed > max(LARGE_BYTES, MAX_SCAN_SHRINK * there):
        found = f"shape {shape} in a file of {there} bytes"
        raise ScanError("too_large", f"{found}; no scan shrinks {MAX_SCAN_SHRINK} times (file {path})")
    if len(shape) not in (3, 4) or min(shape[:3]) < 2 or shape[3:] not in ((), (1,)):
        raise ScanError("not_3d", f"shape {shape}; a scan must have 3 axes of 2 voxels or more (file {path})")
    if image.get_data_dtype().kind not in "iuf":
        raise ScanError("data_type", f"voxels are {image.get_data_dtype()}; one real number each is read (file {path})")
    affine = image.affine
    voxel_sizes = tuple(float(size) for size in image.header["pixdim"][1:4])
    affine_sizes = np.linalg.norm(affine[:3, :3], axis=0)
    regular = np.all(np.isfinite(affine)) and affine_sizes.min() > 0
    if min(voxel_sizes) <= 0 or not regular or abs(np.linalg.det(affine[:3, :3] / affine_sizes)) < 0.1:
        rule = "every size must be > 0 and the axes must span a volume"
        raise ScanError("voxel_size", f"voxel size {voxel_sizes} mm; {rule} (file {path})")
    _check_units(image, affine_sizes, path)
    if not (image.header["qform_code"] or image.header["sform_code"]):
        rule = "without one nobody knows left from right"
        raise ScanError("no_orientation", f"qform and sform codes are 0; {rule} (file {path})")


def _check_units(image: nib.Nifti1Image, sizes: np.ndarray, path: Path) -> None:
    """A header in metres or micrometres, or one whose numbers cannot be millimetres."""
    try:
        unit = image.header.get_xyzt_units()[0]
    except KeyError:
        unit = f"code {int(image.header['xyzt_units'])}"
    low, high = VOXEL_SIZES_MM
    if unit not in ("mm", "unknown") or sizes.min() < low or sizes.max() > high:
        found = " x ".join(f"{size:g}" for size in sizes)
        raise ScanError("units", f"voxel size {found} in unit {unit!r}; {low:g} to {high:g} mm is read (file {path})")


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
