"""One person's brain, before any scanner: where each point of the template lies, and what it takes up.

Everything is defined on the template and carried over: T1 by `from_template`, volumes by the Jacobian, uptake by a
map in template space. With `--anatomies` a second map leads from the template to somebody else's head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from scipy import ndimage

from preprocessing.simulated import deformation, pattern, tissue_model
from preprocessing.simulated.anatomy import Anatomy
from preprocessing.simulated.people import Person
from preprocessing.steps import template
from preprocessing.steps.regions import measure_regions

UPTAKE_VARIATION = 0.03
UPTAKE_VARIATION_MM = 14.0
VARIATION_STEP = 4
LABEL_SOFTNESS_VOXELS = 1.0


@lru_cache
def _nearest_label() -> np.ndarray:
    """CerebrA's label of every voxel of the grid, unlabeled ones (white matter, mostly) taking that of the nearest.

    Otherwise the scanner's blur would mix each region's change with unchanged surroundings, and normal people be too
    much alike.
    """
    labels = template.labels()
    nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    return labels[tuple(nearest)]


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
        changes = pattern.regional_changes(self.person, "mri")
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
        changes = pattern.regional_changes(self.person, "pet")
        table = template.region_table()
        by_label = np.zeros(template.labels().max() + 1, np.float32)
        for label, region, side in table[["label", "region", "side"]].itertuples(index=False):
            by_label[label] = changes.get((region, side), 0.0)
        change = ndimage.gaussian_filter(by_label[_nearest_label()], LABEL_SOFTNESS_VOXELS)
        coarse = tuple(-(-n // VARIATION_STEP) + 1 for n in template.GRID_SHAPE)
        sigma = UPTAKE_VARIATION_MM / template.SPACING_MM / VARIATION_STEP
        noise = ndimage.gaussian_filter(rng.standard_normal(coarse, np.float32), sigma)
        noise = ndimage.zoom(noise / noise.std(), VARIATION_STEP, order=1, grid_mode=True, mode="nearest")
        noise = noise[tuple(slice(n) for n in template.GRID_SHAPE)]
        change += UPTAKE_VARIATION * noise * ~template.region_mask("brainstem", "ventral_diencephalon")
        return tissue_model.healthy_uptake() * np.exp(change)

    @cached_property
    def suvr(self) -> np.ndarray:
        """What a noiseless scanner of the stated resolution shows, over the pons, on the 2 mm grid."""
        scale = np.cbrt(np.linalg.det(self.head))
        seen = tissue_model.blur(self.uptake, tissue_model.PET_RESOLUTION_MM / scale)
        return seen / seen[template.pons_mask()].mean()

    def regions(self) -> pd.DataFrame:
        """True `region side volume_ml suvr`: every CerebrA region and side, the meta-ROI proxy and the pons."""
        return measure_regions(self.jacobian, suvr=self.suvr)
