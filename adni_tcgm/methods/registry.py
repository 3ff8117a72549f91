"""All methods by name."""

from __future__ import annotations

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.freematch import FreeMatch
from adni_tcgm.methods.lmf import LMF
from adni_tcgm.methods.mean_teacher import MeanTeacher
from adni_tcgm.methods.pairwise import PairwiseGain
from adni_tcgm.methods.pvcc import PVCC
from adni_tcgm.methods.soft_hgr import SoftHGR
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.methods.vat import VAT

METHODS = {
    "ce": CrossEntropy,
    "tcgm": TCGM,
    "vat": VAT,
    "pvcc": PVCC,
    "soft_hgr": SoftHGR,
    "lmf": LMF,
    "pairwise": PairwiseGain,
    "freematch": FreeMatch,
    "mean_teacher": MeanTeacher,
}
