"""What the template is made of: soft grey, white and fluid maps, and the uptake of FDG in a healthy brain."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage
from sklearn.cluster import KMeans

from preprocessing.simulated import healthy
from preprocessing.steps import head, refinement, template
from preprocessing.steps.interpolation import gaussian

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
LABEL_SOFTNESS_VOXELS = 0.75
# What a soft scanner blurs a share of its signal by, and a T1's usual noise relative to white matter.
SOFT_SIGMA_MM = 1.0
SCAN_NOISE = 0.03


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


class Tissues(NamedTuple):
    """Shares of a head's voxels on the 2 mm template grid, each (91, 109, 91): zero outside its brain.

    head: 1 where there is no air.
    """

    gray: np.ndarray
    white: np.ndarray
    fluid: np.ndarray
    head: np.ndarray


@lru_cache
def template_tissues() -> Tissues:
    affine = template.t1_1mm().affine
    shares = [template.to_grid(nib.Nifti1Image(tissues_1mm()[name], affine)) for name in ("grey", "white", "fluid")]
    return Tissues(*shares, template.t1() > 0.1 * template.t1().max())


@lru_cache
def uptake_levels() -> np.ndarray:
    """Uptake of the grey matter of each of CerebrA's labels, by number: such that an 8 mm scanner, which mixes each
    region with what lies around it, shows the published means on the template."""
    labels, table, wanted = template.labels(), template.region_table(), healthy.normal_suvr()
    levels = np.full(labels.max() + 1, CORTEX_SUVR, np.float32)
    levels[list(wanted)] = list(wanted.values())
    target = levels.copy()
    fixed = set(table[table.region == "brainstem"].label)  # everything is relative to it
    for _ in range(ITERATIONS):
        seen = blur(uptake_of(levels, labels, template_tissues()))
        means = ndimage.mean(seen / seen[template.pons_mask()].mean(), labels, np.arange(len(target)))
        for label in set(wanted) - fixed:
            levels[label] = np.clip(levels[label] * target[label] / means[label], 0.4, LARGEST_SUVR)
    return levels


def uptake_of(levels: np.ndarray, labels: np.ndarray, tissues: Tissues) -> np.ndarray:
    """FDG uptake before a scanner blurs it, pons about 1, of levels by label, on the 2 mm grid: (91, 109, 91)."""
    soft = ndimage.gaussian_filter(levels[labels], LABEL_SOFTNESS_VOXELS)
    uptake = tissues.gray * soft + tissues.white * WHITE_SUVR + tissues.fluid * FLUID_SUVR
    uptake = np.where(np.isin(labels, _white_labels()), soft, uptake)
    brain = tissues.gray + tissues.white + tissues.fluid > 0.5
    return np.where(brain, uptake, np.where(tissues.head > 0.5, SCALP_SUVR, 0)).astype(np.float32)


@lru_cache
def _white_labels() -> np.ndarray:
    table = template.region_table()
    return table[table.region.isin(WHITE_REGIONS)].label.to_numpy()


def segment_template(blurred: bool) -> np.ndarray:
    """`segment` of a scan of the template itself, on its 1 mm grid."""
    return segment(template.t1_1mm(), blurred)


def soften(t1: np.ndarray, share: float, spacing_mm: float | tuple) -> np.ndarray:
    """A T1 of a scanner that loses sharpness: a share of the signal in [0, 1] is blurred."""
    if not share:
        return t1
    return (1 - share) * t1 + share * gaussian(t1, SOFT_SIGMA_MM / np.array(spacing_mm))


def segment(t1: nib.Nifti1Image, blurred: bool, weights: Path = head.WEIGHTS) -> np.ndarray:
    """What the pipeline's segmentation calls grey and fluid on a scan, sharp or blurred, with the usual noise: shares
    (2, *shape). weights: of the network of the head."""
    rng = np.random.default_rng(13)
    values = t1.get_fdata(dtype=np.float32)
    noise = SCAN_NOISE * np.percentile(values[values > 0], 90) * rng.standard_normal((2, *t1.shape), np.float32)
    values = np.hypot(soften(values, float(blurred), t1.header.get_zooms()[:3]) + noise[0], noise[1])
    scan = nib.Nifti1Image(values, t1.affine)
    found = refinement.refine(head.segment_head(scan, weights), scan)
    return np.stack([head.to_scan(found.tissue(name), t1) for name in ("gm", "csf")])


def blur(values: np.ndarray, fwhm_mm: float = PET_RESOLUTION_MM, spacing_mm: float | tuple = 2.0) -> np.ndarray:
    """What a scanner of the given resolution sees of `values`."""
    return gaussian(values, fwhm_mm / FWHM_PER_SIGMA / np.array(spacing_mm))
