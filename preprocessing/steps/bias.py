"""Remove the slow shading that receive coils leave on a T1 (N4; Tustison et al., IEEE TMI 2010)."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from preprocessing.steps import lazy_ants as ants
from preprocessing.steps.register import to_ants

SHRINK_FACTOR = 4
CONVERGENCE = {"iters": [30, 30, 30], "tol": 1e-4}


def correct_bias(t1: nib.Nifti1Image, mask: np.ndarray) -> nib.Nifti1Image:
    """Divide `t1` by the bias field that N4 estimates inside `mask` (same grid, bool).

    Non-brain tissue would otherwise steer the estimate, so the mask comes first.
    """
    # N4 works on logarithms; a shift keeps dark voxels from dominating.
    values = t1.get_fdata(dtype=np.float32)
    shifted = np.maximum(values, 0) + 0.01 * np.percentile(values[mask], 99)
    image = to_ants(nib.Nifti1Image(shifted.astype(np.float32), t1.affine))
    weight = to_ants(nib.Nifti1Image(mask.astype(np.float32), t1.affine))
    field = ants.n4_bias_field_correction(
        image, mask=weight, shrink_factor=SHRINK_FACTOR, convergence=CONVERGENCE, return_bias_field=True
    ).numpy()
    field = np.clip(field / field[mask].mean(), 0.1, 10)
    return nib.Nifti1Image((values / field).astype(np.float32), t1.affine)
