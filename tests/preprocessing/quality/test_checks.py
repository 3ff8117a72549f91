"""Quality control on the template's own maps, as they are and deliberately spoiled."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from preprocessing.networks.labels import HEAD_CLASSES
from preprocessing.quality import measures
from preprocessing.quality.checks import (
    Check,
    T1Maps,
    check,
    check_hippocampi,
    check_pet,
    check_t1,
    explain,
    place_loosely,
)
from preprocessing.quality.limits import THRESHOLDS, Threshold
from preprocessing.steps import template, tissue
from preprocessing.steps.head import Head
from preprocessing.steps.hippocampus import Box

# Volumes as of the template itself, in mL; nothing else of a segmentation is asked for.
HEAD = Head(
    {}, np.eye(4), dict.fromkeys(HEAD_CLASSES, 0.0) | {"outer_csf": 300.0, "cortex": 900.0, "white_matter": 685.0}
)


def head_image(values: np.ndarray) -> nib.Nifti1Image:
    """A scan that lies elsewhere than the template: 25 mm aside, and 8 % larger."""
    affine = np.diag([1.08, 1.08, 1.08, 1.0]) @ template.GRID_AFFINE
    affine[:3, 3] += (25, -10, 15)
    return nib.Nifti1Image(np.ascontiguousarray(values), affine)


@pytest.fixture(scope="module")
def t1_maps() -> T1Maps:
    """What the template would be if it had been registered to itself."""
    brain, everywhere = template.brain_mask(), np.ones(template.GRID_SHAPE, bool)
    head = place_loosely(head_image(template.t1()), brain, brain)
    return T1Maps(template.t1(), brain, brain, everywhere.astype(np.float32), everywhere, brain, head, np.eye(3), 0.01)


@pytest.fixture(scope="module")
def fdg() -> np.ndarray:
    """An FDG of the template's tissues over its pons, with a left half that takes up less."""
    csf, gray, white = tissue.tissue_priors() * template.brain_mask()
    uptake = ndimage.gaussian_filter(0.1 * csf + gray + 0.4 * white, 1.5)
    uptake[:45] *= 0.93
    return (uptake / uptake[template.pons_mask()].mean()).astype(np.float32)


def judge_t1(maps: T1Maps) -> dict[str, Check]:
    return {c.name: c for c in check_t1(maps, HEAD, HEAD.intracranial_ml)}


def judge_pet(suvr: np.ndarray, covered: np.ndarray | None = None) -> dict[str, Check]:
    covered = np.ones(template.GRID_SHAPE, bool) if covered is None else covered
    _, gray, white = tissue.tissue_priors() * template.brain_mask()
    return {c.name: c for c in check_pet(suvr, covered, gray, white)}


def side_box(radius: float = 9.5, lift: float = 0.0, blur: float = 1.0) -> Box:
    """A ball with a soft border, `lift` mm above the place where the registration carries the template's."""
    index = np.indices((40, 64, 40), dtype=np.float32)
    middle = np.array([19.5, 31.5, 19.5])

    def ball(center: np.ndarray) -> np.ndarray:
        distance = np.linalg.norm(index - center[:, None, None, None], axis=0)
        return (1 / (1 + np.exp((distance - radius) / blur * 2))).astype(np.float32)

    return Box({"hippocampus": ball(middle + [0, 0, lift])}, np.eye(4), middle, ball(middle) > 0.5)


def both_sides(**spoiled: float) -> dict[str, Box]:
    """The left one as a good scan has it, the right one spoiled."""
    return {"left": side_box(), "right": side_box(**spoiled)}


def judge_hippocampi(boxes: dict[str, Box]) -> dict[str, Check]:
    return {c.name: c for c in check_hippocampi(boxes)}


def failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, c in checks.items() if c.verdict == "fail"}


def caught(checks: dict[str, Check]) -> set[str]:
    return {name for name, c in checks.items() if c.verdict != "pass"}


def ghosts(values: np.ndarray, amount: float) -> np.ndarray:
    """Every other line of k-space from a head that has moved by 8 mm: a copy half a field of view away."""
    lines, moved = np.fft.fft(values, axis=1), np.fft.fft(np.roll(values, 4, 1), axis=1)
    lines[:, 1::2] = (1 - 2 * amount) * lines[:, 1::2] + amount * moved[:, 1::2]
    return np.abs(np.fft.ifft(lines, axis=1)).astype(np.float32)


def test_the_template_and_its_fdg_pass_every_check(t1_maps, fdg):
    checks = judge_t1(t1_maps) | judge_pet(fdg) | judge_hippocampi(both_sides())
    assert {name: (c.value, c.verdict) for name, c in checks.items() if c.verdict != "pass"} == {}
    assert {(c.step, c.name) for c in checks.values()} == set(THRESHOLDS)


@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)], ids=["front_back", "up_down", "both"])
def test_a_head_turned_against_its_header_fails_before_any_registration(t1_maps, axes):
    brain = template.brain_mask()
    turned = head_image(np.flip(template.t1(), axes))
    head = place_loosely(turned, np.flip(brain, axes), brain)
    checks = judge_t1(replace(t1_maps, head=head))
    assert failed(checks) == {"turned_margin"}
    assert checks["turned_margin"].value < -0.02


def test_a_mirrored_head_cannot_be_told_from_the_template(t1_maps):
    brain = template.brain_mask()
    head = place_loosely(head_image(template.t1()[::-1]), brain[::-1], brain)
    assert failed(judge_t1(replace(t1_maps, head=head))) == set()


def test_a_tilted_head_is_not_taken_for_a_turned_one(t1_maps):
    brain = template.brain_mask()
    tilted = [
        ndimage.rotate(v.astype(np.float32), 20, axes=(1, 2), reshape=False, order=1) for v in (template.t1(), brain)
    ]
    head = place_loosely(head_image(tilted[0]), tilted[1] > 0.5, brain)
    assert judge_t1(replace(t1_maps, head=head))["turned_margin"].verdict == "pass"


def test_a_scan_cut_above_the_hippocampi_fails(t1_maps):
    below = slice(None, 34)  # z < -4 mm
    covered = t1_maps.covered.copy()
    covered[:, :, below] = False
    cut = replace(t1_maps, covered=covered, mask=t1_maps.mask & covered, native_mask=t1_maps.mask[:, :, 34:])
    assert failed(judge_t1(cut)) >= {"cut_share", "hippocampi_in_view"}


def test_a_scan_that_a_registration_stretched_over_missing_hippocampi_fails_by_their_size(t1_maps):
    jacobian = np.where(template.region_mask("hippocampus"), 0.1, 1).astype(np.float32)
    assert failed(judge_t1(replace(t1_maps, jacobian=jacobian))) == {"hippocampi_scale"}


def test_an_inverted_contrast_fails(t1_maps):
    t1 = template.t1()
    inverted = np.where(t1 > 0.1 * t1.max(), 1.1 * t1.max() - t1, 0).astype(np.float32)
    names = failed(judge_t1(replace(t1_maps, t1=inverted)))
    assert names >= {"white_over_gray", "fluid_over_white", "contrast_to_noise", "t1_correlation"}


def test_a_scan_of_noise_fails(t1_maps):
    t1 = template.t1()
    noise = np.random.default_rng(0).normal(0, 0.25 * np.percentile(t1, 95), t1.shape).astype(np.float32)
    assert failed(judge_t1(replace(t1_maps, t1=np.abs(t1 + noise)))) >= {"white_snr", "contrast_to_noise"}


def test_slight_motion_is_no_failure(t1_maps):
    t1 = ghosts(template.t1(), 0.03)
    share = measures.ghost_share(t1, template.brain_mask(), (2.0, 2.0, 2.0))
    assert failed(judge_t1(replace(t1_maps, t1=t1, ghost_share=share))) == set()


@pytest.mark.parametrize("width_mm", [2.0, 4.0, 6.0])
def test_the_rim_of_a_border_that_falls_evenly_is_its_width(width_mm):
    x = np.indices((60, 60, 60))[0] - 29.5
    slab = np.clip(0.5 - (np.abs(x) - 15) / width_mm, 0, 1)
    slab[:, :2] = slab[:, -2:] = slab[:, :, :2] = slab[:, :, -2:] = 0
    # Of a slab the sides have no rim, and count as surface.
    faces = 2 * 56 * 56
    surface = ((slab > 0.5) & ~ndimage.binary_erosion(slab > 0.5)).sum()
    assert measures.rim_mm(slab) * surface / faces == pytest.approx(width_mm, abs=0.3)


def test_a_hippocampus_that_lies_elsewhere_than_the_registration_says_fails():
    assert failed(judge_hippocampi(both_sides(lift=12.0))) == {"hippocampus_shift_mm", "hippocampus_overlap"}
    assert judge_hippocampi(both_sides(lift=8.0))["hippocampus_shift_mm"].verdict == "warn"


def test_a_hippocampus_without_a_clear_border_fails():
    assert failed(judge_hippocampi(both_sides(blur=2.0))) == {"hippocampus_rim_mm"}


def test_a_hippocampus_far_smaller_than_the_other_is_warned_of():
    checks = judge_hippocampi(both_sides(radius=7.0))
    assert caught(checks) == {"hippocampus_sides"} and failed(checks) == set()


def test_a_template_hippocampus_twice_as_large_as_the_one_on_the_scan_is_warned_of():
    good = side_box(radius=7.2)
    boxes = dict.fromkeys(("left", "right"), replace(good, carried=side_box().carried))
    boxes = {
        side: replace(box, carried=ndimage.binary_dilation(box.carried, iterations=1)) for side, box in boxes.items()
    }
    assert caught(judge_hippocampi(boxes)) == {"hippocampus_overlap"}


def test_a_side_on_which_nothing_was_found_fails():
    empty = replace(side_box(), probability={"hippocampus": np.zeros((40, 64, 40), np.float32)})
    names = failed(judge_hippocampi({"left": side_box(), "right": empty}))
    assert names == {
        *("hippocampus_shift_mm", "hippocampus_overlap", "hippocampus_rim_mm", "hippocampus_sides", "hippocampus_ml")
    }


def test_a_deformation_that_folds_or_loses_volume_fails(t1_maps):
    folding = t1_maps.jacobian.copy()
    folding[35:55, 45:65, 35:55] = -0.5
    assert "folded_share" in failed(judge_t1(replace(t1_maps, jacobian=folding)))
    assert failed(judge_t1(replace(t1_maps, jacobian=0.8 * t1_maps.jacobian))) == {"volume_ratio"}


@pytest.mark.parametrize("degrees", [0.0, 20.0, 60.0, 170.0])
def test_the_tilt_of_an_affine_is_its_turn_whatever_it_stretches(degrees):
    angle = np.deg2rad(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    shape = np.diag([0.9, 1.1, 1.0])
    assert measures.tilt_degrees(turn @ shape) == pytest.approx(degrees, abs=0.01)


def test_a_head_that_the_registration_had_to_turn_fails(t1_maps):
    turn = np.array([[1, 0, 0], [0, 0.5, -0.87], [0, 0.87, 0.5]])
    assert failed(judge_t1(replace(t1_maps, affine=turn))) == {"tilt_degrees"}


@pytest.mark.parametrize("kind", ["30", "54", "lines"])
def test_a_copy_of_the_head_in_the_air_is_a_ghost(t1_maps, kind):
    t1 = template.t1()
    scan = ghosts(t1, 0.4) if kind == "lines" else t1 + 0.25 * np.roll(t1, int(kind), 1)
    share = measures.ghost_share(scan, template.brain_mask(), (2.0, 2.0, 2.0))
    assert failed(judge_t1(replace(t1_maps, ghost_share=share))) == {"ghost_share"}


def test_noise_in_the_air_is_no_ghost():
    noise = 0.1 * np.percentile(template.t1(), 95) * np.random.default_rng(0).standard_normal((2, *template.GRID_SHAPE))
    scan = np.hypot(template.t1() + noise[0], noise[1])
    share = measures.ghost_share(scan, template.brain_mask(), (2.0, 2.0, 2.0))
    assert check("orient", "ghost_share", share).verdict == "pass"


def test_a_masked_background_has_no_ghosts():
    brain = template.brain_mask()
    assert measures.ghost_share(template.t1() * brain, brain, (2.0, 2.0, 2.0)) == 0.0


@pytest.mark.parametrize("shift_mm", [2.0, 4.0])
def test_the_misfit_of_a_known_shift_is_the_shift(fdg, shift_mm):
    shifted = ndimage.shift(fdg, (0, shift_mm / template.SPACING_MM, 0), order=1)
    everywhere = np.ones(template.GRID_SHAPE, bool)
    assert measures.misfit_mm(fdg, fdg, everywhere) < 0.01  # a PET against itself
    assert measures.misfit_mm(shifted, fdg, everywhere) == pytest.approx(shift_mm, rel=0.15)


def test_the_pet_of_a_head_of_other_proportions_is_caught(fdg):
    """7 % narrower and 7 % longer, as one adult's head may be beside another's."""
    center = np.argwhere(template.brain_mask()).mean(0)
    scale = np.array([1.07, 0.93, 1.0])
    other = ndimage.affine_transform(fdg, np.diag(scale), center - scale * center, order=1)
    assert "misfit_mm" in caught(judge_pet(other))


def test_a_pet_with_exchanged_sides_is_told_by_the_lopsided_head(fdg):
    """`sides` of a head whose nonlinear map moves the middle by 4 mm: right as given, 4 mm off when mirrored."""
    _, gray, white = tissue.tissue_priors() * template.brain_mask()
    everywhere = np.ones(template.GRID_SHAPE, bool)
    index = np.indices(template.GRID_SHAPE, dtype=np.float32)
    index[0] += 2 * np.cos(np.pi * (index[0] - 45) / 60)
    off = ndimage.map_coordinates(fdg, index, order=1)
    gains = [
        {c.name: c for c in check_pet(fdg, everywhere, gray, white, sides)}["mirror_gain"].verdict
        for sides in ((fdg, off), (off, fdg))
    ]
    assert gains == ["pass", "fail"]


def test_a_pet_that_lies_aside_fails(fdg):
    names = failed(judge_pet(np.roll(fdg, 5, 1)))
    assert names >= {"margin_8mm", "margin_4mm"}


def test_a_pet_turned_over_fails(fdg):
    assert "pet_correlation" in failed(judge_pet(np.roll(fdg[:, ::-1], 0, 1)))
    assert "pet_correlation" in failed(judge_pet(fdg[:, :, ::-1]))


def test_the_pet_of_a_clearly_smaller_brain_fails(fdg):
    center = np.argwhere(template.brain_mask()).mean(0)
    scale = np.array([1.22, 1.18, 1.2])
    other = ndimage.affine_transform(fdg, np.diag(scale), center - scale * center, order=1)
    assert "outline_dice" in failed(judge_pet(other))


def test_a_pet_that_fits_better_when_mirrored_is_caught():
    """A lopsided brain: the grey matter of the left half lies 6 mm further back than that of the right."""
    _, gray, white = tissue.tissue_priors() * template.brain_mask()
    gray, white = gray.copy(), white.copy()
    for values in (gray, white):
        values[:45] = np.roll(values[:45], -3, 1)
    suvr = ndimage.gaussian_filter(gray + 0.35 * white, 1.7)
    covered = np.ones(template.GRID_SHAPE, bool)
    verdicts = [
        {c.name: c for c in check_pet(pet, covered, gray, white)}["mirror_gain"].verdict for pet in (suvr, suvr[::-1])
    ]
    assert verdicts == ["pass", "fail"]


def test_a_field_of_view_without_hippocampi_fails_for_the_pet_alone(fdg):
    covered = np.ones(template.GRID_SHAPE, bool)
    covered[:, :, :34] = False
    assert failed(judge_pet(fdg * covered, covered)) >= {"hippocampi_in_pet"}


def test_an_uptake_that_is_not_that_of_fdg_fails(fdg):
    amyloid_like = tissue.tissue_priors()[2] * template.brain_mask()  # white matter takes up most
    assert "gray_over_white" in failed(judge_pet(ndimage.gaussian_filter(amyloid_like, 1.5)))
    assert "cortex_over_pons" in failed(judge_pet(4 * fdg))
    assert "negative_share" in failed(judge_pet(fdg - 0.8 * np.median(fdg[template.brain_mask()])))


def test_a_number_between_two_limits_is_judged_on_its_own_side():
    small, usual, large = (check("head", "intracranial_ml", ml) for ml in (900.0, 1400.0, 2400.0))
    assert [c.verdict for c in (small, usual, large)] == ["warn", "pass", "fail"]
    assert (small.threshold, large.threshold) == ({"warn": 1000.0, "fail": 850.0}, {"warn": 2100.0, "fail": 2300.0})


def test_the_ledger_is_told_step_code_and_sentence_of_the_worst_checks():
    good = check("register", "brain_dice", 0.97)
    odd = check("tissue", "white_snr", 10.0)
    wrong = [check("orient", "turned_margin", -0.2), check("register", "t1_correlation", 0.1)]
    assert explain([good]) == ("recipe", "", "")
    assert explain([good, odd]) == (
        "tissue",
        "qc_warn",
        "the T1 is noisy (white_snr 10, expected at least 12)",
    )
    step, code, sentence = explain([good, odd, *wrong])
    assert (step, code) == ("orient", "qc_fail")
    assert "turned over" in sentence and "expected at least 0.4" in sentence and "noisy" not in sentence


def test_a_number_that_there_is_not_fails_and_is_told_in_words():
    unknown = check("tissue", "white_snr", float("nan"))
    assert unknown.verdict == "fail"
    assert unknown.sentence.endswith("(white_snr could not be measured, expected at least 7)")


def test_every_threshold_warns_before_it_fails_and_has_a_sentence():
    for key, rule in THRESHOLDS.items():
        for side in [rule] if isinstance(rule, Threshold) else [rule.low, rule.high]:
            assert (side.warn > side.fail) == side.higher_is_better, key
            assert side.problem, key
