"""One person's brain, before any scanner: where each point of the template lies, and what it takes up.

Everything is defined on the template and carried over: T1 by `from_template`, volumes by the Jacobian, uptake by a
map in template space. With `--anatomies` a second map leads from the template to somebody else's head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import ndimage

from preprocessing.simulated import deformation, pattern, tissue_model
from preprocessing.simulated.anatomy import Anatomy
from preprocessing.simulated.people import Person
from preprocessing.steps import template
from preprocessing.steps.regions import measure_regions

UPTAKE_VARIATION = 0.036
UPTAKE_VARIATION_MM = 14.0


@dataclass(frozen=True)
class Brain:
    person: Person
    anatomy: Anatomy

    @cached_property
    def head(self) -> np.ndarray:
        """3x3 matrix from the deformed template to the person's head: size, proportions and a little shear."""
        rng = self.person.rng(4)
        proportions = 0.02 * rng.standard_normal(3)
        size = np.exp(self.person.log_head_volume / 3 + proportions - proportions.mean())
        shear = np.eye(3)
        shear[np.triu_indices(3, 1)] = 0.01 * rng.standard_normal(3)
        return np.diag(self.anatomy.mean_scale * size) @ shear

    @cached_property
    def _velocity(self) -> np.ndarray:
        changes = pattern.regional_changes(pattern.ATROPHY, self.person, "mri")
        return deformation.velocity_with(changes, deformation.random_velocity(self.person.rng(3)))

    def to_person(self, points_mm: np.ndarray) -> np.ndarray:
        """(3, ...) template mm -> mm in the person's head."""
        inside = deformation.displaced(points_mm, deformation.exponential(self._velocity))
        return np.tensordot(self.head, self.anatomy.from_template(inside), axes=1)

    def from_person(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(3, ...) mm in the person's head -> (template mm, mm in the anatomy that shows there)."""
        inside = self.anatomy.to_template(np.tensordot(np.linalg.inv(self.head), points_mm, axes=1))
        on_template = deformation.displaced(inside, deformation.exponential(-self._velocity))
        return on_template, self.anatomy.from_template(on_template)

    @cached_property
    def jacobian(self) -> np.ndarray:
        """Volume in the person's head per volume on the template, (91, 109, 91)."""
        displacement = deformation.exponential(self._velocity)
        own = deformation.jacobian_on_grid(displacement)
        return (own * self.anatomy.jacobian(displacement) * np.linalg.det(self.head)).astype(np.float32)

    @cached_property
    def uptake(self) -> np.ndarray:
        """FDG uptake relative to the healthy pons on the 2 mm template grid, before any blur."""
        rng = self.person.rng(5)
        log_change = np.zeros(template.GRID_SHAPE, np.float32)
        for (region, side), change in pattern.regional_changes(pattern.HYPOMETABOLISM, self.person, "pet").items():
            log_change[template.region_mask(region, side=side)] = change
        log_change[template.region_mask(*pattern.FRONTAL)] = pattern.FRONTAL_NUISANCE * self.person.nuisance_pet
        spared = template.region_mask("brainstem", "ventral_diencephalon", "cerebellum_gray_matter")
        level = np.where(spared, 0, np.float32(pattern.CORTEX_LEVEL * rng.standard_normal()))
        noise = ndimage.gaussian_filter(
            rng.standard_normal(template.GRID_SHAPE, np.float32), UPTAKE_VARIATION_MM / template.SPACING_MM
        )
        variation = np.where(spared, 0, UPTAKE_VARIATION * noise / noise.std())
        change = ndimage.gaussian_filter(log_change, 1.0) + level + variation
        return tissue_model.healthy_uptake() * np.exp(change.astype(np.float32))

    @cached_property
    def suvr(self) -> np.ndarray:
        """What a noiseless scanner of the stated resolution shows, over the pons, on the 2 mm grid."""
        scale = np.cbrt(np.linalg.det(self.head))
        seen = tissue_model.blur(self.uptake, tissue_model.PET_RESOLUTION_MM / scale)
        return seen / seen[template.pons_mask()].mean()

    def regions(self) -> pd.DataFrame:
        """True `region side volume_ml suvr`: every CerebrA region and side, the meta-ROI proxy and the pons."""
        return measure_regions(self.jacobian, suvr=self.suvr)
