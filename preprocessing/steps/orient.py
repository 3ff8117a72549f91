"""Read one scan, refuse what cannot be a brain image, and turn it to RAS+ (right, anterior, superior grow)."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from scipy import ndimage

from preprocessing.choices import HEADERS


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
# No voxel size lies within VOXEL_SIZES_MM in two of these units, so that a header's unit is either right or refused.
UNITS_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
CHOICE = "--header sform or --header qform says which counts"
# As far as the two may disagree: share of the voxel size; degrees, since a quaternion in float32 is rounded by up to
# .05 and tools shift a sheared sform a little.
SIZE_TOLERANCE = 1e-3
DIRECTION_TOLERANCE = 1.0
# What a header may put between itself and the voxels (extensions), in bytes.
MAX_EXTENSIONS = 2**20
# A real scan is noisy: compressed, it shrinks 2 to 20 times. Beyond this, a large one holds nothing but a bomb.
MAX_SCAN_SHRINK = 200
LARGE_BYTES = 64 * 2**20


def read_scan(path: Path, header: str = "") -> nib.Nifti1Image:
    """Load a NIfTI file as a 3-D float32 image in RAS+, in millimetres.

    A 4-D file with a single volume counts as 3-D. No value is interpolated: axes are only swapped and flipped. NaN
    around the head is read as 0, with a warning, and its share of the volume stands in `extra["nan_share"]`.
    header: "sform" or "qform", which of the two counts where they contradict each other; "" refuses such a scan.
    Raises ScanError, naming the file, with one of the codes unreadable, data_type, too_large, not_3d, voxel_size,
    units, no_orientation, header_contradiction, truncated, not_finite, empty, negative. The header is checked before
    any voxel is read.
    """
    image, affine = open_scan(path, header)
    if image.shape[3:] not in ((), (1,)):
        raise ScanError("not_3d", f"shape {image.shape}; a scan must have 3 axes of 2 voxels or more (file {path})")
    return finish(read_values(image, path).reshape(image.shape[:3]), affine, path)


def open_scan(path: Path, header: str = "") -> tuple[nib.Nifti1Image, np.ndarray]:
    """An image of one volume or several whose header was checked, voxels unread, and its affine (to mm, RAS+).

    header and errors: as for `read_scan`.
    """
    image = _load(path)
    _check_shape(image, path)
    return image, _check_affine(image, path, header)


def finish(values: np.ndarray, affine: np.ndarray, path: Path) -> nib.Nifti1Image:
    """The volume (X, Y, Z) in RAS+, if it can be a T1 or a PET. Raises ScanError (not_finite, empty, negative)."""
    values, nan_share = fill_background(values, path)
    if values.max() == values.min():
        raise ScanError("empty", f"every voxel is {values.flat[0]:g}; a scan must have contrast (file {path})")
    low, high = np.percentile(values[::2, ::2, ::2], [1, 99])
    if -low > max(high, 0):
        limits = f"1 % of the voxels lie below {low:.4g} and 1 % above {high:.4g}"
        raise ScanError("negative", f"{limits}; a T1 or a PET is mostly positive (file {path})")
    image = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    image.extra["nan_share"] = nan_share
    return image


def fill_background(values: np.ndarray, path: Path) -> tuple[np.ndarray, float]:
    """Values with 0 where the volume (X, Y, Z), or any of several (X, Y, Z, T), has NaN around the head; and the share
    of such voxels.

    Raises ScanError (not_finite) for NaN within the head and for infinity.
    """
    finite = np.isfinite(values)
    if finite.all():
        return values, 0.0
    missing = ~finite.all(-1) if values.ndim == 4 else ~finite
    infinite = np.isinf(values).any(-1) if values.ndim == 4 else np.isinf(values)
    around = _around(missing) & ~infinite
    wrong = int((missing & ~around).sum())
    if wrong:
        raise ScanError(
            "not_finite", f"{wrong} voxels are NaN or infinite; only around the head may be NaN (file {path})"
        )
    share = float(around.mean())
    found = f"{100 * share:.3g} % of the voxels, all around the head, are NaN and read as 0"
    warnings.warn(f"{Path(path).name}: {found}", stacklevel=2)
    return np.where(around if values.ndim == 3 else around[..., None], np.float32(0), values), share


def _around(missing: np.ndarray) -> np.ndarray:
    """The part of a mask that hangs together with the border of the volume, without lost slices: planes that lie
    wholly in the mask, between planes that do not."""
    parts, _ = ndimage.label(missing)
    faces = [np.take(parts, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    around = missing & np.isin(parts, np.concatenate(faces))
    for axis in range(3):
        empty = missing.all(axis=tuple({0, 1, 2} - {axis}))
        filled = np.flatnonzero(~empty)
        places = np.arange(len(empty))
        lost = empty & (places > filled.min(initial=len(empty))) & (places < filled.max(initial=-1))
        np.moveaxis(around, axis, 0)[lost | (not len(filled))] = False
    return around


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


def _check_shape(image: nib.Nifti1Image, path: Path) -> None:
    """Shape and number type."""
    shape = image.shape
    if min(shape, default=0) < 1 or np.prod(shape[:3], dtype=float) > MAX_VOXELS:
        raise ScanError("too_large", f"shape {shape}; 1 to {MAX_VOXELS:.0e} voxels are read (file {path})")
    claimed, there = np.prod(shape, dtype=float) * image.get_data_dtype().itemsize, path.stat().st_size
    if claimed > max(LARGE_BYTES, MAX_SCAN_SHRINK * there):
        found = f"shape {shape} in a file of {there} bytes"
        raise ScanError("too_large", f"{found}; no scan shrinks {MAX_SCAN_SHRINK} times (file {path})")
    if len(shape) not in (3, 4) or min(shape[:3]) < 2:
        raise ScanError("not_3d", f"shape {shape}; a scan must have 3 axes of 2 voxels or more (file {path})")
    if image.get_data_dtype().kind not in "iuf":
        raise ScanError("data_type", f"voxels are {image.get_data_dtype()}; one real number each is read (file {path})")


def _check_affine(image: nib.Nifti1Image, path: Path, header: str) -> np.ndarray:
    """Voxel size, units and orientation, in this order; returns the affine that counts, in mm."""
    voxel_sizes = tuple(float(size) for size in image.header["pixdim"][1:4])
    forms = {name: _form(image, name) for name in HEADERS if image.header[f"{name}_code"] > 0}
    affine = forms.get(header, next(iter(forms.values()), image.affine))
    broken = [name for name, form in forms.items() if not _spans_volume(form)]
    if min(voxel_sizes) > 0 and len(forms) == 2 and len(broken) == 1 and not header:
        found = f"the {broken[0]} spans no volume, and the other does"
        raise ScanError("header_contradiction", f"{found}: {CHOICE} (file {path})")
    if min(voxel_sizes) <= 0 or not _spans_volume(affine):
        rule = "every size must be > 0 and the axes must span a volume"
        raise ScanError("voxel_size", f"voxel size {voxel_sizes} mm; {rule} (file {path})")
    scale = _check_units(image, _sizes(affine), path)
    if not forms:
        rule = "without one nobody knows left from right"
        raise ScanError("no_orientation", f"qform and sform codes are 0; {rule} (file {path})")
    if len(forms) == 2 and not header:
        _check_agreement(forms["sform"], forms["qform"], path)
    if list(forms) == ["sform"] and np.abs(_sizes(affine) / voxel_sizes - 1).max() > SIZE_TOLERANCE:
        found = f"the sform's voxel size {_by(_sizes(affine))} counts, not that of pixdim, {_by(voxel_sizes)}"
        warnings.warn(f"{Path(path).name}: {found}, since qform_code is 0", stacklevel=3)
    return np.diag([scale, scale, scale, 1.0]) @ affine


def _form(image: nib.Nifti1Image, name: str) -> np.ndarray:
    """The affine of "sform" or "qform", full of NaN where a quaternion is no rotation."""
    try:
        return image.header.get_sform() if name == "sform" else image.header.get_qform()
    except (ValueError, HeaderDataError):
        return np.full((4, 4), np.nan)


def _sizes(affine: np.ndarray) -> np.ndarray:
    return np.linalg.norm(affine[:3, :3], axis=0)


def _spans_volume(affine: np.ndarray) -> bool:
    sizes = _sizes(affine)
    regular = np.all(np.isfinite(affine)) and sizes.min() > 0
    return bool(regular and abs(np.linalg.det(affine[:3, :3] / sizes)) >= 0.1)


def _check_agreement(sform: np.ndarray, qform: np.ndarray, path: Path) -> None:
    """Whether both affines of a header say the same of size, handedness and direction."""
    sizes = [_sizes(form) for form in (sform, qform)]
    axes = [form[:3, :3] / size for form, size in zip((sform, qform), sizes, strict=True)]
    names = ["".join(nib.aff2axcodes(form)) for form in (sform, qform)]
    degrees = np.degrees(np.arccos(np.clip((axes[0] * axes[1]).sum(0), -1, 1))).max()
    if np.abs(sizes[0] / sizes[1] - 1).max() > SIZE_TOLERANCE:
        found = f"the sform's voxel size is {_by(sizes[0])}, that of qform and pixdim {_by(sizes[1])}"
        rule = f"they may differ by {100 * SIZE_TOLERANCE:g} %"
    elif np.linalg.det(axes[0]) * np.linalg.det(axes[1]) < 0:
        found, rule = f"the sform's axes are {names[0]}, the qform's {names[1]}", "one is the mirror image of the other"
    elif degrees > DIRECTION_TOLERANCE:
        found = f"the axes of the sform ({names[0]}) and of the qform ({names[1]}) lie {degrees:.3g} degrees apart"
        rule = f"at most {DIRECTION_TOLERANCE:g} is rounding"
    else:
        return
    raise ScanError("header_contradiction", f"{found}; {rule}: {CHOICE} (file {path})")


def _by(sizes: Iterable[float]) -> str:
    return " x ".join(f"{size:.6g}" for size in sizes)


def _check_units(image: nib.Nifti1Image, sizes: np.ndarray, path: Path) -> float:
    """Millimetres in the header's unit of length. Raises ScanError where its numbers cannot be of a head in it."""
    try:
        unit = image.header.get_xyzt_units()[0]
    except KeyError:
        unit = f"code {int(image.header['xyzt_units'])}"
    scale, (low, high) = UNITS_MM.get(unit, np.nan), VOXEL_SIZES_MM
    if low <= scale * sizes.min() and scale * sizes.max() <= high:
        return scale
    found = f"voxel size {_by(sizes)} in unit {unit!r}"
    found += "" if scale in (1, np.nan) else f", which is {_by(scale * sizes)} mm"
    raise ScanError("units", f"{found}; {low:g} to {high:g} mm is read (file {path})")


def read_values(image: nib.Nifti1Image, path: Path) -> np.ndarray:
    """All voxels as float32, in the header's own axes. Raises ScanError (truncated)."""
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
