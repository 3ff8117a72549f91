"""What two modalities share beyond what classes can make them share is damped; a class that is hard to tell is not."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from adni_tcgm.audit import LeakError, audit_splits
from adni_tcgm.datasets.adni import AdniConfig, load, load_people
from adni_tcgm.datasets.adni_adjust import Adjustment
from adni_tcgm.datasets.shared_directions import SMALLEST_SAMPLE, fit_shared_directions
from adni_tcgm.storage import load_tensors, save_tensors
from tests.datasets.conftest import PreparedFolder, write_prepared

LIMIT = 0.45
Values = dict[str, np.ndarray]


def draw(count: int, r: float, dims: tuple[int, int] = (4, 3), seed: int = 0) -> Values:
    """White modalities whose first axes correlate by r."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=count)
    values = {name: rng.normal(size=(count, size)) for name, size in zip(("mri", "pet"), dims, strict=True)}
    for x in values.values():
        x[:, 0] = np.sqrt(r) * shared + np.sqrt(1 - r) * x[:, 0]
    return values


def fit(values: Values, populations: list[str] | None = None, limit: float = LIMIT):
    return fit_shared_directions(values, populations or ["mci"] * len(values["mri"]), limit)


def test_of_a_shared_direction_its_own_part_is_kept_and_other_directions_stay():
    values = draw(5000, r=0.8)
    found = fit(values)
    assert found.correlations[0] == pytest.approx(0.8, abs=0.02)
    assert max(found.correlations[1:]) < 0.05
    for name, x in values.items():
        slopes = [np.polyfit(before, after, 1)[0] for before, after in zip(x.T, found.take_out(name, x).T, strict=True)]
        assert slopes[0] == pytest.approx(1 - 0.8, abs=0.03)
        assert slopes[1:] == pytest.approx([1] * len(slopes[1:]), abs=0.03)


def test_a_direction_across_correlated_features_is_damped_whatever_their_scales():
    values = draw(5000, r=0.8)
    mix = np.array([[3.0, 1, 0, 0], [1, 1, 0.5, 0], [0, 0.5, 1, 0], [0, 0, 0, 0.2]])
    found = fit({"mri": values["mri"] @ mix, "pet": values["pet"]})
    own = found.take_out("mri", values["mri"] @ mix) @ np.linalg.inv(mix)
    assert found.correlations[0] == pytest.approx(0.8, abs=0.02)
    assert np.polyfit(values["mri"][:, 0], own[:, 0], 1)[0] == pytest.approx(0.2, abs=0.05)


def test_what_is_shared_below_the_limit_stays_to_the_bit():
    values = draw(2000, r=0.4)
    found = fit(values)
    assert found.correlations[0] == pytest.approx(0.4, abs=0.03)
    assert all((found.take_out(name, x) == x).all() for name, x in values.items())


@pytest.mark.parametrize(("auc", "damped"), [(0.80, False), (0.88, False), (0.92, True)])
def test_two_classes_are_only_damped_where_each_modality_alone_tells_them_by_an_auc_of_about_ninety(auc, damped):
    rng = np.random.default_rng(1)
    converts = rng.permutation(np.arange(20_000) % 2)
    distance = np.sqrt(2) * torch.special.ndtri(torch.tensor(auc, dtype=torch.float64)).item()
    values = {name: rng.normal(size=(20_000, 2)) for name in ("mri", "pet")}
    for x in values.values():
        x[:, 1] += distance * converts
    q = distance**2 / 4
    found = fit(values)
    assert found.correlations[0] == pytest.approx(q / (1 + q), abs=0.02)
    assert bool(np.any(found.matrices["mri"])) == damped


def test_differences_between_populations_are_not_shared_directions():
    values = draw(400, r=0.0)
    populations = ["cn", "mci", "ad", "mci"] * 100
    for x in values.values():
        x[:, 0] += 5 * np.array([-1, 0, 1, 0] * 100)
    assert fit(values, populations).correlations[0] < LIMIT < fit(values).correlations[0]


def test_chance_is_taken_off_where_people_are_few_and_features_many():
    values = draw(60, r=0.0, dims=(20, 20))
    white = [x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T for x in (v - v.mean(0) for v in values.values())]
    assert np.linalg.svd(white[0].T @ white[1] / 59, compute_uv=False)[0] > 0.9  # what one would read off
    assert max(fit(values).correlations) < LIMIT


def test_too_few_people_give_nothing_and_one_modality_is_refused():
    few = {name: x[: SMALLEST_SAMPLE - 1] for name, x in draw(100, r=0.9).items()}
    assert fit(few) is None
    with pytest.raises(ValueError, match="those of two modalities; here are mri"):
        fit({"mri": np.zeros((50, 2))})


# ---- as the data set uses it


@pytest.fixture
def folder(tmp_path) -> PreparedFolder:
    """90 MCI people whose classes each modality alone tells apart (d about 3), 20 of unknown outcome, 30 CN and AD."""
    found = write_prepared(tmp_path / "prepared", people=90, pool=50)
    rows = found.manifest.index[110:140]
    found.manifest.loc[rows, "label"] = ["cn", "ad"] * 15
    found.manifest.loc[rows, "label_reason"] = ""
    found.write_manifest()
    return found


def config(folder: PreparedFolder, limit: float | None = LIMIT, **options) -> AdniConfig:
    return AdniConfig(str(folder.path), features="regions", shared_limit=limit, **options)


def stored(adjustment: Adjustment, folder) -> Adjustment:
    save_tensors(folder / "adjustment.safetensors", adjustment.tensors())
    content = json.loads(json.dumps(adjustment.to_json()))
    return Adjustment.restore(content, load_tensors(folder / "adjustment.safetensors"))


def test_new_people_get_what_training_people_got(folder, tmp_path):
    splits = load(config(folder), 0)
    assert splits.adjustment.shared.correlations[0] > LIMIT
    again = stored(splits.adjustment, tmp_path)
    assert again == splits.adjustment
    batch = load_people(config(folder), splits.norms, folder.path, again)
    rows = [batch.sample_ids.index(name) for name in splits.test.sample_ids]
    plain = load(config(folder, limit=None), 0)
    for name in ("mri", "pet"):
        assert torch.equal(batch.inputs[name][rows], splits.test.inputs[name])
        assert not torch.equal(plain.test.inputs[name], splits.test.inputs[name])


def test_shuffling_every_outcome_changes_nothing_that_is_fitted(folder):
    before = load(config(folder), 0)
    known = folder.manifest.label.isin(["stable", "converter"]) & (folder.manifest.qc != "fail")
    folder.manifest.loc[known, "label"] = np.random.default_rng(3).permutation(folder.manifest.label[known])
    folder.write_manifest()
    after = load(config(folder), 0)
    assert [row.label for row in after.rows] != [row.label for row in before.rows]
    assert after.adjustment == before.adjustment
    assert torch.equal(after.train.inputs["pet"], before.train.inputs["pet"])


def test_people_of_validation_and_test_change_nothing_that_is_fitted(folder):
    before = load(config(folder), 0)
    others = {row.sample_id.removesuffix("_ses-M000") for row in before.rows if row.split != "train"}
    table = pd.read_csv(folder.path / "regions.tsv", sep="\t")
    table.loc[table.participant_id.isin(others), ["volume_ml", "suvr"]] *= 3
    table.to_csv(folder.path / "regions.tsv", sep="\t", index=False)
    assert load(config(folder), 0).adjustment == before.adjustment


def test_normal_and_demented_people_count_but_those_of_a_group_in_validation_or_test(folder):
    splits = load(config(folder), 0)
    have_both = splits.train.present.all(1).sum().item()
    pet = folder.manifest.pet_path[folder.manifest.label.isin(["cn", "ad"])].ne("").sum()
    assert splits.adjustment.shared.people == have_both + pet
    assert len(splits.outside) == 30
    tested = next(row.group_id for row in splits.rows if row.split == "test")
    folder.manifest.loc[110, "group_id"] = tested
    folder.write_manifest()
    assert len(load(config(folder), 0).outside) == 29


def test_a_normal_person_whose_measurements_are_lost_stops_nobody(folder):
    table = pd.read_csv(folder.path / "regions.tsv", sep="\t")
    table.loc[table.participant_id == "sub-0110", "volume_ml"] = np.nan
    table.to_csv(folder.path / "regions.tsv", sep="\t", index=False)
    with pytest.warns(UserWarning, match="CN and AD people do not count .* sub-0110_ses-M000: no volume_ml in"):
        splits = load(config(folder), 0)
    assert not splits.outside
    assert splits.adjustment.shared.people == splits.train.present.all(1).sum().item()


def test_who_trains_already_counts_once(folder):
    splits = load(config(folder, pool=("cn", "ad")), 0)
    assert not splits.outside
    assert splits.adjustment.shared.people == splits.train.present.all(1).sum().item()


def test_the_audit_records_them_and_catches_one_of_a_group_in_test(folder):
    splits = load(config(folder), 0)
    record = audit_splits(splits, strict=True)
    assert record["n"]["train"] == len(splits.train)
    name = next(iter(splits.outside))
    splits.outside[name] = next(row.group_id for row in splits.rows if row.split == "test")
    with pytest.raises(LeakError, match=f"inputs were changed by '{name}' of group .*, which is in test"):
        audit_splits(splits, strict=True)


def test_too_few_people_with_both_scans_are_announced(folder):
    folder.manifest.loc[20:, "pet_path"] = ""
    folder.write_manifest()
    with pytest.warns(UserWarning, match="what MRI and PET share is not looked at: .* people have both, 20 are needed"):
        splits = load(config(folder), 0)
    assert splits.adjustment.shared is None


def test_a_run_without_is_not_read_as_one_with(folder):
    splits = load(config(folder), 0)
    with pytest.raises(ValueError, match=r"shared_limit are .*None\) in the config, and .*0\.45\)"):
        load_people(config(folder, limit=None), splits.norms, folder.path, splits.adjustment)


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.2])
def test_a_limit_that_is_no_correlation_is_refused(tmp_path, limit):
    with pytest.raises(ValueError, match="more than 0 and less than 1"):
        AdniConfig(str(tmp_path), features="regions", shared_limit=limit)


def test_voxels_have_no_shared_directions(tmp_path):
    with pytest.raises(ValueError, match=r"shared_limit is 0\.45, which is for features: regions"):
        AdniConfig(str(tmp_path), shared_limit=LIMIT)
