"""Distributions of several sites, or of two modalities, brought together without labels.

>>> import torch
>>> from adni_tcgm.alignment import GaussianFlow
>>> values = torch.cat([torch.randn(60, 3), 2 * torch.randn(40, 3) + 5])
>>> sites = ["a"] * 60 + ["b"] * 40
>>> aligned = GaussianFlow().fit(values, sites).transform(values, sites)
>>> bool((aligned[60:].mean(0) - aligned[:60].mean(0)).abs().max() < 1e-9)
True
"""

from adni_tcgm.alignment.alignment import SMALLEST_SITE, Alignment
from adni_tcgm.alignment.combat import ComBat
from adni_tcgm.alignment.dual import DualAdversarial, dual_distance
from adni_tcgm.alignment.gaussian import GaussianFlow
from adni_tcgm.alignment.ls_gan import LSGAN
from adni_tcgm.alignment.means_and_scales import MeansAndScales
from adni_tcgm.alignment.real_nvp import RealNVPFlow
from adni_tcgm.alignment.registry import ALIGNMENTS, restore_alignment
from adni_tcgm.alignment.remaining import Remaining

__all__ = [
    "ALIGNMENTS",
    "SMALLEST_SITE",
    "Alignment",
    "ComBat",
    "DualAdversarial",
    "LSGAN",
    "dual_distance",
    "GaussianFlow",
    "MeansAndScales",
    "RealNVPFlow",
    "Remaining",
    "restore_alignment",
]
