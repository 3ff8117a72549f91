"""Small pictures for the eye: the template's contours on the T1, the brain mask on the scan, the PET under the T1.

Seen as in the reports, the radiologists' way: right on the left, sagittal slices looking to the left.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from scipy import ndimage

from adni_tcgm.files import write_bytes
from preprocessing.steps import template, tissue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Picture name -> what it shows, in the order of the contact sheet.
CAPTIONS = {
    "t1": "T1 in template space, outline and white matter of the template",
    "mask": "T1 as scanned, brain mask",
    "pet": "PET in template space, white matter and fluid of this T1",
}
# Sagittal, coronal and axial, through the hippocampi and through the posterior cingulate, in template mm.
SLICES_MM = ((0, -26.0), (0, 0.0), (1, -56.0), (1, -22.0), (2, -16.0), (2, 26.0))
INCH = 1.8  # a slice is this high
DOTS_PER_INCH = 90
PET_RANGE = (0.0, 2.0)  # SUVR


def path_of(prefix: Path, name: str) -> Path:
    """Where the picture `name` (a key of CAPTIONS) of a subject lies; prefix: folder and the subject's name."""
    return prefix.with_name(f"{prefix.name}_desc-{name}_qc.png")


def t1_paths(prefix: Path) -> list[Path]:
    """What `write_t1` writes."""
    return [path_of(prefix, "t1"), path_of(prefix, "mask")]


def write_t1(warped: np.ndarray, t1: nib.Nifti1Image, mask: np.ndarray, prefix: Path) -> None:
    """Pictures "t1" and "mask". warped: (91, 109, 91) in template space; t1 and mask (bool): as scanned, RAS+."""
    white = tissue.tissue_priors()[tissue.TISSUES.index("wm")]
    outlines = [(template.brain_mask().astype(np.float32), "#ff5a3c"), (white, "#ffd23c")]
    write_bytes(path_of(prefix, "t1"), draw(warped, outlines, _template_slices()))
    # Native slices: at a quarter, a half and three quarters of the mask's extent, on cubes of 2 mm.
    values, inside = (_to_cubes(image, t1) for image in (t1.get_fdata(dtype=np.float32), mask.astype(np.float32)))
    slices = _mask_slices(inside > 0.5)
    write_bytes(path_of(prefix, "mask"), draw(values, [(inside, "#3cd0ff")], slices))


def write_pet(suvr: np.ndarray, tissues: np.ndarray, prefix: Path) -> None:
    """Picture "pet". suvr: (91, 109, 91) in template space; tissues: (3, 91, 109, 91) of the person, there, too."""
    smooth = [ndimage.gaussian_filter(values, 0.7) for values in tissues]
    outlines = [(smooth[tissue.TISSUES.index("wm")], "#ffffff"), (smooth[tissue.TISSUES.index("csf")], "#7fd7ff")]
    write_bytes(path_of(prefix, "pet"), draw(suvr, outlines, _template_slices(), "inferno", PET_RANGE))


def draw(
    values: np.ndarray,
    outlines: Sequence[tuple[np.ndarray, str]],
    slices: Sequence[tuple[int, int]],
    colors: str = "gray",
    limits: tuple[float, float] | None = None,
) -> bytes:
    """One row of slices as PNG bytes, the same for the same input. `values` and `outlines` on one RAS+ cubic grid.

    outlines: maps whose contour at .5 is drawn, each with a color; slices: (axis, index); limits: gray or color range,
    by default 0 to the 99.5th percentile.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not pyplot: no window, no state, any thread
    from matplotlib.figure import Figure

    low, high = limits or (0.0, max(float(np.percentile(values, 99.5)), 1e-9))
    shapes = [_upright(values, axis, index).shape for axis, index in slices]
    widths = [shape[1] / shape[0] for shape in shapes]
    figure = Figure(figsize=(INCH * sum(widths), INCH), dpi=DOTS_PER_INCH, facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1, len(slices), width_ratios=widths, left=0, right=1, bottom=0, top=1, wspace=0)
    for column, (axis, index) in enumerate(slices):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(_upright(values, axis, index), cmap=colors, vmin=low, vmax=high, interpolation="bilinear")
        for outline, color in outlines:
            _draw_outline(axes, _upright(outline, axis, index), color)
        axes.set_axis_off()
        if axis:
            axes.text(0.02, 0.02, "R", color="white", fontsize=7, transform=axes.transAxes)
    with io.BytesIO() as content:
        figure.savefig(content, format="png", facecolor="black", metadata={"Software": None})
        return content.getvalue()


def _draw_outline(axes: Axes, outline: np.ndarray, color: str) -> None:
    if outline.min() < 0.5 < outline.max():
        axes.contour(outline, [0.5], colors=color, linewidths=0.6)


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
