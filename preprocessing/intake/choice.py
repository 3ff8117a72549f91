"""Which of a person's images is taken: the order of preference, and in words why one and not another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

OTHER_TRACERS = re.compile(
    r"av-?45|av-?1451|florbeta|flortau|\bpib\b|\bfbb\b|\btau\b|amyloid|mk-?6240|pi-?2620|nav-?4694"
)
# Neither a T1 of a head, nor as it came from the scanner: other contrasts, contrast medium, and what was derived.
NO_T1 = re.compile(
    r"mask|spatially norm|phantom|localizer|survey|calibration|scout|\bt2\b|flair|dti|fmri|\bnd\b"
    r"|gadolin|\bgad\b|\bgd\b|contrast|\+c\b|\bmip\b|subtract|segment|jacobian|\btbm\b|freesurfer|\bdiff(erence)?\b"
)
REPEATED = re.compile(r"repeat|\brpt\b|\bmpr-?r\b")
ACCELERATED = re.compile(r"accelerat|grappa|\bsense|\basset\b|\barc\b")
# Visits of ADNI3 and ADNI4, whose protocol has the accelerated scan; ADNIGO and ADNI2 took it as their second one.
LATE_PHASES = re.compile(r"adni ?[34]|init|y\d+|4_.*")
ADNI1_ENDS = pd.Timestamp("2010-01-01")  # its scans are of 1.5 T; those of the later phases of 3 T
UNGRADED = 3.5  # behind Mayo's 1 (excellent) to 3 (fair); 4 (unusable) has failed
DYNAMIC_RANK = 4
# What T1s and FDGs are sorted by, and why one that comes later in it is not taken.
T1_ORDER = {
    "not_mci": "its visit has no diagnosis of MCI",
    "unpaired": "it has no FDG near enough",
    "month": "a later visit",
    "processing": "another processing is preferred",
    "not_selected": "Mayo selected another series",
    "grade": "Mayo graded another one better",
    "repeat": "a repeated scan",
    "off_protocol": "whether it is accelerated is not as in the phase's protocol",
    "off_strength": "its field strength is not that of the phase",
    "number": "a higher image id",
}
FDG_ORDER = {
    "rank": "another processing is preferred",
    "gap": "farther from the T1",
    "number": "a higher image id",
}


def _words(description: str) -> str:
    return re.sub(r"[_;,\s]+", " ", description.lower()).strip()


def rank_t1(description: str) -> float | None:
    """Order of preference of a T1 series (0 is best), None for what is no usable T1.

    >>> rank_t1("MPR-R; GradWarp; B1 Correction; N3; Scaled"), rank_t1("Sag MPRAGE +Gd")
    (0.5, None)
    """
    text = _words(description)
    if NO_T1.search(text):
        return None
    penalty = 0.5 if REPEATED.search(text) else 0.0
    if "scaled" in text:
        return 0 + penalty
    if "n3m" in text:
        return 1 + penalty
    if re.search(r"mp-?\s?rage|ir-?\s?f?spgr|\bmpr\b|\bt1\b", text):
        return 2 + penalty
    return None


def rank_fdg(description: str) -> tuple[float | None, str, str]:
    """Order of preference of a PET series (0 is best), or None with a reason code and a sentence."""
    text = _words(description)
    if OTHER_TRACERS.search(text):
        return None, "other_tracer", f"series {description!r} is not FDG"
    if "early" in text:
        return None, "early_frames", f"series {description!r} holds early frames only"
    if "raw" in text:
        return None, "dynamic", f"series {description!r} is as the scanner gave it, which may be frames of any kind"
    if is_dynamic(description):
        return DYNAMIC_RANK, "", ""
    if "uniform res" in text:
        return 0, "", ""
    if "uniform 6mm" in text:
        return 1, "", ""
    if re.search(r"stand?ardized image|std img", text):
        return 2, "", ""
    if re.search(r"(averaged|avg)", text):
        return 3, "", ""
    return None, "unknown_series", f"series {description!r} is none of the FDG series that are accepted"


def is_dynamic(description: str) -> bool:
    """Whether a PET series holds single frames, which are averaged where their times are known."""
    return "dynamic" in _words(description)


def sort_t1(
    images: pd.DataFrame, selected: frozenset[str], grades: Mapping[str, float], strengths: list[float | None]
) -> pd.DataFrame:
    """T1 images by `T1_ORDER`, the best first.

    images: columns rank, not_mci, unpaired, month, image_id, description, visit, date. selected, grades: Mayo's, by
    image id; a selection counts where a visit has exactly one. strengths: tesla of each image, None where unknown.
    """
    marked = [image in selected for image in images.image_id]
    # Lists: a person has few images, for which a Series at each step costs more than it does.
    months = images.month.fillna(-1).tolist()
    chosen = Counter(month for month, yes in zip(months, marked, strict=True) if yes)
    late = [bool(LATE_PHASES.match(visit.strip().lower())) for visit in images.visit]
    quick = [bool(ACCELERATED.search(_words(text))) for text in images.description]
    unknown = [pd.isna(tesla) or pd.isna(day) for tesla, day in zip(strengths, images.date, strict=True)]
    ordered = images.assign(
        processing=images["rank"] // 1,
        not_selected=[not (yes and chosen[month] == 1) for yes, month in zip(marked, months, strict=True)],
        grade=[float(grades.get(image, UNGRADED)) for image in images.image_id],
        repeat=images["rank"] % 1 > 0,
        off_protocol=[one != other for one, other in zip(quick, late, strict=True)],
        off_strength=[
            not hidden and (tesla > 2) != (day >= ADNI1_ENDS)
            for hidden, tesla, day in zip(unknown, strengths, images.date, strict=True)
        ],
        number=[image_number(image) for image in images.image_id],
        tesla=np.array(strengths, float),
    )
    return ordered.sort_values(list(T1_ORDER), kind="stable")


def sort_fdg(images: pd.DataFrame) -> pd.DataFrame:
    """FDG images (columns rank, gap in days, image_id) by `FDG_ORDER`, the best first."""
    numbered = images.assign(number=images.image_id.map(image_number))
    return numbered.sort_values(list(FDG_ORDER), kind="stable")


def image_number(image_id: str) -> float:
    """Image ids compare as numbers: 99999 comes before 100000. An id that is no number comes last."""
    return float(image_id) if re.fullmatch(r"\d+", image_id) else float("inf")


def why_not(image: pd.Series, chosen: pd.Series, order: Mapping[str, str]) -> str:
    """The first reason of `order` for which `chosen` comes before `image`."""
    return next((reason for name, reason in order.items() if name in image and image[name] != chosen[name]), "")


def describe_t1(image: pd.Series) -> str:
    """What spoke for a T1: its visit, Mayo's word, the magnet."""
    facts = {
        "MCI at its visit": not image.not_mci,
        "FDG near enough": not image.unpaired,
        "selected by Mayo": not image.not_selected,
        f"Mayo's grade {image.grade:g}": image.grade != UNGRADED,
        f"{image.tesla:g} T": pd.notna(image.tesla),
        "a repeated scan": image["repeat"],
    }
    return ", ".join(fact for fact, holds in facts.items() if holds)
