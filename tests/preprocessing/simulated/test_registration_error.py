"""People who are written prepared have the errors that preprocessing makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from preprocessing.simulated import deformation, volume_error
from preprocessing.simulated import people as model
from preprocessing.simulated import registration_error as registration
from preprocessing.simulated.anatomy import LABELED, TemplateAnatomy
from preprocessing.simulated.brain import Brain
from preprocessing.steps import template
from preprocessing.subject.plan import Recipe


@pytest.fixture(scope="module")
def error() -> registration.Error:
    """Of four people, whose maps are noise around a mean; nothing else is amiss."""
    rng, n = np.random.default_rng(0), int(registration.kept().sum())
    displacement = rng.normal(0, 0.5, (4, 3, n)).astype(np.float32)
    log_suvr = rng.normal(0.1, 0.2, (4, n)).astype(np.float32)
    gray = np.zeros((4, n), np.float32)
    fine = np.zeros(len(registration.fine_places()), np.float32)
    return registration.Error(displacement, log_suvr, gray, 1.0, 0.0, fine, fine, 0.0, 0.0, 1.0, 0.0)


@pytest.fixture(scope="module")
def none(error: registration.Error) -> registration.Error:
    return replace(error, displacement=0 * error.displacement, log_suvr=0 * error.log_suvr)


def test_registration_error_was_measured_with_the_recipe_in_use() -> None:
    """Otherwise people written directly would differ from those who are registered."""
    assert registration.measured_stamp() == registration.stamp_of(Recipe())


def test_without_any_error_the_truth_is_found(
    none: registration.Error, anatomy: TemplateAnatomy, person: model.Person
) -> None:
    brain, inside = Brain(person, anatomy), template.brain_mask()
    found = registration.as_registered(brain, none)
    np.testing.assert_allclose(found.jacobian, brain.jacobian, rtol=1e-4)
    np.testing.assert_allclose(found.suvr[inside], brain.suvr[inside], rtol=1e-4)
    assert found.tiv_ml == pytest.approx(brain.brain_ml)
    sharp = anatomy.segmented[0][1::2, 1::2, 1::2]  # every second voxel of 1 mm lies on the 2 mm grid
    assert found.tissues["gm"].sum() == pytest.approx(sharp.sum(), rel=0.01)


def test_grey_matter_has_the_mean_and_the_noise_that_a_voxel_was_measured_to_have(
    none: registration.Error, anatomy: TemplateAnatomy, person: model.Person
) -> None:
    brain, places = Brain(person, anatomy), registration.fine_places()
    before, fine = registration.as_registered(brain, none).tissues["gm"], none.gray_mean
    error = replace(none, gray_mean=fine - 0.1, gray_sd=fine + np.arange(len(places)) % 2 * 0.05)
    change = (registration.as_registered(brain, error).tissues["gm"] - before).ravel()[places]
    free = (before.ravel()[places] > 0.3) & (before.ravel()[places] < 0.8)  # nothing is cut at 0 or 1
    even, odd = change[free & (error.gray_sd == 0)], change[free & (error.gray_sd > 0)]
    np.testing.assert_allclose(even, -0.1, atol=1e-5)
    assert odd.mean() == pytest.approx(-0.1, abs=0.002) and odd.std() == pytest.approx(0.05, rel=0.03)


def test_tissue_comes_from_where_registration_takes_it(anatomy: TemplateAnatomy, person: model.Person) -> None:
    moved = np.zeros((3, *deformation.SHAPE), np.float32)
    moved[1] = template.SPACING_MM
    here, there = (registration.displaced_tissues(Brain(person, anatomy), d)[0] for d in (0 * moved, moved))
    inside = (slice(20, 70), slice(20, 90), slice(20, 70))
    np.testing.assert_allclose(there[inside], np.roll(here, -1, axis=1)[inside], atol=1e-3)


def test_drawn_errors_have_the_mean_and_the_spread_of_those_measured(error: registration.Error) -> None:
    draws = np.stack([error.draw("log_suvr", np.random.default_rng(i))[0] for i in range(200)])[:, registration.kept()]
    inner = registration.smooth(registration.kept().astype(float), 2)[registration.kept()] > 0.95
    assert draws.mean() == pytest.approx(0.1, abs=0.02)
    # The spread of four people and their mirror images: over many places that of all people.
    assert draws[:, inner].std(0).mean() == pytest.approx(0.2, rel=0.1)


def test_means_are_the_same_left_and_right_and_displacements_mirrored(error: registration.Error) -> None:
    means = error.means
    np.testing.assert_allclose(means["log_suvr"], means["log_suvr"][:, ::-1], atol=1e-6)
    np.testing.assert_allclose(means["displacement"][0], -means["displacement"][0, ::-1], atol=1e-6)
    np.testing.assert_allclose(means["displacement"][1], means["displacement"][1, ::-1], atol=1e-6)


def test_written_errors_are_read_back(error: registration.Error, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(registration, "files", lambda _: tmp_path)
    registration.measured.cache_clear()
    registration.save(error, "a stamp")
    found = registration.measured()
    registration.measured.cache_clear()
    np.testing.assert_allclose(found.displacement, error.displacement, atol=0.02)
    assert registration.measured_stamp() == "a stamp" and found.tiv_ratio == error.tiv_ratio


def test_found_volumes_lie_about_the_measured_line_and_sides_err_together() -> None:
    true = {(region, side): 3.0 for region in LABELED for side in ("left", "right")}
    rng = np.random.default_rng(0)
    for kind in ("template", "heads"):
        draws = pd.DataFrame([volume_error.found(true, kind, rng) for _ in range(600)])
        row = volume_error.read_table().loc[kind, "hippocampus"]
        left, right = draws["hippocampus", "left"], draws["hippocampus", "right"]
        assert left.mean() == pytest.approx(row.intercept_ml + 3 * row.slope, abs=0.06)
        assert left.std() == pytest.approx(row.sd_ml, rel=0.1)
        assert left.corr(right) == pytest.approx(max(row.side_correlation, 0), abs=0.12)


def test_fit_finds_the_line_that_volumes_were_drawn_from() -> None:
    rng = np.random.default_rng(1)
    true = pd.DataFrame(rng.uniform(2, 5, (400, 2)), columns=["left", "right"])
    shared = rng.standard_normal((400, 1))
    seen = 0.5 + 0.9 * true + 0.2 * (0.6 * shared + 0.8 * rng.standard_normal((400, 2)))
    found = volume_error.fit(true, seen)
    assert (found["slope"], found["intercept_ml"]) == pytest.approx((0.9, 0.5), abs=0.05)
    assert found["sd_ml"] == pytest.approx(0.2, rel=0.1) and found["side_correlation"] == pytest.approx(0.36, abs=0.1)
