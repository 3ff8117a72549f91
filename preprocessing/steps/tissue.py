"""The template's own grey matter, white matter and CSF, and grey matter modulated into the template."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from preprocessing.steps import head, template

TISSUES = tuple(head.TISSUES)
PRIOR_FLOOR = 0.02
PRIOR_BLUR_MM = 2.0
WHITE_REGIONS = ("cerebellum_white_matter", "brainstem", "ventral_diencephalon")
CSF_REGIONS = ("lateral_ventricle", "inferior_lateral_ventricle", "third_ventricle", "fourth_ventricle")
UNLABELED_REGION = 0


@lru_cache
def tissue_priors() -> np.ndarray:
    """The template's own tissues, blurred, with a floor: (3, 91, 109, 91) float32 in the order of TISSUES.

    CerebrA names grey matter, ventricles, brainstem and cerebellar white matter; the rest of the brain is white matter
    or outer CSF and is split by its intensity.
    """
    t1, brain, labels = template.t1_1mm(), template.brain_mask_1mm().get_fdata() > 0.5, template.labels_1mm()
    atlas = np.asarray(labels.dataobj)
    intensity = t1.get_fdata(dtype=np.float32)
    table = template.region_table()
    white = np.isin(atlas, table.label[table.region.isin(WHITE_REGIONS)])
    fluid = np.isin(atlas, table.label[table.region.isin(CSF_REGIONS)])
    gray = (atlas != UNLABELED_REGION) & ~white & ~fluid
    unlabeled = brain & (atlas == UNLABELED_REGION)
    # Half way between the grey matter's median and each neighbour tissue's.
    middle = np.median(intensity[gray])
    dark = (middle + np.median(intensity[fluid])) / 2
    bright = (middle + np.median(intensity[white])) / 2
    fluid |= unlabeled & (intensity < dark)
    white |= unlabeled & (intensity > bright)
    gray |= unlabeled & (intensity >= dark) & (intensity <= bright)
    shares = [template.share_on_grid(tissue & brain) for tissue in (fluid, gray, white)]
    blurred = [ndimage.gaussian_filter(share, PRIOR_BLUR_MM / template.SPACING_MM) for share in shares]
    priors = np.stack(blurred) + PRIOR_FLOOR
    return (priors / priors.sum(0)).astype(np.float32)


def modulate(gray_matter: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """Warped grey-matter fraction times the full Jacobian, (91, 109, 91): dimensionless, and its sum times
    `template.VOXEL_ML` is the person's own grey matter in mL."""
    return (gray_matter * np.maximum(jacobian, 0)).astype(np.float32)
