"""A trained model in a file: whatever trained it, it predicts in another process as it did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import adni_tcgm as at
from adni_tcgm.evaluation.calibration import Calibration, Rescaling
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.model import TrainedModel
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.grid3d import Grid3DConfig
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.pretraining.pretext import Pretraining, pretrain
from adni_tcgm.storage import load_run
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.encoders import fit_encoded, represent
from adni_tcgm.tcgm.trainer import TrainConfig
from pipelines.run import main

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)
TRUTH = np.arange(60) % 2
COUNTS = RNG.poisson(3 + 4 * TRUTH[:, None], (60, 5)).astype(float)
SOUND = RNG.normal(size=(60, 3)) * [1, 10, 100] + TRUTH[:, None]
CODE = """
import sys, numpy as np, adni_tcgm as at
for run, views in zip(sys.argv[1::2], sys.argv[2::2]):
    sys.stdout.buffer.write(at.load(run).log_posteriors(dict(np.load(views)))["all"].tobytes())
"""


def own_arrays(folder: Path, method: str) -> Path:
    """A finished run on arrays of one's own, from a YAML file."""
    np.savez(folder / "data.npz", words=COUNTS, sound=SOUND, labels=TRUTH)
    data = {"path": str(folder / "data.npz"), "views": {"text": "words", "audio": "sound"}, "label_rate": 0.5}
    data["transform"] = {"text": "tfidf", "audio": "zscore"}
    train = {"steps": 8, "supervised_steps": 2, "validate_every": 4, "lr_labeled": 0.05}
    config = {"dataset": "arrays", "data": data, "net": "mlp", "mlp": {"hidden": [4]}, "train": train}
    config["methods"] = {"pvcc": {"iterations": 10}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    assert main([str(folder / "mine.yaml"), "--out", str(folder / "out"), "--device", "cpu", "--method", method]) == 0
    return next((folder / "out" / "runs").glob("mine-*"))


def test_runs_on_own_arrays_and_a_saved_model_predict_the_same_bytes_in_a_new_process(tmp_path):
    arguments, expected = [sys.executable, "-c", CODE], []  # all in one process, which costs more than they do
    for method in ("tcgm", "pvcc"):
        folder = tmp_path / method
        folder.mkdir()
        run = own_arrays(folder, method)
        table = load_run(run).predictions
        table = table[(table.split == "test") & (table.modality == "all")]
        rows = table.sample_id.astype(int).to_numpy()
        views = {"text": COUNTS[rows], "audio": SOUND[rows]}
        expected.append(table[["log_p_calibrated_0", "log_p_calibrated_1"]].to_numpy())
        assert np.array_equal(at.load(run).log_posteriors(views)["all"], expected[-1])
        np.savez(folder / "views.npz", **views)
        arguments += [str(run), str(folder / "views.npz")]
    views = {"text": COUNTS, "audio": SOUND}
    model = at.TCGM(net=at.MLP(hidden=(4,)), steps=20, calibrate=True, device="cpu").fit(views, TRUTH)
    expected.append(model.predict_log_proba(views))
    np.savez(tmp_path / "views.npz", **views)
    arguments += [str(model.save(tmp_path / "own.model")), str(tmp_path / "views.npz")]
    said = subprocess.run(arguments, capture_output=True, check=True, timeout=300, cwd=ROOT).stdout
    assert said == b"".join(values.tobytes() for values in expected)


def test_encoders_of_volumes_are_kept_with_the_classifiers_on_them(tmp_path):
    generator = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn((12, 1, 10, 10, 10), generator=generator) for name in ("mri", "pet")}
    labels = torch.where(torch.arange(12) < 6, torch.arange(12) % 2, UNLABELED)
    names = [f"s{i}" for i in range(12)]
    train = MultimodalBatch(names, inputs, torch.ones(12, 2, dtype=torch.bool), labels, names)
    modalities, few = [Modality(name, (1, 10, 10, 10)) for name in inputs], train.select(torch.arange(4))
    splits, augment = Splits(modalities, ("no", "yes"), train, few, few), Augment3D((8, 8, 8), margin=1)
    config = TrainConfig(steps=3, supervised_steps=1, device="cpu")
    encoders = pretrain(Pretraining(steps=2, components=2), Grid3DConfig(pool=1), modalities, train, augment=augment)
    fitted = fit_encoded(
        TCGM(MLPConfig()), encoders, represent(encoders, splits, augment), splits.modalities, config, augment
    )
    calibration = Calibration({n: Rescaling(2.0, (0.1, 0.0), 6) for n in ("mri", "pet", "all")}, (-0.7, -0.7))
    model = TrainedModel(fitted, calibration, {}, ("no", "yes"))
    again = at.load(model.save(tmp_path / "model"))
    for first, second in zip(model.posteriors_of(train), again.posteriors_of(train), strict=True):
        assert all(np.array_equal(first[name], second[name]) for name in ("mri", "pet", "all"))
    with pytest.raises(ValueError, match="'mri' is adjusted for sites or covariates"):
        again.predict_proba({name: values.numpy() for name, values in inputs.items()})


def test_a_file_of_an_older_format_is_refused_by_name(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "old", metadata={"model": '{"format": 1}'})
    with pytest.raises(ValueError, match="old: not a saved model: format 1; this version reads 2"):
        at.load(tmp_path / "old")
