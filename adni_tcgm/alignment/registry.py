"""Every alignment by its name, as `data.harmonize` and stored runs call it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from adni_tcgm.alignment.alignment import Alignment
from adni_tcgm.alignment.combat import ComBat
from adni_tcgm.alignment.dual import DualAdversarial
from adni_tcgm.alignment.gaussian import GaussianFlow
from adni_tcgm.alignment.ls_gan import LSGAN
from adni_tcgm.alignment.means_and_scales import MeansAndScales
from adni_tcgm.alignment.real_nvp import RealNVPFlow

KINDS = (ComBat, MeansAndScales, GaussianFlow, RealNVPFlow, DualAdversarial, LSGAN)
ALIGNMENTS: dict[str, type[Alignment]] = {kind.name: kind for kind in KINDS}


def restore_alignment(name: str, content: Mapping, tensors: Mapping[str, Tensor]) -> Alignment:
    """The alignment whose `describe` and `tensors` these are.

    >>> import torch
    >>> values, sites = torch.tensor([[1.0], [3.0]] * 20), ["011"] * 20 + ["027"] * 20
    >>> fitted = ALIGNMENTS["means_and_scales"](measure_remaining=False).fit(values, sites)
    >>> again = restore_alignment("means_and_scales", fitted.describe(), fitted.tensors())
    >>> torch.equal(again.transform(values, sites), fitted.transform(values, sites))
    True
    """
    return ALIGNMENTS[name](**content["settings"]).restore(content, tensors)
