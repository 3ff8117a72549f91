"""What the scanners of a site do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from preprocessing.simulated import people as model
from preprocessing.simulated import registration_error
from preprocessing.simulated.anatomy import TemplateAnatomy
from preprocessing.simulated.brain import Brain
from preprocessing.simulated.sites import SiteEffect, site_effect
from preprocessing.simulated.tissue_model import soften


def test_sites_of_no_effect_leave_everything_as_it_is() -> None:
    uptake = np.linspace(0, 2, 5)
    assert site_effect(0, 3, 0.0) == SiteEffect()
    np.testing.assert_array_equal(SiteEffect().on_pet(uptake), uptake)
    assert soften(uptake, 0.0, 1.0) is uptake


def test_sites_differ_by_the_asked_size() -> None:
    effects = [site_effect(0, site, 2.0) for site in range(400)]
    assert np.std([np.log(e.scale) for e in effects]) == pytest.approx(2 * 0.004, rel=0.15)
    assert np.std([e.pet_offset for e in effects]) == pytest.approx(2 * 0.05, rel=0.15)
    assert all(0 <= e.soft <= 1 for e in effects)
    assert site_effect(0, 5, 2.0) == effects[5] != site_effect(1, 5, 2.0)


def test_pet_of_a_site_keeps_the_pons_and_bends_the_rest() -> None:
    shown = SiteEffect(pet_offset=0.1, pet_gamma=1.2).on_pet(np.array([1.0, 1.5]))
    assert shown[0] == 1.0
    assert shown[1] == pytest.approx((1.6 / 1.1) ** 1.2)


def test_prepared_people_of_a_site_have_its_effects(
    anatomy: TemplateAnatomy, person: model.Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = registration_error.as_registered(Brain(person, anatomy))
    effect = SiteEffect(scale=1.01, soft=1.0, pet_gamma=1.3)
    monkeypatch.setattr(Brain, "effect", effect)
    found = registration_error.as_registered(Brain(replace(person, site_effect=1.0), anatomy))
    np.testing.assert_allclose(found.jacobian / plain.jacobian, 1.01**3, rtol=1e-4)
    assert found.tiv_ml / plain.tiv_ml == pytest.approx(1.01**3)
    high = Brain(person, anatomy).suvr > 1.3
    assert (found.suvr[high] > plain.suvr[high]).all()
    assert np.abs(found.tissues["gm"] - plain.tissues["gm"]).mean() > 0.005
