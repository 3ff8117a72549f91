"""Planted leaks, each of another kind: all are caught. And what is no leak is let through."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from adni_tcgm.audit import (
    LeakError,
    audit_fits,
    audit_splits,
    check_manifest,
    find_copies,
    seal_test,
    split_manifest,
)
from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, SplitRow, Splits
from adni_tcgm.tcgm.trainer import TrainConfig, fit
from benchmarks.gain import measure_memory

SIZES = {"train": 60, "validation": 20, "test": 20}
CLASSES = ("stable", "converter")
SHAPE = (1, 18, 18, 18)


@dataclass
class Cohort:
    """People of three splits with an MRI and a PET volume and a table of 12 numbers, before any split of tensors."""

    names: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    shown: list[bool] = field(default_factory=list)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    normed_on: tuple[str, ...] = ("train",)

    def splits(self) -> Splits:
        part = np.array(self.parts)
        fitted = np.isin(part, self.normed_on)
        inputs = {}
        for name, values in self.inputs.items():
            axes = 0 if values.ndim == 2 else None
            inputs[name] = ((values - values[fitted].mean(axes)) / values[fitted].std(axes)).astype(np.float32)
        batches = {}
        for name in SIZES:
            rows = np.flatnonzero(part == name)
            batches[name] = MultimodalBatch(
                [self.names[row] for row in rows],
                {key: torch.from_numpy(values[rows]) for key, values in inputs.items()},
                torch.ones(len(rows), len(inputs), dtype=torch.bool),
                torch.tensor([self.labels[row] if self.shown[row] else UNLABELED for row in rows]),
                [self.groups[row] for row in rows],
            )
        rows = [
            SplitRow(*ids, CLASSES[label], shown)
            for *ids, label, shown in zip(self.names, self.groups, self.parts, self.labels, self.shown, strict=True)
        ]
        modalities = [Modality(name, values.shape[1:]) for name, values in inputs.items()]
        fitted_on = {"norms": [n for n, yes in zip(self.names, fitted, strict=True) if yes]}
        return Splits(modalities, CLASSES, **batches, rows=rows, fitted_on=fitted_on)

    def first(self, part: str) -> int:
        return self.parts.index(part)


@pytest.fixture
def cohort(drawn: Cohort) -> Cohort:
    return deepcopy(drawn)


@pytest.fixture(scope="module")
def drawn() -> Cohort:
    """Smooth volumes with detail of their own on top of a common shape, as brains in template space have."""
    rng = np.random.default_rng(0)
    size = sum(SIZES.values())
    parts = [part for part, count in SIZES.items() for _ in range(count)]
    names = [f"sub-{i:03d}_ses-M000" for i in range(size)]
    common = ndimage.gaussian_filter(rng.normal(size=SHAPE[1:]), 3)
    volumes = {}
    for name in ("mri", "pet"):
        own = np.stack([ndimage.gaussian_filter(rng.normal(size=SHAPE[1:]), 2) for _ in range(size)])
        volumes[name] = (10 + 40 * common + 10 * own)[:, None]
    labels = [i % 2 for i in range(size)]
    shown = [part != "train" or i < 18 for i, part in enumerate(parts)]
    return Cohort(names, list(names), parts, labels, shown, volumes | {"table": rng.normal(size=(size, 12))})


def test_the_audit_makes_no_copy_of_all_volumes(cohort):
    splits = cohort.splits()
    volumes = sum(splits.train.inputs[name].nbytes for name in ("mri", "pet"))
    assert 1e6 * measure_memory(lambda: audit_splits(splits, strict=True), "cpu") < volumes / 2


def test_a_cohort_without_a_leak_passes_and_the_record_says_what_was_compared(cohort: Cohort) -> None:
    record = audit_splits(cohort.splits(), strict=True)
    assert record["n"] == SIZES
    assert set(record["copies"]) == {"mri", "pet", "table"}
    assert record["copies"]["mri"]["pairs"] == 60 * 20 + 60 * 20 + 20 * 20
    assert record["copies"]["mri"]["nearest"] > record["copies"]["mri"]["limit"] > 0


# ---- of people and scans

Plant = Callable[[Cohort], None]


def same_name(one: str, other: str) -> Plant:
    def plant(cohort: Cohort) -> None:
        cohort.names[cohort.first(other)] = cohort.names[cohort.first(one)]

    return plant


def same_group(one: str, other: str, group: str) -> Plant:
    def plant(cohort: Cohort) -> None:
        cohort.groups[cohort.first(one)] = cohort.groups[cohort.first(other)] = group

    return plant


def another_visit_in_the_pool(cohort: Cohort) -> None:
    """An unlabeled person of training is a later visit of somebody in the test split."""
    row, original = cohort.first("validation") - 1, cohort.first("test")
    cohort.names[row] = cohort.names[original].replace("M000", "M012")
    cohort.groups[row] = cohort.groups[original]


def copy(modality: str, one: str, other: str, change: Callable[[np.ndarray], np.ndarray] = np.array) -> Plant:
    def plant(cohort: Cohort) -> None:
        # The last of training is unlabeled.
        row = cohort.first("validation") - 1 if one == "pool" else cohort.first(one)
        cohort.inputs[modality][row] = change(cohort.inputs[modality][cohort.first(other)])

    return plant


def noisy(values: np.ndarray) -> np.ndarray:
    return values + 0.2 * values.std() * np.random.default_rng(1).normal(size=values.shape)


def rescanned(values: np.ndarray) -> np.ndarray:
    """Smoother, brighter, with noise: the same head another day."""
    smooth = ndimage.gaussian_filter(values, (0, 0.7, 0.7, 0.7))
    return 1.3 * smooth + 2 + 0.05 * values.std() * np.random.default_rng(2).normal(size=values.shape)


def norms_of_everybody(cohort: Cohort) -> None:
    cohort.normed_on = tuple(SIZES)


def the_label_as_a_number(cohort: Cohort) -> None:
    cohort.inputs["table"][:, 3] = np.array(cohort.labels) * 2.5 - 1


PEOPLE = {
    "one name in train and test": (same_name("train", "test"), "is in train and in test"),
    "one name in train and validation": (same_name("train", "validation"), "is in train and in validation"),
    "one name in validation and test": (same_name("validation", "test"), "is in validation and in test"),
    "a family in train and test": (same_group("train", "test", "family-7"), "group 'family-7' is in train and in test"),
    "one anatomy in validation and test": (same_group("validation", "test", "anatomy03"), "group 'anatomy03' is in"),
    "a later visit of a test person, unlabeled": (another_visit_in_the_pool, "a group belongs to one split"),
    "an MRI under two names": (copy("mri", "train", "test"), "mri of 'sub-000.* is the same as that of 'sub-080"),
    "a PET under two names": (copy("pet", "train", "validation"), "pet of 'sub-000.* is the same as that of 'sub-060"),
    "a scan of validation in test": (copy("mri", "validation", "test"), "in validation is the same as that of"),
    "a scan of test, unlabeled": (copy("pet", "pool", "test"), "pet of 'sub-059.* is the same as that of 'sub-080"),
    "a noisy copy": (copy("mri", "train", "test", noisy), "is nearly the same as"),
    "a copy of other intensities": (copy("pet", "train", "test", lambda x: 0.6 * x + 3), "is nearly the same as"),
    "a rescan": (copy("mri", "train", "test", rescanned), "is nearly the same as"),
    "a mirrored copy": (copy("mri", "train", "test", lambda x: x[:, ::-1]), "is a mirror image of"),
    "measurements of a copy": (copy("table", "train", "test", lambda x: x + 0.01), "table of .* nearly the same as"),
    "norms of everybody, and said so": (norms_of_everybody, "norms was fitted on 'sub-060_ses-M000'.*40 such samples"),
    "a column that is the label": (the_label_as_a_number, "column 3 of modality 'table' has one value in each class"),
}


@pytest.mark.parametrize("name", PEOPLE)
def test_a_planted_leak_of_people_or_scans_is_caught(cohort: Cohort, name: str) -> None:
    plant, message = PEOPLE[name]
    plant(cohort)
    with pytest.raises(LeakError, match=message):
        audit_splits(cohort.splits(), strict=True)


# ---- of labels, records and steps


def with_train(splits: Splits, **changes: object) -> Splits:
    return replace(splits, train=replace(splits.train, **changes))


def all_labels(splits: Splits) -> Splits:
    return with_train(splits, labels=torch.arange(len(splits.train)) % 2)


def other_group_in_the_record(splits: Splits) -> Splits:
    return with_train(splits, groups=["sub-new", *splits.train.groups[1:]])


def not_in_the_record(splits: Splits) -> Splits:
    return replace(splits, rows=splits.rows[1:])


def other_part_in_the_record(splits: Splits) -> Splits:
    return replace(splits, rows=[replace(splits.rows[0], split="test"), *splits.rows[1:]])


def silent_norms(splits: Splits) -> Splits:
    """Fitted on everybody, while the record says on training people."""
    shifted = {name: values + 0.05 for name, values in splits.train.inputs.items()}
    return with_train(splits, inputs=shifted)


def harmonized_with_test(splits: Splits) -> Splits:
    names = [*splits.train.sample_ids, splits.test.sample_ids[0]]
    return replace(splits, fitted_on={**splits.fitted_on, "adjustment": names})


def targets_scaled_with_validation(splits: Splits) -> Splits:
    return replace(splits, fitted_on={**splits.fitted_on, "targets": splits.validation.sample_ids})


STEPS = {
    "hidden labels shown to training": (all_labels, "has label 'stable'; the record hides it"),
    "a group that the record does not know": (other_group_in_the_record, "has group 'sub-new'"),
    "somebody who is in no record": (not_in_the_record, "the record of the split says no split"),
    "somebody whom the record puts elsewhere": (other_part_in_the_record, "the record of the split says test"),
    "norms of everybody that claim to be of training": (silent_norms, "their norms were fitted on other samples too"),
    "harmonization that saw the test split": (harmonized_with_test, "adjustment was fitted on 'sub-080_ses-M000'"),
    "targets scaled with validation": (targets_scaled_with_validation, "targets was fitted on 'sub-060_ses-M000'"),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_planted_leak_of_labels_records_or_steps_is_caught(cohort: Cohort, name: str) -> None:
    plant, message = STEPS[name]
    with pytest.raises(LeakError, match=message):
        audit_splits(plant(cohort.splits()), strict=True)


def test_calibration_on_the_test_split_is_caught_and_on_validation_recorded(cohort: Cohort) -> None:
    splits = cohort.splits()
    with pytest.raises(LeakError, match="calibration was fitted on 'sub-080_ses-M000'"):
        audit_fits({"calibration": splits.test.sample_ids}, splits)
    found = audit_fits({"calibration": splits.validation.sample_ids, "weights": splits.train.sample_ids}, splits)
    assert found == {"calibration": {"split": "validation", "n": 20}, "weights": {"split": "train", "n": 60}}


def test_somebody_of_the_evaluation_set_who_also_trains_is_caught(cohort: Cohort) -> None:
    splits = cohort.splits()
    judge = replace(splits.test, sample_ids=[f"other-{i}" for i in range(20)], groups=())
    judge = judge.with_inputs({name: -values for name, values in judge.inputs.items()})
    audit_splits(splits, strict=True, external=judge)
    judge.inputs["mri"][4] = splits.train.inputs["mri"][7]
    with pytest.raises(
        LeakError, match="mri of 'sub-007_ses-M000' in train is the same as that of 'other-4' in external"
    ):
        audit_splits(splits, strict=True, external=judge)


def test_volumes_with_a_margin_are_compared_with_those_without(cohort: Cohort) -> None:
    splits = cohort.splits()
    few = splits.train.select(torch.arange(9))
    for external, copies in ((few, 9), (splits.test, 0)):
        external = external.with_inputs(external.inputs | {"mri": external.inputs["mri"][:, :, 2:-2, 2:-2, 2:-2]})
        assert len(find_copies({"train": splits.train, "external": external}, "mri", 0)[1]) == copies


def test_elsewhere_than_with_brains_a_sample_that_is_there_twice_is_a_warning(cohort: Cohort) -> None:
    copy("table", "train", "test")(cohort)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert audit_splits(cohort.splits(), strict=False)["twice"] == 0
    for modality in cohort.inputs:
        for one in ("train", "validation"):
            copy(modality, one, "test")(cohort)
    expected = r"'sub-000_ses-M000' in train is the same as 'sub-060_ses-M000' in validation \(3 such pairs\)"
    with pytest.warns(UserWarning, match=expected):
        assert audit_splits(cohort.splits(), strict=False)["twice"] == 3


def test_elsewhere_than_with_brains_near_neighbors_are_counted_without_a_warning(cohort: Cohort) -> None:
    for modality in cohort.inputs:
        copy(modality, "train", "test", lambda values: values + 0.01)(cohort)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = audit_splits(cohort.splits(), strict=False)
    assert (record["twice"], record["nearly_twice"]) == (0, 1)


def test_copies_within_one_split_and_empty_samples_are_no_leak(cohort: Cohort) -> None:
    cohort.inputs["table"][1] = cohort.inputs["table"][0]
    audit_splits(cohort.splits(), strict=True)
    splits = cohort.splits()
    for part in SIZES:
        getattr(splits, part).inputs["mri"][0] = 0
    assert find_copies({part: getattr(splits, part) for part in SIZES}, "mri", 0)[1] == {}


# ---- the test split, and a split that was drawn


def test_training_that_asks_for_the_test_split_is_caught(cohort: Cohort) -> None:
    sealed = seal_test(cohort.splits())
    for ask in (lambda: sealed.test.inputs, lambda: sealed.test.labels, lambda: len(sealed.test)):
        with pytest.raises(LeakError, match="read once, by evaluation"):
            ask()


def test_sealed_splits_can_be_copied_and_stay_sealed(cohort: Cohort) -> None:
    there = deepcopy(seal_test(cohort.splits()))
    with pytest.raises(LeakError):
        _ = there.test.labels


def test_training_sees_no_test_row_and_no_hidden_label(cohort: Cohort) -> None:
    rows = seal_test(cohort.splits()).rows
    assert {row.split for row in rows} == {"train", "validation"}
    assert all(row.label_visible or row.label == "" for row in rows)


def test_a_method_trains_on_sealed_splits_as_on_open_ones(cohort: Cohort) -> None:
    splits, config = cohort.splits(), TrainConfig(steps=4, validate_every=2, device="cpu")
    splits = replace(splits, modalities=splits.modalities[2:])
    for part in SIZES:
        batch = getattr(splits, part)
        batch = replace(batch, inputs={"table": batch.inputs["table"]}, present=batch.present[:, 2:])
        splits = replace(splits, **{part: batch})
    method = CrossEntropy(classifier=MLPConfig())
    open_, sealed = (fit(method, each, config).model.state_dict() for each in (splits, seal_test(splits)))
    assert all(torch.equal(open_[name], sealed[name]) for name in open_)


def write_manifest(folder: Path, manifest: dict) -> None:
    folder.mkdir(parents=True)
    (folder / "split.json").write_text(json.dumps(manifest))


def test_a_rerun_with_another_split_of_the_same_data_is_caught(cohort: Cohort, tmp_path: Path) -> None:
    about = {"seed": 0, "label_rate": 0.1, "data_fingerprint": "abc"}
    rows = cohort.splits().rows
    write_manifest(tmp_path / "regions-ce-r0.1-s0", split_manifest(rows, about))
    check_manifest(split_manifest(rows[::-1], about), tmp_path)
    swapped = [replace(rows[0], split="test"), *rows[1:]]
    with pytest.raises(LeakError, match="regions-ce-r0.1-s0 has another split of the same data, seed and label rate"):
        check_manifest(split_manifest(swapped, about), tmp_path)
    check_manifest(split_manifest(swapped, about | {"seed": 1}), tmp_path)


def test_another_choice_of_shown_labels_is_another_split(cohort: Cohort, tmp_path: Path) -> None:
    rows = cohort.splits().rows
    write_manifest(tmp_path / "run", split_manifest(rows, {"seed": 0}))
    with pytest.raises(LeakError):
        check_manifest(split_manifest([replace(rows[0], label_visible=False), *rows[1:]], {"seed": 0}), tmp_path)
