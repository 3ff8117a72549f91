from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reports.gathering import gather_cohort
from reports.norms import HIPPOCAMPUS, MEASURES, asymmetry, choose_reference, fit_norm, fit_norms, list_measurements
from reports.records import load_prepared, load_run
from reports.subject import measurement_rows
from tests.reports.conftest import run_folders


def people(n: int = 400) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    return pd.DataFrame({"age": generator.uniform(55, 89, n), "male": generator.integers(0, 2, n).astype(float)})


def test_a_known_deviation_is_found_again():
    group = people()
    noise = np.random.default_rng(2).normal(0, 0.5, len(group))
    norm = fit_norm(8 - 0.05 * group["age"] + 0.4 * group["male"] + noise, group, ("age", "male"))
    person = pd.DataFrame({"age": [72.0], "male": [1.0]})
    z, percentile = norm.place(8 - 0.05 * 72 + 0.4 - 1.0, person)
    assert z == pytest.approx(-2.0, abs=0.2)
    assert percentile < 6


def test_the_norm_groups_own_median_is_near_the_fiftieth_percentile():
    group = people(401)
    norm = fit_norm(pd.Series(np.random.default_rng(3).normal(size=401)), group, ("age", "male"))
    person = group.iloc[[0]]
    assert norm.place(float(norm.expect(person)[0] + np.median(norm.residuals)), person)[1] == pytest.approx(50)


def test_a_small_group_gives_no_norm():
    assert fit_norm(pd.Series(np.arange(19.0)), people(19), ("age", "male")) is None


def test_one_sex_only_still_gives_a_norm():
    group = people(60).assign(male=1.0)
    norm = fit_norm(pd.Series(np.random.default_rng(4).normal(size=60)), group, ("age", "male"))
    assert np.isfinite(norm.place(0.0, group.iloc[[0]])[0])


def test_norms_never_read_a_label(outputs):
    prepared, run = load_prepared(outputs / "prepared"), load_run(run_folders(outputs)[0])
    cohort = gather_cohort([run], prepared)
    blind = gather_cohort(
        [replace(run, splits=run.splits.assign(label="converter", label_visible=False))],
        replace(prepared, visits=prepared.visits.assign(label="", label_reason="")),
    )
    sample = "sub-SIM0050_ses-M000"
    assert measurement_rows(cohort, sample) == measurement_rows(blind, sample)


def test_norms_are_fitted_on_the_training_split_alone(outputs):
    prepared, run = load_prepared(outputs / "prepared"), load_run(run_folders(outputs)[0])
    measurements = list_measurements(prepared)
    outside = measurements.index.intersection(run.splits.index[run.splits["split"] != "train"])
    changed = measurements.copy()
    changed.loc[outside] = 1000.0
    covariates = gather_cohort([run], prepared).people
    reference = choose_reference(prepared, run)
    for measure in MEASURES:
        one, two = (fit_norms(table, covariates, reference)[measure.key] for table in (measurements, changed))
        assert np.array_equal(one.residuals, two.residuals)
        assert one.n == 39


def test_volumes_add_and_uptake_averages_over_the_sides(outputs):
    table = list_measurements(load_prepared(outputs / "prepared"))
    volume, uptake = table[HIPPOCAMPUS.key], table["precuneus:suvr"]
    assert np.allclose(volume["both"], volume["left"] + volume["right"])
    assert np.allclose(uptake["both"].dropna(), ((uptake["left"] + uptake["right"]) / 2).dropna())


def test_per_head_size_is_in_permille(outputs):
    prepared = load_prepared(outputs / "prepared")
    table = list_measurements(prepared)
    share = table["hippocampus:volume_ml:per_tiv"]["both"] / 1000 * prepared.visits["tiv_ml"]
    assert np.allclose(share, table[HIPPOCAMPUS.key]["both"])


def normal_people(prepared, count: int):
    """The same folder with so many cognitively normal people added."""
    extra = prepared.visits.iloc[:count].copy()
    extra["participant_id"] = [f"sub-CN{i}" for i in range(count)]
    extra.index = extra["sample_id"] = extra["participant_id"] + "_ses-M000"
    extra = extra.assign(label="", label_reason="not_mci", diagnosis="CN", qc="pass")
    return replace(prepared, visits=pd.concat([prepared.visits, extra])), list(extra.index)


def test_cognitively_normal_people_are_the_norm_where_there_are_enough(outputs):
    prepared, run = load_prepared(outputs / "prepared"), load_run(run_folders(outputs)[0])
    enough, names = normal_people(prepared, 20)
    reference = choose_reference(enough, run)
    assert list(reference.sample_ids) == sorted(names)
    assert reference.name == "20 simulated cognitively normal people of this cohort" and reference.norm
    fewer = choose_reference(normal_people(prepared, 19)[0], run)
    assert fewer.name == "39 training people of this cohort, labels not used" and not fewer.norm


def test_nobody_counts_twice_in_the_norm_and_the_first_visit_counts(outputs):
    prepared, run = load_prepared(outputs / "prepared"), load_run(run_folders(outputs)[0])
    enough, names = normal_people(prepared, 20)
    later = enough.visits.loc[names].assign(months=12.0, session_id="ses-M012")
    later.index = later["sample_id"] = later["participant_id"] + "_ses-M012"
    visits = pd.concat([later, enough.visits.assign(months=0.0)])
    assert list(choose_reference(replace(enough, visits=visits), run).sample_ids) == sorted(names)


def test_a_diagnosis_of_the_test_split_makes_no_norm(outputs):
    prepared, run = load_prepared(outputs / "prepared"), load_run(run_folders(outputs)[0])
    everybody = replace(prepared, visits=prepared.visits.assign(diagnosis="CN"))
    elsewhere = run.splits.index[run.splits["split"] != "train"]
    assert not set(elsewhere) & set(choose_reference(everybody, run).sample_ids)


def test_without_a_norm_there_are_percentiles_and_no_z(outputs):
    prepared, run = load_prepared(outputs / "prepared"), load_run(run_folders(outputs)[0])
    rows = {}
    for folder in (prepared, replace(prepared, visits=prepared.visits.assign(diagnosis="CN"))):
        cohort = gather_cohort([run], folder)
        rows[cohort.reference.norm] = measurement_rows(cohort, "sub-SIM0050_ses-M000")
    assert {row["z"] for row in rows[False]} == {"–"}
    assert "–" not in {row["z"] for row in rows[True]}
    assert all(row["percentile"] != "–" for row in rows[False])


def test_no_label_enters_the_comparison(outputs):
    """A canary: all labels are turned around, and whom people are compared with stays who they were."""
    prepared, run = load_prepared(outputs / "prepared"), load_run(run_folders(outputs)[0])
    found = []
    for label in ("stable", "converter"):
        visits = prepared.visits.assign(label=label, label_reason=label)
        found.append(
            choose_reference(replace(prepared, visits=visits), replace(run, splits=run.splits.assign(label=label)))
        )
    assert list(found[0].sample_ids) == list(found[1].sample_ids)


def test_asymmetry_is_below_zero_where_the_left_is_smaller():
    assert asymmetry(3.0, 3.2) == pytest.approx(-6.45, abs=0.01)
    assert np.isnan(asymmetry(0.0, 0.0))
