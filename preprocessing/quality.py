"""Numbers that tell a good preprocessing from a wrong one, each with thresholds and a verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from preprocessing import template

VERDICTS = ("pass", "warn", "fail")


@dataclass(frozen=True)
class Threshold:
    """`warn` and `fail` are where the verdict changes; `higher_is_better` says on which side."""

    warn: float
    fail: float
    higher_is_better: bool = True

    def judge(self, value: float) -> str:
        """pass, warn or fail; a value that is not a number fails."""
        sign = 1 if self.higher_is_better else -1
        if not np.isfinite(value) or sign * value < sign * self.fail:
            return "fail"
        return "warn" if sign * value < sign * self.warn else "pass"


# Set so that real T1s, simulated scans and the template itself pass, while scans that are flipped, shifted or cut fail.
THRESHOLDS = {
    ("register", "brain_dice"): Threshold(0.93, 0.88),
    ("register", "folded_share"): Threshold(1e-4, 1e-2, higher_is_better=False),
    ("register", "t1_correlation"): Threshold(0.60, 0.40),
    ("brain_mask", "brain_ml"): Threshold(850.0, 800.0),
    ("tissue", "gray_share"): Threshold(0.32, 0.22),
    ("suvr", "pet_correlation"): Threshold(0.45, 0.25),
    ("suvr", "pet_coverage"): Threshold(0.90, 0.80),
}


@dataclass(frozen=True)
class Check:
    """One line of a subject's `_qc.json`."""

    step: str
    name: str
    value: float
    threshold: dict[str, float]
    verdict: str


def check(step: str, name: str, value: float) -> Check:
    """Judge one number by its entry in THRESHOLDS."""
    threshold = THRESHOLDS[step, name]
    limits = {"warn": threshold.warn, "fail": threshold.fail}
    return Check(step, name, round(float(value), 5), limits, threshold.judge(float(value)))


def worst(checks: list[Check]) -> str:
    """The verdict of a subject is that of its worst check; "pass" without any."""
    return max((c.verdict for c in checks), key=VERDICTS.index, default="pass")


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Overlap of two bool masks: 1 when equal, 0 when apart."""
    total = first.sum() + second.sum()
    return float(2 * (first & second).sum() / total) if total else 0.0


def correlation(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Pearson correlation inside `mask`; 0 where either is constant or nothing is inside."""
    a, b = first[mask], second[mask]
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and a.std() > 0 and b.std() > 0 else 0.0


def check_t1(
    t1: np.ndarray, mask: np.ndarray, target: np.ndarray, jacobian: np.ndarray, tissue_ml: np.ndarray, brain_ml: float
) -> list[Check]:
    """Checks of the structural steps.

    t1, mask, target, jacobian: (91, 109, 91) in template space; mask is the warped brain mask, target the template's
    by the same method (both bool); tissue_ml: native csf, gm, wm in mL.
    """
    brain = template.brain_mask()
    return [
        check("brain_mask", "brain_ml", brain_ml),
        check("register", "brain_dice", dice(mask, target)),
        check("register", "folded_share", float((jacobian[brain] <= 0).mean())),
        check("register", "t1_correlation", correlation(t1, template.t1(), brain)),
        check("tissue", "gray_share", float(tissue_ml[1] / max(tissue_ml.sum(), 1e-9))),
    ]


def check_pet(suvr: np.ndarray, covered: np.ndarray, gray: np.ndarray, white: np.ndarray) -> list[Check]:
    """Checks of the PET: does it look like FDG of this very brain (grey matter takes up most), and is all in view?

    All (91, 109, 91) in template space; gray and white are tissue fractions.
    """
    brain = template.brain_mask()
    expected = ndimage.gaussian_filter(gray + 0.35 * white, 3.4 / template.SPACING_MM)  # 8 mm full width
    return [
        check("suvr", "pet_correlation", correlation(suvr, expected, brain & covered)),
        check("suvr", "pet_coverage", float(covered[brain].mean())),
    ]
