"""Means and scales: each feature of a site gets the mean and the SD that it has at the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adni_tcgm.alignment.alignment import Affine, match_means_and_scales
from adni_tcgm.alignment.moments import match_scales
from adni_tcgm.alignment.onto_reference import OntoReference


@dataclass(eq=False)
class MeansAndScales(OntoReference):
    """Each feature gets the reference's mean and SD.

    >>> import torch
    >>> values = torch.tensor([[1.0], [3.0]] * 20 + [[10.0], [14.0]] * 20)
    >>> sites = ["011"] * 40 + ["027"] * 40
    >>> alignment = MeansAndScales(measure_remaining=False).fit(values, sites, reference="011")
    >>> alignment.transform(values, sites)[-2:].round(decimals=3).tolist()
    [[1.0], [3.0]]
    """

    name: ClassVar[str] = "means_and_scales"

    def fit_map(self, a: Tensor, b: Tensor, seed: int) -> Affine:
        return match_means_and_scales(a, b)

    @staticmethod
    def rematch(a: Tensor, b: Tensor) -> Tensor:
        return match_scales(a, b)
