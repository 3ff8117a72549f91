from __future__ import annotations

import shutil

import pandas as pd
import pytest

from adni_tcgm.datasets.adni import AdniConfig, AdniSplits, load
from adni_tcgm.datasets.adni_baselines import compute_baselines
from adni_tcgm.datasets.adni_regions import META_ROI, SIGNATURE, summaries
from preprocessing.steps import template
from preprocessing.steps.regions import META_ROI_REGION


@pytest.fixture(scope="module")
def splits(prepared_maps) -> AdniSplits:
    return load(AdniConfig(str(prepared_maps.path), label_rate=0.5), 0)


@pytest.fixture(scope="module")
def baselines(prepared_maps, splits) -> pd.DataFrame:
    config = AdniConfig(str(prepared_maps.path), label_rate=0.5)
    return pd.DataFrame(
        compute_baselines(config, splits, prepared_maps.path, external=prepared_maps.path, bayes={"summaries": 0.8})
    )


def test_every_baseline_is_there_for_the_test_split_and_the_external_test_set(baselines):
    measured = baselines[baselines.split != "exact"]
    found = set(measured[["baseline", "labels", "modality"]].itertuples(index=False, name=None))
    svm = {
        ("linear SVM on voxels", x, m) for x in ("visible", "visible+validation", "all") for m in ("mri", "pet", "all")
    }
    severity = "logistic, hippocampus + meta-ROI + age"
    tables = {
        (baseline, x, "all")
        for baseline in (severity, "logistic, age + sex + TIV")
        for x in ("visible", "visible+validation")
    }
    assert found == svm | tables | {("mean of the two deficit z-scores", "none", "all")}
    assert (measured.groupby(["baseline", "labels", "modality"]).split.agg(set) == {"test", "external"}).all()


def test_baselines_find_the_planted_signal_and_not_where_there_is_none(baselines):
    auc = baselines[baselines.split == "external"].set_index(["baseline", "labels", "modality"]).auc
    assert auc["linear SVM on voxels", "all", "mri"] > 0.75
    assert auc["mean of the two deficit z-scores", "none", "all"] > 0.75
    assert 0.2 < auc["logistic, age + sex + TIV", "visible", "all"] < 0.8


def test_a_baseline_counts_the_labels_it_saw_and_the_people_it_was_tested_on(baselines, splits):
    rows = baselines[baselines.split == "external"].set_index(["baseline", "labels", "modality"])
    svm = rows.loc["linear SVM on voxels"]
    assert svm.n_labels["visible", "all"] == 6 and svm.n_labels["visible+validation", "all"] == 10
    assert svm.n_labels["all", "all"] == 12
    labeled = {row.sample_id for row in splits.rows if row.split == "train" and row.label}
    has_pet = dict(zip(splits.train.sample_ids, splits.train.present[:, 1].tolist(), strict=True))
    assert svm.n_labels["all", "pet"] == sum(has_pet[name] for name in labeled) < 12
    # Four of the twenty labeled people have no PET.
    assert svm.n["all", "mri"] == 20 and svm.n["all", "pet"] == 16 and svm.n["all", "all"] == 20


def test_the_bayes_limit_is_passed_on(baselines):
    assert baselines[baselines.split == "exact"][["baseline", "auc"]].to_numpy().tolist() == [["Bayes, summaries", 0.8]]


def test_the_meta_roi_proxy_is_the_row_that_preprocessing_writes():
    assert META_ROI[0] == META_ROI_REGION


def test_every_signature_region_is_one_of_the_atlas():
    assert {region for regions in SIGNATURE.values() for region in regions} <= set(template.region_table().region)


def test_summaries_add_up_both_hippocampi_and_take_the_meta_roi_proxy(prepared):
    table = pd.read_csv(prepared.path / "regions.tsv", sep="\t")
    person = table[table.participant_id == "sub-0002"]
    row = summaries(prepared.path, ["sub-0002_ses-M000"]).iloc[0]
    assert row.hippocampus_ml == pytest.approx(person[person.region == "hippocampus"].volume_ml.sum())
    assert row.meta_roi_suvr == pytest.approx(person[person.region == META_ROI_REGION].suvr.item())
    assert (row.age, row.sex, row.tiv_ml) == (61, "F", 1501)


def write_scores(folder, manifest, **scores):
    manifest[["participant_id", "session_id"]].assign(**scores).to_csv(folder / "clinical.tsv", sep="\t", index=False)


def test_clinical_scores_beside_the_manifest_make_bars_of_their_own(prepared_maps, splits, tmp_path):
    folder = shutil.copytree(prepared_maps.path, tmp_path / "prepared")
    # A score that tells the classes apart by itself, and one that nobody has.
    mmse = [25 + 3 * (label == "stable") + i % 2 for i, label in enumerate(prepared_maps.manifest.label)]
    write_scores(folder, prepared_maps.manifest, mmse=mmse, apoe4="")
    config = AdniConfig(str(folder), label_rate=0.5)
    found = pd.DataFrame(compute_baselines(config, splits, folder))
    auc = found[(found.labels == "visible+validation") & (found.split == "test")].set_index("baseline").auc
    assert auc["clinical: age + sex + mmse"] > auc["logistic, age + sex + TIV"]
    assert {"imaging: hippocampus + meta-ROI", "clinical + imaging"} <= set(auc.index)


def test_clinical_scores_never_enter_the_imaging_classifiers(prepared_maps, tmp_path):
    folder = shutil.copytree(prepared_maps.path, tmp_path / "prepared")
    config = AdniConfig(str(folder), features="regions", label_rate=0.5)
    before = load(config, 0)
    write_scores(folder, prepared_maps.manifest, mmse=30)
    after = load(config, 0)
    assert not any("mmse" in name for name in after.norms.feature)
    for name, values in before.train.inputs.items():
        assert values.equal(after.train.inputs[name])
