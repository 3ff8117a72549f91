"""Who trains without a label: MCI of unknown outcome, later visits, people without MCI."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from adni_tcgm.datasets.adni import AdniConfig, load
from adni_tcgm.datasets.adni_baselines import compute_baselines
from adni_tcgm.datasets.adni_people import BEYOND, POOL
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch
from tests.datasets.conftest import PreparedFolder, write_prepared


@pytest.fixture
def mixed(prepared: PreparedFolder) -> PreparedFolder:
    """30 labeled people, then five cognitively normal ones and five with dementia, then 6 of unknown outcome."""
    manifest = prepared.manifest
    manifest.loc[manifest.index[30:40], "label"] = ["cn", "ad"] * 5
    prepared.write_manifest()
    return prepared


def regions(folder: PreparedFolder, pool: tuple[str, ...] = POOL) -> AdniConfig:
    return AdniConfig(str(folder.path), features="regions", pool=pool)


def test_people_without_mci_train_unlabeled_only_where_asked_for_and_change_no_split(mixed):
    plain, wide = load(regions(mixed), 0), load(regions(mixed, (*POOL, *BEYOND)), 0)
    beyond = [f"sub-{i:04d}_ses-M000" for i in range(30, 40)]
    assert not set(beyond) & {row.sample_id for row in plain.rows}
    assert set(wide.train.sample_ids) == {*plain.train.sample_ids, *beyond}
    assert wide.validation.sample_ids == plain.validation.sample_ids
    assert wide.test.sample_ids == plain.test.sample_ids
    labels = dict(zip(wide.train.sample_ids, wide.train.labels.tolist(), strict=True))
    assert {labels[name] for name in beyond} == {UNLABELED}
    shown = [name for name, label in labels.items() if label != UNLABELED]
    assert shown == [name for name, label in zip(*unpack(plain.train), strict=True) if label != UNLABELED]


def unpack(batch: MultimodalBatch) -> tuple[list[str], list[int]]:
    return list(batch.sample_ids), batch.labels.tolist()


def test_another_population_is_a_nuisance_group_of_its_own_and_a_single_one_is_none(mixed):
    plain, wide = load(regions(mixed), 0), load(regions(mixed, (*POOL, *BEYOND)), 0)
    assert list(plain.train.nuisance_groups) == []
    expected = ["beyond" if 30 <= int(name[4:8]) < 40 else "mci" for name in wide.train.sample_ids]
    assert wide.train.nuisance_groups == expected and set(wide.test.nuisance_groups) == {"mci"}


def test_a_smaller_pool_leaves_the_others_out_and_counts_them(mixed):
    splits = load(regions(mixed, ("reverter",)), 0)
    assert splits.left_out["censored"] == 3
    assert len(splits.train) == len(load(regions(mixed), 0).train) - 3


def test_an_unknown_part_of_the_pool_is_refused():
    with pytest.raises(ValueError, match="pool is 'everybody'; choose one of"):
        AdniConfig("somewhere", pool=("everybody",))


def add_later_visits(folder: PreparedFolder) -> None:
    """A visit at 12 months of everybody, whose label is that of the first, and whose regions are a copy."""
    regions = pd.read_csv(folder.path / "regions.tsv", sep="\t")
    both = pd.concat([regions, regions.assign(session_id="ses-M012")])
    both.to_csv(folder.path / "regions.tsv", sep="\t", index=False)
    folder.manifest = pd.concat([folder.manifest.assign(session_id="ses-M012"), folder.manifest], ignore_index=True)
    folder.write_manifest()


def test_later_visits_of_training_people_train_unlabeled_and_those_of_others_not_at_all(prepared):
    before = load(regions(prepared), 0)
    add_later_visits(prepared)
    splits = load(regions(prepared, (*POOL, "visits")), 0)
    later = [name for name in splits.train.sample_ids if name.endswith("M012")]
    labeled = {row.group_id for row in before.rows if row.split == "train"}
    assert {name[:8] for name in later} == labeled
    labels = dict(zip(*unpack(splits.train), strict=True))
    assert {labels[name] for name in later} == {UNLABELED}
    others = (*splits.validation.sample_ids, *splits.test.sample_ids)
    assert all(name.endswith("M000") for name in others)
    assert len(others) == len(before.validation) + len(before.test)
    assert all(row.label == "" for row in splits.rows if row.sample_id in later)


def test_bars_are_computed_on_a_wide_pool(tmp_path: Path):
    folder = write_prepared(tmp_path / "maps", people=24, pool=2, raw=4, maps=True)
    folder.manifest.loc[folder.manifest.index[20:24], "label"] = ["cn", "ad"] * 2
    folder.write_manifest()
    config = regions(folder, (*POOL, *BEYOND))
    rows = compute_baselines(replace(config, features="voxels"), load(replace(config, label_rate=1.0), 0), folder.path)
    assert {row["baseline"] for row in rows} >= {"linear SVM on voxels", "mean of the two deficit z-scores"}


def test_one_visit_of_a_person_is_labeled_the_earliest_with_both_scans_whatever_the_manifest_says(prepared):
    before = load(regions(prepared), 0)
    add_later_visits(prepared)
    first = prepared.manifest.session_id == "ses-M000"
    lonely = prepared.manifest.participant_id == "sub-0007"
    prepared.manifest.loc[first & lonely, "pet_path"] = ""
    prepared.write_manifest()
    splits = load(regions(prepared), 0)
    labeled = [row.sample_id for row in splits.rows if row.label]
    assert len(labeled) == sum(row.label != "" for row in before.rows) == splits.left_out["another visit"]
    assert "sub-0007_ses-M012" in labeled and "sub-0007_ses-M000" not in labeled
    assert sum(name.endswith("M012") for name in labeled) == 1
