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


# Each with its reason. In brackets the range over scans that are known to be good: 16 heads of other people, drawn in
# two renderings (with 16 FDG-PETs of theirs, all placed within 1.3 mm of the truth), a second session of 8 of them, and
# two real T1s, each also on another grid (benchmarks/heads). A warning starts outside of it, unless a line says
# otherwise; a failure lies on the side of the deliberately bad scans of tests/preprocessing/quality/test_checks.py.
THRESHOLDS: dict[tuple[str, str], Threshold | Between] = {
    # Share of the T1's largest brain cross-section that lies on the border of the field of view. A cut brainstem is
    # about .06, a cut cerebellum .3, a cut through the temporal lobes .5 and more. [0, .095]
    ("orient", "cut_share"): Threshold(0.15, 0.35, False, "the T1's field of view cuts the brain"),
    # How much better the head, before any registration, fits the template than it does when turned over.
    # The template .51, nodding by 10 and 20 degrees .29 and .13 (.06 the other way); below 0 an axis is wrong.
    # [.051, .39]
    ("orient", "turned_margin"): Threshold(0.02, 0.0, True, "the head fits the template better when turned over"),
    # By how much the affine turned the head. Nobody lies in a scanner turned by more than about 30 degrees, but a
    # template turns heads of other shapes, too; a scan flipped front to back was turned by 60, where its outline fits.
    # [.9, 35.9]
    ("register", "tilt_degrees"): Threshold(40.0, 48.0, False, "the head had to be turned to fit the template"),
    # Structured signal in the air beside the upper head. A copy of the head at a quarter of its signal measures .08 to
    # .17, a head that moved by 8 mm for a third of the lines .024: that stays unseen. [0, .019]; simulated people .038
    ("orient", "ghost_share"): Threshold(0.05, 0.08, False, "the air beside the head shows the head again: motion"),
    # What lies inside the skull of an adult; below 700 and above 2500 mL no head was found. [1443, 1685]
    # (eight of the heads); simulated people 1503 to 1818
    ("head", "intracranial_ml"): _between(
        850.0, 1000.0, 2100.0, 2300.0, "what lies inside the skull is of no adult's size"
    ),
    # Segmented over what the affine to the template says of the same: two ways to one number.
    # [.986, 1.039] (eight of the heads); where the field of view cuts the brain, the segmentation is smaller.
    ("head", "intracranial_over_affine"): _between(
        0.80, 0.90, 1.10, 1.20, "segmentation and registration disagree about head size"
    ),
    # [.984, .989] (eight of the heads); simulated people from .986 on
    ("register", "brain_dice"): Threshold(0.93, 0.88, True, "the registered brain does not fill the template's"),
    # A map that folds is no map of one brain onto another. Real SyN fields have none. [0, 0]
    ("register", "folded_share"): Threshold(1e-4, 1e-2, False, "the deformation folds"),
    # [.69, .81]
    ("register", "t1_correlation"): Threshold(0.60, 0.40, True, "the registered T1 does not look like the template"),
    # The template-space volume of the mask, brought back by the Jacobian, over its native volume: two ways to one
    # number, apart where the brain lies partly outside the field of the deformation. [.995, 1.001] (eight of the heads)
    ("register", "volume_ratio"): _between(
        0.90, 0.93, 1.04, 1.10, "the Jacobian does not give back the brain's own volume"
    ),
    # Share of the template's hippocampi where the T1 has been measured and the mask says brain. [1, 1]
    ("register", "hippocampi_in_view"): Threshold(0.98, 0.90, True, "the T1 does not show both hippocampi"),
    # A deformation that stretches or crushes the template's hippocampi. It says nothing of how large this person's own
    # are: .65 to 1.04 in heads with 1.4 to 5.3 mL, without a correlation. [.65, 1.04]
    ("register", "hippocampi_scale"): _between(0.25, 0.35, 1.8, 2.5, "the hippocampi have an impossible size"),
    # How far the segmented hippocampus lies from where the registration looked for it; the farther of both sides.
    # [.8, 5.0]; a registration that lies aside by 15 mm leaves 11 to 19.
    ("segment", "hippocampus_shift_mm"): Threshold(7.0, 10.0, False, "a hippocampus is not where registration put it"),
    # Dice of the segmented hippocampus and the template's, carried over: the only check that sees an atlas volume that
    # is absurd. [.48, .81]; the .48 warns, on purpose: the atlas says 3.9 mL of a head with 1.7.
    ("segment", "hippocampus_overlap"): Threshold(0.55, 0.25, True, "the template's hippocampus does not fit this one"),
    # Width of the rim in which the network is unsure, of the less sure side. It tells how wrong the volume may be: in
    # spoiled scans it was off by 1.6 % on average up to 3.6 mm, by 14 % from 4.2 mm on, by 29 % from 5.7 mm on.
    # [3.0, 4.8]; a field of view that ends in the hippocampus 6.0 to 13, strong motion 3.2 to 7.4: half of it unseen.
    ("segment", "hippocampus_rim_mm"): Threshold(5.0, 5.7, False, "the border of a hippocampus is unclear"),
    # The smaller side's volume over the larger one's. Sclerosis of one side leaves about .6. [.68, 1.00]
    ("segment", "hippocampus_sides"): Threshold(0.55, 0.25, True, "one hippocampus is far smaller than the other"),
    # Of the smaller side; severe atrophy leaves about 1.2 mL. [1.7, 5.4]
    ("segment", "hippocampus_ml"): Threshold(1.2, 0.6, True, "hardly any hippocampus was found on a side"),
    # White over grey matter where the template has them for sure: above 1 on any T1, below on a T2. [1.35, 1.83]
    ("tissue", "white_over_gray"): _between(1.0, 1.08, 2.2, 3.0, "the contrast is not that of a T1"),
    # CSF is the darkest tissue of a T1. [.15, .38]
    ("tissue", "fluid_over_white"): Threshold(0.65, 0.85, False, "CSF is not dark, as it is on a T1"),
    # White matter's median over its robust spread: noise and uncorrected bias lower it. [15, 46]
    ("tissue", "white_snr"): Threshold(12.0, 7.0, True, "the T1 is noisy"),
    # Difference of white and grey matter over their common spread. [1.6, 4.7]
    ("tissue", "contrast_to_noise"): Threshold(1.4, 0.8, True, "white and grey matter can hardly be told apart"),
    # Grey matter over grey and white matter. [.525, .569] (eight of the heads); a T2 and heads upside down .55 to .64
    ("tissue", "gray_share"): _between(0.35, 0.44, 0.68, 0.78, "the share of grey matter is that of no brain"),
    # [.48, .84]; aside by 10 mm up to .45, turned by 15 degrees .41; another person's, registered to a T1,
    # .42 to .55: hardly told.
    ("suvr", "pet_correlation"): Threshold(0.46, 0.40, True, "the PET does not look like FDG of this brain"),
    ("suvr", "pet_coverage"): Threshold(0.90, 0.80, True, "the PET's field of view cuts the brain"),
    ("suvr", "hippocampi_in_pet"): Threshold(0.98, 0.90, True, "the PET does not show both hippocampi"),
    # Similarity as aligned, less the best similarity after a shift by 8 mm along an axis. [.060, .33]; aside by 6 mm
    # -.29 to -.05. Two of the 16 good ones warn (.06), since 9 of 32 PETs of others then do, too.
    ("register_pet", "margin_8mm"): Threshold(0.13, 0.0, True, "the PET fits the T1 hardly better than 8 mm aside"),
    # The same at 4 mm. [-.02, .12]; aside by 6 mm -.26 to -.11.
    ("register_pet", "margin_4mm"): Threshold(-0.04, -0.08, True, "the PET fits the T1 better 4 mm aside"),
    # Similarity of the PET mirrored at the T1's midplane, before the nonlinear map, less that of the PET as given.
    # Heads are lopsided enough: [-.146, -.064]; 0 for the symmetric template: a warning starts above.
    ("register_pet", "mirror_gain"): Threshold(0.005, 0.015, False, "the PET fits the T1 better when mirrored"),
    # Bending that would lay the PET onto the T1. [.63, 3.4]; aside by 6 mm 5.2 to 7.4. Three PETs of
    # other people, registered to a T1: 3.5, 4.0 and 5.9, so that another person may go unseen.
    ("register_pet", "misfit_mm"): Threshold(3.5, 5.0, False, "the PET does not lie on this brain, or is another's"),
    # Overlap of the PET's outline with the T1's: a brain of another size. [.84, .93]; heads of like size are not told
    # apart by this.
    ("register_pet", "outline_dice"): Threshold(0.83, 0.80, True, "the PET's outline is not that of this brain"),
    # Median of the grey matter over the pons: about 1.2 with FDG. [1.05, 1.34]
    ("suvr", "cortex_over_pons"): _between(0.5, 0.75, 2.2, 3.0, "the cortex's uptake is not that of FDG"),
    # Grey matter takes up more FDG than white matter. [1.06, 1.31]; an amyloid-like uptake .39 to .47
    ("suvr", "gray_over_white"): Threshold(1.0, 0.9, True, "grey matter takes up no more than white matter"),
    # Activity cannot be negative; a little may come from reconstruction. [0, 0]
    ("suvr", "negative_share"): Threshold(0.01, 0.05, False, "a part of the brain has negative uptake"),
}
