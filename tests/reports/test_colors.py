"""Colors: text has WCAG AA's contrast, and no meaning is lost to color-blind eyes."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import reports
from reports import figures, overlays, saliency, survival

TEMPLATES = Path(reports.__file__).parent / "templates"
# Machado, Oliveira & Fernandes, IEEE TVCG 2009, severity 1, on linear RGB.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color: str) -> np.ndarray:
    values = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(color: str, background: str = "#ffffff") -> float:
    bright, dark = sorted((float(linear(c) @ TO_XYZ[1]) for c in (color, background)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = np.cbrt(np.clip(TO_XYZ @ rgb / [0.9505, 1, 1.089], 0, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def text_colors() -> set[str]:
    """Every color that a template gives to text, and those of words in figures."""
    found = {figures.GREY, figures.INK, figures.RED, figures.BLUE, *survival.SHADES}
    for file in TEMPLATES.glob("*.typ"):
        text = file.read_text(encoding="utf-8")
        found |= set(re.findall(r'#let (?:red|blue|grey|amber|green) = rgb\("(#\w{6})"\)', text))
        found |= {c for c in re.findall(r'text\([^)]*?fill: rgb\("(#\w{6})"\)', text)}
    page = (TEMPLATES / "subject.html.jinja").read_text(encoding="utf-8")
    return found | set(re.findall(r"--\w+: (#\w{6})", page))


@pytest.mark.parametrize("color", sorted(text_colors()))
def test_text_on_white_has_the_contrast_of_wcag_aa(color):
    assert contrast(color) >= 4.5


@pytest.mark.parametrize("kind", BLINDNESS)
def test_mri_pet_and_both_are_told_apart_by_color_blind_eyes(kind):
    seen = [lab(np.clip(np.array(BLINDNESS[kind]) @ linear(c), 0, 1)) for c in (figures.RED, figures.BLUE, figures.INK)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 20


@pytest.mark.parametrize("kind", BLINDNESS)
def test_for_and_against_are_told_apart_by_color_blind_eyes(kind):
    ends = [np.array(saliency.COLORS(end)[:3]) for end in (0.0, 1.0)]
    ends = [linear("#" + "".join(f"{round(255 * v):02x}" for v in end)) for end in ends]
    seen = [lab(np.clip(np.array(BLINDNESS[kind]) @ end, 0, 1)) for end in ends]
    assert np.linalg.norm(seen[0] - seen[1]) > 20


@pytest.mark.parametrize("kind", ["mri_deficit", "pet_deficit"])
def test_a_deeper_deficit_is_darker_to_every_eye(kind):
    colors = overlays.colormap(kind)(np.linspace(0, 1, 32))[:, :3]
    hexes = ["#" + "".join(f"{round(255 * v):02x}" for v in color) for color in colors]
    for matrix in [np.eye(3), *map(np.array, BLINDNESS.values())]:
        lightness = [lab(np.clip(matrix @ linear(color), 0, 1))[0] for color in hexes]
        assert (np.diff(lightness) > 0).all()
