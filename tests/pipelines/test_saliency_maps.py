"""Where saliency maps land, and who may enter their baseline; the maps: tests/evaluation/test_saliency.py."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from adni_tcgm.datasets import adni
from adni_tcgm.storage import load_run
from adni_tcgm.tcgm.trainer import predict
from pipelines.config import load_settings
from pipelines.restoring import Refused, restore, settings_of
from pipelines.run_adni import main as run_adni
from pipelines.saliency import place, stable_mean, to_person, write_saliency
from pipelines.training import train_run
from preprocessing.steps import template
from reports.carried import carried_section, list_contributions
from reports.gathering import gather_cohort
from reports.records import load_run as read_run
from reports.saliency import saliency_section, strongest

CROP = "hippocampi"


def test_a_voxel_of_the_crop_keeps_its_millimeters():
    values = np.zeros((48, 32, 32))
    values[3, 4, 5] = 1.0
    grid = template.to_grid(place(values, CROP))
    found = template.GRID_AFFINE @ [*np.argwhere(grid == grid.max())[0], 1]
    assert found[:3].tolist() == [-48 + 6, -54 + 8, -42 + 10]


def test_the_left_of_the_crop_is_the_left_of_the_template():
    values = np.zeros((48, 32, 32))
    values[:10] = 1.0  # the first axis grows to the right
    grid = template.to_grid(place(values, CROP))
    assert (template.GRID_AFFINE @ [*np.argwhere(grid > 0.5).mean(0), 1])[0] < -30


def test_without_transforms_there_is_no_map_on_the_persons_own_t1(tmp_path: Path):
    assert to_person(place(np.ones((48, 32, 32)), CROP), tmp_path, "sub-A_ses-M000") is None


@pytest.fixture(scope="module")
def voxel_run(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("voxels")
    for name in ("prepared", "truth"):
        shutil.copytree(cohort / name, out / name)
    arguments = ["--out", str(out), "--features", "voxels", "--label-rate", "0.3", "--stage", "train", "--jobs", "1"]
    assert run_adni([*arguments, "--set", "train.steps=1", "--set", "pretrainings.both.steps=4"]) == 0
    return out / "runs" / "voxels-tcgm-r0.3-s0"


def test_a_restored_run_with_pretraining_predicts_as_it_did(voxel_run: Path):
    run = load_run(voxel_run)
    settings = settings_of(run, run.prepared_path)
    assert settings.pretraining == "both"
    people = adni.load_people(replace(settings.data, margin=0), run.norms, run.prepared_path)
    known = run.predictions[run.predictions.split == "test"].set_index(["sample_id", "modality"])
    names = [name for name in people.sample_ids if (name, "all") in known.index]
    chosen = people.select(torch.tensor([people.sample_ids.index(name) for name in names]))
    found = predict(restore(run).fitted, chosen)["all"].exp()[:, 1]
    assert len(names) > 3
    assert found.tolist() == pytest.approx([known.p_converter[name, "all"] for name in names], abs=1e-5)


@pytest.mark.slow
def test_a_persons_maps_are_written_recorded_and_found_by_the_reports(voxel_run: Path):
    run = load_run(voxel_run)
    sample_id = run.predictions[(run.predictions.split == "test") & run.predictions.present].sample_id.iloc[0]
    folder = write_saliency(run, run.prepared_path, voxel_run / "saliency", [sample_id])[0]
    record = json.loads((folder / "saliency.json").read_text())
    visible = run.splits[(run.splits.split == "train") & run.splits.label_visible & (run.splits.label == "stable")]
    assert record["baseline"] == f"mean of the {len(visible)} visibly stable training people"
    image = nib.load(next(folder.glob("*mod-mri_desc-integratedgradients_saliency.nii.gz")))
    assert image.shape == (48, 32, 32)
    shown, drawn = saliency_section(gather_cohort([read_run(voxel_run)], None), sample_id)
    assert shown["run"] == voxel_run.name and "saliency.svg" in drawn


@pytest.mark.slow
def test_hidden_labels_do_not_enter_the_baseline(voxel_run: Path, tmp_path: Path):
    """A canary: every hidden label is turned around, and the baseline stays what it was."""
    run = load_run(voxel_run)
    changed = tmp_path / "prepared"
    shutil.copytree(run.prepared_path, changed)
    table = pd.read_csv(changed / "manifest.tsv", sep="\t", dtype=str, keep_default_na=False)
    hidden = run.splits[(run.splits.split == "train") & ~run.splits.label_visible].sample_id
    # Swapped in pairs, so that the numbers of both classes, on which the split rests, stay the same.
    rows = table.index[(table.participant_id + "_" + table.session_id).isin(set(hidden)) & table.pet_path.ne("")]
    stable, converter = (rows[table.label[rows] == name] for name in ("stable", "converter"))
    n = min(len(stable), len(converter))
    assert n >= 3
    for column in ("gm_path", "pet_path"):
        table.loc[[*stable[:n], *converter[:n]], column] = table.loc[[*converter[:n], *stable[:n]], column].to_numpy()
    means = []
    for path in (run.prepared_path, changed):
        settings = settings_of(run, path)
        if path == changed:
            table.to_csv(changed / "manifest.tsv", sep="\t", index=False)
        means.append(stable_mean(restore(run).fitted, settings, 0)[0])
    for name in means[0]:
        assert means[0][name].numpy() == pytest.approx(means[1][name].numpy(), abs=1e-4)


def test_a_run_on_regions_says_what_each_region_adds(cohort: Path, tmp_path: Path):
    shutil.copytree(cohort / "prepared", tmp_path / "prepared")
    shutil.copytree(cohort / "truth", tmp_path / "truth")
    arguments = ["--out", str(tmp_path), "--features", "regions", "--stage", "train", "--jobs", "1", "--method", "ce"]
    assert run_adni([*arguments, "--set", "train.steps=1", "--label-rate", "0.3"]) == 0
    run = load_run(tmp_path / "runs" / "regions-ce-r0.3-s0")
    sample_id = run.splits[run.splits.split == "test"].sample_id.iloc[0]
    folder = write_saliency(run, run.prepared_path, run.path / "saliency", [sample_id])[0]
    table, record = pd.read_csv(folder / "regions.tsv", sep="\t"), json.loads((folder / "saliency.json").read_text())
    # A linear classifier: what a region adds is its distance from the baseline times one weight, and all add up.
    fitted = restore(run).fitted
    for name, rows in table.groupby("modality"):
        about = record["modalities"][name]
        assert rows.attribution.sum() == pytest.approx(about["log_odds"] - about["baseline_log_odds"], abs=1e-4)
        head = next(
            module for module in fitted.model.classifiers[name].modules() if isinstance(module, torch.nn.Linear)
        )
        slope = (head.weight[1] - head.weight[0]).detach().numpy()
        added, expected = rows.attribution.to_numpy(), slope * (rows.z - rows.baseline_z).to_numpy()
        largest = np.abs(expected).argmax()
        factor = added[largest] / expected[largest]
        assert factor > 0
        # The table holds six decimals.
        assert added == pytest.approx(factor * expected, rel=1e-2, abs=2e-6)
    shown, drawn = carried_section(gather_cohort([read_run(run.path)], None), sample_id)
    assert not shown["voxels"] and b"hippocampus" in drawn["carried.svg"]
    assert table.attribution.sum() == pytest.approx(list_contributions(folder).attribution.sum())


def test_a_closed_form_run_has_no_network_to_explain(cohort: Path, tmp_path: Path):
    settings = load_settings("adni_regions", {"data.path": str(cohort / "prepared"), "data.label_rate": 0.3})
    run = load_run(train_run(tmp_path / "runs", settings, "pvcc", 0, progress=False))
    with pytest.raises(Refused, match="pvcc has no network for each modality"):
        write_saliency(run, run.prepared_path, tmp_path)


def test_a_map_of_zeros_has_a_scale():
    assert strongest(nib.Nifti1Image(np.zeros((4, 4, 4)), np.eye(4))) == 1.0
