"""Does a person with mild cognitive impairment convert to dementia within a horizon? Pure functions of the visits."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, takewhile

import pandas as pd

from preprocessing.choices import HORIZON_MONTHS, REVERSIONS, SCAN_MONTHS
from preprocessing.intake.columns import is_missing

WINDOW_MONTHS = 6.0
DIAGNOSES = ("CN", "MCI", "AD")
CONVERSION_CLASSES = ("stable", "converter")
EXTRA_CLASSES = {"cn": "CN", "ad": "AD"}
# The words of tables that spell a diagnosis out. Nothing else is one: "MCI due to AD" ends like "AD" and is not.
DIAGNOSIS_WORDS = {
    **dict.fromkeys(("cn", "nl", "normal", "hc", "smc", "cu", "cognitively normal", "normal control"), "CN"),
    **dict.fromkeys(("mci", "emci", "lmci", "mild cognitive impairment", "mci due to ad"), "MCI"),
    **dict.fromkeys(("ad", "dementia", "dem", "ad dementia", "dementia due to ad"), "AD"),
    **dict.fromkeys(("alzheimer s disease", "alzheimers disease", "alzheimer disease"), "AD"),
}
# DXCHANGE in words: what it was, and what it became.
CHANGE = re.compile(r"(?:(?:stable|conversion|reversion) )?(?:(.+) to )?(.+)")


@dataclass(frozen=True)
class Visit:
    """A diagnosis ("CN", "MCI" or "AD") and the months from baseline at which it was made."""

    month: float
    diagnosis: str


@dataclass(frozen=True)
class Label:
    """`label` is "converter", "stable", "" or, where asked for, "cn" or "ad". `reason` is the label's own name, or one
    of censored, died, short_follow_up, reverter, not_mci, no_diagnosis, unknown_visit (nothing tells the month of the
    scan); `months_to_conversion` counts from the scan, for converters only. `diagnosis` is the scan's own, one of
    DIAGNOSES or "" where nobody knows; `months_to_death` counts from the scan, for those who died after it."""

    label: str
    reason: str
    months_to_conversion: float | None = None
    # Facts of the person that stand beside the label; two labels are equal without them.
    diagnosis: str = field(default="", compare=False)
    months_to_death: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class LabelRule:
    """What may be chosen about labels.

    window_months: how far from the horizon a visit may lie that stands for it.
    minimum_follow_up_months: how long diagnoses must go on after the scan; not for converters, whose outcome is known.
    reversion: "unlabeled", or "ignore_single": one visit with a milder diagnosis, undone by the next one, is no event.
    classes: which labels are given; "cn" and "ad" (a diagnosis that never changes after the scan) only when asked for.
    scan_months: how far from the scan the visit may lie whose diagnosis is the scan's.
    """

    horizon_months: float = HORIZON_MONTHS
    window_months: float = WINDOW_MONTHS
    minimum_follow_up_months: float = 0.0
    reversion: str = "unlabeled"
    classes: tuple[str, ...] = CONVERSION_CLASSES
    scan_months: float = SCAN_MONTHS

    def __post_init__(self) -> None:
        known = (*CONVERSION_CLASSES, *EXTRA_CLASSES)
        strange = [name for name in self.classes if name not in known]
        if strange or not set(CONVERSION_CLASSES) <= set(self.classes):
            wrong = f"{strange[0]!r} is unknown" if strange else "stable and converter are always among them"
            raise ValueError(f"classes {', '.join(self.classes)}: {wrong}; known: {', '.join(known)}")
        if self.reversion not in REVERSIONS:
            raise ValueError(f"reversion {self.reversion!r}; known: {', '.join(REVERSIONS)}")
        if self.horizon_months <= 0 or min(self.window_months, self.scan_months, self.minimum_follow_up_months) < 0:
            raise ValueError(f"{self}: the horizon must be > 0 months, windows and follow-up >= 0")


def read_diagnosis(text: object) -> str:
    """CN, MCI, AD, or "" for what is none of the words that are known; of a change, what it became.

    >>> read_diagnosis("LMCI"), read_diagnosis("Conversion: MCI to Dementia"), read_diagnosis("probable AD")
    ('MCI', 'AD', '')
    """
    words = " ".join(re.findall(r"[a-z]+", str(text).lower()))
    if words in DIAGNOSIS_WORDS:
        return DIAGNOSIS_WORDS[words]
    change = CHANGE.fullmatch(words)
    known = change and (change[1] is None or change[1] in DIAGNOSIS_WORDS)
    return DIAGNOSIS_WORDS.get(change[2], "") if known else ""


def read_diagnoses(texts: pd.Series, place: str) -> pd.Series:
    """`read_diagnosis` of a column; words that are not known are counted in a warning. `place` names the column."""
    found = texts.map({text: read_diagnosis(text) for text in texts.unique()}).astype(object)
    strange = texts[(found == "") & ~texts.map(is_missing).astype(bool)]
    for word, lines in strange.groupby(strange).groups.items():
        warnings.warn(
            f"{place}: {len(lines)} cells say {word!r}, the first in line {lines[0]}; not a diagnosis that is known, "
            "left out",
            stacklevel=2,
        )
    return found


def parse_history(text: str) -> list[Visit]:
    """Visits written in one cell: "0:MCI 12:MCI 24:AD" (months from baseline), none in an empty one. Raises ValueError.

    >>> [visit.month for visit in parse_history("bl:MCI; m06:MCI; 12,5: AD")]
    [0.0, 6.0, 12.5]
    """
    visits = []
    written = "" if is_missing(text) else re.sub(r"\s*:\s*", ":", text.strip())
    for found, plain in ((r"(?i)\b(bl|baseline):", "0:"), (r"(\d),(\d+:)", r"\1.\2")):
        written = re.sub(found, plain, written)
    for part in re.split(r"[\s;,|]+", written):
        match = re.fullmatch(r"[mM]?(\d+(?:\.\d+)?):([A-Za-z]+)", part)
        if part and not (match and read_diagnosis(match[2])):
            raise ValueError(f"diagnosis history {text!r}: {part!r} is not like 12:MCI (month:CN|MCI|AD)")
        if part:
            visits.append(Visit(float(match[1]), read_diagnosis(match[2])))
    return sorted(visits, key=lambda visit: visit.month)


def read_histories(texts: pd.Series, place: str) -> list[list[Visit]]:
    """`parse_history` of a column. Cells that cannot be read hold no visit, and are counted in a warning."""
    found, wrong = [], {}
    for line, text in texts.items():
        try:
            found.append(parse_history(text))
        except ValueError as error:
            found.append([])
            wrong[line] = str(error)
    if wrong:
        line, first = next(iter(wrong.items()))
        warnings.warn(
            f"{place}: {len(wrong)} histories cannot be read, and give no label, the first in line {line}: {first}",
            stacklevel=2,
        )
    return found


def diagnosis_at(history: Sequence[Visit], month: float, within_months: float = SCAN_MONTHS) -> str | None:
    """The diagnosis of the visit nearest to `month`, None where two are equally near and differ.

    Where none lies within `within_months`, the missing visit is filled only if both neighbors agree.
    """
    near = _nearest(history, month, within_months)
    if near:
        return near.pop() if len(near) == 1 else None
    before = [visit for visit in history if visit.month < month]
    after = [visit for visit in history if visit.month > month]
    if not before or not after:
        return None
    last = max(before, key=lambda visit: visit.month).diagnosis
    following = min(after, key=lambda visit: visit.month).diagnosis
    return last if last == following else None


def months_without_dementia(history: Sequence[Visit], scan_month: float) -> float | None:
    """From the scan to the last visit before any dementia: as long as that, a person was seen to be free of it.

    None where no diagnosis at or after the scan precedes one.
    """
    later = sorted((v for v in history if v.month - scan_month > -0.5), key=lambda v: v.month)
    free = list(takewhile(lambda visit: visit.diagnosis != "AD", later))
    return max(free[-1].month - scan_month, 0.0) if free else None


def derive_label(
    history: Sequence[Visit], scan_month: float, rule: LabelRule | None = None, death_month: float | None = None
) -> Label:
    """The label of a scan from the person's whole diagnostic history.

    The horizon counts from the scan, whose visit must be MCI. Dementia at or before the horizon makes a converter, MCI
    at the horizon visit (the one nearest to it, within the window) or later a stable person. Follow-up that ends
    earlier, or that jumps from MCI before the window to dementia after it, is censored: never stable. Who dies before
    the horizon without dementia has died: the competing event, neither stable nor merely lost. Who returns from MCI or
    dementia at any later visit is a reverter, unless the rule forgives it. None of these carries a label.
    """
    rule = rule or LabelRule()
    diagnosis = diagnosis_at(history, scan_month, rule.scan_months)
    died_later = death_month is not None and death_month >= scan_month
    return replace(
        _derive(diagnosis, history, scan_month, rule, death_month),
        diagnosis=diagnosis or "",
        months_to_death=death_month - scan_month if died_later else None,
    )


def _derive(
    diagnosis: str | None, history: Sequence[Visit], scan_month: float, rule: LabelRule, death_month: float | None
) -> Label:
    if diagnosis is None:
        return Label("", "no_diagnosis")
    later = sorted((v for v in history if v.month - scan_month >= 0.5), key=lambda v: v.month)
    if rule.reversion == "ignore_single":
        later = _without_single_reversion(diagnosis, later)
    if diagnosis != "MCI":
        return _label_extra(diagnosis, scan_month, later, rule)
    if _reverts(diagnosis, later):
        return Label("", "reverter")
    conversion = next((v.month - scan_month for v in later if v.diagnosis == "AD"), None)
    if conversion is not None and conversion <= rule.horizon_months:
        return Label("converter", "converter", conversion)
    if death_month is not None and death_month - scan_month < rule.horizon_months:
        return Label("", "died")
    at_horizon = _nearest(later, scan_month + rule.horizon_months, rule.window_months)
    if at_horizon == {"AD"}:
        return Label("converter", "converter", conversion)
    beyond = any(v.diagnosis == "MCI" and v.month >= scan_month + rule.horizon_months for v in later)
    if at_horizon == {"MCI"} or beyond:
        return _if_followed("stable", scan_month, later, rule)
    return Label("", "censored")


def _label_extra(diagnosis: str, scan_month: float, later: list[Visit], rule: LabelRule) -> Label:
    """cn or ad for a diagnosis that stays what it was at the scan, where the rule asks for that class."""
    for name, wanted in EXTRA_CLASSES.items():
        if name in rule.classes and diagnosis == wanted and all(v.diagnosis == wanted for v in later):
            return _if_followed(name, scan_month, later, rule)
    return Label("", "not_mci")


def _if_followed(label: str, scan_month: float, later: list[Visit], rule: LabelRule) -> Label:
    followed = later[-1].month - scan_month if later else 0.0
    return Label(label, label) if followed >= rule.minimum_follow_up_months else Label("", "short_follow_up")


def _course(diagnosis: str, later: Sequence[Visit]) -> list[int]:
    return [DIAGNOSES.index(name) for name in (diagnosis, *(visit.diagnosis for visit in later))]


def _reverts(diagnosis: str, later: Sequence[Visit]) -> bool:
    return any(b < a for a, b in pairwise(_course(diagnosis, later)))


def _without_single_reversion(diagnosis: str, later: list[Visit]) -> list[Visit]:
    """The later visits without the first milder one, unless it is the last. Any reversion that is left still counts."""
    course = _course(diagnosis, later)
    drop = next((i for i in range(1, len(course) - 1) if course[i] < course[i - 1]), None)
    return [visit for i, visit in enumerate(later, start=1) if i != drop]


def _nearest(visits: Sequence[Visit], month: float, window: float) -> set[str]:
    """Diagnoses of the visit nearest to a month; two where one visit before and one after are equally near."""
    distances = [abs(visit.month - month) for visit in visits]
    nearest = min((d for d in distances if d <= window), default=None)
    return {v.diagnosis for v, d in zip(visits, distances, strict=True) if nearest is not None and d <= nearest}
