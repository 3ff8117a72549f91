"""What lies inside the skull, as `head` finds it, as a mask: on a T1's own grid, and of the template."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np

from preprocessing.steps import head, register, resample, template

TEMPLATE_HEAD = Path(__file__).with_name("template_head.npz")


def mask_brain(found: head.Head, t1: nib.Nifti1Image) -> np.ndarray:
    """Where it is likelier than not to be inside the skull, on the grid of the T1 that was segmented: bool."""
    return head.to_scan(nib.Nifti1Image(found.intracranial, found.affine), t1) > 0.5


@lru_cache
def template_brain_mask() -> np.ndarray:
    """What lies inside the template's skull as the network sees it, (91, 109, 91) bool.

    Registration and QC compare like with like: an outline drawn by another rule would shrink or swell every brain.
    """
    return _kept()["intracranial"] > 127


@lru_cache
def template_contrast() -> np.ndarray:
    """`Head.contrast` of the template, (91, 109, 91) float32: what T1s are registered to."""
    return _kept()["contrast"] / np.float32(255)


@lru_cache
def template_intracranial_ml() -> float:
    """What lies inside the template's skull as the network sees it, by its probabilities."""
    return float(_kept()["intracranial_ml"])


def affine_ml(transforms: register.Transforms) -> float:
    """What lies inside the skull by the size of the template's and the affine alone: no segmentation of this person."""
    return template_intracranial_ml() * register.affine_determinant(transforms.affine)


def find_template_head() -> dict[str, np.ndarray]:
    """What TEMPLATE_HEAD keeps, found anew; `np.savez_compressed(TEMPLATE_HEAD, **find_template_head())` keeps it, and
    must be called again for other weights: the network takes seconds, and every process would wait for it."""
    found = head.segment_head(template.t1_1mm())
    points = resample.grid_points(template.GRID_SHAPE, template.GRID_AFFINE)
    images = {"intracranial": nib.Nifti1Image(found.intracranial, found.affine), "contrast": found.contrast()}
    kept = {name: np.rint(255 * resample.sample(image, points)).astype(np.uint8) for name, image in images.items()}
    return kept | {"intracranial_ml": np.float64(found.intracranial_ml)}


@lru_cache
def _kept() -> dict[str, np.ndarray]:
    with np.load(TEMPLATE_HEAD) as content:
        return dict(content)
