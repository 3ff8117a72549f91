"""A run keeps what was taken out of its regional measurements."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adni_tcgm.audit import LeakError
from adni_tcgm.datasets import adni
from adni_tcgm.storage import load_run
from pipelines.config import load_settings
from pipelines.predict import predict_person
from pipelines.restoring import restore_adjustment
from pipelines.training import train_run
from tests.datasets.conftest import write_prepared


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("harmonize", ["site", "gaussian_flow"])
def test_a_run_folder_holds_the_adjustment_that_its_people_went_through(tmp_path, harmonize):
    folder = write_prepared(tmp_path / "prepared", people=90)
    folder.manifest["site"] = np.array(["a", "b"])[np.arange(len(folder.manifest)) // 2 % 2]
    folder.write_manifest()
    (folder.path / "dataset_description.json").write_text('{"Name": "SIMULATED"}')
    overrides = {"data.path": str(folder.path), "data.harmonize": harmonize, "data.adjust": "tiv_age_sex"}
    steps = {"train.steps": 2, "train.supervised_steps": 1, "train.validate_every": 1, "data.label_rate": 0.5}
    settings = load_settings("adni_regions", overrides | steps)
    others = write_prepared(tmp_path / "others", people=60, seed=1)
    run_dir = train_run(tmp_path / "runs", settings, "ce", 0, external=others.path, progress=False)
    run = load_run(run_dir)
    stored = restore_adjustment(run)
    assert stored == adni.load(settings.data, 0).adjustment
    assert set(stored.modalities["mri"].site.sites) == {"a", "b"}
    assert set(json.loads((run_dir / "audit.json").read_text())["fitted_on"]) >= {"adjustment", "norms"}
    # New people are aligned as those of the run were: its test people, read as strangers, get the same answer.
    keys, shown = ["sample_id", "modality"], run.predictions[run.predictions.split == "test"]
    again = predict_person(run, folder.path).set_index(keys).loc[list(shown[keys].itertuples(index=False, name=None))]
    assert again.p_converter.to_numpy() == pytest.approx(shown.p_converter.to_numpy(), abs=1e-5)


def test_people_who_train_may_not_judge_as_the_evaluation_set(tmp_path):
    folder = write_prepared(tmp_path / "prepared")
    (folder.path / "dataset_description.json").write_text('{"Name": "SIMULATED"}')
    settings = load_settings("adni_regions", {"data.path": str(folder.path), "train.steps": 2})
    with pytest.raises(LeakError, match="mri of 'sub-.* in train is the same as that of 'sub-.* in external"):
        train_run(tmp_path / "runs", settings, "ce", 0, external=folder.path, progress=False)
    assert not (tmp_path / "runs" / "regions-ce-r0.1-s0").exists()
