from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from adni_tcgm.datasets.adni import AdniConfig, load, load_people, volume_bytes
from adni_tcgm.datasets.adni_people import CLASSES, read_people
from adni_tcgm.tcgm.batch import UNLABELED
from tests.datasets.conftest import PreparedFolder, write_prepared

SEEDS = range(3)


def regions(folder: PreparedFolder, **options) -> AdniConfig:
    return AdniConfig(str(folder.path), features="regions", **options)


def batches(splits) -> dict:
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}


def test_sixty_twenty_twenty_of_the_labeled_people_are_dealt_out_exactly(prepared):
    for seed in SEEDS:
        rows = load(regions(prepared), seed).rows
        counts = pd.Series([row.split for row in rows if row.label]).value_counts().to_dict()
        assert counts == {"train": 24, "validation": 8, "test": 8}


def test_a_group_never_straddles_two_splits(prepared):
    prepared.manifest["group_id"] = [f"anatomy-{i // 3}" for i in range(len(prepared.manifest))]
    prepared.write_manifest()
    for seed in SEEDS:
        splits = load(regions(prepared), seed)
        groups = [set(batch.groups) for batch in batches(splits).values()]
        assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
        assert sum(map(len, batches(splits).values())) == len(splits.rows)


def test_unlabeled_people_whose_group_is_in_validation_or_test_are_left_out_and_counted(prepared):
    manifest = prepared.manifest
    pool = manifest.label.isin(["censored", "reverter"])
    manifest.loc[pool, "group_id"] = manifest.group_id[: pool.sum()].to_numpy()
    prepared.write_manifest()
    counts = set()
    for seed in SEEDS:
        splits = load(regions(prepared), seed)
        left = splits.left_out.get("group in validation or test", 0)
        pool_ids = set((manifest.participant_id + "_" + manifest.session_id)[pool])
        assert len(pool_ids & set(splits.train.sample_ids)) == pool.sum() - left
        assert not pool_ids & {*splits.validation.sample_ids, *splits.test.sample_ids}
        counts.add(left)
    assert counts != {0}


def test_raw_people_are_spread_over_all_splits(prepared):
    raw = set(prepared.manifest.participant_id[prepared.manifest.kind == "raw"])
    for seed in SEEDS:
        rows = load(regions(prepared), seed).rows
        counts = pd.Series([row.split for row in rows if row.sample_id.split("_")[0] in raw]).value_counts()
        assert counts.to_dict() in ({"train": 5, "validation": 2, "test": 1}, {"train": 5, "validation": 1, "test": 2})


def test_two_raw_people_are_enough_to_have_one_in_test(tmp_path):
    folder = write_prepared(tmp_path / "prepared", raw=2)
    for seed in SEEDS:
        assert {"sub-0000_ses-M000", "sub-0001_ses-M000"} & set(load(regions(folder), seed).test.sample_ids)


def test_every_split_holds_both_classes(tmp_path):
    folder = write_prepared(tmp_path / "prepared", people=10, raw=0)
    for seed in range(8):
        splits = load(regions(folder, label_rate=1.0), seed)
        for batch in batches(splits).values():
            assert {0, 1} <= set(batch.labels.tolist())


def test_a_cohort_of_one_class_is_refused(prepared):
    prepared.manifest["label"] = prepared.manifest.label.replace("converter", "stable")
    prepared.write_manifest()
    with pytest.raises(ValueError, match="one of the 2 classes"):
        load(regions(prepared), 0)


@pytest.mark.parametrize(("rate", "shown"), [(0.05, 2), (0.1, 2), (0.25, 6), (0.5, 12), (1.0, 24)])
def test_the_label_rate_is_the_share_of_labeled_training_people_whose_label_is_shown(prepared, rate, shown):
    for seed in SEEDS:
        splits = load(regions(prepared, label_rate=rate), seed)
        visible = splits.train.labels[splits.train.labels != UNLABELED]
        assert len(visible) == shown and set(visible.tolist()) == {0, 1}
        assert sum(row.label_visible for row in splits.rows if row.split == "train") == shown
        assert (splits.validation.labels >= 0).all() and (splits.test.labels >= 0).all()


def test_a_higher_label_rate_keeps_the_split_and_adds_labels(prepared):
    low, high = (load(regions(prepared, label_rate=rate), 3) for rate in (0.25, 0.5))
    assert low.train.sample_ids == high.train.sample_ids
    shown = low.train.labels != UNLABELED
    assert torch.equal(low.train.labels[shown], high.train.labels[shown])


def test_hidden_labels_change_nothing_that_training_sees(prepared):
    """The canary: permute the hidden labels; train inputs, visible labels and norms stay as they are."""
    config = regions(prepared, label_rate=0.25)
    before = load(config, 0)
    hidden = [row.sample_id for row in before.rows if row.split == "train" and row.label and not row.label_visible]
    sample_id = prepared.manifest.participant_id + "_" + prepared.manifest.session_id
    rows = sample_id.isin(hidden)
    prepared.manifest.loc[rows, "label"] = prepared.manifest.label[rows].to_numpy()[::-1]
    prepared.write_manifest()
    after = load(config, 0)
    assert [row.label for row in after.rows] != [row.label for row in before.rows]
    assert after.train.sample_ids == before.train.sample_ids
    assert torch.equal(after.train.labels, before.train.labels)
    pd.testing.assert_frame_equal(after.norms, before.norms)
    for name, values in before.train.inputs.items():
        assert torch.equal(after.train.inputs[name], values)


def test_the_record_knows_every_label_and_which_were_shown(prepared):
    splits = load(regions(prepared, label_rate=0.25), 0)
    truth = dict(zip(prepared.manifest.participant_id + "_ses-M000", prepared.manifest.label, strict=True))
    shown = dict(zip(splits.train.sample_ids, (splits.train.labels >= 0).tolist(), strict=True))
    for row in splits.rows:
        assert row.label == (truth[row.sample_id] if truth[row.sample_id] in CLASSES else "")
        assert row.label_visible == shown.get(row.sample_id, True)


def test_failed_people_and_people_without_mci_are_left_out_and_counted(prepared):
    splits = load(regions(prepared), 0)
    assert splits.left_out == {"qc fail": 1, "not_mci": 1}
    assert len(splits.rows) == len(prepared.manifest) - 2


def test_an_unknown_label_is_refused_by_name(prepared):
    prepared.manifest.loc[0, "label"] = "convertor"
    prepared.write_manifest()
    with pytest.raises(ValueError, match="sub-0000_ses-M000 has label 'convertor'"):
        load(regions(prepared), 0)


def test_two_visits_of_a_person_in_two_groups_are_refused(prepared):
    visit = prepared.manifest.iloc[[0]].assign(session_id="ses-M012", group_id="another")
    prepared.manifest = pd.concat([prepared.manifest, visit])
    prepared.write_manifest()
    with pytest.raises(ValueError, match="sub-0000 has 2 group_ids"):
        read_people(prepared.path)


def test_training_people_with_the_modality_have_mean_0_and_sd_1_in_every_feature(prepared):
    splits = load(regions(prepared), 0)
    for column, values in enumerate(splits.train.inputs.values()):
        seen = values[splits.train.present[:, column]]
        assert torch.allclose(seen.mean(0), torch.zeros(seen.shape[1]), atol=1e-4)
        assert torch.allclose(seen.std(0, correction=0), torch.ones(seen.shape[1]), atol=1e-4)


def test_norms_do_not_depend_on_validation_and_test_people(prepared):
    before = load(regions(prepared), 0)
    table = pd.read_csv(prepared.path / "regions.tsv", sep="\t")
    outside = table.participant_id.isin([name.split("_")[0] for name in before.test.sample_ids])
    table.loc[outside, ["volume_ml", "suvr"]] *= 7
    table.to_csv(prepared.path / "regions.tsv", sep="\t", index=False)
    after = load(regions(prepared), 0)
    pd.testing.assert_frame_equal(after.norms, before.norms)
    assert not torch.equal(after.test.inputs["mri"], before.test.inputs["mri"])


def test_missing_pet_is_absent_and_zero(prepared):
    splits = load(regions(prepared), 0)
    has_pet = dict(zip(prepared.manifest.participant_id + "_ses-M000", prepared.manifest.pet_path != "", strict=True))
    for batch in batches(splits).values():
        assert batch.present[:, 0].all()
        assert batch.present[:, 1].tolist() == [has_pet[name] for name in batch.sample_ids]
        assert (batch.inputs["pet"][~batch.present[:, 1]] == 0).all()


def test_an_evaluation_folder_is_standardized_by_the_norms_of_training(prepared, tmp_path):
    other = write_prepared(tmp_path / "external", seed=1, shift=1.0)
    config = regions(prepared)
    splits = load(config, 0)
    batch = load_people(config, splits.norms, other.path)
    assert len(batch) == len(other.manifest) - 2
    table = pd.read_csv(other.path / "regions.tsv", sep="\t")
    first = table[(table.participant_id == "sub-0000") & (table.region == "hippocampus")].volume_ml.sum() / 1500
    norm = splits.norms[splits.norms.feature == "hippocampus_volume_per_tiv"].iloc[0]
    assert batch.inputs["mri"][0, 0].item() == pytest.approx((first - norm["mean"]) / norm["sd"], rel=1e-4)
    assert batch.inputs["pet"][batch.present[:, 1]].mean() > 2


def test_an_evaluation_folder_has_labels_for_stable_and_converting_people_only(prepared, tmp_path):
    other = write_prepared(tmp_path / "external", seed=1)
    config = regions(prepared)
    batch = load_people(config, load(config, 0).norms, other.path)
    truth = dict(zip(other.manifest.participant_id + "_ses-M000", other.manifest.label, strict=True))
    index = {"stable": 0, "converter": 1}
    assert batch.labels.tolist() == [index.get(truth[name], UNLABELED) for name in batch.sample_ids]


def test_norms_of_other_features_are_refused(prepared):
    norms = load(regions(prepared, regions="all"), 0).norms
    with pytest.raises(ValueError, match="norms of modality 'mri'"):
        load_people(regions(prepared), norms, prepared.path)


def test_all_regions_have_one_feature_for_each_side(prepared):
    splits = load(regions(prepared, regions="all"), 0)
    assert [modality.shape for modality in splits.modalities] == [(102,), (102,)]
    assert "hippocampus_left_volume_per_tiv" in splits.norms.feature.tolist()


def test_a_signature_region_is_the_sum_of_both_volumes_and_the_mean_of_both_suvrs(prepared):
    both, each = (
        load(regions(prepared, regions=r), 0).norms.set_index("feature")["mean"] for r in ("signature", "all")
    )
    for name, parts in (("hippocampus_volume_per_tiv", 1), ("precuneus_suvr", 2)):
        region, unit = name.split("_", 1)
        left, right = (each[f"{region}_{side}_{unit}"] for side in ("left", "right"))
        assert both[name] == pytest.approx((left + right) / parts)


def change_suvr(folder: PreparedFolder, person: str, region: str | None, value: float) -> None:
    table = pd.read_csv(folder.path / "regions.tsv", sep="\t")
    rows = (table.participant_id == person) & ((table.region == region) if region else True)
    table.loc[rows, "suvr"] = value
    table.to_csv(folder.path / "regions.tsv", sep="\t", index=False)


def test_a_region_outside_the_field_of_view_stands_at_the_training_mean(prepared):
    change_suvr(prepared, "sub-0003", "precuneus", np.nan)
    splits = load(regions(prepared), 0)
    (batch,) = (batch for batch in batches(splits).values() if "sub-0003_ses-M000" in batch.sample_ids)
    row = batch.inputs["pet"][batch.sample_ids.index("sub-0003_ses-M000")]
    assert row[1] == 0 and (row[[0, 2, 3, 4, 5, 6]] != 0).all()
    assert splits.norms.notna().all(axis=None)


def test_a_person_with_a_map_but_no_measurement_at_all_is_named(prepared):
    change_suvr(prepared, "sub-0003", None, np.nan)
    with pytest.raises(ValueError, match="sub-0003_ses-M000: no suvr"):
        load(regions(prepared), 0)


def test_voxels_are_loaded_with_their_margin_and_standardized_over_training(prepared_maps):
    splits = load(AdniConfig(str(prepared_maps.path)), 0)
    assert [modality.shape for modality in splits.modalities] == [(1, 52, 36, 36)] * 2
    for column, values in enumerate(splits.train.inputs.values()):
        seen = values[splits.train.present[:, column]]
        assert seen.dtype == torch.float32
        assert seen.mean().item() == pytest.approx(0, abs=1e-4) and seen.std().item() == pytest.approx(1, abs=1e-3)


def test_what_volumes_will_take_is_known_before_they_are_read(prepared_maps):
    config = AdniConfig(str(prepared_maps.path), margin=1)
    read = [values for batch in batches(load(config, seed=0)).values() for values in batch.inputs.values()]
    assert volume_bytes(config) == sum(values.nbytes for values in read)
    assert volume_bytes(regions(prepared_maps)) == 0


def test_volumes_kept_on_disk_are_those_in_memory_in_float16_and_leave_no_file(prepared_maps):
    config = AdniConfig(str(prepared_maps.path), margin=1)
    memory = load(config, seed=0)
    before = sorted(prepared_maps.path.iterdir())
    disk = load(replace(config, kept_in="disk"), seed=0)
    assert volume_bytes(replace(config, kept_in="disk")) == 0
    assert sorted(prepared_maps.path.iterdir()) == before
    for part, other in zip(batches(memory).values(), batches(disk).values(), strict=True):
        for name, values in part.inputs.items():
            assert other.inputs[name].dtype == torch.float16
            assert torch.allclose(other.inputs[name].float(), values, rtol=1e-3, atol=5e-3)
    people = load_people(replace(config, kept_in="disk"), memory.norms, prepared_maps.path)
    assert people.inputs["mri"].dtype == torch.float32  # whoever is predicted only


def test_people_exist_once_whatever_their_split(prepared_maps):
    splits = load(AdniConfig(str(prepared_maps.path), margin=1), seed=0)
    for name in ("mri", "pet"):
        parts = [batch.inputs[name] for batch in batches(splits).values()]
        assert len({part.untyped_storage().data_ptr() for part in parts}) == 1
        assert parts[0].untyped_storage().nbytes() == sum(part.nbytes for part in parts)


def test_an_evaluation_set_without_margin_is_the_center_of_one_with_it(prepared_maps):
    config = AdniConfig(str(prepared_maps.path))
    norms = load(config, 0).norms
    wide = load_people(config, norms, prepared_maps.path)
    tight = load_people(AdniConfig(str(prepared_maps.path), margin=0), norms, prepared_maps.path)
    assert torch.equal(wide.inputs["pet"][:, :, 2:-2, 2:-2, 2:-2], tight.inputs["pet"])


def test_the_same_seed_gives_the_same_splits_and_another_seed_others(prepared):
    first, again, other = (load(regions(prepared), seed) for seed in (1, 1, 2))
    assert list(first.rows) == list(again.rows)
    assert set(first.test.sample_ids) != set(other.test.sample_ids)


def test_a_folder_without_manifest_is_refused_with_its_place(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no manifest here"):
        load(AdniConfig(str(tmp_path)), 0)


@pytest.mark.parametrize("option", [{"features": "voxel"}, {"crop": "paper"}, {"label_rate": 0.0}, {"margin": -1}])
def test_a_config_outside_its_choices_is_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        AdniConfig("prepared", **option)


def test_targets_are_regional_measurements_standardized_by_training_people_and_unknown_without_the_modality(prepared):
    splits = load(regions(prepared, targets="signature"), 0)
    assert {name: values.shape[1] for name, values in splits.train.targets.items()} == {"mri": 9, "pet": 7}
    for column, (name, values) in enumerate(splits.train.targets.items()):
        seen = splits.train.present[:, column]
        assert values[~seen].isnan().all()
        assert torch.allclose(values[seen].mean(0), torch.zeros(values.shape[1]), atol=1e-4)
        assert torch.allclose(values[seen].std(0, correction=0), torch.ones(values.shape[1]), atol=1e-4)
        # The same measurements as the inputs of `features: regions`, which training people standardize too.
        assert torch.allclose(values[seen], splits.train.inputs[name][seen], atol=1e-4)


def test_without_a_wish_for_targets_there_are_none(prepared):
    assert load(regions(prepared), 0).train.targets == {}
