"""Who is in a simulated cohort."""

from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest
from scipy.stats import norm

from preprocessing.intake.labels import Visit, derive_label
from preprocessing.simulated import disease
from preprocessing.simulated import people as model
from preprocessing.simulated.people import CohortDesign


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return model.people_table(model.draw_people(CohortDesign(converters=3000, stable=3000, seed=3)))


def test_default_cohort_has_the_sizes_of_the_paper_and_450_people() -> None:
    groups = Counter(p.group for p in model.draw_people(CohortDesign()))
    assert groups.total() == 450 and groups["normal"] == groups["dementia"] == 60
    assert (groups["converter"], groups["stable"]) == (144, 156)


def test_raw_people_are_half_converters_and_one_more_file_is_truncated() -> None:
    people = [p for p in model.draw_people(CohortDesign(raw=12)) if p.raw]
    assert Counter(p.truncated for p in people) == {False: 12, True: 1}
    assert Counter(p.group for p in people if not p.truncated) == {"converter": 6, "stable": 6}


def test_same_seed_gives_the_same_people_and_another_seed_others() -> None:
    first, again = (model.people_table(model.draw_people(CohortDesign(seed=5))) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.severity_mri.equals(model.people_table(model.draw_people(CohortDesign(seed=6))).severity_mri)


@pytest.mark.parametrize("modality", disease.MODALITIES)
def test_classes_lie_apart_by_the_effect_of_the_cohort(many: pd.DataFrame, modality: str) -> None:
    effect = CohortDesign(seed=3).disease.expressions[modality].effect
    means = many.groupby("group")[f"severity_{modality}"].mean()
    assert means["converter"] - means["stable"] == pytest.approx(effect, abs=0.08)


def test_severities_correlate_within_class_as_asked(many: pd.DataFrame) -> None:
    stable = many[many.group == "stable"]
    assert stable.severity_mri.corr(stable.severity_pet) == pytest.approx(0.3, abs=0.05)
    independent = model.people_table(model.draw_people(CohortDesign(stable=3000, severity_correlation=0.0)))
    stable = independent[independent.group == "stable"]
    assert stable.severity_mri.corr(stable.severity_pet) == pytest.approx(0.0, abs=0.05)


def test_shared_nuisance_correlates_as_asked_and_lies_off_the_label() -> None:
    people = model.people_table(model.draw_people(CohortDesign(converters=3000, stable=3000, nuisance_correlation=0.8)))
    assert people.nuisance_mri.corr(people.nuisance_pet) == pytest.approx(0.8, abs=0.03)
    converter = (people.group == "converter").astype(float)
    assert abs(people.nuisance_mri.corr(converter)) < 0.05


def test_bayes_posteriors_reach_the_limits_that_follow_from_the_effects() -> None:
    design = CohortDesign(converters=4000, stable=4000, seed=2, site_imbalance=0.0)
    people = model.draw_people(design)
    bayes = model.bayes_posteriors(people, design).set_index("participant_id")
    table = model.people_table(people).set_index("participant_id")
    stable, converter = (bayes[table.group == group] for group in ("stable", "converter"))
    for modality in disease.MODALITIES:
        wins = converter[f"p_{modality}"].to_numpy()[:, None] > stable[f"p_{modality}"].to_numpy()[None, :]
        assert wins.mean() == pytest.approx(norm.cdf(design.disease.expressions[modality].effect / 2**0.5), abs=0.015)
    rated = bayes[table.group.isin(["stable", "converter"])]
    # A calibrated posterior is right as often as it says.
    assert rated.p_all.mean() == pytest.approx(0.5, abs=0.02)
    assert bayes[table.group == "normal"].isna().all(axis=None)


@pytest.mark.parametrize("setting", [{"site_imbalance": 0.5}, {"site_imbalance": 0.0, "missing_pet_severity": 1.0}])
def test_bayes_is_unknown_where_sites_or_missing_pets_tell_the_class(setting: dict[str, float]) -> None:
    design = CohortDesign(**setting)
    assert model.bayes_posteriors(model.draw_people(design), design)[["p_mri", "p_pet", "p_all"]].isna().all(axis=None)


def test_sites_have_5_to_60_people() -> None:
    for seed in range(3):
        sizes = model.people_table(model.draw_people(CohortDesign(seed=seed))).site.value_counts()
        assert sizes.between(5, 64).all() and len(sizes) > 5  # the last 4 people or fewer join the smallest site


def test_shares_of_classes_differ_between_sites_as_asked() -> None:
    def spread(imbalance: float) -> float:
        design = CohortDesign(converters=1500, stable=1500, seed=1, site_imbalance=imbalance)
        people = model.people_table(model.draw_people(design))
        sites = people[people.group.isin(["converter", "stable"])].groupby("site").group
        return (sites.agg(lambda group: (group == "converter").mean()) - 0.5)[sites.size() > 20].std()

    assert spread(1.0) > 1.5 * spread(0.0)


def test_pet_is_missing_more_often_in_the_severe_where_asked() -> None:
    people = model.people_table(model.draw_people(CohortDesign(missing_pet=0.3, missing_pet_severity=1.5)))
    stable = people[people.group == "stable"]
    assert (~people.has_pet).mean() == pytest.approx(0.3, abs=0.01)
    assert stable[~stable.has_pet].severity_pet.mean() > stable[stable.has_pet].severity_pet.mean() + 0.5


def test_correlations_outside_the_unit_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="severity_correlation is 1.0"):
        CohortDesign(severity_correlation=1.0)


def test_diagnoses_of_every_group_give_the_label_of_that_group() -> None:
    expected = {
        "converter": "converter",
        "stable": "stable",
        "censored": "censored",
        "reverting": "reverter",
        "normal": "not_mci",
        "dementia": "not_mci",
    }
    names = {model.CN: "CN", model.MCI: "MCI", model.DEMENTIA: "AD"}
    for p in model.draw_people(CohortDesign()):
        history = [Visit(month, names[code]) for month, code in model.diagnoses(p)]
        assert derive_label(history, 0).reason == expected[p.group], p
