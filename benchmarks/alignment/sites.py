"""Which alignment helps a classifier of many sites, and which harms: simulated cohorts, 18 labels, 1,000 judges."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from adni_tcgm.alignment import ALIGNMENTS
from adni_tcgm.evaluation.intervals import Difference, verdicts
from adni_tcgm.evaluation.metrics import binary_auc
from benchmarks.alignment.cohort import WIDTH, People, draw_cohort, scan
from benchmarks.alignment.learner import Runs, log_odds, log_prior, train

CONDITIONS = {"no scanner": (0.0, True)} | {
    f"{kind} {size:g}": (size, kind == "linear") for kind in ("linear", "nonlinear") for size in (0.5, 1.0)
}
NONE, LABELS = "none", 18
METHODS = {"CE": False, "TCGM": True}


def align(name: str, parts: tuple[People, People], seed: int) -> tuple[People, People]:
    """Both parts aligned as fitted on the first."""
    if name == NONE:
        return parts
    found = [{}, {}]
    for modality, values in parts[0].values.items():
        first = parts[0]
        alignment = ALIGNMENTS[name](**({} if name == "site" else {"measure_remaining": False}))
        alignment.fit(torch.tensor(values), first.sites.tolist(), torch.tensor(first.covariates), seed=seed)
        for part, people in zip(found, parts, strict=True):
            arguments = torch.tensor(people.values[modality]), people.sites.tolist(), torch.tensor(people.covariates)
            part[modality] = alignment.transform(*arguments).numpy()
    return tuple(replace(people, values=values) for values, people in zip(found, parts, strict=True))


def standardized(parts: tuple[People, People]) -> list[np.ndarray]:
    """(M, N, WIDTH) of both, in SDs from the mean of the training people; 0 where a modality has fewer features."""
    stacked = []
    for people in parts:
        rows = []
        for name, values in people.values.items():
            first = parts[0].values[name]
            z = (values - first.mean(0)) / first.std(0)
            rows.append(np.pad(z, ((0, 0), (0, WIDTH - z.shape[1]))))
        stacked.append(np.stack(rows))
    return stacked


def site_predictability(parts: tuple[People, People], z: list[np.ndarray]) -> float:
    """Balanced accuracy, on the judges, of a logistic rule of features and their squares; sites of 20 people on."""
    names, counts = np.unique(parts[0].sites, return_counts=True)
    large = names[counts >= 20]
    rows = [np.isin(people.sites, large) for people in parts]
    x = [np.concatenate([np.concatenate(list(v), 1), np.concatenate(list(v), 1) ** 2], 1) for v in z]
    rule = LogisticRegression(C=0.1, max_iter=200).fit(x[0][rows[0]], parts[0].sites[rows[0]])
    return balanced_accuracy_score(parts[1].sites[rows[1]], rule.predict(x[1][rows[1]]))


def disease_direction(clean: People, z: np.ndarray) -> np.ndarray:
    """(M, WIDTH): the ridge discriminant of all true labels before any scanner."""
    known = clean.labels >= 0
    x = np.concatenate(list(z), 1)[known]
    rule = LogisticRegression(C=0.1, max_iter=200).fit(x, clean.labels[known])
    return rule.coef_.reshape(len(z), WIDTH)


def effect(z: np.ndarray, direction: np.ndarray, labels: np.ndarray) -> float:
    """Cohen's d of the judges along the direction."""
    score = np.einsum("mnf,mf->n", z, direction)
    groups = [score[labels == c] for c in (0, 1)]
    return float((groups[1].mean() - groups[0].mean()) / np.sqrt(np.mean([g.var() for g in groups])))


def draw_labels(labels: np.ndarray, seed: int) -> np.ndarray:
    """All hidden but LABELS of them."""
    known = np.flatnonzero(labels >= 0)
    rng = np.random.default_rng([seed, 102])
    shown = np.concatenate([rng.permutation(known[labels[known] == c])[: LABELS // 2] for c in (0, 1)])
    hidden = np.full(len(labels), -1)
    hidden[shown] = labels[shown]
    return hidden


def one_seed(seed: int, cells: list[tuple[str, str]], imbalance: float) -> pd.DataFrame:
    """Rows `seed condition alignment` with every figure; cells: (condition, alignment)."""
    clean = draw_cohort(seed, imbalance)
    direction = disease_direction(clean[0], standardized(clean)[0])
    hidden = torch.tensor(draw_labels(clean[0].labels, seed))
    rows, inputs = [], []
    for condition, name in cells:
        size, linear = CONDITIONS[condition]
        aligned = align(name, scan(clean, size, linear, seed), seed)
        z = standardized(aligned)
        figures = {"site": site_predictability(aligned, z), "d": effect(z[1], direction, clean[1].labels)}
        rows.append({"seed": seed, "condition": condition, "alignment": name} | figures)
        inputs.append(z)
    x, judged = (torch.tensor(np.stack([z[i] for z in inputs])).float() for i in (0, 1))
    for method, gain in METHODS.items():
        count = len(rows)
        runs = Runs(x, torch.ones(x.shape[:3], dtype=torch.bool), hidden.expand(count, -1), torch.full((count,), gain))
        fitted = train(runs, seed)
        there = torch.ones(judged.shape[:3], dtype=torch.bool)
        scores = log_odds(*fitted, judged, there, log_prior(runs.labels)).numpy()
        for row, score in zip(rows, scores, strict=True):
            row[method] = binary_auc(clean[1].labels, score)
    return pd.DataFrame(rows)


def compare(table: pd.DataFrame, reference: str = "means_and_scales") -> pd.DataFrame:
    """AUC of each alignment less that without and less that of `reference`: t intervals over seeds, each of which has
    a cohort and judges of its own; Holm within a condition and a method."""
    rows = []
    for condition, method in product(CONDITIONS, METHODS):
        aucs = table[table.condition == condition].pivot(index="seed", columns="alignment", values=method)
        found = {}
        for name, against in ((n, a) for n in aucs.columns for a in (NONE, reference) if n not in (NONE, a)):
            d = (aucs[name] - aucs[against]).dropna().to_numpy()
            if len(d) < 2:
                continue
            error = d.std(ddof=1) / np.sqrt(len(d))
            half = student.ppf(0.975, len(d) - 1) * error
            p = 2 * student.sf(abs(d.mean()) / error, len(d) - 1) if error else 1.0
            found[f"{name} - {against}"] = Difference(d.mean(), d.mean() - half, d.mean() + half, float(p), len(d))
        shown = verdicts(found)
        rows += [
            {"condition": condition, "method": method, "comparison": key, "difference": d.estimate}
            | {"low": d.low, "high": d.high, "verdict": shown[key]}
            for key, d in found.items()
        ]
    return pd.DataFrame(rows)


def run(out: Path, seeds: range, names: tuple[str, ...], conditions: tuple[str, ...], imbalance: float) -> None:
    """Writes OUT/sites.tsv (each seed as it is finished) and OUT/sites-paired.tsv, and prints both. What the table has
    already is not computed again."""
    torch.set_num_threads(1)
    file, keys = out / "sites.tsv", ["seed", "condition", "alignment"]
    table = pd.read_csv(file, sep="\t") if file.is_file() else pd.DataFrame(columns=keys)
    for seed in seeds:
        done = set(table[keys].itertuples(index=False, name=None))
        cells = [cell for cell in product(conditions, names) if (seed, *cell) not in done]
        if cells:
            table = pd.concat([table, one_seed(seed, cells, imbalance)], ignore_index=True)
            table.to_csv(file, sep="\t", index=False)
            print(f"seed {seed}", flush=True)
    cells = table.groupby(keys[1:], sort=False)
    means = cells[["site", "d", "CE", "TCGM"]].mean().assign(seeds=cells.size())
    print(means.sort_index(level=0, sort_remaining=False).round(3).to_string())
    paired = compare(table)
    paired.to_csv(out / "sites-paired.tsv", sep="\t", index=False)
    print(paired.round(3).to_string(index=False))
