"""Does a person with mild cognitive impairment convert to dementia within a horizon? Pure functions of the visits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

HORIZON_MONTHS = 36.0
WINDOW_MONTHS = 6.0
DIAGNOSES = ("CN", "MCI", "AD")


@dataclass(frozen=True)
class Visit:
    """A diagnosis ("CN", "MCI" or "AD") and the months from baseline at which it was made."""

    month: float
    diagnosis: str


@dataclass(frozen=True)
class Label:
    """`label` is "converter", "stable" or ""; `reason` is one of converter, stable, censored, reverter, not_mci,
    no_diagnosis; `months_to_conversion` counts from the scan, for converters only."""

    label: str
    reason: str
    months_to_conversion: float | None = None


def diagnosis_at(history: Sequence[Visit], month: float) -> str | None:
    """The diagnosis at `month`; a missing visit is filled only if both neighbors agree, otherwise None."""
    if any(abs(visit.month - month) < 0.5 for visit in history):
        return min(history, key=lambda visit: abs(visit.month - month)).diagnosis
    before = [visit for visit in history if visit.month < month]
    after = [visit for visit in history if visit.month > month]
    if not before or not after:
        return None
    last = max(before, key=lambda visit: visit.month).diagnosis
    following = min(after, key=lambda visit: visit.month).diagnosis
    return last if last == following else None


def derive_label(
    history: Sequence[Visit],
    scan_month: float,
    horizon_months: float = HORIZON_MONTHS,
    window_months: float = WINDOW_MONTHS,
) -> Label:
    """The label of a scan from the person's whole diagnostic history.

    The horizon counts from the scan, whose visit must be MCI. Dementia at or before the horizon makes a converter, MCI
    at the horizon visit (the one nearest to it, within the window) or later a stable person. Follow-up that ends
    earlier, or that jumps from MCI before the window to dementia after it, is censored: never stable. Who returns from
    MCI or dementia at any later visit is a reverter. Censored, reverter and not_mci carry no label.
    """
    diagnosis = diagnosis_at(history, scan_month)
    if diagnosis is None:
        return Label("", "no_diagnosis")
    if diagnosis != "MCI":
        return Label("", "not_mci")
    later = sorted((v for v in history if v.month - scan_month >= 0.5), key=lambda v: v.month)
    course = ["MCI", *(visit.diagnosis for visit in later)]
    if any(DIAGNOSES.index(b) < DIAGNOSES.index(a) for a, b in pairwise(course)):
        return Label("", "reverter")
    conversion = next((v.month - scan_month for v in later if v.diagnosis == "AD"), None)
    if conversion is not None and conversion <= horizon_months:
        return Label("converter", "converter", conversion)
    at_horizon = _at_horizon(later, scan_month + horizon_months, window_months)
    if at_horizon == {"AD"}:
        return Label("converter", "converter", conversion)
    beyond = any(v.diagnosis == "MCI" and v.month >= scan_month + horizon_months for v in later)
    if at_horizon == {"MCI"} or beyond:
        return Label("stable", "stable")
    return Label("", "censored")


def _at_horizon(later: Sequence[Visit], month: float, window: float) -> set[str]:
    """Diagnoses at the visit nearest to the horizon; two where one visit before and one after are equally near."""
    distances = [abs(visit.month - month) for visit in later]
    nearest = min((d for d in distances if d <= window), default=None)
    return {v.diagnosis for v, d in zip(later, distances, strict=True) if nearest is not None and d <= nearest}
