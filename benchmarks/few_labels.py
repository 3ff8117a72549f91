"""CE and TCGM with 18 labels, on voxels and on regions, beside every baseline, on an external test set of 2,000 people.

`python -m benchmarks.few_labels OUT --seeds 0-9`: every seed draws a cohort, a split, labels and weights of its own.
`--learners voxels:both regions` names what is compared: features, and after a colon their pretraining. The first is the
one whose TCGM is set against the baselines and against the TCGM of the others.
Writes OUT/table-r0.1.tsv and prints it with all paired differences. Resumable: finished runs are kept.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adni_tcgm.datasets.adni_baselines import DEFICITS, SEVERITY
from adni_tcgm.datasets.adni_regions import summaries
from adni_tcgm.evaluation.baselines import logistic_scores, mean_z_scores
from adni_tcgm.evaluation.intervals import Difference, PairedRun, paired_difference, verdicts
from adni_tcgm.evaluation.metrics import binary_auc
from adni_tcgm.storage import Run, load_run
from adni_tcgm.tcgm.batch import UNLABELED
from benchmarks.simulated_cohort import EXTERNAL_SEED, external_test_set, prepare
from pipelines.baselines import baselines_dir, write_baselines
from pipelines.config import NO_PRETRAINING, Settings, load_settings
from pipelines.identity import run_name
from pipelines.training import train_run
from pipelines.truth import Truth
from preprocessing.simulated.people import CohortDesign

CONFIGS = {"voxels": "adni_voxels_cpu", "regions": "adni_regions"}
LEARNERS = ("voxels", "voxels:regions", "voxels:cross_modal", "voxels:both", "regions", "regions:cross_modal")
METHODS = ("ce", "tcgm")
MODALITIES = ("mri", "pet", "all")


def settings_for(out: Path, seed: int, learner: str, label_rate: float) -> Settings:
    features, _, pretraining = learner.partition(":")
    prepared = str(out / f"cohort-{seed}" / "prepared")
    overrides = {"data.path": prepared, "data.label_rate": label_rate, "train.device": "cpu"}
    overrides["pretraining"] = pretraining or NO_PRETRAINING
    return load_settings(CONFIGS[features], overrides)


def runs_of(out: Path, learner: str) -> Path:
    """A folder for each pretraining: run folders are named by features, method, label rate and seed."""
    return out / "runs" / learner.partition(":")[2]


def run_seed(out: Path, seed: int, learners: tuple[str, ...], label_rate: float) -> int:
    """Everything of one seed, on one thread."""
    torch.set_num_threads(1)
    truth = Truth.read(out / f"cohort-{seed}" / "truth")
    external = out / "external" / "prepared"
    chosen = {name: settings_for(out, seed, name, label_rate) for name in learners}
    for name, settings in chosen.items():
        for method in METHODS:
            train_run(runs_of(out, name), settings, method, seed, truth=truth, external=external, progress=False)
    write_baselines(out / "runs", list(chosen.values()), seed, truth=truth, external=external)
    return seed


def results(out: Path, seeds: Sequence[int], learners: tuple[str, ...], label_rate: float) -> pd.DataFrame:
    """One row per method or baseline, modality and seed, on the external test set."""
    rows = []
    for seed in seeds:
        chosen = {name: settings_for(out, seed, name, label_rate) for name in learners}
        for name, settings in chosen.items():
            for method in METHODS:
                metrics = load_run(runs_of(out, name) / run_name(settings, method, seed)).metrics
                for modality, values in metrics["external"].items():
                    shown = {"by": f"{method}, {name}", "labels": "visible", "modality": modality}
                    figures = {"log_loss": values["log_loss"], "brier": values["brier"]}
                    figures |= {"test_auc": metrics["test"][modality]["auc"]}
                    figures |= {"validation_log_loss": metrics["validation"][modality]["log_loss"]}
                    rows.append(shown | {"seed": seed, "auc": values["auc"], "accuracy": values["accuracy"]} | figures)
        baselines = baselines_dir(out / "runs", next(iter(chosen.values())), seed) / "baselines.json"
        for baseline in json.loads(baselines.read_text(encoding="utf-8")):
            if baseline["split"] == "external":
                shown = {
                    "by": baseline["baseline"],
                    "labels": baseline["labels"],
                    "modality": baseline["modality"],
                    "seed": seed,
                }
                rows.append(shown | {"auc": baseline["auc"], "accuracy": baseline["accuracy"]})
    return pd.DataFrame(rows)


def run_of(out: Path, seed: int, learner: str, method: str, label_rate: float) -> Run:
    settings = settings_for(out, seed, learner, label_rate)
    return load_run(runs_of(out, learner) / run_name(settings, method, seed))


def judged(run: Run, modality: str) -> pd.DataFrame:
    """`label log_odds` (calibrated) of the external test people who have the modality, by their ids."""
    rows = run.predictions[(run.predictions.split == "external") & (run.predictions.modality == modality)]
    odds = rows.log_p_calibrated_converter - rows.log_p_calibrated_stable
    return rows.assign(log_odds=odds).set_index("sample_id")


def bar_scores(out: Path, seed: int, run: Run, people: Sequence[str]) -> dict[str, np.ndarray]:
    """Baseline -> (N,) scores of these external test people, where a table is enough; labels are the run's."""
    train = run.splits[run.splits.split == "train"]
    known = summaries(out / f"cohort-{seed}" / "prepared", train.sample_id.tolist())
    asked = summaries(out / "external" / "prepared", people)
    labels = np.where(train.label_visible, train.label == "converter", UNLABELED)
    rule = logistic_scores(known[SEVERITY].to_numpy(), labels, [asked[SEVERITY].to_numpy()])
    mean_z = mean_z_scores(known[DEFICITS].to_numpy(), (-1.0, -1.0), [asked[DEFICITS].to_numpy()])
    return {"logistic": rule[0], "mean z": mean_z[0]}


def compare(out: Path, seeds: Sequence[int], learners: Sequence[str], label_rate: float) -> dict[str, Difference]:
    """AUC of TCGM less that of CE for each learner and modality; of the first learner's TCGM less that of the
    baselines and of the other learners. One run a seed, on the external test people who have the modality."""
    pairs: dict[str, list[PairedRun]] = {}
    for seed in seeds:
        best = run_of(out, seed, learners[0], "tcgm", label_rate)
        for name, modality in ((name, modality) for name in learners for modality in MODALITIES):
            tcgm, ce = (judged(run_of(out, seed, name, method, label_rate), modality) for method in ("tcgm", "ce"))
            _pair(pairs, f"{name}, {modality}: TCGM - CE", tcgm, ce.log_odds.loc[tcgm.index])
        first = judged(best, "all")
        for name in learners[1:]:
            other = judged(run_of(out, seed, name, "tcgm", label_rate), "all").log_odds
            _pair(pairs, f"TCGM, all: {learners[0]} - {name}", first, other.loc[first.index])
        for name, scores in bar_scores(out, seed, best, first.index.tolist()).items():
            _pair(pairs, f"TCGM, all: {learners[0]} - {name}", first, pd.Series(scores, first.index))
    return {name: paired_difference(binary_auc, runs, "shared") for name, runs in pairs.items()}


def _pair(pairs: dict[str, list[PairedRun]], name: str, first: pd.DataFrame, second: pd.Series) -> None:
    labels = (first.label == "converter").to_numpy().astype(int)
    run = PairedRun(list(first.index), labels, first.log_odds.to_numpy(), second.to_numpy())
    pairs.setdefault(name, []).append(run)


def parse_seeds(text: str) -> range:
    """ "0-9" -> 0 to 9; "5" -> 0 to 4, five of them."""
    first, dash, last = text.partition("-")
    return range(int(first), int(last) + 1) if dash else range(int(first))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=parse_seeds, default=range(5), help="how many, or the first and the last: 5-9")
    parser.add_argument("--label-rate", type=float, default=0.1)
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    parser.add_argument("--people", type=int, default=2000, help="size of the external test set")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    out, seeds, learners, rate = arguments.out, arguments.seeds, tuple(arguments.learners), arguments.label_rate
    external_test_set(out / "external", arguments.people, arguments.jobs)
    for seed in seeds:
        design = CohortDesign(raw=0, truncated=0, seed=seed, disease_seed=EXTERNAL_SEED)
        prepare(out / f"cohort-{seed}", design, arguments.jobs)
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run_seed, out, seed, learners, rate) for seed in seeds]
        for future in futures:
            print(f"seed {future.result()} done", flush=True)

    table = results(out, seeds, learners, rate)
    table.to_csv(out / f"table-r{rate:g}.tsv", sep="\t", index=False)
    grouped = table.groupby(["by", "labels", "modality"], sort=False)
    columns = ["auc", "accuracy", "log_loss", "brier", "test_auc", "validation_log_loss"]
    print(grouped[columns].agg(["mean", "std"]).round(3).to_string())
    comparisons = compare(out, seeds, learners, rate)
    shown = verdicts(comparisons)
    print(f"\nDifferences of AUC, {len(seeds)} seeds, bootstrap over seeds and people, Holm over these comparisons")
    for name, d in comparisons.items():
        print(f"{name:48} {d.estimate:+.3f} [{d.low:+.3f}, {d.high:+.3f}] p {d.p_value:.4f}  {shown[name]}")
    bayes = Truth.read(out / "external" / "truth")
    people = pd.read_csv(out / "external" / "prepared" / "manifest.tsv", sep="\t")
    ids = (people.participant_id + "_" + people.session_id).tolist()
    print("\nBayes, severities:", bayes.bayes_metrics(ids))
    print("Bayes, summaries:", bayes.summary_limit(ids))


if __name__ == "__main__":
    main()
