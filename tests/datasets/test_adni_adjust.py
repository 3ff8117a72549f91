"""Sites, head size, age and sex are taken out as fitted on training people, and labels have no part in it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from adni_tcgm.alignment import SMALLEST_SITE
from adni_tcgm.datasets.adni import AdniConfig, load, load_people
from adni_tcgm.datasets.adni_adjust import Adjustment, fit_adjustment, group_sites, read_covariates
from adni_tcgm.storage import load_tensors, save_tensors
from tests.datasets.conftest import PreparedFolder, write_prepared

SITES = ("a", "b", "c")
SHIFTS = {"a": 0.0, "b": 1.5, "c": -1.0}
FACTORS = {"a": 1.0, "b": 1.6, "c": 0.7}
SLOPE = {"age": -0.05, "male": 0.4, "tiv_ml": 0.004}
FEATURES = 12


def draw_people(
    rng: np.random.Generator, count: int, sites: tuple[str, ...] = SITES
) -> tuple[pd.DataFrame, np.ndarray]:
    """Covariates, and (N, FEATURES) values that know no site; people of site b are older."""
    site = rng.choice(sites, count)
    people = pd.DataFrame(
        {"age": rng.normal(74, 7, count) + 4 * (site == "b"), "male": rng.integers(0, 2, count) * 1.0}
    )
    people = people.assign(tiv_ml=rng.normal(1500, 130, count), site=site)
    free = 10 + sum(slope * people[name] for name, slope in SLOPE.items()).to_numpy()[:, None]
    return people, free + rng.normal(0, 1, (count, FEATURES))


def through_scanner(people: pd.DataFrame, free: np.ndarray) -> np.ndarray:
    """The same values as their site's scanner gives them: noise stretched, everything shifted."""
    expected = 10 + sum(slope * people[name] for name, slope in SLOPE.items()).to_numpy()[:, None]
    shift, factor = (people.site.map(table).fillna(default).to_numpy()[:, None] for table, default in SCANNER)
    return expected + factor * (free - expected) + shift


SCANNER = ((SHIFTS, 0.0), (FACTORS, 1.0))


def fit(people: pd.DataFrame, values: np.ndarray, harmonize: str = "site", adjust: str = "none", split=None):
    table = pd.DataFrame(values, columns=[f"region{i}" for i in range(values.shape[1])])
    split = np.full(len(people), "train") if split is None else split
    return fit_adjustment("mri", table, people, split, harmonize, adjust)


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """600 people, the values they should have and those that were measured; two in three train."""
    people, free = draw_people(np.random.default_rng(0), 600)
    return people, free, through_scanner(people, free)


def test_known_shifts_and_spreads_of_sites_are_taken_out_of_people_who_were_not_fitted(cohort):
    people, free, measured = cohort
    split = np.where(np.arange(len(people)) % 3, "train", "test")
    found = fit(people, measured, split=split).apply(measured, people)
    test = split == "test"
    error = (found - free)[test]
    # What is left is one constant, since nobody knows which scanner is right: the mean of the sites.
    assert np.abs(measured - free)[test].mean() > 0.7
    assert np.abs(error - error.mean()).mean() < 0.15
    for site in SITES:
        rows = test & people.site.eq(site).to_numpy()
        assert found[rows].mean() - free[rows].mean() == pytest.approx(error.mean(), abs=0.1)


def test_sites_are_taken_out_as_neurocombat_does():
    """The numbers are those of neuroCombat 0.2.12 (categorical: male; continuous: age, tiv_ml) on the same people."""
    people, free = draw_people(np.random.default_rng(5), 60)
    measured = through_scanner(people, free)
    expected = [[13.69936, 15.47008, 15.56567], [11.50643, 12.71204, 12.12716], [14.40674, 11.75702, 13.57251]]
    assert fit(people, measured).apply(measured, people)[:3, :3] == pytest.approx(np.array(expected), abs=1e-4)


def test_age_sex_and_head_size_survive_the_taking_out_of_sites(cohort):
    people, _, measured = cohort
    found = fit(people, measured).apply(measured, people)
    design = np.column_stack([people[list(SLOPE)], np.ones(len(people))])
    slopes = np.linalg.lstsq(design, found.mean(1), rcond=None)[0][:3]
    assert slopes == pytest.approx(list(SLOPE.values()), rel=0.25)


def test_the_mean_of_all_stays_where_it_was(cohort):
    people, _, measured = cohort
    found = fit(people, measured).apply(measured, people)
    assert found.mean(0) == pytest.approx(measured.mean(0), abs=0.03)


def test_a_site_of_few_people_is_believed_less_than_one_of_many():
    rng = np.random.default_rng(1)
    people, free = draw_people(rng, 400, ("a", "b"))
    people.loc[: SMALLEST_SITE - 1, "site"] = "few"
    found = fit(people, free)
    model, rows = found.site, people.site.eq("few").to_numpy()
    explained = model.linear.explain(found.covariates_of(people[rows]), rows.sum())
    raw = (torch.from_numpy(free[rows]) - model.mean - explained).mean(0) / model.sd
    shrunk = dict(zip(model.sites, model.shift, strict=True))
    assert shrunk["few"].std() < 0.8 * raw.std()
    assert shrunk["a"].abs().max() < 0.25


def test_small_and_unseen_sites_stay_as_they_are_and_are_counted(cohort):
    people, _, measured = cohort
    people = people.copy()
    people.loc[: SMALLEST_SITE - 2, "site"] = "small"
    people.loc[500:506, "site"] = "unseen"
    people.loc[510, "site"] = ""
    split = np.where(np.arange(len(people)) < 400, "train", "test")
    found = fit(people, measured, split=split)
    same = (found.apply(measured, people) == measured).all(axis=1)
    assert (same == people.site.isin(["small", "unseen", ""])).all()
    assert found.unharmonized == {"train": SMALLEST_SITE - 1, "test": 8}


def test_people_whose_site_is_unknown_are_no_site_however_many(cohort):
    people, _, measured = cohort
    people = people.assign(site=people.site.where(people.site != "c", ""))
    found = fit(people, measured)
    assert set(found.site.sites) == {"a", "b"}
    assert ((found.apply(measured, people) == measured).all(axis=1) == people.site.eq("")).all()


def test_fewer_than_two_large_sites_are_refused_with_their_sizes():
    people, free = draw_people(np.random.default_rng(2), 40, ("a",))
    with pytest.raises(ValueError, match=r"modality 'mri': 1 sites have at least 5 training people; .*\[40\]"):
        fit(people, free)


@pytest.mark.parametrize("harmonize", ["site", "means_and_scales", "gaussian_flow"])
def test_people_outside_training_change_nothing_that_is_fitted(cohort, harmonize):
    people, _, measured = cohort
    split = np.where(np.arange(len(people)) % 3, "train", "test")
    test = split == "test"
    others = people.copy()
    others.loc[test, "age"] += 20
    others.loc[test, "site"] = "elsewhere"
    values = np.where(test[:, None], 7 * measured, measured)
    both = ((people, measured), (others, values))
    one, two = (fit(p, v, harmonize, "tiv_age_sex", split=split) for p, v in both)
    assert (one.site, one.linear) == (two.site, two.linear)


def test_what_is_left_after_adjustment_does_not_follow_age_sex_or_head_size(cohort):
    people, free, _ = cohort
    found = fit(people, free, harmonize="none", adjust="tiv_age_sex").apply(free, people)
    for name in SLOPE:
        assert abs(np.corrcoef(people[name], free.mean(1))[0, 1]) > 0.2
        assert np.abs([np.corrcoef(people[name], column)[0, 1] for column in found.T]).max() < 1e-8
    assert found.mean(0) == pytest.approx(free.mean(0))


def test_uptake_is_not_adjusted_for_head_size(cohort):
    people, free, _ = cohort
    table = pd.DataFrame(free)
    found = fit_adjustment("pet", table, people, np.full(len(people), "train"), "none", "tiv_age_sex")
    assert found.describe()["covariates"] == ["age", "male"] and found.linear.slopes.shape == (2, FEATURES)


def test_a_person_of_unknown_age_is_adjusted_as_one_of_the_mean_age(cohort):
    people, free, _ = cohort
    found = fit(people, free, harmonize="none", adjust="tiv_age_sex")
    one = people.iloc[[0]]
    unknown, mean = one.assign(age=np.nan), one.assign(age=people.age.mean())
    assert np.allclose(found.apply(free[:1], unknown), found.apply(free[:1], mean))


def test_a_missing_measurement_stays_missing_and_spoils_no_other(cohort):
    people, _, measured = cohort
    holed = measured.copy()
    holed[3, 2] = np.nan
    holed[people.site.eq("c").to_numpy(), 5] = np.nan
    whole, found = (fit(people, v, adjust="tiv_age_sex").apply(v, people) for v in (measured, holed))
    assert (np.isnan(found) == np.isnan(holed)).all()
    rows = people.site.ne("c").to_numpy()
    assert np.nanmax(np.abs(found - whole)[:, 2]) < 0.15
    assert np.corrcoef(found[rows, 5], whole[rows, 5])[0, 1] > 0.99
    assert np.nanmean(found[:, 5]) == pytest.approx(np.nanmean(holed[:, 5]), abs=0.3)


def stored(fitted: Adjustment, folder: Path) -> Adjustment:
    """As it comes back from a run folder."""
    save_tensors(folder / "adjustment.safetensors", fitted.tensors())
    content = json.loads(json.dumps(fitted.to_json(), allow_nan=False))
    return Adjustment.restore(content, load_tensors(folder / "adjustment.safetensors"))


@pytest.mark.parametrize("harmonize", ["site", "gaussian_flow"])  # every alignment by itself: tests/alignment
def test_what_is_stored_does_the_same(cohort, harmonize, tmp_path):
    people, measured = cohort[0][:60], cohort[2][:60]
    fitted = Adjustment(harmonize, "tiv_age_sex", {"mri": fit(people, measured, harmonize, "tiv_age_sex")})
    again = stored(fitted, tmp_path)
    assert again == fitted
    assert (again.modalities["mri"].apply(measured, people) == fitted.modalities["mri"].apply(measured, people)).all()


# ---- as the data set uses it


def spread_over_sites(folder: PreparedFolder) -> None:
    """Three scanners: b measures 30 % more than a, c 30 % less; one person comes from a site of their own."""
    sites = np.array(["a", "b", "c"])[np.arange(len(folder.manifest)) // 2 % 3]
    folder.manifest["site"] = sites
    folder.manifest.loc[5, "site"] = "alone"
    folder.write_manifest()
    table = pd.read_csv(folder.path / "regions.tsv", sep="\t")
    factor = table.participant_id.map(dict(zip(folder.manifest.participant_id, sites, strict=True)))
    table[["volume_ml", "suvr"]] *= factor.map({"a": 1.0, "b": 1.3, "c": 0.7}).to_numpy()[:, None]
    table.to_csv(folder.path / "regions.tsv", sep="\t", index=False)


@pytest.fixture
def scanned(tmp_path) -> PreparedFolder:
    folder = write_prepared(tmp_path / "scanned", people=90, pool=20)
    spread_over_sites(folder)
    return folder


def config(folder: PreparedFolder, **options) -> AdniConfig:
    return AdniConfig(str(folder.path), features="regions", **options)


def site_share(batch, sites: dict[str, str]) -> float:
    """Share of the variance of the first MRI feature that lies between the sites a, b and c."""
    where = pd.Series([sites[name] for name in batch.sample_ids])
    values = pd.Series(batch.inputs["mri"][:, 0].numpy())[where.isin(SITES)]
    means = values.groupby(where).transform("mean")
    return float(means.var() / values.var())


def sites_of(folder: PreparedFolder) -> dict[str, str]:
    return dict(zip(folder.manifest.participant_id + "_ses-M000", folder.manifest.site, strict=True))


@pytest.mark.filterwarnings("ignore:.*not harmonized")
def test_regions_lose_what_separates_their_sites_in_test_people_too(scanned):
    plain, harmonized = (load(config(scanned, harmonize=how), 0) for how in ("none", "site"))
    for name in ("train", "test"):
        assert site_share(getattr(plain, name), sites_of(scanned)) > 0.5
        assert site_share(getattr(harmonized, name), sites_of(scanned)) < 0.2


@pytest.mark.filterwarnings("ignore:.*people with pet")
def test_the_person_from_a_site_of_their_own_is_announced_and_recorded(scanned):
    with pytest.warns(UserWarning, match=r"1 of 110 people with mri .* in no group with 20 training people"):
        splits = load(config(scanned, harmonize="site"), 0)
    assert sum(splits.adjustment.modalities["mri"].unharmonized.values()) == 1


@pytest.mark.filterwarnings("ignore:.*not harmonized")
@pytest.mark.parametrize("harmonize", ["site", "gaussian_flow"])
def test_shuffling_every_label_changes_nothing_that_is_fitted(scanned, harmonize):
    options = {"harmonize": harmonize, "adjust": "tiv_age_sex"}
    before = load(config(scanned, **options), 0)
    manifest = scanned.manifest
    known = manifest.label.isin(["stable", "converter"]) & (manifest.qc != "fail")
    manifest.loc[known, "label"] = np.random.default_rng(3).permutation(manifest.label[known])
    scanned.write_manifest()
    after = load(config(scanned, **options), 0)
    assert [row.label for row in after.rows] != [row.label for row in before.rows]
    assert [row.split for row in after.rows] == [row.split for row in before.rows]
    assert after.adjustment == before.adjustment
    assert torch.equal(after.train.inputs["mri"], before.train.inputs["mri"])


@pytest.mark.filterwarnings("ignore:.*not harmonized")
@pytest.mark.parametrize("harmonize", ["site", "gaussian_flow"])
def test_new_people_get_what_training_people_got(scanned, tmp_path, harmonize):
    options = config(scanned, harmonize=harmonize, adjust="tiv_age_sex")
    splits = load(options, 0)
    batch = load_people(options, splits.norms, scanned.path, stored(splits.adjustment, tmp_path))
    rows = [batch.sample_ids.index(name) for name in splits.test.sample_ids]
    for name in ("mri", "pet"):
        assert torch.equal(batch.inputs[name][rows], splits.test.inputs[name])


@pytest.mark.filterwarnings("ignore:.*people with pet")
def test_new_people_of_unknown_sites_are_announced(scanned):
    options = config(scanned, harmonize="site")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splits = load(options, 0)
    scanned.manifest["site"] = "elsewhere"
    scanned.write_manifest()
    with pytest.warns(UserWarning, match="110 of 110 people with mri"):
        load_people(options, splits.norms, scanned.path, splits.adjustment)


def test_new_people_are_refused_without_the_adjustment_of_their_run(prepared):
    options = config(prepared, adjust="tiv_age_sex")
    norms = load(options, 0).norms
    with pytest.raises(ValueError, match="in the adjustment of the run"):
        load_people(options, norms, prepared.path)


def test_adjusted_volumes_are_in_milliliters_and_others_over_head_size(prepared):
    plain, adjusted = (load(config(prepared, adjust=how), 0) for how in ("none", "tiv_age_sex"))
    assert plain.adjustment is None and "hippocampus_volume_per_tiv" in plain.norms.feature.tolist()
    row = adjusted.norms[adjusted.norms.feature == "hippocampus_volume_ml"].iloc[0]
    assert 5 < row["mean"] < 9


def test_voxels_cannot_be_adjusted(tmp_path):
    for option in ({"harmonize": "site"}, {"adjust": "tiv_age_sex"}):
        with pytest.raises(ValueError, match="which is for features: regions"):
            AdniConfig(str(tmp_path), **option)


def test_small_sites_of_a_field_strength_are_one_group_and_a_smaller_rest_is_none():
    sizes = {"big": (25, "3 T"), "one": (12, "1.5 T"), "two": (9, "1.5 T"), "three": (4, "3 T"), "": (30, "3 T")}
    people = pd.DataFrame([(site, tesla) for site, (n, tesla) in sizes.items() for _ in range(n)])
    found = group_sites(people.set_axis(["site", "field_strength"], axis=1))
    assert found == {"big": "big", "one": "small sites, 1.5 T", "two": "small sites, 1.5 T"}


def test_nuisance_groups_are_the_named_column_of_the_manifest(scanned):
    splits = load(config(scanned, nuisance_groups="site"), 0)
    assert list(splits.test.nuisance_groups) == [sites_of(scanned)[name] for name in splits.test.sample_ids]
    assert not load(config(scanned), 0).test.nuisance_groups


def test_where_no_site_has_twenty_people_nothing_is_taken_out_and_that_is_said(prepared):
    with pytest.warns(UserWarning, match="sites are not taken out"):
        splits = load(config(prepared, harmonize="site"), 0)
    assert torch.equal(splits.test.inputs["mri"], load(config(prepared), 0).test.inputs["mri"])


def test_covariates_are_read_as_numbers_and_unknown_ones_as_missing():
    people = pd.DataFrame({"age": ["71.5", ""], "sex": ["f", "?"], "tiv_ml": ["1500", "0"], "site": [" 011 ", ""]})
    found = read_covariates(people)
    assert found.iloc[0].tolist() == [71.5, 0.0, 1500.0, "011", ""]
    assert found.iloc[1, :3].isna().all() and found.site[1] == ""
