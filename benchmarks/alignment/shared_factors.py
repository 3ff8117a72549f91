"""What both modalities share, told from what one shows alone: does `pretraining.shared_private` help with 18 labels?

First a toy whose factors are known: of 16 numbers a modality, one shared factor and two of its own, each of these twice
as strong, through a random map (linear, or with a squashing layer). Then the simulation's regional measurements, with
people whose two modalities agree through the disease alone and with a further, unrecorded factor that both share.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student

from adni_tcgm.evaluation.intervals import Difference, verdicts
from adni_tcgm.evaluation.metrics import binary_auc
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.pretraining.pretext import Pretraining, pretrain
from adni_tcgm.pretraining.shared_private import SharedPrivate, pretrain_shared
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch
from adni_tcgm.tcgm.encoders import encode
from benchmarks.alignment.cohort import WIDTH, draw_cohort
from benchmarks.alignment.learner import Runs, log_odds, log_prior, train
from benchmarks.alignment.sites import METHODS, draw_labels, standardized

NONE, TOYS, NUISANCES = "none", ("linear", "squashed"), (0.0, 1.0)
LINEAR, BENT = MLPConfig(), MLPConfig(hidden=(32,))
# Batches of all people that there are; widths and weights as chosen on seeds 1000 to 1002.
SHARED = SharedPrivate(private=4, shared=2, components=8, batch_size=128)
OTHERS = Pretraining(tasks=("cross_modal",), components=8, batch_size=128, steps=600)
Encode = Callable[[MultimodalBatch], MultimodalBatch]


def batch_of(values: dict[str, np.ndarray]) -> MultimodalBatch:
    """Everybody has every modality, and no label."""
    count = len(next(iter(values.values())))
    inputs = {name: torch.tensor(v).float() for name, v in values.items()}
    there = torch.ones(count, len(inputs), dtype=torch.bool)
    return MultimodalBatch([str(i) for i in range(count)], inputs, there, torch.full((count,), UNLABELED))


def encoders_of(name: str, people: MultimodalBatch, net: MLPConfig, seed: int) -> Encode:
    """Standardized inputs -> standardized representation, learned from these people."""
    if name == NONE:
        return lambda batch: batch
    modalities = [Modality(key, tuple(v.shape[1:])) for key, v in people.inputs.items()]
    fit, settings = {"cross_modal": (pretrain, OTHERS), "shared_private": (pretrain_shared, SHARED)}[name]
    found = fit(settings, net, modalities, people, seed=seed, device="cpu")
    return lambda batch: encode(found, batch)


PRETRAININGS = (NONE, "cross_modal", "shared_private")


def draw_toy(kind: str, count: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Inputs, the shared factor (N,) and the private ones, modality -> (N, 2). A seed has one map for all counts."""
    rng = np.random.default_rng([seed, count])
    shared, inputs, private = rng.standard_normal(count), {}, {}
    for stage, name in enumerate(("a", "b")):
        maps = np.random.default_rng([seed, 7, stage])
        private[name] = rng.standard_normal((count, 2))
        factors = np.column_stack([shared, 2 * private[name]]) @ maps.standard_normal((3, 16)) / 3**0.5
        values = np.tanh(factors) if kind == "squashed" else factors
        inputs[name] = values + 0.3 * rng.standard_normal(values.shape)
    return inputs, shared, private


def explained(codes: np.ndarray, factor: np.ndarray, others: tuple[np.ndarray, np.ndarray]) -> float:
    """R² of a least-squares line from the codes to the factor, on other people."""
    design, new = (np.column_stack([np.ones(len(c)), c]) for c in (codes, others[0]))
    found = new @ np.linalg.lstsq(design, factor, rcond=None)[0]
    return float(1 - ((others[1] - found) ** 2).sum() / ((others[1] - others[1].mean(0)) ** 2).sum())


def toy_rows(kind: str, seed: int) -> list[dict]:
    """What two codes a modality know of the shared and of the private factors; 300 people, 300 others judge."""
    (inputs, shared, private), (new, new_shared, new_private) = (draw_toy(kind, n, seed) for n in (300, 301))
    people, others, rows = batch_of(inputs), batch_of(new), []
    for name in PRETRAININGS[1:]:
        encoded = encoders_of(name, people, LINEAR if kind == "linear" else BENT, seed)
        codes, judged = (encoded(batch).inputs["a"].numpy() for batch in (people, others))
        known = explained(codes, shared, (judged, new_shared))
        own = explained(codes, private["a"], (judged, new_private["a"]))
        rows.append({"toy": kind, "seed": seed, "pretraining": name, "shared": known, "private": own})
    return rows


def cohort_rows(seed: int, nuisance: float) -> list[dict]:
    """AUC of CE and TCGM on measurements and on what encoders say of them. nuisance: how much of the within-class SD of
    every measurement is one unrecorded factor of a person's, alike in both modalities."""
    parts = draw_cohort(seed, imbalance=0.0)
    rng = np.random.default_rng([seed, 103])
    signs = {name: rng.choice([-1.0, 1.0], v.shape[1]) for name, v in parts[0].values.items()}
    for people in parts:
        factor = rng.standard_normal(len(people.labels))
        for name, values in people.values.items():
            values += 0.5 * nuisance * factor[:, None] * signs[name]
    z = standardized(parts)
    names = list(parts[0].values)
    people, judges = (batch_of(dict(zip(names, part, strict=True))) for part in z)
    hidden, rows = torch.tensor(draw_labels(parts[0].labels, seed)), []
    for name in PRETRAININGS:
        encoded = encoders_of(name, people, LINEAR, seed)
        x, judged = (torch.stack(list(encoded(batch).inputs.values())) for batch in (people, judges))
        x, judged = (torch.nn.functional.pad(v, (0, max(0, WIDTH - v.shape[-1])))[None] for v in (x, judged))
        row = {"seed": seed, "nuisance": nuisance, "pretraining": name}
        for method, gain in METHODS.items():
            runs = Runs(x, torch.ones(x.shape[:3], dtype=torch.bool), hidden[None], torch.tensor([gain]))
            there = torch.ones(judged.shape[:3], dtype=torch.bool)
            scores = log_odds(*train(runs, seed), judged, there, log_prior(runs.labels)).numpy()
            row[method] = binary_auc(parts[1].labels, scores[0])
        rows.append(row)
    return rows


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """AUC of each pretraining less that of none: t intervals over seeds, Holm within a nuisance and a method."""
    rows = []
    for (nuisance, part), method in ((g, m) for g in table.groupby("nuisance") for m in METHODS):
        aucs, found = part.pivot(index="seed", columns="pretraining", values=method), {}
        for name in PRETRAININGS[1:]:
            d = (aucs[name] - aucs[NONE]).to_numpy()
            error = d.std(ddof=1) / len(d) ** 0.5
            half = student.ppf(0.975, len(d) - 1) * error
            p = 2 * student.sf(abs(d.mean()) / error, len(d) - 1)
            found[name] = Difference(d.mean(), d.mean() - half, d.mean() + half, float(p), len(d))
        shown = verdicts(found)
        rows += [
            {"nuisance": nuisance, "method": method, "pretraining": key, "difference": d.estimate}
            | {"low": d.low, "high": d.high, "verdict": shown[key]}
            for key, d in found.items()
        ]
    return pd.DataFrame(rows)


def run(out: Path, seeds: range) -> None:
    """Writes OUT/shared-toys.tsv, OUT/shared.tsv and OUT/shared-paired.tsv, and prints them."""
    torch.set_num_threads(1)
    toys = pd.DataFrame([row for kind in TOYS for seed in seeds for row in toy_rows(kind, seed)])
    toys.to_csv(out / "shared-toys.tsv", sep="\t", index=False)
    columns = ["shared", "private"]
    print(toys.groupby(["toy", "pretraining"])[columns].agg(["mean", "std"]).round(3).to_string(), flush=True)
    table = pd.DataFrame([row for n in NUISANCES for seed in seeds for row in cohort_rows(seed, n)])
    table.to_csv(out / "shared.tsv", sep="\t", index=False)
    print(table.groupby(["nuisance", "pretraining"])[list(METHODS)].agg(["mean", "std"]).round(3).to_string())
    paired = compare(table)
    paired.to_csv(out / "shared-paired.tsv", sep="\t", index=False)
    print(paired.round(3).to_string(index=False))
