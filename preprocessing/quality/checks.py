"""Numbers that tell a good preprocessing from a wrong one, each with a verdict by its `limits`.

What no check can see: a scan whose left and right are exchanged in voxels *and* header. Laterality is taken from the
header; the template is symmetric, so that a mirrored head fits it as well. Only a PET that fits the T1 better when it
is mirrored gives such an error away (`mirror_gain`), and only where the brain is lopsided enough.

What these checks miss: motion that blurs without a copy of the head in the air, and ghosts in files whose background
was set to zero. `white_snr` and the pictures are left for those.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from preprocessing.quality import measures
from preprocessing.quality.limits import THRESHOLDS, VERDICTS
from preprocessing.steps import template, tissue
from preprocessing.steps.head import Head
from preprocessing.steps.hippocampus import Box


@dataclass(frozen=True)
class Check:
    """One entry of "Checks" in a subject's `_qc.json`."""

    step: str
    name: str
    value: float
    threshold: dict[str, float]
    verdict: str

    @property
    def sentence(self) -> str:
        """What is wrong where the verdict is not pass, with number and limit."""
        comparison = "at least" if self.threshold["warn"] >= self.threshold["fail"] else "at most"
        limit = self.threshold["fail" if self.verdict == "fail" else "warn"]
        problem = THRESHOLDS[self.step, self.name].side(self.value).problem
        found = f"{self.value:.4g}" if np.isfinite(self.value) else "could not be measured"
        return f"{problem} ({self.name} {found}, expected {comparison} {limit:g})"


def check(step: str, name: str, value: float) -> Check:
    """Judge one number by its entry in THRESHOLDS."""
    threshold = THRESHOLDS[step, name].side(float(value))
    limits = {"warn": threshold.warn, "fail": threshold.fail}
    return Check(step, name, round(float(value), 5), limits, threshold.judge(float(value)))


def worst(checks: list[Check]) -> str:
    """The verdict of a subject is that of its worst check; "pass" without any."""
    return max((c.verdict for c in checks), key=VERDICTS.index, default="pass")


def explain(checks: list[Check]) -> tuple[str, str, str]:
    """Step, reason code and sentence for the ledger row of a processed scan: ("recipe", "", "") where all is well.

    The step is that of the first of the worst checks; the sentence names all that share its verdict.
    """
    verdict = worst(checks)
    if verdict == "pass":
        return "recipe", "", ""
    found = [c for c in checks if c.verdict == verdict]
    return found[0].step, f"qc_{verdict}", "; ".join(c.sentence for c in found)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Overlap of two bool masks: 1 when equal, 0 when apart."""
    total = first.sum() + second.sum()
    return float(2 * (first & second).sum() / total) if total else 0.0


def correlation(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Pearson correlation inside `mask`; 0 where either is constant or nothing is inside."""
    a, b = first[mask], second[mask]
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and a.std() > 0 and b.std() > 0 else 0.0


def robust_spread(values: np.ndarray) -> float:
    """Standard deviation as estimated from the median absolute deviation; NaN of nothing."""
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if values.size else float("nan")


def cut_share(mask: np.ndarray) -> float:
    """Largest part of the mask on a face of its array, relative to the mask's largest cross-section along that axis."""
    shares = []
    for axis in range(3):
        area = mask.sum(tuple({0, 1, 2} - {axis}))
        shares.append(max(area[0], area[-1]) / max(area.max(), 1))
    return float(max(shares))


def place_loosely(t1: nib.Nifti1Image, mask: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The T1 on the template grid, only moved and stretched so that the mask's mean and spread along each axis are
    those of `target`: (91, 109, 91). Unlike a registration, this cannot hide a head that is turned over."""

    def mean_and_spread(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = nib.affines.apply_affine(affine, np.argwhere(voxels)[::7])
        return points.mean(0), points.std(0)

    mean, spread = mean_and_spread(mask, t1.affine)
    wanted_mean, wanted_spread = mean_and_spread(target, template.GRID_AFFINE)
    stretch = np.diag([*(spread / wanted_spread), 1.0])
    stretch[:3, 3] = mean - stretch[:3, :3] @ wanted_mean
    to_voxel = np.linalg.inv(t1.affine) @ stretch @ template.GRID_AFFINE
    values = t1.get_fdata(dtype=np.float32) * mask
    return ndimage.affine_transform(values, to_voxel[:3, :3], to_voxel[:3, 3], template.GRID_SHAPE, order=1)


def turned_margin(head: np.ndarray, target: np.ndarray) -> float:
    """How much better the brain of `place_loosely` fits the template than it does turned front to back, upside down,
    or both: difference of correlations. Below 0 where the header has an axis wrong. Left and right say nothing here.
    """
    brain = ndimage.gaussian_filter(template.t1() * target, 2.0)
    smooth = ndimage.gaussian_filter(head, 2.0)
    turned = [_flip_about_center(smooth, axes, target) for axes in ((1,), (2,), (1, 2))]
    return correlation(smooth, brain, target) - max(correlation(t, brain, target) for t in turned)


def _flip_about_center(values: np.ndarray, axes: tuple[int, ...], target: np.ndarray) -> np.ndarray:
    """Flip, and roll so that the middle of `target` stays where it is."""
    center = np.argwhere(target).mean(0)
    shifts = [int(round(2 * center[axis] - (values.shape[axis] - 1))) for axis in axes]
    return np.roll(np.flip(values, axes), shifts, axes)


@dataclass(frozen=True)
class T1Maps:
    """What the T1's checks look at. On the template grid, (91, 109, 91), but for the last two.

    t1; mask: the inside of the skull, warped, bool; target: the template's mask by the same method, bool; jacobian;
    covered: bool, where the T1's field of view reaches; native_mask: bool, on the T1's own grid, with a margin wherever
    the field of view has one; head: the T1 by `place_loosely`; affine: (3, 3) of the registration; ghost_share: of the
    whole scan, by `measures.ghost_share`. None where it is not to be judged.
    """

    t1: np.ndarray
    mask: np.ndarray
    target: np.ndarray
    jacobian: np.ndarray
    covered: np.ndarray
    native_mask: np.ndarray
    head: np.ndarray | None = None
    affine: np.ndarray | None = None
    ghost_share: float | None = None


def check_t1(maps: T1Maps, found: Head, affine_ml: float) -> list[Check]:
    """Checks of the structural steps. affine_ml: what lies inside the skull, by the registration's affine alone."""
    brain, hippocampi = template.brain_mask(), template.region_mask("hippocampus")
    back_ml = maps.jacobian[maps.mask].sum() * template.VOXEL_ML
    checks = [check("orient", "cut_share", cut_share(maps.native_mask))]
    if maps.head is not None:
        checks.append(check("orient", "turned_margin", turned_margin(maps.head, maps.target)))
    if maps.affine is not None:
        checks.append(check("register", "tilt_degrees", measures.tilt_degrees(maps.affine)))
    if maps.ghost_share is not None:
        checks.append(check("orient", "ghost_share", maps.ghost_share))
    return checks + [
        check("head", "intracranial_ml", found.intracranial_ml),
        check("head", "intracranial_over_affine", _ratio(found.intracranial_ml, affine_ml)),
        check("register", "brain_dice", dice(maps.mask, maps.target)),
        check("register", "folded_share", float((maps.jacobian[brain] <= 0).mean())),
        check("register", "t1_correlation", correlation(maps.t1, template.t1(), brain)),
        check("register", "volume_ratio", back_ml / max(found.intracranial_ml, 1e-9)),
        check("register", "hippocampi_in_view", float((maps.covered & maps.mask)[hippocampi].mean())),
        check("register", "hippocampi_scale", float(maps.jacobian[hippocampi].mean())),
        *check_contrast(maps.t1),
        check("tissue", "gray_share", _ratio(found.tissue_ml("gm"), found.tissue_ml("gm") + found.tissue_ml("wm"))),
    ]


def check_hippocampi(boxes: dict[str, Box]) -> list[Check]:
    """Checks of the segmentation on the T1 itself; of the worse side: its place, its border, its size."""
    volumes = [box.volume_ml("hippocampus") for box in boxes.values()]
    shifts = [float(np.linalg.norm(box.center - box.expected)) for box in boxes.values()]
    overlaps = [dice(box.probability["hippocampus"] > 0.5, box.carried) for box in boxes.values()]
    rims = [measures.rim_mm(box.probability["hippocampus"]) for box in boxes.values()]
    return [
        check("segment", "hippocampus_shift_mm", _largest(shifts)),
        check("segment", "hippocampus_overlap", min(overlaps)),
        check("segment", "hippocampus_rim_mm", _largest(rims)),
        check("segment", "hippocampus_sides", _ratio(min(volumes), max(volumes))),
        check("segment", "hippocampus_ml", min(volumes)),
    ]


def _largest(values: list[float]) -> float:
    """NaN where any is."""
    return float(np.max(values))


def check_contrast(t1: np.ndarray) -> list[Check]:
    """Contrast and noise of a T1 on the template grid, where the *template* has its tissues for sure.

    The person's own segmentation would follow whatever contrast there is.
    """
    fluid, gray, white = (t1[where] for where in _sure_tissues())
    middle = {"fluid": np.median(fluid), "gray": np.median(gray), "white": np.median(white)}
    noise = float(np.hypot(robust_spread(white), robust_spread(gray)))
    return [
        check("tissue", "white_over_gray", _ratio(middle["white"], middle["gray"])),
        check("tissue", "fluid_over_white", _ratio(middle["fluid"], middle["white"])),
        check("tissue", "white_snr", _ratio(middle["white"], robust_spread(white))),
        check("tissue", "contrast_to_noise", _ratio(middle["white"] - middle["gray"], noise)),
    ]


def _sure_tissues() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bool masks: the inside of fluid, grey and white matter. White matter, the largest, keeps off the brain's rim."""
    fluid, gray, white = tissue.tissue_priors()
    brain = template.brain_mask()
    return (fluid > 0.7) & brain, (gray > 0.7) & brain, (white > 0.85) & ndimage.binary_erosion(brain, iterations=3)


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")


def check_pet(
    suvr: np.ndarray,
    covered: np.ndarray,
    gray: np.ndarray,
    white: np.ndarray,
    sides: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[Check]:
    """Checks of the PET: does it look like FDG of this very brain (grey matter takes up most), and is all in view?

    All (91, 109, 91) in template space; gray and white are tissue fractions; sides: `register.mirror_pair` of the PET,
    without which it is mirrored on the template, where heads are hardly lopsided any more.
    """
    brain, hippocampi = template.brain_mask(), template.region_mask("hippocampus")
    expected = ndimage.gaussian_filter(gray + 0.35 * white, 3.4 / template.SPACING_MM)  # 8 mm full width
    inside = brain & covered
    here = correlation(suvr, expected, inside)
    as_given, mirrored = (
        correlation(values, expected, inside & covered[::-1]) for values in sides or (suvr, suvr[::-1])
    )
    level = np.percentile(suvr[inside], 95) if inside.any() else 0.0
    gray_uptake, white_uptake = (_median(suvr[covered & (part > 0.8)]) for part in (gray, white))
    return [
        check("register_pet", "margin_8mm", here - _best_aside(suvr, expected, inside, 8.0)),
        check("register_pet", "margin_4mm", here - _best_aside(suvr, expected, inside, 4.0)),
        check("register_pet", "mirror_gain", mirrored - as_given),
        check("register_pet", "misfit_mm", measures.misfit_mm(suvr, expected, covered)),
        check("register_pet", "outline_dice", dice(suvr > 0.45 * level, gray + white > 0.5)),
        check("suvr", "pet_correlation", here),
        check("suvr", "pet_coverage", float(covered[brain].mean())),
        check("suvr", "hippocampi_in_pet", float(covered[hippocampi].mean())),
        check("suvr", "cortex_over_pons", gray_uptake),  # an SUVR is a ratio to the pons already
        check("suvr", "gray_over_white", _ratio(gray_uptake, white_uptake)),
        check("suvr", "negative_share", float((suvr[brain] < 0).mean())),
    ]


def _best_aside(suvr: np.ndarray, expected: np.ndarray, inside: np.ndarray, shift_mm: float) -> float:
    """The best correlation after a shift of the PET along one of the axes, either way."""
    step = int(round(shift_mm / template.SPACING_MM))
    return max(correlation(np.roll(suvr, way, axis), expected, inside) for axis in range(3) for way in (-step, step))


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else float("nan")
