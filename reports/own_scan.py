"""A person's own T1 as scanned, with the hippocampi that were segmented on it, and their own PET laid over it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap
from scipy import ndimage

from reports import overlays
from reports.mosaic import Panel, Row, draw_mosaic, paint
from reports.records import MODALITY_TITLES, Prepared

GRAY = colormaps["gray"]
PET_OPACITY = 0.8
OUTSIDE_SUVR = 0.3  # what is lower lies outside the brain; a deep deficit does not
SMALLEST_HIPPOCAMPI = 200  # voxels of 1 mm; fewer are none


@dataclass(frozen=True)
class OwnScan:
    """Maps in the T1's own upright millimeters: `t1` 0..255, `hippocampi` a probability, `pet` SUVR or None."""

    t1: nib.Nifti1Image
    hippocampi: nib.Nifti1Image
    pet: nib.Nifti1Image | None


@dataclass(frozen=True)
class Slice:
    """A plane through a point (mm): `axis` 0 sagittal, 1 coronal, 2 axial."""

    title: str
    axis: int
    mm: float


@dataclass(frozen=True)
class Over:
    """A map laid over the T1; values nearer to zero than `hidden_below` are not drawn."""

    image: nib.Nifti1Image
    colors: Colormap
    limits: tuple[float, float]
    hidden_below: float
    opacity: float = 1.0


def find_own_scan(prepared: Prepared, sample_id: str) -> OwnScan | None:
    """None for people who came prepared, and from folders of an older version."""
    visit, root = prepared.visits.loc[sample_id], prepared.home(sample_id).resolve()
    folder = (root / visit["participant_id"] / visit["session_id"]).resolve()
    if not folder.is_relative_to(root):
        return None
    t1, hippocampi, *pet = (
        next(iter(sorted(folder.glob(pattern))), None)
        for pattern in (
            "anat/*_space-T1w_res-1_desc-view_T1w.nii.gz",
            "anat/*_space-T1w_res-1_label-hippocampus_probseg.nii.gz",
            "pet/*_space-T1w_res-2_desc-suvr*_pet.nii.gz",
        )
    )
    if t1 is None or hippocampi is None:
        return None
    return _load(t1, hippocampi, pet[0] if visit["pet_path"] else None)


@lru_cache(maxsize=1)  # a report asks twice for the same
def _load(t1: Path, hippocampi: Path, pet: Path | None) -> OwnScan:
    return OwnScan(*(overlays.load_map(path) if path else None for path in (t1, hippocampi, pet)))


def choose_slices(hippocampi: nib.Nifti1Image) -> list[Slice]:
    """Through the middle of the hippocampi: coronal, sagittal on both sides, axial; through the middle of the grid
    where none was segmented."""
    inside = np.argwhere(hippocampi.get_fdata(dtype=np.float32) > 0.5)
    middle = nib.affines.apply_affine(hippocampi.affine, (np.array(hippocampi.shape) - 1) / 2)
    centers = dict.fromkeys(("left", "right"), middle)
    if len(inside) > SMALLEST_HIPPOCAMPI:
        half = inside[:, 0].mean()
        for side, part in (("left", inside[inside[:, 0] < half]), ("right", inside[inside[:, 0] >= half])):
            centers[side] = nib.affines.apply_affine(hippocampi.affine, part.mean(0))
    across = (centers["left"] + centers["right"]) / 2
    return [
        Slice("coronal", 1, float(across[1])),
        Slice("right", 0, float(centers["right"][0])),
        Slice("left", 0, float(centers["left"][0])),
        Slice("axial", 2, float(across[2])),
    ]


def cut(image: nib.Nifti1Image, where: Slice, like: nib.Nifti1Image, order: int = 1) -> np.ndarray:
    """The plane's values on the grid of `like`, (up, across), growing to the right, front or top; 0 outside."""
    axes = [axis for axis in range(3) if axis != where.axis]
    places = np.indices([like.shape[axis] for axis in axes], dtype=float)
    points = np.empty((3, *places.shape[1:]))
    for axis, place in zip(axes, places, strict=True):
        points[axis] = like.affine[axis, 3] + like.affine[axis, axis] * place
    points[where.axis] = where.mm
    inverse = np.linalg.inv(image.affine)
    voxels = np.einsum("ij,jab->iab", inverse[:3, :3], points) + inverse[:3, 3, None, None]
    return ndimage.map_coordinates(image.get_fdata(dtype=np.float32), voxels, order=order, cval=0.0, prefilter=False).T


def title_of(where: Slice) -> str:
    """ "coronal, y = −12 mm"."""
    word = where.title if where.axis else f"{where.title} sagittal"
    return f"{word}, {'xyz'[where.axis]} = {where.mm:+.0f} mm".replace("-", "−")


def plane(scan: OwnScan, where: Slice, over: Over | None = None, brightest: float = 255.0, title: bool = True) -> Panel:
    """A plane of the T1 with the contour of its hippocampi and what is laid over it."""
    gray = cut(scan.t1, where, scan.t1) / brightest
    values = np.full(gray.shape, np.nan) if over is None else cut(over.image, where, scan.t1)
    if over is not None:
        values = np.where(np.abs(values) < over.hidden_below, np.nan, values)
    painted = paint(gray, values, over.colors, over.limits, over.opacity) if over else paint(gray, values, GRAY, (0, 1))
    marks = ("A", "P") if where.axis == 0 else ("R", "L")
    return Panel(painted, cut(scan.hippocampi, where, scan.t1), title_of(where) if title else "", marks)


def draw_own_scan(scan: OwnScan) -> bytes:
    """SVG: four planes of the T1, and below, where there is a PET, the same ones under it; right is on the left."""
    slices, scales = choose_slices(scan.hippocampi), overlays.SCALES
    rows = [Row(MODALITY_TITLES["mri"], scales["mri"].colors[1], [plane(scan, where) for where in slices])]
    if scan.pet is not None:
        limits = scales["pet"].limits
        over = Over(scan.pet, overlays.colormap("pet"), limits, OUTSIDE_SUVR, PET_OPACITY)
        panels = [plane(scan, where, over, title=False) for where in slices]
        rows.append(Row(MODALITY_TITLES["pet"], scales["pet"].colors[1], panels, overlays.bar_of("pet")))
    return draw_mosaic(rows)
