"""Cortex, white matter and outer fluid told apart by the T1's brightness at 1 mm, with the network's answer as prior.

The network alone finds differences of grey matter between people at seven tenths of their size, and what it calls
outer fluid at half: a furrow narrower than its voxels it can only guess. Here the classes of HEAD_CLASSES that differ
in brightness share what the network gave them anew, by a mixture of Gaussians whose prior is the network's (as Van
Leemput et al., IEEE TMI 1999, with an atlas). Means vary slowly over the head, since no bias field is found to its
end; the variance is one for all, so that what lies half way between fluid and cortex is halved between them.
"""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
from scipy import ndimage

from preprocessing.steps.head import VOXEL_MM, Head, along_axes

CLASSES = ("outer_csf", "cortex", "cerebellar_cortex", "white_matter", "cerebellar_white_matter")
DARK, MIDDLE, BRIGHT = (0,), (1, 2), (3, 4)  # of CLASSES, in the order of a T1's brightness
BRAIN = slice(1, 5)  # whose variance counts: what lies in outer fluid besides has any brightness
FINER = 2  # pieces of a voxel of the network along each axis
SHARE = 0.05  # of the classes together, below which a place is left as it is
MEANS_SIGMA_MM, ROUNDS = 20.0, 4
BLOCK = 4  # voxels of the network along each side of a cube whose places are summed before means are smoothed
TINY = np.float32(1e-12)
WEIGHT = 0.0025  # of the mean over the whole head, as a share of the voxels around, where a class is rare


def refine(head: Head, t1: nib.Nifti1Image) -> Head:
    """The head with CLASSES divided anew by the brightness of `t1`: RAS+ on the axes of the scan that was segmented,
    its shading taken off. What they are together stays, and so does all else.

    Returned as it came where brightness does not tell the tissues apart in the order of a T1.
    """
    before = sum(head.probability[name] for name in CLASSES)
    box, near = before.shape, ndimage.find_objects((before > SHARE).astype(np.uint8))
    if not near:
        return head
    # Middles of the pieces of voxels where the classes are or border on, in voxels of the box.
    limits = [(max(part.start - 1, 0), min(part.stop + 1, size)) for part, size in zip(near[0], box, strict=True)]
    places = [(np.arange(FINER * low, FINER * high) - (FINER - 1) / 2) / FINER for low, high in limits]
    inside = [np.clip(place, 0, size - 1) for place, size in zip(places, box, strict=True)]
    there = along_axes(before, inside) > SHARE
    prior = np.stack([along_axes(head.probability[name], inside)[there] for name in CLASSES])
    matrix = np.linalg.inv(t1.affine) @ head.affine
    values = along_axes(np.asarray(t1.dataobj, np.float32), [matrix[a, a] * places[a] + matrix[a, 3] for a in range(3)])
    index = [piece // FINER + low for piece, (low, _) in zip(np.nonzero(there), limits, strict=True)]
    parent, together = np.ravel_multi_index(index, box), prior.sum(0)
    found = _divide(values[there], prior / together, parent, box)
    if found is None:
        return head
    total, sums = (_sums(parent, of, box) for of in (together, found * together))
    known = total > 0
    probability, volumes = dict(head.probability), dict(head.volumes_ml)
    for name, part in zip(CLASSES, sums, strict=True):
        probability[name] = head.probability[name].copy()
        probability[name][known] = (before * part)[known] / total[known]
        volumes[name] = float(probability[name].sum(dtype=float)) * VOXEL_MM**3 / 1000
    return replace(head, probability=probability, volumes_ml=volumes)


def _divide(values: np.ndarray, prior: np.ndarray, parent: np.ndarray, box: tuple[int, ...]) -> np.ndarray | None:
    """Posterior (classes, n) of n places; None where brightness does not tell the tissues apart in a T1's order.

    values: (n,) brightness; prior: (classes, n), sum 1 a place; parent: (n,) flat index of the voxel of `box`, the
    shape of the network's grid, in which each place lies.
    """
    blocks = [size // BLOCK for size in box]
    voxel = np.unravel_index(parent, box)
    block = np.ravel_multi_index([index // BLOCK for index in voxel], blocks)
    # Of each voxel of the box, in blocks.
    places = [np.clip((np.arange(size) + 0.5) / BLOCK - 0.5, 0, size // BLOCK - 1) for size in box]

    def smooth_sums(of: np.ndarray) -> np.ndarray:
        sums = np.bincount(block, of, minlength=int(np.prod(blocks))).reshape(blocks)
        return ndimage.gaussian_filter(sums / (FINER * BLOCK) ** 3, MEANS_SIGMA_MM / VOXEL_MM / BLOCK, mode="constant")

    def local_mean(weights: np.ndarray, overall: float) -> np.ndarray:
        coarse = (smooth_sums(weights * values) + WEIGHT * overall) / (smooth_sums(weights) + WEIGHT)
        return along_axes(coarse.astype(np.float32), places).ravel()[parent]

    # One array is filled again and again: memory that is new to a process costs more than what is done in it.
    posterior, work = prior.copy(), np.empty_like(prior)
    for _ in range(ROUNDS):
        size = np.maximum(posterior.sum(1), 1e-6)  # a class may be nowhere, as where a scan ends above the cerebellum
        overall = np.multiply(posterior, values, out=work).sum(1) / size
        away = np.stack([local_mean(*of) for of in zip(posterior, overall, strict=True)])
        np.square(np.subtract(values, away, out=away), out=away)
        np.multiply(posterior, away, out=work)
        variance = work[BRAIN].sum() / size[BRAIN].sum()
        exponent = np.multiply(away, -1 / (2 * variance), out=away)
        exponent -= exponent.max(0)
        weight = np.multiply(np.exp(exponent, out=exponent), prior, out=work)
        total = weight.sum(0)
        np.divide(weight, np.maximum(total, TINY), out=posterior)
        lost = total <= TINY
        posterior[:, lost] = prior[:, lost]
    levels = [np.average(overall[list(kind)], weights=size[list(kind)]) for kind in (DARK, MIDDLE, BRIGHT)]
    return posterior if np.diff(levels).min() > np.sqrt(variance) else None


def _sums(parent: np.ndarray, values: np.ndarray, box: tuple[int, ...]) -> np.ndarray:
    """Sums of values (..., n) by voxel of the box, (..., *box) float32."""
    rows = values.reshape(-1, len(parent))
    sums = [np.bincount(parent, row, minlength=int(np.prod(box))) for row in rows]
    return np.stack(sums).reshape(*values.shape[:-1], *box).astype(np.float32)
