"""Small pictures for the eye: hippocampus, inside of the skull and white matter on the scan as it is, the template's
contours on the T1, and the T1's on the PET.

Seen as in the reports, the radiologists' way: right on the left, sagittal slices looking to the left.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from contourpy import contour_generator
from scipy import ndimage

from adni_tcgm.files import write_bytes
from preprocessing.steps import template, tissue
from preprocessing.steps.hippocampus import Box

# Colors that color-blind people tell apart (Okabe and Ito, 2008), and white; seen on bright and on dark tissue.
ORANGE, BLUE, VERMILION, WHITE = "#e69f00", "#56b4e9", "#d55e00", "#ffffff"


@dataclass(frozen=True)
class Picture:
    """What a picture shows, and what each contour in it is: (color, words)."""

    caption: str
    contours: tuple[tuple[str, str], ...]


# Name -> picture, in the order of the contact sheet.
PICTURES = {
    "hippocampus": Picture(
        "T1 as scanned around both hippocampi, as segmented on it",
        ((ORANGE, "hippocampus"), (BLUE, "amygdala")),
    ),
    "mask": Picture("T1 as scanned", ((BLUE, "inside of the skull"), (VERMILION, "white matter, as segmented"))),
    "t1": Picture(
        "T1 in template space", ((BLUE, "outline of the template"), (VERMILION, "white matter of the template"))
    ),
    "pet": Picture("PET in template space", ((WHITE, "white matter of this T1"), (BLUE, "fluid of this T1"))),
}
# Sagittal, coronal and axial, through the hippocampi and through the posterior cingulate, in template mm.
SLICES_MM = ((0, -26.0), (0, 0.0), (1, -56.0), (1, -22.0), (2, -16.0), (2, 26.0))
INCH = 1.8  # a slice is this high
DOTS_PER_INCH = 90
PET_RANGE = (0.0, 2.0)  # SUVR
AROUND_MM = 8  # of the boxes around the hippocampi
BESIDE_MM = 8  # from the middle of the hippocampi to each coronal slice; axial ones are half as far


def path_of(prefix: Path, name: str) -> Path:
    """Where the picture `name` (a key of PICTURES) of a subject lies; prefix: folder and the subject's name."""
    return prefix.with_name(f"{prefix.name}_desc-{name}_qc.png")


def t1_paths(prefix: Path) -> list[Path]:
    """What `write_t1` and `write_native` write."""
    return [path_of(prefix, name) for name in ("t1", "mask", "hippocampus")]


def write_t1(warped: np.ndarray, prefix: Path) -> None:
    """Picture "t1". warped: (91, 109, 91) in template space."""
    white = tissue.tissue_priors()[tissue.TISSUES.index("wm")]
    maps = (template.brain_mask().astype(np.float32), white)
    write_bytes(path_of(prefix, "t1"), draw(warped, _contours("t1", maps), _template_slices()))


def write_native(t1: nib.Nifti1Image, mask: np.ndarray, white: np.ndarray, boxes: dict[str, Box], prefix: Path) -> None:
    """Pictures "mask" and "hippocampus". mask (bool) and white (fraction): on the grid of `t1`, in RAS+."""
    whole = t1.get_fdata(dtype=np.float32)
    # On cubes of 2 mm, so that an anisotropic scan has its true shape.
    values, inside, white = (_to_cubes(image, t1) for image in (whole, mask.astype(np.float32), white))
    slices = _mask_slices(inside > 0.5)
    write_bytes(path_of(prefix, "mask"), draw(values, _contours("mask", (inside, white)), slices))
    around, (hippocampus, amygdala) = _around(boxes, ("hippocampus", "amygdala"))
    matrix = np.linalg.inv(t1.affine) @ around
    values = ndimage.affine_transform(whole, matrix[:3, :3], matrix[:3, 3], hippocampus.shape, order=1)
    centers = [nib.affines.apply_affine(np.linalg.inv(around), _center(box)) for box in boxes.values()]
    maps = _contours("hippocampus", (hippocampus, amygdala))
    content = draw(values, maps, _slices_through(centers), marks=("right", "left", *"RRRR"))
    write_bytes(path_of(prefix, "hippocampus"), content)


def _contours(name: str, maps: Sequence[np.ndarray]) -> list[tuple[np.ndarray, str]]:
    return [(values, color) for values, (color, _) in zip(maps, PICTURES[name].contours, strict=True)]


def _around(boxes: dict[str, Box], names: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """One grid of 1 mm over all boxes and AROUND_MM more: its affine, and there the probability of each class."""
    starts = np.array([box.affine[:3, 3] for box in boxes.values()])
    sizes = np.array([box.probability[names[0]].shape for box in boxes.values()])
    first = starts.min(0) - AROUND_MM
    shape = tuple(np.ceil((starts + sizes).max(0) + AROUND_MM - first).astype(int))
    affine = np.eye(4)
    affine[:3, 3] = first
    maps = []
    for name in names:
        whole = np.zeros(shape, np.float32)
        for box, start, size in zip(boxes.values(), starts, sizes, strict=True):
            low = np.round(start - first).astype(int)  # boxes lie on whole millimeters, half a voxel aside all alike
            place = tuple(slice(i, i + n) for i, n in zip(low, size, strict=True))
            whole[place] = np.maximum(whole[place], box.probability[name])
        maps.append(whole)
    return affine, maps


def _center(box: Box) -> np.ndarray:
    """Of the hippocampus, mm; of the box where none was found."""
    middle = (np.array(box.probability["hippocampus"].shape) - 1) / 2
    return np.where(np.isfinite(box.center), box.center, nib.affines.apply_affine(box.affine, middle))


def _slices_through(centers: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Sagittal through each hippocampus, the right one first, as it is on the left of the other slices; two coronal
    and two axial ones through both."""
    across, along, up = np.array(centers).T
    coronal = [(1, along.mean() + way * BESIDE_MM) for way in (-1, 1)]
    axial = [(2, up.mean() + way * BESIDE_MM / 2) for way in (-1, 1)]
    return [(axis, int(round(at))) for axis, at in [*((0, x) for x in sorted(across)[::-1]), *coronal, *axial]]


def write_pet(suvr: np.ndarray, tissues: np.ndarray, prefix: Path) -> None:
    """Picture "pet". suvr: (91, 109, 91) in template space; tissues: (3, 91, 109, 91) of the person, there, too."""
    smooth = [ndimage.gaussian_filter(values, 0.7) for values in tissues]
    outlines = _contours("pet", [smooth[tissue.TISSUES.index(name)] for name in ("wm", "csf")])
    write_bytes(path_of(prefix, "pet"), draw(suvr, outlines, _template_slices(), "inferno", PET_RANGE))


def draw(
    values: np.ndarray,
    outlines: Sequence[tuple[np.ndarray, str]],
    slices: Sequence[tuple[int, int]],
    colors: str = "gray",
    limits: tuple[float, float] | None = None,
    marks: Sequence[str] | None = None,
) -> bytes:
    """One row of slices as PNG bytes, the same for the same input. `values` and `outlines` on one RAS+ cubic grid.

    outlines: maps whose contour at .5 is drawn, each with a color; slices: (axis, index); limits: gray or color range,
    by default 0 to the 99.5th percentile; marks: a word for each slice, by default R where its left is the right.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not pyplot: no window, no state, any thread
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    low, high = limits or (0.0, max(float(np.percentile(values, 99.5)), 1e-9))
    marks = marks or ["R" if axis else "" for axis, _ in slices]
    shapes = [_upright(values, axis, index).shape for axis, index in slices]
    # One plot for the whole row, which is a slice high: a plot for each took twice as long.
    ends = np.cumsum([0.0, *(shape[1] / shape[0] for shape in shapes)])
    figure = Figure(figsize=(INCH * ends[-1], INCH), dpi=DOTS_PER_INCH, facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    lines: dict[str, list[np.ndarray]] = {color: [] for _, color in outlines}
    for (axis, index), left, right, mark in zip(slices, ends[:-1], ends[1:], marks, strict=True):
        image = _upright(values, axis, index)
        extent = (left, right, 0, 1)
        axes.imshow(image, cmap=colors, vmin=low, vmax=high, interpolation="bilinear", extent=extent, aspect="auto")
        for outline, color in outlines:
            lines[color] += [_placed(line, image.shape, left) for line in _outline(_upright(outline, axis, index))]
        axes.text(left + 0.02 * (right - left), 0.02, mark, color="white", fontsize=7)
    for color, found in lines.items():
        axes.add_collection(LineCollection(found, colors=color, linewidths=0.6))
    axes.set(xlim=(0, ends[-1]), ylim=(0, 1))
    axes.set_axis_off()
    with io.BytesIO() as content:
        figure.savefig(content, format="png", facecolor="black", metadata={"Software": None})
        return content.getvalue()


def _outline(shares: np.ndarray) -> list[np.ndarray]:
    """The contour of a slice at .5: lines of (column, row) of its voxels."""
    return contour_generator(z=shares).lines(0.5)


def _placed(line: np.ndarray, shape: tuple[int, ...], left: float) -> np.ndarray:
    """A line of (column, row) of a slice that is one high and begins at `left`."""
    rows = shape[0]
    return np.stack([left + (line[:, 0] + 0.5) / rows, 1 - (line[:, 1] + 0.5) / rows], 1)


def _upright(values: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A slice of an RAS+ array as an image: up is up, the person's right (or front) is on the left."""
    return np.take(values, index, axis).T[::-1, ::-1]


def _template_slices() -> list[tuple[int, int]]:
    start = template.GRID_AFFINE[:3, 3]
    return [(axis, int(round((mm - start[axis]) / template.SPACING_MM))) for axis, mm in SLICES_MM]


def _mask_slices(inside: np.ndarray) -> list[tuple[int, int]]:
    """Two slices an axis, at a third and two thirds of the mask's extent; the middle of the grid without a mask."""
    occupied = np.argwhere(inside) if inside.any() else np.array([[0, 0, 0], inside.shape])
    first, last = occupied.min(0), occupied.max(0)
    return [(axis, int(first[axis] + share * (last[axis] - first[axis]))) for axis in range(3) for share in (0.33, 0.6)]


def _to_cubes(values: np.ndarray, image: nib.Nifti1Image) -> np.ndarray:
    """Resample to cubes of 2 mm along the array's own axes, so that an anisotropic scan has its true shape."""
    factors = np.array(image.header.get_zooms()[:3]) / template.SPACING_MM
    return ndimage.zoom(values, factors, order=1)
