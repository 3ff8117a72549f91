"""Every alignment by its name, as `data.harmonize` and stored runs call it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from adni_tcgm.alignment.alignment import Alignment
from adni_tcgm.alignment.combat import ComBat
from adni_tcgm.alignment.gaussian import GaussianFlow
from adni_tcgm.alignment.means_and_scales import MeansAndScales

ALIGNMENTS: dict[str, type[Alignment]] = {kind.name: kind for kind in (ComBat, MeansAndScales, GaussianFlow)}


def restore_alignment(name: str, content: Mapping, tensors: Mapping[str, Tensor]) -> Alignment:
    """The alignment whose `describe` and `tensors` these are."""
    return ALIGNMENTS[name](**content["settings"]).restore(content, tensors)
