"""Rows of brain slices as one SVG: the slices as a single picture, contours, color bars and words drawn over it.

Written by hand and not by matplotlib, whose axes cost more time than all slices of a report together.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import contourpy
import numpy as np
from matplotlib.colors import Colormap
from PIL import Image

from reports.figures import GREY, INK, PRINTED_FONT

POINTS = 72
DOTS_PER_INCH = 200
JPEG_QUALITY = 90
WIDTH_INCH = 7.1
NAME_INCH, BAR_INCH, LABEL_INCH, GAP_INCH, TITLE_INCH = 0.2, 0.09, 0.5, 0.04, 0.17
BETWEEN_INCH = 0.1  # from a color bar to the next block
OUTLINE = "#ffd84d"


@dataclass(frozen=True)
class Panel:
    """A slice. rgb: (up, across, 3) in 0..1, growing to the top and to the right (or the front); outline: (up, across),
    drawn at .5; marks: what lies on the left and on the right of the page, where right is shown on the left."""

    rgb: np.ndarray
    outline: np.ndarray | None = None
    title: str = ""
    marks: tuple[str, str] = ("R", "L")

    @property
    def shape(self) -> float:
        """Width over height."""
        return self.rgb.shape[1] / self.rgb.shape[0]


@dataclass(frozen=True)
class Bar:
    """A color bar: `ticks` are (value, words) within `limits`, the label one line or two."""

    colors: Colormap
    limits: tuple[float, float]
    ticks: tuple[tuple[float, str], ...]
    label: str


@dataclass(frozen=True)
class Row:
    """Panels of equal height; in the place of a missing one stands a word. Titles stand above the row that has them."""

    title: str
    color: str
    panels: Sequence[Panel | str]
    bar: Bar | None = None


def paint(
    background: np.ndarray, values: np.ndarray, colors: Colormap, limits: tuple[float, float], opacity: float = 1.0
) -> np.ndarray:
    """A gray background (0..1) with colored values on it; NaN stays background: (up, across, 3)."""
    gray = np.repeat(np.clip(background, 0, 1)[..., None], 3, axis=2)
    share = (np.nan_to_num(values) - limits[0]) / (limits[1] - limits[0])
    colored = opacity * colors(np.clip(share, 0, 1))[..., :3] + (1 - opacity) * gray
    return np.where(np.isfinite(values)[..., None], colored, gray)


def ticks_of(values: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """Numbers as ticks, with true minus signs."""
    return tuple((float(value), f"{value:g}".replace("-", "−")) for value in values)


def draw_mosaic(rows: Sequence[Row], width_inch: float = WIDTH_INCH, highest_inch: float = 2.0) -> bytes:
    """SVG of the rows, all of one height: as high as the widest fits into the width, at most `highest_inch`."""
    bars = any(row.bar for row in rows)
    room = width_inch - NAME_INCH - (BAR_INCH + LABEL_INCH if bars else 0)
    spare = max(len(row.panels) for row in rows) * GAP_INCH
    shapes = [[_shape(panel, rows, place) for place, panel in enumerate(row.panels)] for row in rows]
    row_inch = min((room - spare) / max(sum(line) for line in shapes), highest_inch)
    sheet = _Sheet(width_inch)
    for row, line in zip(rows, shapes, strict=True):
        titles = [panel.title.split("\n") for panel in row.panels if isinstance(panel, Panel) and panel.title]
        sheet.down(TITLE_INCH * max(map(len, titles), default=0))
        _draw_row(sheet, row, line, row_inch)
        sheet.down(row_inch + GAP_INCH)
    return sheet.svg()


def draw_blocks(rows: Sequence[Row], width_inch: float = WIDTH_INCH) -> bytes:
    """SVG of the rows beside each other, each with its name and its color bar."""
    share = width_inch / len(rows)
    beside = NAME_INCH + BAR_INCH + LABEL_INCH + BETWEEN_INCH
    row_inch = min((share - beside - len(row.panels) * GAP_INCH) / _width(row) for row in rows)
    sheet = _Sheet(width_inch)
    sheet.down(TITLE_INCH)
    for number, row in enumerate(rows):
        shapes = [_shape(panel, rows, place) for place, panel in enumerate(row.panels)]
        _draw_row(sheet, row, shapes, row_inch, number * share)
    sheet.down(row_inch + GAP_INCH)
    return sheet.svg()


def _width(row: Row) -> float:
    return sum(panel.shape for panel in row.panels if isinstance(panel, Panel))


def _shape(panel: Panel | str, rows: Sequence[Row], place: int) -> float:
    if isinstance(panel, Panel):
        return panel.shape
    return next((p.shape for row in rows if isinstance(p := row.panels[place], Panel)), 1.0)


def _draw_row(sheet: _Sheet, row: Row, shapes: Sequence[float], row_inch: float, start: float = 0.0) -> None:
    top, left = sheet.top, start + NAME_INCH
    sheet.text(start + 0.1, top + row_inch / 2, row.title, size=9, color=row.color, turned=True)
    for panel, shape in zip(row.panels, shapes, strict=True):
        wide = row_inch * shape
        if isinstance(panel, Panel):
            sheet.picture(panel.rgb[::-1, ::-1], left, top, wide, row_inch)
            if panel.outline is not None:
                sheet.contour(panel.outline[::-1, ::-1], left, top, wide, row_inch)
            for number, text in enumerate(reversed(panel.title.split("\n") if panel.title else [])):
                sheet.text(left + wide / 2, top - 0.05 - TITLE_INCH * number, text, size=8, color=GREY)
            for x, mark, anchor in ((0.04, panel.marks[0], "start"), (wide - 0.04, panel.marks[1], "end")):
                sheet.text(left + x, top + 0.15, mark, size=8, color="#ffffff", anchor=anchor)
        else:
            sheet.text(left + wide / 2, top + row_inch / 2, panel, size=8, color=GREY)
        left += wide + GAP_INCH
    if row.bar:
        _draw_bar(sheet, row.bar, left, top + 0.06 * row_inch, 0.88 * row_inch)


def _draw_bar(sheet: _Sheet, bar: Bar, left: float, top: float, high: float) -> None:
    gradient = bar.colors(np.linspace(1, 0, 128))[:, None, :3]
    sheet.picture(np.repeat(gradient, 2, axis=1), left, top, BAR_INCH, high)
    sheet.frame(left, top, BAR_INCH, high)
    for value, words in bar.ticks:
        y = top + high * (1 - (value - bar.limits[0]) / (bar.limits[1] - bar.limits[0]))
        sheet.text(left + BAR_INCH + 0.04, y + 0.033, words, size=7, color=INK, anchor="start")
    for number, text in enumerate(bar.label.split("\n")):
        x = left + BAR_INCH + 0.3 + 0.13 * number
        sheet.text(x, top + high / 2, text, size=7.5, color=INK, turned=True)


class _Sheet:
    """What is drawn, in inches from the top left; `top` is where the next row begins."""

    def __init__(self, width_inch: float) -> None:
        self.width, self.top = width_inch, 0.0
        self._pictures: list[tuple[np.ndarray, float, float, float, float]] = []
        self._marks: list[str] = []

    def down(self, inches: float) -> None:
        self.top += inches

    def picture(self, rgb: np.ndarray, left: float, top: float, width: float, height: float) -> None:
        """The first row of `rgb` is the top one."""
        self._pictures.append((rgb, left, top, width, height))

    def text(
        self, x: float, y: float, words: str, *, size: float, color: str, anchor: str = "middle", turned: bool = False
    ) -> None:
        x, y = x * POINTS, y * POINTS
        turn = f' transform="rotate(-90 {x:.2f} {y:.2f})" dy="{size / 3:.2f}"' if turned else ""
        self._marks.append(
            f'<text x="{x:.2f}" y="{y:.2f}" font-family="{PRINTED_FONT}" font-size="{size}" fill="{color}" '
            f'text-anchor="{anchor}"{turn}>{escape(words)}</text>'
        )

    def contour(self, values: np.ndarray, left: float, top: float, width: float, height: float) -> None:
        """Lines at .5 between the middles of the pixels."""
        scale = np.array([width / values.shape[1], height / values.shape[0]]) * POINTS
        lines = contourpy.contour_generator(z=values.astype(float)).lines(0.5)
        paths = [(line + 0.5) * scale + np.array([left, top]) * POINTS for line in lines]
        drawn = "".join("M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in path) for path in paths)
        if drawn:
            self._marks.append(f'<path d="{drawn}" fill="none" stroke="{OUTLINE}" stroke-width="0.7"/>')

    def frame(self, left: float, top: float, width: float, height: float) -> None:
        place = " ".join(
            f'{name}="{value * POINTS:.2f}"'
            for name, value in zip(("x", "y", "width", "height"), (left, top, width, height), strict=True)
        )
        self._marks.append(f'<rect {place} fill="none" stroke="{INK}" stroke-width="0.4"/>')

    def svg(self) -> bytes:
        size = [round(inches * DOTS_PER_INCH) for inches in (self.width, self.top)]
        canvas = Image.new("RGB", (size[0], size[1]), "white")
        for rgb, left, top, width, height in self._pictures:
            box = [round(inches * DOTS_PER_INCH) for inches in (width, height, left, top)]
            picture = Image.fromarray(np.round(255 * np.clip(rgb, 0, 1)).astype(np.uint8))
            canvas.paste(picture.resize((max(box[0], 1), max(box[1], 1)), Image.Resampling.BILINEAR), (box[2], box[3]))
        with io.BytesIO() as content:
            canvas.save(content, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
            encoded = base64.b64encode(content.getvalue()).decode()
        width, height = self.width * POINTS, self.top * POINTS
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width:.2f}pt" height="{height:.2f}pt" viewBox="0 0 {width:.2f} {height:.2f}">'
            f'<image x="0" y="0" width="{width:.2f}" height="{height:.2f}" preserveAspectRatio="none" '
            f'xlink:href="data:image/jpeg;base64,{encoded}"/>{"".join(self._marks)}</svg>'
        ).encode()
