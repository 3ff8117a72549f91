"""Whose head is deformed: the template's own, or another person's brought onto the template."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from adni_tcgm.files import whole_file
from preprocessing.simulated import deformation, tissue_model
from preprocessing.simulated.tissue_model import SEGMENTED, Tissues
from preprocessing.steps import template


class Anatomy(ABC):
    """A head with a map from template space (mm) to its own space (mm), and back.

    kind: which measurements of error apply, "template" or "heads". mean_scale: what lengths are multiplied by, on
    average, to make people of the usual size of it. labels, tissues: the head's own, on the 2 mm template grid.
    label_ml: volume of each of CerebrA's labels, by number, in the head's own space.
    """

    kind: str
    mean_scale: float

    @property
    @abstractmethod
    def labels(self) -> np.ndarray: ...

    @property
    @abstractmethod
    def tissues(self) -> Tissues: ...

    @property
    @abstractmethod
    def label_ml(self) -> np.ndarray: ...

    @abstractmethod
    def from_template(self, points_mm: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def to_template(self, points_mm: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def jacobian(self, displacement: np.ndarray) -> np.ndarray:
        """Volume of the head per volume at template points moved by `displacement`, both on the 4 mm grid."""

    @abstractmethod
    def t1(self, points_mm: np.ndarray) -> np.ndarray:
        """T1 intensity, white matter about 100, at points of the head's own space."""

    @abstractmethod
    def segmented(self, blurred: bool) -> np.ndarray:
        """Grey matter and fluid that the pipeline's segmentation finds on a scan of this head, sharp or blurred:
        shares (2, 193, 229, 193) on the 1 mm template grid."""

    @cached_property
    def controls(self) -> deformation.Controls:
        return deformation.Controls.of(self.labels)

    @cached_property
    def nearest_labels(self) -> np.ndarray:
        """The label of every voxel, unlabeled ones (white matter, mostly) taking that of the nearest.

        Otherwise the scanner's blur would mix each region's change with unchanged surroundings, and normal people be
        too much alike.
        """
        labels = self.labels
        return labels[tuple(ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True))]

    @cached_property
    def uptake(self) -> np.ndarray:
        """FDG uptake of this head where nothing is amiss, pons about 1, before any blur: (91, 109, 91)."""
        return tissue_model.uptake_of(tissue_model.uptake_levels(), self.labels, self.tissues)

    @cached_property
    def label_ml_per_sum(self) -> np.ndarray:
        """mL of each label over the sum of this head's Jacobian in it on the template grid."""
        still = deformation.refine(self.jacobian(np.zeros((3, *deformation.SHAPE), np.float32)))
        sums = label_sums(still, self.labels)
        return self.label_ml[: len(sums)] / np.maximum(sums, 1)


class TemplateAnatomy(Anatomy):
    """The template itself. ICBM's brain is larger than most: shrunk so that intracranial volume is near 1500 mL.

    cache: a file of `write_template_cache`, or None: its content is then made where it is asked for.
    """

    kind = "template"
    mean_scale = 0.93

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache

    @property
    def labels(self) -> np.ndarray:
        return template.labels()

    @property
    def tissues(self) -> Tissues:
        return tissue_model.template_tissues()

    @cached_property
    def label_ml(self) -> np.ndarray:
        return np.bincount(np.asarray(template.labels_1mm().dataobj).ravel()) / 1000

    def from_template(self, points_mm: np.ndarray) -> np.ndarray:
        return points_mm

    to_template = from_template

    def jacobian(self, displacement: np.ndarray) -> np.ndarray:
        return np.ones(deformation.SHAPE, np.float32)

    def t1(self, points_mm: np.ndarray) -> np.ndarray:
        image = template.t1_1mm()
        return sample(image.get_fdata(dtype=np.float32), image.affine, points_mm)

    @lru_cache(maxsize=2)  # noqa: B019 (a handful of anatomies, as long as the process)
    def segmented(self, blurred: bool) -> np.ndarray:
        if self.cache is None:
            return tissue_model.segment_template(blurred)
        return read_shares(self.cache, blurred)


def write_template_cache(path: Path) -> None:
    """What each process would otherwise spend 15 s on."""
    with whole_file(path) as partial:
        maps = {name: as_bytes(tissue_model.segment_template(bool(b))) for b, name in enumerate(SEGMENTED)}
        np.savez(partial, **maps)


def read_shares(path: Path, blurred: bool) -> np.ndarray:
    return np.load(path, allow_pickle=False)[SEGMENTED[blurred]] / np.float32(255)


def as_bytes(shares: np.ndarray) -> np.ndarray:
    """Shares in [0, 1] as uint8."""
    return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def label_sums(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sum of `values` over each label, at the place of its number."""
    return np.bincount(labels.ravel(), weights=values.ravel())


def sample(values: np.ndarray, affine: np.ndarray, points_mm: np.ndarray, order: int = 1) -> np.ndarray:
    """Values of an image at points (3, ...) in mm; zero outside."""
    inverse = np.linalg.inv(affine)
    index = np.tensordot(inverse[:3, :3], points_mm, axes=1)
    index += inverse[:3, 3].reshape(3, *[1] * (points_mm.ndim - 1))
    return ndimage.map_coordinates(values, index, order=order, mode="constant")
