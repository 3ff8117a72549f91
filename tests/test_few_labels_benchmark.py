"""The comparisons of the benchmark with few labels: who is paired with whom, and on which people."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from adni_tcgm.datasets.adni import AdniConfig, load
from adni_tcgm.datasets.adni_baselines import compute_baselines
from adni_tcgm.datasets.adni_people import read_people
from adni_tcgm.evaluation.metrics import binary_auc
from adni_tcgm.storage import split_table
from benchmarks import few_labels
from benchmarks.few_labels import bar_scores, compare, parse_seeds
from tests.datasets.conftest import write_prepared

PEOPLE = [f"p{i}" for i in range(40)]
LABELS = np.arange(40) % 2


def scores_of(seed: int, learner: str, method: str, modality: str) -> np.ndarray:
    # A text's own hash changes from one process to the next.
    number = sum(f"{seed}{learner}{method}{modality}".encode())
    return np.random.default_rng(number).random(40) + (0.3 if method == "tcgm" else 0.1) * LABELS


def made_up_run(out: Path, seed: int, learner: str, method: str, label_rate: float) -> SimpleNamespace:
    """Predictions of the same people in an order of the run's own, and others that must not be read."""
    tables = []
    for modality in few_labels.MODALITIES:
        label = np.where(LABELS == 1, "converter", "stable")
        scores = scores_of(seed, learner, method, modality)
        table = pd.DataFrame(
            {"sample_id": PEOPLE, "label": label, "log_p_calibrated_converter": scores, "log_p_calibrated_stable": 0.0}
        )
        table = table.sample(frac=1, random_state=len(learner + method))
        tables += [table.assign(split=split, modality=modality) for split in ("external", "test")]
        tables[-1]["log_p_calibrated_converter"] = 0.0
    return SimpleNamespace(predictions=pd.concat(tables))


def test_differences_are_those_of_the_same_people_and_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(few_labels, "run_of", made_up_run)
    baseline = np.random.default_rng(5).random(40)
    # In the order that is asked for, which is that of the first learner's run.
    by_name = dict(zip(PEOPLE, baseline, strict=True))
    monkeypatch.setattr(
        few_labels, "bar_scores", lambda out, seed, run, people: {"mean z": np.array([by_name[p] for p in people])}
    )
    found = compare(tmp_path, range(3), ("voxels:both", "regions"), 0.1)
    assert len(found) == 2 * 3 + 1 + 1

    def auc(seed: int, learner: str, method: str, modality: str = "all") -> float:
        return binary_auc(LABELS, scores_of(seed, learner, method, modality))

    first = [auc(seed, "voxels:both", "tcgm") for seed in range(3)]
    expected = {
        "regions, pet: TCGM - CE": [
            auc(seed, "regions", "tcgm", "pet") - auc(seed, "regions", "ce", "pet") for seed in range(3)
        ],
        "TCGM, all: voxels:both - regions": [first[seed] - auc(seed, "regions", "tcgm") for seed in range(3)],
        "TCGM, all: voxels:both - mean z": [value - binary_auc(LABELS, baseline) for value in first],
    }
    for name, values in expected.items():
        assert found[name].estimate == pytest.approx(np.mean(values)), name


def test_bars_by_person_are_the_bars_that_are_reported(tmp_path: Path) -> None:
    cohort = write_prepared(tmp_path / "cohort-3" / "prepared", people=30, pool=2, raw=4, maps=True)
    external = write_prepared(tmp_path / "external" / "prepared", people=20, pool=0, raw=4, maps=True, seed=1)
    config = AdniConfig(str(cohort.path), features="regions", label_rate=0.4)
    splits = load(config, 3)
    people, _ = read_people(external.path)
    labels = people.status.map({"stable": 0, "converter": 1}).to_numpy()
    run = SimpleNamespace(splits=split_table(splits))
    found = bar_scores(tmp_path, 3, run, people.sample_id.tolist())
    reported = {
        row["baseline"]: row["auc"]
        for row in compute_baselines(config, splits, cohort.path, external.path)
        if row["split"] == "external" and row["labels"] in ("visible", "none")
    }
    seen = ~np.isnan(found["mean z"])
    assert binary_auc(labels[seen], found["mean z"][seen]) == reported["mean of the two deficit z-scores"]
    assert binary_auc(labels, found["logistic"]) == reported["logistic, hippocampus + meta-ROI + age"]


def test_seeds_are_a_number_or_a_range() -> None:
    assert (parse_seeds("3"), parse_seeds("5-9")) == (range(3), range(5, 10))
