"""The demo over many simulated cohorts: does the default embarrass anybody?

`python -m benchmarks.demo_cohorts OUT --seeds 3000-3009`: every seed draws a disease and a cohort as `make demo` does
(all people written prepared), a split and labels, and trains what the demo trains. AUC of the probabilities shown to
people, on each cohort's own 60 test people, beside every baseline that sees no more labels; differences by a t interval
over cohorts. Writes OUT/table.tsv, a row a seed, learner and modality; resumable, a seed at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from scipy import stats

from adni_tcgm.storage import load_run
from benchmarks.few_labels import CONFIGS, METHODS, parse_seeds
from benchmarks.simulated_cohort import prepare
from pipelines.baselines import baselines_dir, write_baselines
from pipelines.config import Settings, load_settings
from pipelines.identity import run_name
from pipelines.training import train_run
from preprocessing.intake.labels import LabelRule
from preprocessing.simulated.people import CohortDesign

# Labels that a baseline may see beside those of the classifiers: none, the same, those of healthy people and patients.
NO_MORE_LABELS = ("none", "visible", "cn_ad")
# Whom `run_adni` labels by default.
CLASSES = ("cn", "stable", "converter", "ad")


def settings_of(prepared: Path, label_rate: float) -> list[Settings]:
    overrides = {"data.path": str(prepared), "data.label_rate": label_rate, "train.device": "cpu"}
    return [load_settings(config, overrides) for config in CONFIGS.values()]


def rows_of(runs: Path, settings: list[Settings], seed: int) -> Iterator[dict[str, object]]:
    """Rows seed, by, labels, modality, auc of the test people."""
    for one in settings:
        for method in METHODS:
            test = load_run(runs / run_name(one, method, seed)).metrics["test"]
            for modality, values in test.items():
                shown = {"by": f"{method}, {one.data.features}", "labels": "visible", "modality": modality}
                yield {"seed": seed, **shown, "auc": values["auc"]}
    found = json.loads((baselines_dir(runs, settings[0], seed) / "baselines.json").read_text(encoding="utf-8"))
    for row in found:
        if row["split"] == "test" and row["labels"] in NO_MORE_LABELS:
            shown = {name: row[name] for name in ("labels", "modality", "auc")}
            yield {"seed": seed, "by": row["baseline"], **shown}


def run_seed(out: Path, label_rate: float, seed: int) -> list[dict[str, object]]:
    """One cohort, on one thread. Once its rows are known, its people (0.4 GB) are deleted and its runs are kept."""
    torch.set_num_threads(1)
    folder = out / str(seed)
    done = folder / "rows.json"
    if not done.is_file():
        prepared = prepare(folder, CohortDesign(raw=0, truncated=0, seed=seed), jobs=1, rule=LabelRule(classes=CLASSES))
        settings = settings_of(prepared, label_rate)
        for one in settings:
            for method in METHODS:
                train_run(folder / "runs", one, method, seed, progress=False)
        write_baselines(folder / "runs", settings, seed)
        done.write_text(json.dumps(list(rows_of(folder / "runs", settings, seed))), encoding="utf-8")
        for people in ("raw", "prepared", "truth"):
            shutil.rmtree(folder / people)
    return json.loads(done.read_text(encoding="utf-8"))


def compare(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """AUC of `by` on both modalities less that of everything else on both: difference low high cohorts."""
    wide = table[table.modality == "all"].assign(name=lambda t: t.by + ", labels " + t.labels)
    wide = wide.pivot(index="seed", columns="name", values="auc")
    first = wide.pop(f"{by}, labels visible")
    found = {}
    for name in wide:
        test = stats.ttest_1samp((first - wide[name]).dropna(), 0)
        low, high = test.confidence_interval()
        found[name] = {"difference": (first - wide[name]).mean(), "low": low, "high": high, "cohorts": test.df + 1}
    return pd.DataFrame(found).T


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--seeds", type=parse_seeds, default=range(3000, 3010), help="the first and the last: 3000-3009"
    )
    parser.add_argument("--label-rate", type=float, default=0.1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args(argv)
    rows = []
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        for found in pool.map(partial(run_seed, arguments.out, arguments.label_rate), arguments.seeds):
            rows += found
            print(f"seed {found[0]['seed']} done", flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "table.tsv", sep="\t", index=False)
    print(
        table.groupby(["by", "labels", "modality"], sort=False).auc.agg(["mean", "std", "count"]).round(3).to_string()
    )
    for features in CONFIGS:
        print(f"\nAUC of TCGM on {features}, both modalities, less that of:")
        print(compare(table, f"tcgm, {features}").round(3).to_string())


if __name__ == "__main__":
    main()
