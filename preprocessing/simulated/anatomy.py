"""Whose head is deformed: the template's own, or another person's brought onto the template."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy import ndimage

from preprocessing.steps import template


class Anatomy(Protocol):
    """A head with a map from template space (mm) to its own space (mm), and back.

    mean_scale: what lengths are multiplied by, on average, to make people of the usual size of it.
    """

    mean_scale: float

    def from_template(self, points_mm: np.ndarray) -> np.ndarray: ...

    def to_template(self, points_mm: np.ndarray) -> np.ndarray: ...

    def jacobian(self, displacement: np.ndarray) -> np.ndarray | float:
        """Volume per template volume on the 2 mm grid, at template points moved by `displacement` (4 mm grid)."""
        ...

    def t1(self, points_mm: np.ndarray) -> np.ndarray:
        """T1 intensity, white matter about 100, at points of the head's own space."""
        ...


class TemplateAnatomy:
    """The template itself. ICBM's brain is larger than most: shrunk so that intracranial volume is near 1500 mL."""

    mean_scale = 0.93

    def from_template(self, points_mm: np.ndarray) -> np.ndarray:
        return points_mm

    to_template = from_template

    def jacobian(self, displacement: np.ndarray) -> float:
        return 1.0

    def t1(self, points_mm: np.ndarray) -> np.ndarray:
        image = template.t1_1mm()
        return sample(image.get_fdata(dtype=np.float32), image.affine, points_mm)


def sample(values: np.ndarray, affine: np.ndarray, points_mm: np.ndarray, order: int = 1) -> np.ndarray:
    """Values of an image at points (3, ...) in mm; zero outside."""
    inverse = np.linalg.inv(affine)
    index = np.tensordot(inverse[:3, :3], points_mm, axes=1)
    index += inverse[:3, 3].reshape(3, *[1] * (points_mm.ndim - 1))
    return ndimage.map_coordinates(values, index, order=order, mode="constant")
