"""How far a person's maps lie below those of the norm, voxel by voxel: z adjusted for age, sex and head size.

A plain map of volume shows first of all how large the head is. Grey matter is smoothed before (8 mm, as is usual for
voxel-based morphometry); PET has about that resolution.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from reports import box, overlays
from reports.norms import SMALLEST_NORM, Reference
from reports.records import MODALITIES, Prepared

SMOOTHING_FWHM_MM = {"mri": 8.0, "pet": 0.0}
COVARIATES = {"mri": ("age", "male", "tiv_ml"), "pet": ("age", "male")}
FWHM_PER_SD = 2.3548
# A voxel that hardly varies in the norm would make a deficit of nothing: its SD counts as this quantile of all.
SMALLEST_SD_QUANTILE = 0.1
# Beside a run that ships without the maps of its people: their norms, as fitted.
VOXEL_NORMS = "voxel_norms.npz"
NUMBERS = ("center", "coefficients", "sd", "n")


@dataclass(frozen=True)
class VoxelNorm:
    """Of grey matter's voxels: `coefficients` (k+1, N) for covariates minus `center`, intercept last; `sd` (N,)."""

    modality: str
    center: np.ndarray
    coefficients: np.ndarray
    sd: np.ndarray
    n: int

    def deficit(self, image: nib.Nifti1Image, person: pd.DataFrame) -> nib.Nifti1Image | None:
        """z on the box; None where an age, sex or head size is unknown. person: one row.

        Outside grey matter stands the value of the nearest voxel inside: a figure can interpolate up to the rim, and
        masks what it draws.
        """
        covariates = person[list(COVARIATES[self.modality])].to_numpy(float)[0]
        if not np.isfinite(covariates).all():
            return None
        expected = np.append(covariates - self.center, 1.0) @ self.coefficients
        z = (read_voxels(image, self.modality) - expected) / self.sd
        return nib.Nifti1Image(z.astype(np.float32)[box.nearest_grey()], box.AFFINE)


def read_voxels(image: nib.Nifti1Image, modality: str) -> np.ndarray:
    """The smoothed values of grey matter's voxels, (N,)."""
    values, fwhm = box.to_box(image), SMOOTHING_FWHM_MM[modality]
    if fwhm:
        values = ndimage.gaussian_filter(values, fwhm / FWHM_PER_SD / box.AFFINE[0, 0], truncate=2.5)
    return values[box.grey_matter()]


def fit_voxel_norm(maps: Sequence[np.ndarray], people: pd.DataFrame, modality: str) -> VoxelNorm | None:
    """Least squares of each voxel on the covariates. maps: of `read_voxels`, one for each row of `people`, whose
    covariates are all known. None below 20 people."""
    if len(maps) < SMALLEST_NORM:
        return None
    covariates = people[list(COVARIATES[modality])].to_numpy(float)
    center = covariates.mean(0)
    design = np.column_stack([covariates - center, np.ones(len(covariates))])
    values = np.stack(maps)
    coefficients, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    residuals = values - design @ coefficients
    sd = np.sqrt((residuals**2).sum(0) / (len(values) - rank))
    sd = np.maximum(sd, max(float(np.quantile(sd, SMALLEST_SD_QUANTILE)), 1e-6))
    return VoxelNorm(modality, center, coefficients.astype(np.float32), sd.astype(np.float32), len(values))


def fit_voxel_norms(prepared: Prepared, people: pd.DataFrame, reference: Reference) -> dict[str, VoxelNorm | None]:
    """Modality -> norm from the maps of the reference's people; a map that cannot be read is left out, with a warning.

    people: covariates by sample id.
    """
    norms = {}
    for modality in MODALITIES[:2]:
        maps, kept = [], []
        for sample_id in reference.sample_ids:
            path = prepared.volume(sample_id, modality)
            known = people.loc[sample_id, list(COVARIATES[modality])].notna().all()
            if path is None or not path.is_file() or not known:
                continue
            try:
                maps.append(read_voxels(overlays.load_map(path), modality))
                kept.append(sample_id)
            except ValueError as error:
                warnings.warn(f"left out of the norm's maps: {error}", stacklevel=2)
        norms[modality] = fit_voxel_norm(maps, people.loc[kept], modality)
    return norms


def save_voxel_norms(norms: Mapping[str, VoxelNorm | None], folder: Path) -> Path:
    """Write the norms in half precision (voxels) below `folder`, for `load_voxel_norms`; a modality may have none."""
    arrays = {}
    for modality, norm in norms.items():
        if norm is not None:
            arrays |= {f"{modality}_{name}": np.asarray(getattr(norm, name)) for name in NUMBERS}
            arrays |= {f"{modality}_{name}": getattr(norm, name).astype(np.float16) for name in ("coefficients", "sd")}
    np.savez_compressed(folder / VOXEL_NORMS, **arrays)
    return folder / VOXEL_NORMS


def load_voxel_norms(folder: Path) -> dict[str, VoxelNorm | None] | None:
    """Modality -> norm (None: it has none); None where the folder keeps no norms."""
    if not (folder / VOXEL_NORMS).is_file():
        return None
    norms: dict[str, VoxelNorm | None] = {}
    with np.load(folder / VOXEL_NORMS, allow_pickle=False) as kept:
        for modality in MODALITIES[:2]:
            if f"{modality}_sd" in kept:
                center, coefficients, sd, n = (kept[f"{modality}_{name}"] for name in NUMBERS)
                whole = coefficients.astype(np.float32), sd.astype(np.float32)
                norms[modality] = VoxelNorm(modality, center, *whole, int(n))
            else:
                norms[modality] = None
    return norms
