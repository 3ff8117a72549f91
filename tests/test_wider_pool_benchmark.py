"""The benchmark of wider pools: whose tables are joined, and which prior the people without MCI get."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from adni_tcgm.datasets.adni import load
from adni_tcgm.datasets.adni_people import CLASSES
from benchmarks.wider_pool import ARMS, judge, settings_of, write_tables
from tests.datasets.conftest import write_prepared

GROUPS = {"stable": "stable", "converter": "converter", "censored": "censored", "reverter": "reverting"}


@pytest.fixture
def cohorts(tmp_path: Path) -> Path:
    """Cohorts 0 and 1 of 24 labeled people, 6 of unknown outcome and four, then two, who are not MCI."""
    for seed, normal in ((0, 3), (1, 1)):
        folder = write_prepared(tmp_path / f"cohort-{seed}" / "prepared", people=28, pool=6, raw=4, seed=seed)
        manifest = folder.manifest
        group = manifest.label.map(GROUPS).fillna("stable")
        outside = manifest.index[24 : 25 + normal]
        manifest.loc[outside, "label"] = "not_mci"
        group[outside] = ["normal"] * normal + ["dementia"]
        folder.write_manifest()
        (tmp_path / f"cohort-{seed}" / "truth").mkdir()
        truth = pd.DataFrame({"participant_id": manifest.participant_id, "group": group})
        truth.to_csv(tmp_path / f"cohort-{seed}" / "truth" / "people.tsv", sep="\t", index=False)
    return tmp_path


def test_other_cohorts_lend_their_unlabeled_people_under_names_of_their_own(cohorts: Path) -> None:
    folders = write_tables(cohorts, 0, range(2))
    own, wide = (pd.read_csv(folders[name] / "manifest.tsv", sep="\t", dtype=str) for name in ("own", "all"))
    joined = wide[~wide.participant_id.isin(own.participant_id)]
    assert joined.participant_id.str.startswith("sub-C1").all() and joined.group_id.equals(joined.participant_id)
    assert not joined.label.isin(CLASSES).any()
    assert joined.label.value_counts()[["cn", "ad"]].tolist() == [1, 1]
    regions = pd.read_csv(folders["all"] / "regions.tsv", sep="\t", dtype=str)
    assert set(regions.participant_id) == set(wide.participant_id)


def test_every_arm_has_the_same_judges_and_labels_and_the_pool_that_it_names(cohorts: Path) -> None:
    folders = write_tables(cohorts, 0, range(2))
    splits = {name: load(settings_of(arm, folders, "none").data, 0) for name, arm in ARMS.items()}
    first = splits["training people only"]
    for other in splits.values():
        assert other.test.sample_ids == first.test.sample_ids
        assert [row for row in other.rows if row.label_visible] == [row for row in first.rows if row.label_visible]
    sizes = [len(splits[name].train) - len(first.train) for name in ARMS]
    assert sizes == [6, 0, 6, 12, 18, 18]


def test_the_prior_of_people_without_mci_is_that_of_their_diagnoses(cohorts: Path) -> None:
    settings = settings_of(ARMS["+ CN and AD, prior of their own"], write_tables(cohorts, 0, range(2)), "none")
    assert settings.method("tcgm").priors == {"beyond": [4, 2]}
    assert settings.method("tcgm").within_nuisance_groups
    plain = settings_of(ARMS["+ CN and AD, prior of the labels"], write_tables(cohorts, 0, range(2)), "none")
    assert plain.method("tcgm").priors == {} and not plain.method("tcgm").within_nuisance_groups


def test_an_arm_is_judged_on_people_who_never_train(cohorts: Path) -> None:
    external = write_prepared(cohorts / "external" / "prepared", people=10, pool=0, raw=2, seed=9)
    folders = write_tables(cohorts, 0, range(2))
    people, scores, trained = judge(settings_of(ARMS["CE"], folders, "none"), "ce", 0, external.path)
    assert len(people) == 10 and set(scores) == {"mri", "pet", "all"} and len(scores["all"]) == 10
    assert trained == len(load(settings_of(ARMS["CE"], folders, "none").data, 0).train)
