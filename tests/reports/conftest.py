"""A tiny cohort in the file contract: a prepared folder with random maps, four runs and their baselines."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from reports.gathering import redraw_calibration

AFFINE = np.array([[2.0, 0, 0, -80], [0, 2.0, 0, -102], [0, 0, 2.0, -92], [0, 0, 0, 1]])
REGIONS = ("hippocampus", "entorhinal", "lateral_ventricle", "isthmus_cingulate", "precuneus", "inferior_parietal")
SPLIT_SIZES = {"train": 40, "validation": 10, "test": 12}
RUNS = {("voxels", "tcgm"): 0.61, ("regions", "tcgm"): 0.55, ("voxels", "ce"): 0.50, ("regions", "ce"): 0.66}
DRAWS = 5
WITHOUT_PET, RAW, FAILED, OLD = 51, 50, 52, 53  # rows of test people


def write_map(path: Path, generator: np.random.Generator, low: float, high: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(blocks_map(generator.uniform(low, high, (10, 10, 10)).tobytes()))


@cache
def blocks_map(coarse: bytes) -> bytes:
    """A file of 80 x 80 x 80 voxels, each of 10 x 10 x 10 values a cube, which packs and unpacks fast; every cohort
    here draws the same ones."""
    values = np.kron(np.frombuffer(coarse).reshape(10, 10, 10), np.ones((8, 8, 8))).astype(np.float32)
    return gzip.compress(nib.Nifti1Image(values, AFFINE).to_bytes(), compresslevel=1, mtime=0)


def cohort_table(generator: np.random.Generator) -> pd.DataFrame:
    split = [name for name, size in SPLIT_SIZES.items() for _ in range(size)]
    table = pd.DataFrame({"participant_id": [f"sub-SIM{i:04d}" for i in range(len(split))], "split": split})
    n = len(table)
    table["session_id"] = "ses-M000"
    table["kind"] = ["raw" if i in (RAW, FAILED) else "prepared" for i in range(n)]
    table["label"] = [("stable", "converter")[i % 2] for i in range(n)]
    table["label_reason"] = table["label"]
    table.loc[[3, 7], ["label", "label_reason"]] = ["", "censored"]
    table["months_to_conversion"] = np.where(table["label"] == "converter", 18, np.nan)
    table["age"] = generator.uniform(58, 85, n).round(1)
    table.loc[OLD, "age"] = 93.4
    table["sex"] = generator.choice(["M", "F"], n)
    table["site"] = "011"
    table["group_id"] = table["participant_id"]
    table["tiv_ml"] = generator.normal(1500, 100, n).round(1)
    table["qc"] = ["fail" if i == FAILED else "pass" for i in range(n)]
    folder = table["participant_id"] + "/ses-M000/"
    table["gm_path"], table["pet_path"] = folder + "gm.nii.gz", folder + "pet.nii.gz"
    table.loc[WITHOUT_PET, "pet_path"] = ""
    table["t1_path"] = ""
    return table


def region_rows(table: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    rows = []
    for person in table.itertuples():
        shared = [person.participant_id, person.session_id]
        has_pet = bool(person.pet_path)
        for region in REGIONS:
            for side in ("left", "right"):
                volume = generator.normal(3, 0.3) - 0.02 * (person.age - 70)
                rows.append([*shared, region, side, volume, generator.normal(1.2, 0.1) if has_pet else np.nan])
        rows.append([*shared, "meta_roi_proxy", "both", np.nan, generator.normal(1.2, 0.1) if has_pet else np.nan])
    return pd.DataFrame(rows, columns=["participant_id", "session_id", "region", "side", "volume_ml", "suvr"])


def quality_check(step: str, name: str, value: float, warn: float, fail: float, verdict: str) -> dict:
    return {"step": step, "name": name, "value": value, "threshold": {"warn": warn, "fail": fail}, "verdict": verdict}


def write_prepared(root: Path, table: pd.DataFrame, generator: np.random.Generator) -> None:
    for i, person in table.iterrows():
        if person["split"] == "test":
            write_map(root / person["gm_path"], generator, 0.1, 1.0)
            if i != WITHOUT_PET:
                write_map(root / person["pet_path"], generator, 0.6, 1.8)
    table.drop(columns="split").to_csv(root / "manifest.tsv", sep="\t", index=False)
    region_rows(table, generator).to_csv(root / "regions.tsv", sep="\t", index=False)
    ledger = pd.DataFrame(
        [
            [p.participant_id, p.session_id, m, "kept", "intake", "", "", "x"]
            for p in table.itertuples()
            for m in ("mri", "pet")
        ]
        + [["sub-SIM9999", "ses-M000", "mri", "failed", "read", "truncated_file", "file ends early", "x"]],
        columns=["participant_id", "session_id", "modality", "status", "step", "reason_code", "reason", "source"],
    )
    ledger.to_csv(root / "ledger.tsv", sep="\t", index=False)
    for i, verdict in ((RAW, "pass"), (FAILED, "fail")):
        correlation = 0.41 if verdict == "pass" else 0.12
        checks = [
            quality_check("register", "brain_dice", 0.95, 0.93, 0.88, "pass"),
            quality_check("register", "folded_share", 0.0, 1e-4, 1e-2, "pass"),
            quality_check("suvr", "pet_correlation", correlation, 0.4, 0.25, verdict),
        ]
        folder = (root / table.at[i, "gm_path"]).parent
        (folder / "checks_qc.json").write_text(json.dumps({"Checks": checks}))


def write_run(folder: Path, table: pd.DataFrame, simulated: bool, generator: np.random.Generator) -> None:
    features, method = folder.name.split("-")[:2]
    table = table[table["qc"] != "fail"]
    folder.mkdir(parents=True)
    sample_id = table["participant_id"] + "_" + table["session_id"]
    visible = (table["label"] != "") & ((table["split"] != "train") | (table.index < 10))
    splits = pd.DataFrame({"sample_id": sample_id, "group_id": table["participant_id"], "split": table["split"]})
    splits = splits.assign(label=table["label"], label_visible=visible)
    splits.loc[7, "split"] = "not_train"
    splits.to_csv(folder / "splits.tsv", sep="\t", index=False)
    rows = []
    for i, person in table.iterrows():
        for modality in ("mri", "pet", "all"):
            signal = 0.8 * (person["label"] == "converter") + generator.normal(0, 1)
            p = 1 / (1 + np.exp(-signal))
            q = 1 / (1 + np.exp(-0.7 * signal))
            present = not (modality == "pet" and i == WITHOUT_PET)
            rows.append([sample_id[i], person["split"], modality, 1 - p, p, 1 - q, q, person["label"], present])
    columns = ["sample_id", "split", "modality", "p_stable", "p_converter", "p_calibrated_stable"]
    predictions = pd.DataFrame(rows, columns=[*columns, "p_calibrated_converter", "label", "present"])
    for name in [column for column in predictions if column.startswith("p_")]:
        predictions[f"log_{name}"] = np.log(predictions[name])
    predictions.to_csv(folder / "predictions.tsv", sep="\t", index=False)
    scores = {"accuracy": 0.7, "balanced_accuracy": 0.69, "auc": 0.75, "log_loss": 0.6, "brier": 0.21}
    judged = predictions[(predictions["split"] == "test") & predictions["present"] & (predictions["label"] != "")]
    by_modality = {
        m: scores | {"auc": float(roc_auc_score(rows["label"] == "converter", rows["p_calibrated_converter"]))}
        for m, rows in judged.groupby("modality", sort=False)
    }
    validation = {m: scores | {"log_loss": RUNS[features, method]} for m in by_modality}
    metrics = {"dataset": "adni", "simulated": simulated, "method": method, "features": features, "label_rate": 0.1}
    metrics |= {"seed": 0, "n": len(table), "labels": {"train_visible": 8, "validation": 10}, "validation": validation}
    metrics |= {"test": by_modality, "test_uncalibrated": by_modality}
    metrics["bayes"] = {m: {"auc": a} for m, a in (("mri", 0.8), ("pet", 0.83), ("all", 0.87))} if simulated else None
    manifest = hashlib.sha256((folder.parents[1] / "prepared" / "manifest.tsv").read_bytes()).hexdigest()
    (folder / "metrics.json").write_text(json.dumps(metrics))
    rescaling = {"temperature": 1 / 0.7, "intercept": [0.0, 0.0], "samples": 10}
    calibration = {"log_prior": [-0.7, -0.7], "rescalings": dict.fromkeys(by_modality, rescaling)}
    (folder / "calibration.json").write_text(json.dumps(calibration))
    (folder / "prepared.json").write_text(json.dumps({"path": "../../prepared", "manifest_sha256": manifest}))


def write_baselines(folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = [
        {
            "baseline": baseline,
            "labels": labels,
            "modality": modality,
            "split": "test",
            "auc": 0.7,
            "accuracy": 0.66,
            "n": 12,
        }
        for baseline, labels in (
            ("linear SVM on voxels", "visible"),
            ("linear SVM on voxels", "all"),
            ("zero labels", "none"),
        )
        for modality in ("mri", "pet", "all")
    ]
    rows.append(
        {"baseline": "Bayes, two summaries", "labels": "truth", "modality": "all", "split": "exact", "auc": 0.86}
    )
    rows[-1] |= {"accuracy": None, "balanced_accuracy": None, "n": None}
    rows.append(rows[0] | {"split": "external", "auc": 0.741})
    (folder / "baselines.json").write_text(json.dumps([row | {"balanced_accuracy": 0.65} for row in rows]))


def build_outputs(root: Path, simulated: bool = True, change=None) -> Path:
    """Write OUT/prepared and OUT/runs below `root`; `change(table)` may alter the cohort first."""
    generator = np.random.default_rng(0)
    table = cohort_table(generator)
    if change:
        change(table)
    write_prepared(root / "prepared", table, generator)
    for features, method in RUNS:
        write_run(root / "runs" / f"{features}-{method}-r0.1-s0", table, simulated, generator)
    write_baselines(root / "runs" / "baselines-r0.1-s0")
    return root


@pytest.fixture(scope="session", autouse=True)
def few_draws() -> Iterator[None]:
    """Five draws of the calibration and not two hundred: no test here is about the width of an interval."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redraw_calibration, "__defaults__", (DRAWS,))
        yield


@pytest.fixture(scope="session")
def outputs(made_once, tmp_path_factory) -> Path:
    return shutil.copytree(made_once("outputs", build_outputs), tmp_path_factory.mktemp("simulated") / "out")


@pytest.fixture(scope="session")
def real_outputs(made_once, tmp_path_factory) -> Path:
    made = made_once("real-outputs", partial(build_outputs, simulated=False))
    return shutil.copytree(made, tmp_path_factory.mktemp("real") / "out")


def run_folders(root: Path) -> list[Path]:
    return sorted(path for path in (root / "runs").iterdir() if (path / "metrics.json").is_file())
