"""All methods by name, imported when first asked for: listing them loads no torch."""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import Any


class Registry(UserDict[str, Any]):
    """Name -> what it stands for, or the "module:Name" where that is imported from.

    >>> sorted(METHODS)[:3]
    ['ce', 'freematch', 'lmf']
    >>> METHODS["ce"]
    <class 'adni_tcgm.methods.ce.CrossEntropy'>
    """

    def __getitem__(self, name: str) -> Any:
        found = self.data[name]
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            found = self.data[name] = getattr(import_module(module), attribute)
        return found


METHODS = Registry(
    {
        "ce": "adni_tcgm.methods.ce:CrossEntropy",
        "tcgm": "adni_tcgm.methods.tcgm:TCGM",
        "vat": "adni_tcgm.methods.vat:VAT",
        "pvcc": "adni_tcgm.methods.pvcc:PVCC",
        "soft_hgr": "adni_tcgm.methods.soft_hgr:SoftHGR",
        "lmf": "adni_tcgm.methods.lmf:LMF",
        "pairwise": "adni_tcgm.methods.pairwise:PairwiseGain",
        "freematch": "adni_tcgm.methods.freematch:FreeMatch",
        "mean_teacher": "adni_tcgm.methods.mean_teacher:MeanTeacher",
        "mmatch": "adni_tcgm.methods.mmatch:MMatch",
        "stil": "adni_tcgm.methods.stil:STiL",
    }
)
