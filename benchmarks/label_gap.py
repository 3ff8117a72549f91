"""Why does TCGM with few labels lie below the same classifiers with all labels?

`python -m benchmarks.label_gap OUT --full FULL --seeds 1000-1019`: cohorts of regional measurements as in
`benchmarks.austere`, of seeds that no confirmation uses. Of 2,000 further people with the same disease half may train
and half are tested. What TCGM lacks is taken away one by one: more unlabeled people (is it that few show what the
modalities share?), all labels, the labels of the further thousand (what linear classifiers could reach at all), and all
training people with labels drawn anew from that rule's posterior (is it the chance of single labels?). Writes
OUT/table.tsv, and prints mean AUCs of both modalities, differences by t over cohorts, and the correlation over cohorts
of the gap with what might explain it. SIMULATED.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from adni_tcgm.datasets import adni
from adni_tcgm.evaluation.metrics import binary_auc
from adni_tcgm.files import write_text
from adni_tcgm.tables import to_tsv
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch, Splits, join
from adni_tcgm.tcgm.trainer import predict
from benchmarks.austere import prepare, with_all_labels
from benchmarks.few_labels import parse_seeds
from benchmarks.regional_cohorts import Response, fit_response
from pipelines.config import load_settings
from pipelines.fitting import fitter, shown_to_training

DRAWS = 20  # of labels for each training person
TCGM, MORE, ALL, TAUGHT, BEST = (
    "TCGM, 18 labels",
    "TCGM, 18 labels, 1000 more unlabeled",
    "CE, all training labels",
    "CE, labels from the posterior of the last rule",
    "CE, 1000 more people with labels",
)


def without_labels(batch: MultimodalBatch) -> MultimodalBatch:
    return replace(batch, labels=torch.full_like(batch.labels, UNLABELED))


def draw_labels(batch: MultimodalBatch, converter: np.ndarray, rng: np.random.Generator) -> MultimodalBatch:
    """Everybody DRAWS times, each with a label drawn from P(converter), (N,)."""
    many = batch.select(torch.arange(len(batch)).repeat(DRAWS))
    return replace(many, labels=torch.from_numpy((rng.random(len(many)) < np.tile(converter, DRAWS)).astype(np.int64)))


def halves(batch: MultimodalBatch) -> tuple[MultimodalBatch, MultimodalBatch]:
    rows = torch.arange(len(batch))
    return batch.select(rows[rows % 2 == 0]), batch.select(rows[rows % 2 == 1])


def judge_seed(cohort: Path, external: Path, seed: int) -> dict[str, float]:
    """Learner -> AUC of both modalities among the thousand people who never train, and what might explain the gap."""
    settings = load_settings("adni_regions", {"data.path": str(cohort), "data.label_rate": 0.1, "train.device": "cpu"})
    splits = settings.load(seed)
    more, tested = halves(adni.load_people(settings.data, splits.norms, external, splits.adjustment))
    # Targets of pretraining, which the further people do not have and nothing here uses.
    splits = replace(splits, train=replace(splits.train, targets={}))
    shown, everybody = shown_to_training(settings, splits), with_all_labels(splits)

    def train_and_predict(method: str, part: Splits, asked: MultimodalBatch) -> Mapping[str, np.ndarray]:
        """Modality -> (N,) log odds of converting."""
        fitted = fitter(settings, method, part, seed)(part, None, None)
        return {name: (v[:, 1] - v[:, 0]).numpy() for name, v in predict(fitted, asked, chunk=500).items()}

    def with_train(train: MultimodalBatch) -> Splits:
        return replace(shown, train=train)

    labeled = with_train(join([everybody.train, more]))
    best = train_and_predict("ce", labeled, tested)
    odds = train_and_predict("ce", labeled, splits.train)["all"]
    taught = draw_labels(splits.train, 1 / (1 + np.exp(-odds)), np.random.default_rng(seed))
    found = {
        TCGM: train_and_predict("tcgm", shown, tested),
        MORE: train_and_predict("tcgm", with_train(join([shown.train, without_labels(more)])), tested),
        ALL: train_and_predict("ce", with_train(everybody.train), tested),
        TAUGHT: train_and_predict("ce", with_train(taught), tested),
        BEST: best,
    }
    labels = tested.labels.numpy()
    return {name: binary_auc(labels, scores["all"]) for name, scores in found.items()} | explain(labels, best)


def explain(labels: np.ndarray, best: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Cohen's d of the best rule of each modality, and how far the two follow each other within a class."""
    groups = {name: [best[name][labels == c] for c in (0, 1)] for name in ("mri", "pet")}
    found = {}
    for name, (stable, converter) in groups.items():
        spread = ((stable.var() + converter.var()) / 2) ** 0.5
        found[f"d of the best rule, {name}"] = float((converter.mean() - stable.mean()) / spread)
    centered = [np.concatenate([g - g.mean() for g in groups[name]]) for name in groups]
    return found | {"correlation of the best rules within class": float(np.corrcoef(*centered)[0, 1])}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--full", type=Path, required=True, help="a cohort that took the full path")
    parser.add_argument("--seeds", type=parse_seeds, default=range(1000, 1020), help="the first and the last")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    kept = arguments.out / "response.npz"
    response = Response.read(kept) if kept.is_file() else fit_response(arguments.full)
    if not kept.is_file():
        response.save(kept)
    rows = {seed: judge_seed(*prepare(arguments.out, seed, response), seed) for seed in arguments.seeds}
    table = pd.DataFrame(rows).T
    write_text(arguments.out / "table.tsv", to_tsv(table.rename_axis("seed").reset_index()))
    print(table.agg(["mean", "std"]).T.round(3).to_string())
    print("\nAUC less that of TCGM, 95 % by t over cohorts")
    for name in (MORE, ALL, TAUGHT, BEST):
        found = stats.ttest_1samp(table[name] - table[TCGM], 0)
        low, high = found.confidence_interval()
        print(f"{name:48} {(table[name] - table[TCGM]).mean():+.3f} [{low:+.3f}, {high:+.3f}]")
    print(f"\ncorrelation over cohorts of '{ALL}' less TCGM, Spearman")
    for name in table.columns.difference([TCGM, MORE, ALL, TAUGHT, BEST], sort=False):
        found = stats.spearmanr(table[name], table[ALL] - table[TCGM])
        print(f"{name:48} {found.statistic:+.2f} (p {found.pvalue:.2f})")


if __name__ == "__main__":
    main()
