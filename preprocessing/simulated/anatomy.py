"""Whose head is deformed: the template's own, or another person's brought onto the template."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from adni_tcgm.files import whole_file
from preprocessing.simulated import deformation, tissue_model
from preprocessing.simulated.tissue_model import Tissues
from preprocessing.steps import template
from preprocessing.steps.interpolation import trilinear
from preprocessing.steps.regions import GreyUptake, measure_regions
from preprocessing.steps.suvr import gray_and_white

# Structures whose true volume is that of the head's own label; all others are measured in CerebrA's mask.
LABELED = ("hippocampus", "amygdala", "lateral_ventricle", "inferior_lateral_ventricle")


class Anatomy(ABC):
    """A head with a map from template space (mm) to its own space (mm), and back.

    kind: which measurements of error apply, "template" or "heads". mean_scale: what lengths are multiplied by, on
    average, to make people of the usual size of it. labels: the head's own, on the 2 mm template grid, numbered as
    CerebrA's. label_ml: volume of each of them, by number, in the head's own space. excess: for "mri" and "pet", log
    volume (of the brain's) and log SUVR of regions and sides beyond those of other heads; no person is to have them.
    """

    kind: str
    mean_scale: float
    labels: np.ndarray
    label_ml: np.ndarray
    excess: Mapping[str, Mapping[tuple[str, str], float]] = {"mri": {}, "pet": {}}

    def __init__(self, cache: Path | None = None) -> None:
        """cache: a file of `write_cache`, or None: what it would hold is then made where it is asked for."""
        self.cache = cache

    @abstractmethod
    def make_tissues(self) -> Tissues: ...

    @abstractmethod
    def segment(self, blurred: bool) -> np.ndarray:
        """Grey matter and fluid that the pipeline's segmentation finds on a scan of this head, sharp or blurred:
        shares (2, 193, 229, 193) on the 1 mm template grid."""

    @abstractmethod
    def from_template(self, points_mm: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def to_template(self, points_mm: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def jacobian(self, displacement: np.ndarray) -> np.ndarray:
        """Volume of the head per volume at template points moved by `displacement`, both on the 4 mm grid."""

    @abstractmethod
    def t1(self, points_mm: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """T1 intensity, white matter about 100, on a grid of this shape over which points (3, i, j, k) of the head's
        own space are stretched."""

    def _kept(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        if self.cache is None:
            return make()
        return np.load(self.cache, allow_pickle=False)[name]

    @cached_property
    def segmented(self) -> np.ndarray:
        """`segment` of a sharp scan."""
        return self._kept("segmented", lambda: as_bytes(self.segment(blurred=False))) / np.float32(255)

    @cached_property
    def segmented_blurred(self) -> np.ndarray:
        """`segment` of a blurred scan."""
        return self._kept("segmented_blurred", lambda: as_bytes(self.segment(blurred=True))) / np.float32(255)

    @cached_property
    def tissues(self) -> Tissues:
        """The head's own, on the 2 mm template grid."""
        shares = self._kept("tissues", lambda: as_bytes(np.stack(self.make_tissues())))
        return Tissues(*(share / np.float32(255) for share in shares))

    @cached_property
    def controls(self) -> deformation.Controls:
        return deformation.Controls.of(self.labels, self.tissues.fluid)

    @cached_property
    def nearest_labels(self) -> np.ndarray:
        """The label of every voxel, unlabeled ones (white matter, mostly) taking that of the nearest.

        Otherwise the scanner's blur would mix each region's change with unchanged surroundings, and normal people be
        too much alike.
        """
        return self._kept("nearest_labels", lambda: _nearest(self.labels))

    @cached_property
    def uptake(self) -> np.ndarray:
        """FDG uptake of this head where nothing is amiss, pons about 1, before any blur: (91, 109, 91)."""
        return self._kept(
            "uptake", lambda: tissue_model.uptake_of(tissue_model.uptake_levels(), self.labels, self.tissues)
        )

    @cached_property
    def grey_uptake(self) -> GreyUptake:
        """How the head's voxels count in the SUVR of grey regions."""
        return grey_uptake(self.tissues.gray, self.tissues.fluid)

    @cached_property
    def _labeled(self) -> tuple[np.ndarray, np.ndarray]:
        places = np.flatnonzero(self.labels)
        return places, self.labels.ravel()[places]

    def label_sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of `values`, (91, 109, 91), over each label, at the place of its number."""
        places, labels = self._labeled
        return np.bincount(labels, weights=values.ravel()[places])

    @cached_property
    def still(self) -> np.ndarray:
        """Volume of the undeformed head per volume on the template, (91, 109, 91)."""
        return deformation.refine(self.jacobian(np.zeros((3, *deformation.SHAPE), np.float32)))

    @cached_property
    def label_ml_per_sum(self) -> np.ndarray:
        """mL of each label over the sum of this head's Jacobian in it on the template grid."""
        sums = self.label_sums(self.still)
        return self.label_ml[: len(sums)] / np.maximum(sums, 1)

    def label_volumes(self, jacobian: np.ndarray) -> dict[tuple[str, str], float]:
        """mL of the head's own labels LABELED, by region and side, where volumes change by `jacobian`, (91, 109, 91).

        Each is the label's volume in the undeformed head, times what deformation and head size do to it.
        """
        ml = self.label_sums(jacobian) * self.label_ml_per_sum
        return {key: float(ml[label]) for key, label in label_numbers().items() if key[0] in LABELED}

    def regions(self, jacobian: np.ndarray, suvr: np.ndarray) -> pd.DataFrame:
        """True `region side volume_ml suvr method`: every CerebrA region and side, the meta-ROI proxy and the pons.

        Labels of the head itself where LABELED; else grey matter, fluid or all that lies in CerebrA's mask. Maps:
        volume in the head per volume on the template, and SUVR, (91, 109, 91).
        """
        tissues, labels = {"gm": self.tissues.gray, "csf": self.tissues.fluid}, self.label_volumes(jacobian)
        table = measure_regions(jacobian, tissues, suvr, segmented_ml=labels, gray=self.grey_uptake)
        return table.replace({"method": {"segmentation": "label"}})


class TemplateAnatomy(Anatomy):
    """The template itself. ICBM's brain is larger than most: shrunk so that intracranial volume is near 1500 mL."""

    kind = "template"
    mean_scale = 0.93

    @property
    def labels(self) -> np.ndarray:
        return template.labels()

    @cached_property
    def label_ml(self) -> np.ndarray:
        return np.bincount(np.asarray(template.labels_1mm().dataobj).ravel()) / 1000

    def make_tissues(self) -> Tissues:
        return tissue_model.template_tissues()

    def segment(self, blurred: bool) -> np.ndarray:
        return tissue_model.segment_template(blurred)

    def from_template(self, points_mm: np.ndarray) -> np.ndarray:
        return points_mm

    to_template = from_template

    def jacobian(self, displacement: np.ndarray) -> np.ndarray:
        return np.ones(deformation.SHAPE, np.float32)

    def t1(self, points_mm: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        image = template.t1_1mm()
        return sample(image.get_fdata(dtype=np.float32), image.affine, points_mm, shape=shape)


@lru_cache
def label_numbers() -> dict[tuple[str, str], int]:
    """CerebrA's numbers by (region, side)."""
    table = template.region_table()
    return dict(zip(zip(table.region, table.side, strict=True), table.label, strict=True))


def write_cache(anatomy: Anatomy, path: Path, blurred: bool, **more: np.ndarray) -> None:
    """Write what each process would otherwise spend half a minute on. blurred: scans of soft scanners, too."""
    maps = {name: getattr(anatomy, name) for name in ("nearest_labels", "uptake")}
    maps["tissues"] = as_bytes(np.stack(anatomy.tissues))
    for name in ("segmented", "segmented_blurred")[: 1 + blurred]:
        maps[name] = as_bytes(getattr(anatomy, name))
    with whole_file(path) as partial:
        np.savez(partial, **maps, **more)


def _nearest(labels: np.ndarray) -> np.ndarray:
    return labels[tuple(ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True))]


def as_bytes(shares: np.ndarray) -> np.ndarray:
    """Shares in [0, 1] as uint8."""
    return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def grey_uptake(gray: np.ndarray, fluid: np.ndarray) -> GreyUptake:
    """How voxels count in the SUVR of grey regions, by shares of grey matter and fluid."""
    return GreyUptake(gray_and_white((fluid, gray, np.clip(1 - gray - fluid, 0, 1)), {})[0])


def sample(
    values: np.ndarray,
    affine: np.ndarray,
    points_mm: np.ndarray,
    order: int = 1,
    shape: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """Values of an image at points (3, ...) in mm; zero outside. shape: as in `trilinear`."""
    inverse = np.linalg.inv(affine).astype(points_mm.dtype)
    index = np.tensordot(inverse[:3, :3], points_mm, axes=1)
    index += inverse[:3, 3].reshape(3, *[1] * (points_mm.ndim - 1))
    if order == 1:
        return trilinear(values[None], index, outside="zeros", shape=shape)[0]
    return ndimage.map_coordinates(values, index, order=order, mode="constant")
