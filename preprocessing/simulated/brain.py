"""One person's brain, before any scanner: where each point of the template lies, and what it takes up.

Everything is defined on the template and carried over: T1 by `from_template`, volumes by the Jacobian, uptake by a
map in template space. With `--anatomies` a second map leads from the template to somebody else's head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd

from preprocessing.simulated import deformation, pattern, tissue_model
from preprocessing.simulated.anatomy import Anatomy, label_numbers
from preprocessing.simulated.people import Person
from preprocessing.simulated.sites import SiteEffect, site_effect
from preprocessing.steps import template

UPTAKE_VARIATION = 0.03
UPTAKE_VARIATION_MM = 14.0


@dataclass(frozen=True)
class Brain:
    person: Person
    anatomy: Anatomy

    @property
    def effect(self) -> SiteEffect:
        return site_effect(self.person.seed, self.person.site, self.person.site_effect)

    @property
    def brain_ml(self) -> float:
        """Volume of the template's brain mask in the person's head."""
        return float(self.jacobian[template.brain_mask()].sum() * template.VOXEL_ML)

    @cached_property
    def head(self) -> np.ndarray:
        """3x3 matrix from the deformed template to the person's head: size, proportions and a little shear."""
        rng = self.person.rng(4)
        proportions = 0.02 * rng.standard_normal(3)
        size = np.exp(self.person.log_head_volume / 3 + proportions - proportions.mean())
        shear = np.eye(3)
        shear[np.triu_indices(3, 1)] = 0.01 * rng.standard_normal(3)
        return np.diag(self.anatomy.mean_scale * size) @ shear

    def _changes(self, modality: str) -> dict[tuple[str, str], float]:
        """What is done to the head for it to have the person's regional values."""
        excess, drawn = self.anatomy.excess[modality], pattern.regional_changes(self.person, modality)
        return {key: change - excess.get(key, 0.0) for key, change in drawn.items()}

    @cached_property
    def _velocity(self) -> np.ndarray:
        return self.anatomy.controls.velocity(self._changes("mri"), deformation.random_velocity(self.person.rng(3)))

    @cached_property
    def displacement(self) -> np.ndarray:
        """Where template points go before the anatomy and the head's size, less where they are: (3, 46, 55, 46) mm."""
        return deformation.exponential(self._velocity)

    @cached_property
    def _back(self) -> np.ndarray:
        return deformation.exponential(-self._velocity)

    def to_person(self, points_mm: np.ndarray) -> np.ndarray:
        """(3, ...) template mm -> mm in the person's head."""
        inside = deformation.displaced(points_mm, self.displacement)
        return np.tensordot(self.head, self.anatomy.from_template(inside), axes=1)

    def from_person(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(3, ...) mm in the person's head -> (template mm, mm in the anatomy that shows there)."""
        smaller = np.linalg.inv(self.head).astype(points_mm.dtype)
        inside = self.anatomy.to_template(np.tensordot(smaller, points_mm, axes=1))
        on_template = deformation.displaced(inside, self._back)
        return on_template, self.anatomy.from_template(on_template)

    def volume_change(self, displacement: np.ndarray) -> np.ndarray:
        """Volume in the person's head per volume on the template, of a map by `displacement`: on the 4 mm grid."""
        own = deformation.determinant(displacement) * self.anatomy.jacobian(displacement)
        return (own * np.linalg.det(self.head)).astype(np.float32)

    @cached_property
    def jacobian(self) -> np.ndarray:
        """Volume in the person's head per volume on the template, (91, 109, 91)."""
        return deformation.refine(self.volume_change(self.displacement))

    @cached_property
    def uptake(self) -> np.ndarray:
        """FDG uptake relative to the healthy pons on the 2 mm template grid, before any blur."""
        changes = self._changes("pet")
        by_label = np.zeros(self.anatomy.labels.max() + 1, np.float32)
        for key, label in label_numbers().items():
            by_label[label] = changes.get(key, 0.0)
        # On the 4 mm grid, which softens the borders of the regions, too.
        change = deformation.coarsen(by_label[self.anatomy.nearest_labels])
        variation = deformation.smooth_noise(self.person.rng(5), ((UPTAKE_VARIATION, UPTAKE_VARIATION_MM),), 1)[0]
        return self.anatomy.uptake * np.exp(deformation.refine(change + variation * _varying()))

    @cached_property
    def suvr(self) -> np.ndarray:
        """What a noiseless scanner of the stated resolution shows, over the pons, on the 2 mm grid."""
        scale = np.cbrt(np.linalg.det(self.head))
        seen = tissue_model.blur(self.uptake, tissue_model.PET_RESOLUTION_MM / scale)
        return seen / seen[template.pons_mask()].mean()

    @cached_property
    def label_volumes(self) -> dict[tuple[str, str], float]:
        """As `Anatomy.label_volumes`, in the person's head."""
        return self.anatomy.label_volumes(self.jacobian)

    def regions(self) -> pd.DataFrame:
        """As `Anatomy.regions`, in the person's head."""
        return self.anatomy.regions(self.jacobian, self.suvr)


@lru_cache
def _varying() -> np.ndarray:
    """How far uptake varies without regard to regions, from 0 to 1 on the 4 mm grid: not in the reference region."""
    return 1 - deformation.coarsen(template.region_mask("brainstem", "ventral_diencephalon"))
