"""People without PET: the MRI alone, or a PET made of the MRI, by pairs or without; AUC and calibration of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression

from adni_tcgm.alignment.one_sided import DistanceMapping, OneSided, PairedNetwork, Ridge
from adni_tcgm.evaluation.intervals import Difference, verdicts
from adni_tcgm.evaluation.metrics import binary_auc
from benchmarks.alignment.cohort import People, draw_cohort
from benchmarks.alignment.learner import Runs, log_odds, log_prior, train
from benchmarks.alignment.sites import METHODS, draw_labels, standardized

ALONE = "MRI alone"
WAYS: dict[str, OneSided | None] = {ALONE: None}
WAYS |= {kind.name: kind() for kind in (Ridge, PairedNetwork, DistanceMapping)}


@dataclass(frozen=True)
class Missing:
    """share: of people without PET; severity: log odds that one SD of the PET's severity adds."""

    share: float
    severity: float

    @property
    def words(self) -> str:
        return f"{self.share:.0%} {'by severity' if self.severity else 'at random'}"

    def draw(self, people: People, rng: np.random.Generator) -> np.ndarray:
        """(N,) bool, as `preprocessing.simulated.people` draws who has no PET."""
        odds = self.severity * people.severity[:, 1] + rng.gumbel(size=len(people.labels))
        chosen = np.argsort(-odds)[: round(self.share * len(odds))]
        return np.isin(np.arange(len(odds)), chosen)


DESIGNS = [Missing(share, severity) for share in (0.3, 0.7) for severity in (0.0, 1.0)]


def one_design(seed: int, design: Missing) -> pd.DataFrame:
    """Rows `seed design way` with the figures of the judges who have no PET."""
    parts = draw_cohort(seed, imbalance=0.0)
    without = [design.draw(people, np.random.default_rng([seed, 103, i])) for i, people in enumerate(parts)]
    hidden = torch.tensor(draw_labels(parts[0].labels, seed))
    x, judged, present, asked = [], [], [], []
    for way in WAYS.values():
        made = _filled(parts, without, way, seed)
        # In SDs of the training people whose PET is real.
        z = [torch.tensor(v).float() for v in _standardized_by_real(made, without)]
        there = [torch.ones(v.shape[:2], dtype=torch.bool) for v in z]
        if way is None:
            for v, t, gone in zip(z, there, without, strict=True):
                v[1, gone], t[1, gone] = 0, False
        x.append(z[0]), judged.append(z[1]), present.append(there[0]), asked.append(there[1])
    rows = []
    for method, gain in METHODS.items():
        runs = Runs(torch.stack(x), torch.stack(present), hidden.expand(len(x), -1), torch.full((len(x),), gain))
        fitted = train(runs, seed)
        scores = log_odds(*fitted, torch.stack(judged), torch.stack(asked), log_prior(runs.labels))
        for way, score in zip(WAYS, scores.double().numpy(), strict=True):
            about = {"seed": seed, "design": design.words, "method": method, "way": way}
            rows.append(about | _figures(score[without[1]], parts[1].labels[without[1]]))
    return pd.DataFrame(rows)


def _filled(parts: tuple[People, People], without: list[np.ndarray], way: OneSided | None, seed: int) -> list[People]:
    """Both parts with PETs made for those who have none, as learned from the training people."""
    if way is None:
        return list(parts)
    pairs = ~without[0]
    mri, pet = (torch.tensor(parts[0].values[name]) for name in ("mri", "pet"))
    way.fit(mri[pairs] if way.paired else mri, pet[pairs], seed=seed)
    found = []
    for people, gone in zip(parts, without, strict=True):
        made = people.values["pet"].copy()
        made[gone] = way.transform(torch.tensor(people.values["mri"][gone])).numpy()
        found.append(replace(people, values=people.values | {"pet": made}))
    return found


def _standardized_by_real(made: list[People], without: list[np.ndarray]) -> list[np.ndarray]:
    real = made[0]
    stacked = standardized((real, made[1]))
    for modality, name in enumerate(real.values):
        rows = ~without[0] if name == "pet" else np.ones(len(real.labels), bool)
        kept = stacked[0][modality][rows]
        mean, sd = kept.mean(0), np.where(kept.std(0) > 0, kept.std(0), 1)
        for values in stacked:
            values[modality] = (values[modality] - mean) / sd
    return stacked


def _figures(log_odds_: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """AUC, Brier score, and the slope of a logistic line through the log-odds (1: calibrated, below: too sure)."""
    p = 1 / (1 + np.exp(-log_odds_))
    line = LogisticRegression(C=1e6).fit(log_odds_[:, None], labels)
    return {"auc": binary_auc(labels, log_odds_), "brier": float(np.mean((p - labels) ** 2)), "slope": line.coef_[0, 0]}


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """AUC and Brier score of each way less those of the MRI alone, t intervals over seeds; Holm over a design."""
    rows = []
    for design in dict.fromkeys(table.design):
        found = {}
        for method in METHODS:
            for figure in ("auc", "brier"):
                cell = table[(table.design == design) & (table.method == method)]
                wide = cell.pivot(index="seed", columns="way", values=figure)
                for way in (w for w in WAYS if w != ALONE):
                    d = (wide[way] - wide[ALONE]).to_numpy()
                    error = d.std(ddof=1) / np.sqrt(len(d))
                    half = student.ppf(0.975, len(d) - 1) * error
                    p = float(2 * student.sf(abs(d.mean()) / error, len(d) - 1))
                    low, high = d.mean() - half, d.mean() + half
                    found[method, figure, way] = Difference(d.mean(), low, high, p, len(d))
        shown = verdicts(found)
        for (method, figure, way), d in found.items():
            about = {"design": design, "method": method, "figure": figure, "way": way}
            about |= {"difference": d.estimate, "low": d.low, "high": d.high}
            rows.append(about | {"verdict": shown[method, figure, way]})
    return pd.DataFrame(rows)


def run(out: Path, seeds: range) -> None:
    """Writes OUT/pet.tsv and OUT/pet-paired.tsv and prints means and differences from the MRI alone."""
    torch.set_num_threads(1)
    table = pd.concat([one_design(seed, design) for design in DESIGNS for seed in seeds], ignore_index=True)
    table.to_csv(out / "pet.tsv", sep="\t", index=False)
    print(table.groupby(["design", "method", "way"], sort=False)[["auc", "brier", "slope"]].mean().round(3).to_string())
    paired = compare(table)
    paired.to_csv(out / "pet-paired.tsv", sep="\t", index=False)
    print(paired.round(3).to_string(index=False))
