"""What the template is made of: soft grey, white and fluid maps, and the uptake of FDG in a healthy brain."""

from __future__ import annotations

from functools import lru_cache

import nibabel as nib
import numpy as np
from scipy import ndimage
from sklearn.cluster import KMeans

from preprocessing.simulated import healthy
from preprocessing.steps import template

# Uptake of grey matter for which no published mean is known.
CORTEX_SUVR = 1.38
WHITE_SUVR = 0.80
FLUID_SUVR = 0.15
SCALP_SUVR = 0.35
PET_RESOLUTION_MM = 8.0
FWHM_PER_SIGMA = 2.3548
# Labeled structures that are white matter or a mixture: their uptake is set as a whole.
WHITE_REGIONS = ("brainstem", "cerebellum_white_matter", "ventral_diencephalon")
ITERATIONS, LARGEST_SUVR = 12, 4.0


@lru_cache
def tissues_1mm() -> dict[str, np.ndarray]:
    """Shares of `fluid`, `grey` and `white` per voxel of the 1 mm template, in [0, 1], zero outside the brain.

    Linear between the three intensity peaks of the template; CerebrA says which deep structures are grey although
    they look like a mixture.
    """
    image = template.t1_1mm().get_fdata(dtype=np.float32)
    brain = template.brain_mask_1mm().get_fdata() > 0.5
    sample = image[brain][::50, None]
    fluid, grey, white = np.sort(KMeans(3, n_init=1, random_state=0).fit(sample).cluster_centers_[:, 0])
    shares = {
        "fluid": np.clip((grey - image) / (grey - fluid), 0, 1),
        "white": np.clip((image - grey) / (white - grey), 0, 1),
    }
    labels = template.labels_1mm().get_fdata().astype(int)
    table = template.region_table()
    deep = table[table.region.isin(["thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala"])].label
    shares["white"][np.isin(labels, deep)] *= 0.2
    shares["grey"] = 1 - shares["fluid"] - shares["white"]
    return {name: (value * brain).astype(np.float32) for name, value in shares.items()}


@lru_cache
def healthy_uptake() -> np.ndarray:
    """FDG uptake before the scanner blurs it, on the 2 mm grid, pons about 1: (91, 109, 91) float32."""
    shares = {
        name: template.to_grid(nib.Nifti1Image(share, template.t1_1mm().affine))
        for name, share in tissues_1mm().items()
    }
    labels, table, wanted = template.labels(), template.region_table(), healthy.normal_suvr()
    by_label = np.full(labels.max() + 1, CORTEX_SUVR, np.float32)
    by_label[list(wanted)] = list(wanted.values())
    target = by_label.copy()
    # An 8 mm scanner mixes each region with what lies around it; correct until the blurred means are as published.
    for _ in range(ITERATIONS):
        soft = ndimage.gaussian_filter(by_label[labels], 0.75)
        uptake = shares["grey"] * soft + shares["white"] * WHITE_SUVR + shares["fluid"] * FLUID_SUVR
        uptake = np.where(template.region_mask(*WHITE_REGIONS), soft, uptake)
        seen = blur(uptake)
        means = ndimage.mean(seen / seen[template.pons_mask()].mean(), labels, np.arange(len(target)))
        for label in set(wanted) - {*table[table.region == "brainstem"].label}:  # everything is relative to it
            by_label[label] = np.clip(by_label[label] * target[label] / means[label], 0.4, LARGEST_SUVR)
    head = template.t1() > 0.1 * template.t1().max()
    return np.where(template.brain_mask(), uptake, np.where(head, SCALP_SUVR, 0)).astype(np.float32)


def blur(values: np.ndarray, fwhm_mm: float = PET_RESOLUTION_MM, spacing_mm: float | tuple = 2.0) -> np.ndarray:
    """What a scanner of the given resolution sees of `values`."""
    return ndimage.gaussian_filter(values, np.array(fwhm_mm / FWHM_PER_SIGMA) / np.array(spacing_mm))
