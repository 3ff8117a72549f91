"""Where a measure of quality stops being good: limits, each with its reason and its range on good and spoiled scans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VERDICTS = ("pass", "warn", "fail")


@dataclass(frozen=True)
class Threshold:
    """`warn` and `fail` are where the verdict changes; `higher_is_better` says on which side.

    `problem` is the sentence that the ledger says of a scan beyond them.
    """

    warn: float
    fail: float
    higher_is_better: bool = True
    problem: str = ""

    def judge(self, value: float) -> str:
        """pass, warn or fail; a value that is not a number fails."""
        sign = 1 if self.higher_is_better else -1
        if not np.isfinite(value) or sign * value < sign * self.fail:
            return "fail"
        return "warn" if sign * value < sign * self.warn else "pass"

    def side(self, value: float) -> Threshold:
        """The limits that apply to `value`."""
        return self


@dataclass(frozen=True)
class Between:
    """Two limits for a number that can be too low and too high."""

    low: Threshold
    high: Threshold

    def side(self, value: float) -> Threshold:
        """The limit on the side where `value` lies."""
        return self.high if value > (self.low.warn + self.high.warn) / 2 else self.low


def _between(fail_low: float, warn_low: float, warn_high: float, fail_high: float, problem: str) -> Between:
    return Between(Threshold(warn_low, fail_low, True, problem), Threshold(warn_high, fail_high, False, problem))


# Each with its reason; in brackets the spread (least, most) over 24 simulated people with the template's anatomy and
# over 20 with heads of their own (benchmarks/known_answers.py), at the full recipe. The uptake of the 20 was drawn on
# the template and carried to their heads, so that it lies up to some millimeters beside their own folds; their PETs are
# all placed right, by .6 to 2.7 mm. A warning starts outside both spreads, unless a line says otherwise; a failure
# lies on the side of the deliberately bad scans of tests/preprocessing/quality/test_checks.py.
THRESHOLDS: dict[tuple[str, str], Threshold | Between] = {
    # Share of the T1's largest brain cross-section that lies on the border of the field of view. A cut brainstem is
    # about .06, a cut cerebellum .3, a cut through the temporal lobes .5 and more.
    ("orient", "cut_share"): Threshold(0.15, 0.35, False, "the T1's field of view cuts the brain"),
    # How much better the head, before any registration, fits the template than it does when turned over.
    # The template .51, nodding by 10 and 20 degrees .29 and .13 (.06 the other way); below 0 an axis is wrong.
    ("orient", "turned_margin"): Threshold(0.02, 0.0, True, "the head fits the template better when turned over"),
    # By how much the affine turned the head. Nobody lies in a scanner turned by more than about 30 degrees; a scan
    # that was flipped front to back was turned by 60, because then its outline fits. [1.8, 16] [1.2, 33]
    ("register", "tilt_degrees"): Threshold(35.0, 45.0, False, "the head had to be turned to fit the template"),
    # Structured signal in the air beside the upper head. A copy of the head at a quarter of its signal measures .08 to
    # .17, a head that moved by 8 mm for a third of the lines .024: that stays unseen.
    # [.020, .038] [.001, .002]
    ("orient", "ghost_share"): Threshold(0.05, 0.08, False, "the air beside the head shows the head again: motion"),
    # Adult brains with their inner CSF; the mask refuses below 800 and above 2200 mL. [1300, 1823] [1208,
    # 2144; the 2144 warns]
    ("brain_mask", "brain_ml"): _between(800.0, 850.0, 2000.0, 2200.0, "the brain's volume is that of no adult"),
    # [.993, .994] [.939, .993]
    ("register", "brain_dice"): Threshold(0.93, 0.88, True, "the registered brain does not fill the template's"),
    # A map that folds is no map of one brain onto another. Real SyN fields have none. [0, 0] [0, 0]
    ("register", "folded_share"): Threshold(1e-4, 1e-2, False, "the deformation folds"),
    # [.985, .989] [.67, .80]
    ("register", "t1_correlation"): Threshold(0.60, 0.40, True, "the registered T1 does not look like the template"),
    # The template-space volume of the mask, brought back by the Jacobian, over its native volume: two ways to one
    # number, apart where the brain lies partly outside the field of the deformation. [.998, 1.000] [.955,
    # 1.000; the .955 warns]
    ("register", "volume_ratio"): _between(
        0.90, 0.96, 1.04, 1.10, "the Jacobian does not give back the brain's own volume"
    ),
    # Share of the template's hippocampi where the T1 has been measured and the mask says brain. [1, 1] [1, 1]
    ("register", "hippocampi_in_view"): Threshold(0.98, 0.90, True, "the T1 does not show both hippocampi"),
    # A hippocampus stretched out of, or crushed into, almost nothing: the scan had none at its place. The smallest of
    # an Alzheimer's patient is about .45 of the template's. [.62, .90] [.55, 1.07]
    ("register", "hippocampi_scale"): _between(0.25, 0.35, 1.8, 2.5, "the hippocampi have an impossible size"),
    # How far the segmented hippocampus lies from where the registration looked for it; the farther of both sides.
    # A registration that lies aside by 15 mm leaves 11 to 18 mm.
    ("segment", "hippocampus_shift_mm"): Threshold(7.0, 10.0, False, "a hippocampus is not where registration put it"),
    # Dice of the segmented hippocampus and the template's, carried over: the only check that sees an atlas volume that
    # is absurd. At .48 it was 3.9 mL where the head has 1.7.
    ("segment", "hippocampus_overlap"): Threshold(0.55, 0.25, True, "the template's hippocampus does not fit this one"),
    # Width of the rim in which the network is unsure, of the less sure side. It tells how wrong the volume may be: up
    # to 3.6 mm it was off by 1 % on average in spoiled scans, from 4.8 mm on by 20 %, from 5.7 mm on by 35 %.
    ("segment", "hippocampus_rim_mm"): Threshold(4.8, 6.0, False, "the border of a hippocampus is unclear"),
    # The smaller side's volume over the larger one's. Sclerosis of one side leaves about .6.
    ("segment", "hippocampus_sides"): Threshold(0.55, 0.25, True, "one hippocampus is far smaller than the other"),
    # mL, of the smaller side: 1.7 to 5.6 in good scans; severe atrophy leaves about 1.2.
    ("segment", "hippocampus_ml"): Threshold(1.2, 0.6, True, "hardly any hippocampus was found on a side"),
    # White over grey matter where the template has them for sure: above 1 on any T1, below on a T2. [1.28, 1.31]
    # [1.47, 1.87]
    ("tissue", "white_over_gray"): _between(1.0, 1.08, 2.2, 3.0, "the contrast is not that of a T1"),
    # CSF is the darkest tissue of a T1. [.34, .35] [.17, .26]
    ("tissue", "fluid_over_white"): Threshold(0.65, 0.85, False, "CSF is not dark, as it is on a T1"),
    # White matter's median over its robust spread: noise and uncorrected bias lower it. [29, 42] [18, 52]
    ("tissue", "white_snr"): Threshold(12.0, 7.0, True, "the T1 is noisy"),
    # Difference of white and grey matter over their common spread. [2.2, 2.6] [1.6, 4.0]
    ("tissue", "contrast_to_noise"): Threshold(1.4, 0.8, True, "white and grey matter can hardly be told apart"),
    # [.53, .55] [.51, .60]
    ("tissue", "gray_share"): _between(0.22, 0.32, 0.70, 0.80, "the share of grey matter is that of no brain"),
    # [.78, .85] [.49, .79]; three of the 20 warn. Three PETs of other people, registered to a T1: .52, .55 and .42.
    ("suvr", "pet_correlation"): Threshold(0.55, 0.40, True, "the PET does not look like FDG of this brain"),
    ("suvr", "pet_coverage"): Threshold(0.90, 0.80, True, "the PET's field of view cuts the brain"),
    ("suvr", "hippocampi_in_pet"): Threshold(0.98, 0.90, True, "the PET does not show both hippocampi"),
    # Similarity as aligned, less the best similarity after a shift by 8 mm along an axis. [.25, .30] [.11, .30]; two of
    # the 20 warn.
    ("register_pet", "margin_8mm"): Threshold(0.15, 0.06, True, "the PET fits the T1 hardly better than 8 mm aside"),
    # The same at 4 mm; a PET that lies 10 mm aside fails. [.08, .11] [-.01, .10]; four of the 20 warn.
    ("register_pet", "margin_4mm"): Threshold(0.03, -0.03, True, "the PET fits the T1 as well 4 mm aside"),
    # Similarity of the PET mirrored at the T1's midplane, before the nonlinear map, less that of the PET as given.
    # Heads are lopsided enough: [-.095, -.037] [-.120, -.037]; 0 for the symmetric template: a warning starts above.
    ("register_pet", "mirror_gain"): Threshold(0.005, 0.015, False, "the PET fits the T1 better when mirrored"),
    # Bending that would lay the PET onto the T1. [.68, 1.1] [1.2, 4.2]; six of the 20 warn. Three PETs of other people,
    # registered to these T1s: 3.5, 4.0 and 5.9, so that another's PET often is no more than a warning.
    ("register_pet", "misfit_mm"): Threshold(3.0, 5.0, False, "the PET does not lie on this brain, or is another's"),
    # Overlap of the PET's outline with the T1's: a brain of another size. Own PETs of 1 anatomy .88, those of two
    # others' .89 and .90: heads of like size are not told apart by this, but by `pet_correlation`.
    ("register_pet", "outline_dice"): Threshold(0.86, 0.80, True, "the PET's outline is not that of this brain"),
    # Median of the grey matter over the pons: about 1.2 with FDG. [1.18, 1.43] [1.10, 1.30]
    ("suvr", "cortex_over_pons"): _between(0.5, 0.75, 2.2, 3.0, "the cortex's uptake is not that of FDG"),
    # Grey matter takes up more FDG than white matter. [1.25, 1.33] [1.10, 1.22]
    ("suvr", "gray_over_white"): Threshold(1.05, 0.9, True, "grey matter takes up no more than white matter"),
    # Activity cannot be negative; a little may come from reconstruction. [0, 0] [0, 0]
    ("suvr", "negative_share"): Threshold(0.01, 0.05, False, "a part of the brain has negative uptake"),
}
