"""Which series of a folder is the T1 and which the FDG, by the words that scanners and technicians give them."""

from __future__ import annotations

import re

from preprocessing.intake.choice import DYNAMIC_RANK, NO_T1, OTHER_TRACERS, rank_fdg, rank_t1

# Behind every rank of ADNI's own series, which come first where a folder has them.
BEHIND_ADNI = 10.0
# The 3-D gradient-echo T1s of the makers: Siemens MPRAGE, tfl3d and FLASH; GE BRAVO and (F)SPGR; Philips TFE and FFE.
VOLUMES = re.compile(
    r"mp-?\s?rage|mp2rage|bravo|spgr|\bt1.*\b3d|\b3d.*\bt1|\bt1.*(tfe|ffe|tfl|fl3d|vibe)|tfl3d|flash ?3d"
)
ANY_T1 = re.compile(r"\bt1w?\b|\btfe\b|turbo field echo|\bfl3d|\bflash\b")
# Beside NO_T1: other contrasts, localizers, maps, and one inversion of several.
NOT_THIS = re.compile(
    r"\bloc\b|locali[sz]er|3-?\s?p(lane|l)\b|\bscout|survey|flair|\bt2\w?\b|t2\*|\bpd\b|\bstir\b|\bdwi\b|\badc\b|\bdti\b"
    r"|\bswi\b|\basl\b|\bbold\b|field ?map|\bb[01] ?map|phase|angio|\btof\b|\bmra\b|inv-?\s?[12]\b|t1[ _]?(images|map)"
    r"|post\b|\bc\+|\breformat|\bmpr (cor|tra|sag|ax)"
)
UNCORRECTED = re.compile(
    r"\bnac\b|non?[- ]?ac\b|uncorrected|no attenuation|\bmip\b|scout|topogram|\bearly\b|dynamic|raw"
)


def rank_series(description: str, modality: str) -> float | None:
    """Order of preference of a series for "mri" or "pet" (0 is best), None for what is not to be taken.

    >>> rank_series("Sag 3D BRAVO", "mri"), rank_series("3-pl loc", "mri"), rank_series("FDG Brain AC", "pet")
    (10.0, None, 10.0)
    """
    return _rank_mri(description) if modality == "mri" else _rank_pet(description)


def _words(description: str) -> str:
    return re.sub(r"[_;,\s]+", " ", description.lower()).strip()


def _rank_mri(description: str) -> float | None:
    words, adni = _words(description), rank_t1(description)
    if adni is not None and adni < 2:  # processed by ADNI; what it left as it came is compared with the rest
        return adni
    if NOT_THIS.search(words) or NO_T1.search(re.sub(r"\bnd\b", "", words)):
        return None
    # Repeated, or not corrected for the distortion by the gradients (ND).
    penalty = 0.5 if (adni or 0) % 1 or re.search(r"\bnd\b", words) else 0.0
    if VOLUMES.search(words):
        return BEHIND_ADNI + penalty
    return BEHIND_ADNI + 1 + penalty if adni is not None or ANY_T1.search(words) else None


def _rank_pet(description: str) -> float | None:
    words = _words(description)
    adni = rank_fdg(description)[0]
    if adni == DYNAMIC_RANK:
        return BEHIND_ADNI + 2
    if adni is not None or OTHER_TRACERS.search(words) or UNCORRECTED.search(words):
        return adni
    if re.search(r"fdg|fluorodeoxyglucose", words):
        return BEHIND_ADNI
    return BEHIND_ADNI + 1 if re.search(r"\bac\b|brain|head|static", words) else None
