"""What simple predictors reach on the same splits with the same labels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

from adni_tcgm.datasets import adni
from adni_tcgm.datasets.adni_adjust import SETTINGS
from adni_tcgm.datasets.adni_baselines import CLINICAL_FILE, compute_baselines
from adni_tcgm.storage import write_json
from pipelines.config import Settings
from pipelines.truth import Truth

# Raised when there are other baselines.
BASELINES_VERSION = 3


def baselines_dir(runs: Path, settings: Settings, seed: int) -> Path:
    return runs / f"baselines-r{settings.data.label_rate:g}-s{seed}"


def write_baselines(
    runs: Path, settings: list[Settings], seed: int, *, truth: Truth | None = None, external: Path | None = None
) -> Path:
    """What simple predictors reach on the same split with the same labels: `baselines.json` in a folder of its own."""
    voxels = next((s for s in settings if s.data.features == "voxels"), settings[0])
    folder = baselines_dir(runs, voxels, seed)
    tables = [Path(voxels.data.path) / name for name in ("manifest.tsv", CLINICAL_FILE)]
    content = b"".join(table.read_bytes() for table in tables if table.is_file())
    regions = next((s.data for s in settings if s.data.features == "regions"), None)
    about = {name: getattr(regions, name) for name in SETTINGS} if regions else {}
    inputs = {
        "seed": seed,
        "baselines_version": BASELINES_VERSION,
        **asdict(voxels.data),
        **about,
        "tables": hashlib.sha256(content).hexdigest(),
    }
    # Baselines look at voxels and at summaries whatever the classifiers see and the encoders learn.
    for key in ("path", "features", "targets"):
        inputs.pop(key)
    inputs = json.loads(json.dumps(inputs))  # tuples become lists, as they will be read
    stamp = folder / "inputs.json"
    if stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == inputs:
        return folder
    # The split is the same for either kind of features; baselines see regions as classifiers of regions do.
    splits = adni.load(regions or replace(voxels.data, features="regions"), seed)
    bayes = None
    if truth is not None:
        limits = truth.bayes_metrics(splits.test.sample_ids) or {}
        severities = {f"severity, {name}": values["auc"] for name, values in limits.items()}
        bayes = {**severities, **truth.summary_limit(splits.test.sample_ids)}
    rows = compute_baselines(voxels.data, splits, voxels.data.path, external, bayes)
    write_json(folder / "baselines.json", rows)
    write_json(stamp, inputs)
    return folder
