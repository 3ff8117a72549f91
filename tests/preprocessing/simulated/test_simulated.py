"""The simulated cohort shows what its truth says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from preprocessing.intake.labels import Visit, derive_label
from preprocessing.intake.prepared_people import PEOPLE_COLUMNS
from preprocessing.intake.tables import read_histories
from preprocessing.simulated import deformation, disease, healthy, pattern, registration_error, scanner, tissue_model
from preprocessing.simulated import people as model
from preprocessing.simulated.anatomy import TemplateAnatomy
from preprocessing.simulated.brain import Brain
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.label_maps import brain_of, draw_t1
from preprocessing.simulated.people import CohortDesign
from preprocessing.steps import template
from preprocessing.subject.plan import Recipe

SMALL = CohortDesign(converters=2, stable=2, censored=1, reverting=1, normal=1, dementia=1, raw=0, truncated=0)


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return model.people_table(model.draw_people(CohortDesign(converters=3000, stable=3000, seed=3)))


@pytest.fixture(scope="module")
def person() -> model.Person:
    return model.draw_people(CohortDesign())[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort")
    write_cohort(out, SMALL, jobs=0, progress=False)
    return out


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


def test_healthy_uptake_shows_the_published_means_through_the_scanner() -> None:
    seen = tissue_model.blur(tissue_model.healthy_uptake())
    seen = seen / seen[template.pons_mask()].mean()
    sd = healthy.log_suvr_sd()
    near = []
    for label, region, side in template.region_table()[["label", "region", "side"]].itertuples(index=False):
        if (region, side) in sd:
            published = healthy.normal_suvr()[label]
            near.append(abs(seen[template.labels() == label].mean() / published - 1) < sd[region, side] / 2)
    assert np.mean(near) > 0.8


def test_correlations_outside_the_unit_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="severity_correlation is 1.0"):
        CohortDesign(severity_correlation=1.0)


def test_regions_change_their_volume_as_asked(person: model.Person) -> None:
    wanted = dict.fromkeys(deformation.CONTROLLED, 0.0) | {("hippocampus", "left"): -0.25}
    velocity = deformation.velocity_with(wanted, np.zeros((3, *deformation.SHAPE), np.float32))
    jacobian = deformation.jacobian_on_grid(deformation.exponential(velocity))
    found = {
        side: np.log(jacobian[template.region_mask("hippocampus", side=side)].mean()) for side in ("left", "right")
    }
    assert found["left"] == pytest.approx(-0.25, abs=0.03)
    assert found["right"] == pytest.approx(0.0, abs=0.03)


def test_deformation_and_its_inverse_cancel_and_never_fold(person: model.Person) -> None:
    velocity = deformation.random_velocity(person.rng(3))
    there, back = deformation.exponential(velocity), deformation.exponential(-velocity)
    points = np.stack(np.meshgrid(*[np.arange(-50.0, 50, 10)] * 3, indexing="ij"))
    assert np.abs(deformation.displaced(deformation.displaced(points, there), back) - points).max() < 0.3
    assert np.abs(there).max() > 2
    assert deformation.jacobian_on_grid(there).min() > 0


def test_brain_maps_points_there_and_back(person: model.Person) -> None:
    brain = Brain(person, TemplateAnatomy())
    points = np.stack(np.meshgrid(*[np.arange(-40.0, 40, 20)] * 3, indexing="ij"))
    returned, _ = brain.from_person(brain.to_person(points))
    assert np.abs(returned - points).max() < 0.5


def test_brain_volume_is_the_integral_of_the_jacobian(person: model.Person) -> None:
    """A cube of template mapped point by point encloses the volume that the Jacobian says."""
    brain = Brain(person, TemplateAnatomy())
    center, edge = np.array([-18.0, -38.0, 2.0]), 4.0
    ends = [brain.to_person(center[:, None] + sign * edge / 2 * np.eye(3)) for sign in (1, -1)]
    enclosed = abs(np.linalg.det(ends[0] - ends[1]))
    index = np.rint((center - template.GRID_AFFINE[:3, 3]) / template.SPACING_MM).astype(int)
    assert enclosed / edge**3 == pytest.approx(brain.jacobian[tuple(index)], rel=0.04)


def test_hypometabolism_shows_in_the_meta_roi_and_spares_the_pons(person: model.Person) -> None:
    def brain(severity: float) -> Brain:
        changed = {**person.__dict__, "severity_pet": severity}
        return Brain(model.Person(**changed), TemplateAnatomy())

    healthy, ill = brain(0.0), brain(3.0)
    ratio = ill.suvr / np.maximum(healthy.suvr, 0.1)
    assert ratio[template.meta_roi_mask()].mean() < 0.9
    assert ratio[template.pons_mask()].mean() == pytest.approx(1.0, abs=1e-3)
    # Sensorimotor cortex suffers least in every subtype.
    assert ratio[template.region_mask("postcentral")].mean() > ratio[template.meta_roi_mask()].mean() + 0.03


def test_left_severity_noise_stays_on_its_side(person: model.Person) -> None:
    changes = pattern.regional_changes(person, "mri")
    assert changes["hippocampus", "left"] != changes["hippocampus", "right"]
    assert changes == pattern.regional_changes(person, "mri")


def test_stored_orientation_is_undone_by_the_header() -> None:
    values = np.zeros((4, 5, 6))
    values[3, 0, 1] = 7
    image = scanner._stored(values, np.diag([2.0, 3.0, 4.0, 1.0]), "PIL")
    assert nib.aff2axcodes(image.affine) == ("P", "I", "L")
    back = nib.as_closest_canonical(image)
    np.testing.assert_array_equal(back.get_fdata(), values)
    np.testing.assert_allclose(back.affine, np.diag([2.0, 3.0, 4.0, 1.0]))


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


def test_prepared_people_are_listed_with_maps_on_the_grid(written: Path) -> None:
    given = pd.read_csv(written / "prepared" / "given.tsv", sep="\t")
    assert set(PEOPLE_COLUMNS) <= set(given.columns)
    assert len(given) == 8
    image = nib.load(written / "prepared" / given.gm_path[0])
    assert image.shape == (80, 80, 80)
    np.testing.assert_allclose(image.affine[:3, 3], [-80, -102, -92])


def test_given_volumes_are_near_the_truth(written: Path) -> None:
    keys = ["participant_id", "region", "side"]
    truth = pd.read_csv(written / "truth" / "regions.tsv", sep="\t").set_index(keys)
    given = pd.read_csv(written / "prepared" / "given_regions.tsv", sep="\t").set_index(keys)
    ratio = (given.volume_ml / truth.volume_ml).xs("hippocampus", level="region")
    assert ratio.between(0.8, 1.25).all()


def test_tables_of_the_download_name_everybody(written: Path) -> None:
    assert (written / "raw" / "SIMULATED.txt").is_file()
    people = pd.read_csv(written / "truth" / "people.tsv", sep="\t")
    histories = read_histories(written / "raw", set(people.ptid))
    assert {ptid: len(visits) > 2 for ptid, visits in histories.items()} == dict.fromkeys(people.ptid, True)


def test_second_call_writes_nothing_and_another_design_is_refused(written: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*") if path.is_file()}
    write_cohort(written, SMALL, jobs=0, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in written.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="another design .seed differ"):
        write_cohort(written, CohortDesign(**{**SMALL.__dict__, "seed": 1}), progress=False)


def test_truth_stands_apart_from_what_training_reads(written: Path) -> None:
    people = pd.read_csv(written / "truth" / "people.tsv", sep="\t")
    assert "severity_mri" in people
    seen = [p for folder in ("raw", "prepared") for p in (written / folder).rglob("*.tsv")]
    assert seen and not any("severity" in path.read_text() for path in seen)
    assert json.loads((written / "truth" / "design.json").read_text())["converters"] == 2


def test_label_map_becomes_a_t1_with_white_brighter_than_grey_brighter_than_fluid() -> None:
    numbers = np.zeros((30, 30, 30), np.int16)
    numbers[5:25, 5:25, 5:25] = 3
    numbers[8:22, 8:22, 8:22] = 2
    numbers[13:17, 13:17, 13:17] = 4
    labels = nib.Nifti1Image(numbers, np.eye(4))
    t1 = draw_t1(labels, seed=0)
    assert t1[10, 10, 10] > t1[6, 15, 15] > t1[15, 15, 15] > 0
    brain = brain_of(labels)
    assert brain[15, 15, 15] and not brain[2, 2, 2]


def test_registration_error_was_measured_with_the_recipe_in_use() -> None:
    """Otherwise people written directly would differ from those who are registered."""
    assert registration_error.measured_stamp() == registration_error.stamp_of(Recipe())


def test_direct_maps_follow_the_person_and_not_only_the_mean(person: model.Person) -> None:
    brain = Brain(person, TemplateAnatomy())
    found = registration_error.as_registered(brain)
    inside = template.brain_mask()
    true_shape, found_shape = (np.log(values[inside]) for values in (brain.jacobian, found.jacobian))
    assert np.corrcoef(true_shape, found_shape - registration_error.measured().log_jacobian.mean(0)[inside])[0, 1] > 0.5
    assert np.corrcoef(brain.suvr[inside], found.suvr[inside])[0, 1] > 0.95
    assert found.suvr[template.pons_mask()].mean() == pytest.approx(1.0, abs=1e-5)
