"""CE and TCGM with 18 labels, on voxels and on regions, beside every bar: judged on 2,000 people who never train.

`python -m benchmarks.few_labels OUT --seeds 5`: every seed draws a cohort, a split, labels and weights of its own.
`--learners voxels voxels:both regions` names what is compared: features, and after a colon their warm start.
Writes OUT/table.tsv and prints it with the paired differences TCGM - CE. Resumable: finished runs are kept.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch

from adni_tcgm.evaluation.intervals import PairedRun, paired_difference, verdicts
from adni_tcgm.evaluation.metrics import binary_auc
from adni_tcgm.storage import load_run
from benchmarks.simulated_cohort import evaluation_set, prepare
from pipelines.config import NO_WARM_START, Settings, load_settings
from pipelines.training import bars_dir, run_name, train_run, write_bars
from pipelines.truth import Truth
from preprocessing.simulated.people import CohortDesign

CONFIGS = {"voxels": "adni_voxels_cpu", "regions": "adni_regions"}
LEARNERS = ("voxels", "voxels:regions", "voxels:cross_modal", "voxels:both", "regions", "regions:cross_modal")
METHODS = ("ce", "tcgm")
MODALITIES = ("mri", "pet", "all")


def settings_for(out: Path, seed: int, learner: str, label_rate: float) -> Settings:
    features, _, warm_start = learner.partition(":")
    prepared = str(out / f"cohort-{seed}" / "prepared")
    overrides = {"data.path": prepared, "data.label_rate": label_rate, "train.device": "cpu"}
    overrides["warm_start"] = warm_start or NO_WARM_START
    return load_settings(CONFIGS[features], overrides)


def runs_of(out: Path, learner: str) -> Path:
    """A folder for each warm start: run folders are named by features, method, label rate and seed."""
    return out / "runs" / learner.partition(":")[2]


def run_seed(out: Path, seed: int, learners: tuple[str, ...], label_rate: float) -> int:
    """Everything of one seed, on one thread."""
    torch.set_num_threads(1)
    truth = Truth.read(out / f"cohort-{seed}" / "truth")
    judges = out / "evaluation" / "prepared"
    chosen = {name: settings_for(out, seed, name, label_rate) for name in learners}
    for name, settings in chosen.items():
        for method in METHODS:
            train_run(runs_of(out, name), settings, method, seed, truth=truth, evaluation=judges, progress=False)
    write_bars(out / "runs", list(chosen.values()), seed, truth=truth, evaluation=judges)
    return seed


def results(out: Path, seeds: range, learners: tuple[str, ...], label_rate: float) -> pd.DataFrame:
    """One row per method or bar, modality and seed, on the evaluation set."""
    rows = []
    for seed in seeds:
        chosen = {name: settings_for(out, seed, name, label_rate) for name in learners}
        for name, settings in chosen.items():
            for method in METHODS:
                metrics = load_run(runs_of(out, name) / run_name(settings, method, seed)).metrics
                for modality, values in metrics["evaluation"].items():
                    calibrated = metrics["evaluation_calibrated"][modality]
                    shown = {"by": f"{method}, {name}", "labels": "visible", "modality": modality}
                    figures = {"log_loss": calibrated["log_loss"], "brier": calibrated["brier"]}
                    figures |= {"test_auc": metrics["test"][modality]["auc"]}
                    figures |= {"validation_log_loss": metrics["validation"][modality]["log_loss"]}
                    rows.append(shown | {"seed": seed, "auc": values["auc"], "accuracy": values["accuracy"]} | figures)
        bars = bars_dir(out / "runs", next(iter(chosen.values())), seed) / "bars.json"
        for bar in json.loads(bars.read_text(encoding="utf-8")):
            if bar["split"] == "evaluation":
                shown = {"by": bar["bar"], "labels": bar["labels"], "modality": bar["modality"], "seed": seed}
                rows.append(shown | {"auc": bar["auc"], "accuracy": bar["accuracy"]})
    return pd.DataFrame(rows)


def paired_runs(out: Path, seeds: range, learner: str, modality: str, label_rate: float) -> Iterator[PairedRun]:
    """TCGM (first) and CE (second) of every seed on the evaluation people who have the modality."""
    for seed in seeds:
        settings = settings_for(out, seed, learner, label_rate)
        scores = {}
        for method in METHODS:
            table = load_run(runs_of(out, learner) / run_name(settings, method, seed)).predictions
            rows = table[(table.split == "evaluation") & (table.modality == modality)]
            scores[method] = rows.set_index("sample_id")
        first, second = scores["tcgm"], scores["ce"].loc[scores["tcgm"].index]
        labels = (first.label == "converter").to_numpy().astype(int)
        yield PairedRun(list(first.index), labels, first.p_converter.to_numpy(), second.p_converter.to_numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--label-rate", type=float, default=0.1)
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    parser.add_argument("--people", type=int, default=2000, help="size of the evaluation set")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    out, seeds, learners = arguments.out, range(arguments.seeds), tuple(arguments.learners)
    evaluation_set(out / "evaluation", arguments.people, arguments.jobs)
    for seed in seeds:
        prepare(out / f"cohort-{seed}", CohortDesign(raw=0, truncated=0, seed=seed), arguments.jobs)
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run_seed, out, seed, learners, arguments.label_rate) for seed in seeds]
        for future in futures:
            print(f"seed {future.result()} done", flush=True)

    table = results(out, seeds, learners, arguments.label_rate)
    table.to_csv(out / "table.tsv", sep="\t", index=False)
    grouped = table.groupby(["by", "labels", "modality"], sort=False)
    columns = ["auc", "accuracy", "log_loss", "brier", "test_auc", "validation_log_loss"]
    print(grouped[columns].agg(["mean", "std"]).round(3).to_string())
    comparisons = {}
    for name in learners:
        for modality in MODALITIES:
            runs = list(paired_runs(out, seeds, name, modality, arguments.label_rate))
            comparisons[f"{name}, {modality}"] = paired_difference(binary_auc, runs)
    shown = verdicts(comparisons)
    print(f"\nTCGM - CE, AUC, {arguments.seeds} seeds, bootstrap over seeds and people, Holm over the comparisons")
    for name, d in comparisons.items():
        print(f"{name:24} {d.estimate:+.3f} [{d.low:+.3f}, {d.high:+.3f}]  {shown[name]}")
    bayes = Truth.read(out / "evaluation" / "truth")
    people = pd.read_csv(out / "evaluation" / "prepared" / "manifest.tsv", sep="\t")
    ids = (people.participant_id + "_" + people.session_id).tolist()
    print("\nBayes, severities:", bayes.bayes_metrics(ids))
    print("Bayes, summaries:", bayes.summary_limit(ids))


if __name__ == "__main__":
    main()
