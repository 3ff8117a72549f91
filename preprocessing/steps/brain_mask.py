"""Find the brain on a T1 with deepbet, a small network whose weights come in its wheel.

Reference: Fisch et al., Computers in Biology and Medicine 2024. The only module of preprocessing that uses torch.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from preprocessing.steps import register, template
from preprocessing.steps.orient import ScanError

PLAUSIBLE_ML = (800.0, 2200.0)
TEMPLATE_BRAIN = Path(__file__).with_name("template_brain.npz")


def mask_brain(t1: nib.Nifti1Image) -> tuple[np.ndarray, str]:
    """Brain mask on the grid of an RAS+ T1 (bool), and the method that made it: "deepbet" or "registration".

    Where deepbet's volume is implausible, the template's mask is brought over by an affine and a coarse SyN.
    Raises ScanError (brain_volume) where that volume is implausible, too.
    """
    mask = _mask_by_network(t1)
    if _plausible(mask, t1):
        return mask, "deepbet"
    network_ml = volume_ml(mask, t1)
    mask = _mask_by_registration(t1)
    if not _plausible(mask, t1):
        low, high = PLAUSIBLE_ML
        raise ScanError(
            "brain_volume",
            f"brain of {network_ml:.0f} mL (deepbet) and {volume_ml(mask, t1):.0f} mL (registration); "
            f"expected {low:.0f}-{high:.0f} mL",
        )
    return mask, "registration"


@lru_cache
def template_brain_mask() -> np.ndarray:
    """The template's brain as deepbet sees it, (91, 109, 91) bool: 5 % more than the ICBM mask, mostly outer CSF.

    Registration and QC compare like with like: an outline drawn by another rule would shrink or swell every brain.
    Kept in a file, which `python -m preprocessing.steps.brain_mask` writes: the network takes seconds.
    """
    with np.load(TEMPLATE_BRAIN) as content:
        bits = np.unpackbits(content["bits"], count=np.prod(template.GRID_SHAPE))
    return bits.reshape(template.GRID_SHAPE).astype(bool)


def find_template_brain() -> np.ndarray:
    """What `template_brain_mask` keeps, found anew; `np.savez_compressed(TEMPLATE_BRAIN, bits=np.packbits(...))` keeps
    it."""
    return _mask_by_network(template.grid_image(template.t1()))


def volume_ml(mask: np.ndarray, image: nib.Nifti1Image) -> float:
    """Volume of `mask` on the grid of `image`."""
    return float(mask.sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000)


def _plausible(mask: np.ndarray, t1: nib.Nifti1Image) -> bool:
    return PLAUSIBLE_ML[0] <= volume_ml(mask, t1) <= PLAUSIBLE_ML[1]


@lru_cache
def _network():
    import torch
    from deepbet import BrainExtraction

    torch.set_num_threads(1)  # one process a subject, one thread a process
    return BrainExtraction(no_gpu=True)


def _mask_by_network(t1: nib.Nifti1Image) -> np.ndarray:
    # deepbet interpolates with one scale an axis, so very anisotropic or coarse grids are fine as they are.
    try:
        _, mask, _ = _network().run(t1)
    except AssertionError:  # "Not enough foreground": nothing like a head in view
        return np.zeros(t1.shape, dtype=bool)
    return np.asarray(mask.dataobj) > 0


def _mask_by_registration(t1: nib.Nifti1Image) -> np.ndarray:
    # Not stripped on either side: the scan's head to the template's.
    head = template.grid_image(template.t1())
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "mask_"
        transforms = register.register_to_template(t1, head, prefix, register.COARSE_ITERATIONS)
        mask = register.to_native(template.brain_mask().astype(np.float32), transforms, t1) > 0.5
    return ndimage.binary_fill_holes(mask)
