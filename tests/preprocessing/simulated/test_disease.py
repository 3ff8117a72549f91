"""The disease that is drawn for each cohort."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.simulated import disease, pattern
from preprocessing.simulated import people as model
from preprocessing.simulated.people import CohortDesign


def test_diseases_of_cohorts_differ_and_effects_are_as_published_on_average() -> None:
    found = {"mri": [], "pet": []}
    for seed in range(30):
        design = CohortDesign(converters=100, stable=100, normal=0, dementia=0, seed=seed)
        values = pattern.summaries(model.draw_people(design))
        stable, converter = (values[values.group == group] for group in ("stable", "converter"))
        for name, effects in found.items():
            pooled = np.sqrt((stable[name].var() + converter[name].var()) / 2)
            effects.append((stable[name].mean() - converter[name].mean()) / pooled)
    # The standard error of a mean of 30 cohorts is .04.
    assert np.mean(found["mri"]) == pytest.approx(0.75, abs=0.1) and np.std(found["mri"]) >= 0.17
    assert np.mean(found["pet"]) == pytest.approx(1.1, abs=0.1) and np.std(found["pet"]) >= 0.17
    loadings = [disease.draw_disease(seed).expressions["pet"].loading[0] for seed in range(10)]
    order = [tuple(np.argsort(row)[:5]) for row in loadings]
    assert len(set(order)) == 10


def test_disease_of_another_seed_goes_with_people_of_ones_own() -> None:
    own, lent = CohortDesign(seed=5), CohortDesign(seed=6, disease_seed=5)
    assert lent.disease is own.disease
    assert model.draw_people(lent)[0].severity_mri != model.draw_people(own)[0].severity_mri


@pytest.mark.parametrize("seed", range(8))
def test_pattern_of_ad_has_the_drawn_cosine_to_that_of_converters(seed: int) -> None:
    drawn = disease.draw_disease(seed)
    assert 0.5 <= drawn.ad_cosine <= 0.9
    for shown in drawn.expressions.values():
        for own, ad in zip(shown.loading, shown.ad_loading, strict=True):
            assert own @ ad / np.linalg.norm(own) / np.linalg.norm(ad) == pytest.approx(drawn.ad_cosine)


def test_left_severity_noise_stays_on_its_side(person: model.Person) -> None:
    changes = pattern.regional_changes(person, "mri")
    assert changes["hippocampus", "left"] != changes["hippocampus", "right"]
    assert changes == pattern.regional_changes(person, "mri")
