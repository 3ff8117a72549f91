"""One person's figures, and the style of all: SVG whose text stays text and is set in the same type as the page."""

from __future__ import annotations

import io
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

RED, BLUE, INK, GREY = "#b2182b", "#2166ac", "#222222", "#666666"
MODALITY_COLORS = {"mri": RED, "pet": BLUE, "all": INK}
# matplotlib measures text with STIX, which its wheel carries; Typst then sets it in Libertinus, of nearly the same
# width. The salt and the missing date make the bytes repeatable.
DRAWN_FONT, PRINTED_FONT = "STIXGeneral", "Libertinus Serif"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "reports",
    "font.family": DRAWN_FONT,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.unicode_minus": True,
}


def save_svg(figure: Figure, dpi: int = 100) -> bytes:
    """A figure that was made under `rc_context(STYLE)`, as SVG bytes, equal for equal figures.

    dpi: of the images inside.
    """
    content = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(content, format="svg", dpi=dpi, metadata={"Date": None, "Creator": None}, transparent=True)
    return content.getvalue().replace(DRAWN_FONT, PRINTED_FONT).encode()


@dataclass(frozen=True)
class ProbabilityRow:
    """One line of the probability figure: the headline classifier's value and those of the other runs."""

    modality: str
    title: str
    value: float
    others: tuple[float, ...]
    limits: tuple[float, float] | None = None


def draw_probabilities(rows: list[ProbabilityRow], base_rate: float | None) -> bytes:
    """Calibrated probability of conversion, a line per modality; hollow: the other runs, for the same person."""
    with matplotlib.rc_context(STYLE):
        height = 0.55 + 0.28 * len(rows)
        figure = Figure(figsize=(7.1, height))
        axes = figure.add_axes((0.16, 0.27 / height, 0.68, 0.28 * len(rows) / height))
        for position, row in enumerate(reversed(rows)):
            color, bold = MODALITY_COLORS[row.modality], "bold" if row.modality == "all" else "normal"
            axes.hlines(position, 0, 1, color="#e4e4e4", lw=0.7, zorder=0)
            if row.limits is not None:
                axes.hlines(position, *row.limits, color=color, lw=1.6, alpha=0.55, zorder=2)
            axes.plot(row.others, [position] * len(row.others), "o", ms=4.5, mfc="white", mec=color, mew=0.7, alpha=0.8)
            axes.plot(row.value, position, "o", ms=8, color=color, zorder=3, clip_on=False)
            axes.text(-0.02, position, row.title, ha="right", va="center", weight=bold)
            axes.text(1.03, position, f"{100 * row.value:.0f} %", ha="left", va="center", weight=bold)
            if row.limits is not None:
                low, high = (f"{100 * limit:.0f}" for limit in row.limits)
                axes.text(1.105, position, f"({low}–{high})", ha="left", va="center", fontsize=8, color=GREY)
        if base_rate is not None:
            axes.axvline(base_rate, color=GREY, lw=0.8, ls=(0, (3, 2)), zorder=1)
            axes.text(
                base_rate,
                len(rows) - 0.42,
                f"base rate {100 * base_rate:.0f} %",
                ha="center",
                va="bottom",
                fontsize=8,
                color=GREY,
            )
        axes.set(xlim=(0, 1), ylim=(-0.5, len(rows) - 0.5), yticks=[], xticks=[0, 0.25, 0.5, 0.75, 1])
        axes.set_xticklabels(["0 %", "25 %", "50 %", "75 %", "100 %"], fontsize=8)
        axes.spines["left"].set_visible(False)
        return save_svg(figure)


@dataclass(frozen=True)
class NormCurve:
    """A norm over age for people of the subject's sex and head size. `ages`, `adjusted`: the norm group's points."""

    title: str
    color: str
    ages: np.ndarray
    adjusted: np.ndarray
    grid: np.ndarray
    expected: np.ndarray
    residuals: np.ndarray
    age: float
    value: float


def draw_norm_curves(curves: list[NormCurve]) -> bytes:
    """The subject as a dot over the norm: bands hold the central 50 % and 90 % of the norm group's residuals."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.1, 2.4))
        for index, curve in enumerate(curves):
            axes = figure.add_axes((0.05 + 0.505 * index, 0.2, 0.44, 0.66))
            for low, high, alpha in ((5, 95, 0.12), (25, 75, 0.2)):
                band = np.percentile(curve.residuals, [low, high])
                axes.fill_between(
                    curve.grid, curve.expected + band[0], curve.expected + band[1], color=curve.color, alpha=alpha, lw=0
                )
            axes.plot(curve.grid, curve.expected, color=curve.color, lw=1.1)
            axes.plot(curve.ages, curve.adjusted, ".", color="#8a8a8a", ms=4, mew=0)
            axes.plot(curve.age, curve.value, "o", ms=7, mfc=curve.color, mec="black", mew=0.9, clip_on=False, zorder=4)
            axes.set_title(curve.title, loc="left", fontsize=9.5, weight="bold")
            axes.set_xlabel("age (years)", fontsize=8.5, labelpad=2)
            axes.tick_params(labelsize=8, length=2.5)
            axes.yaxis.set_major_locator(MaxNLocator(5))
        return save_svg(figure)
