"""Do the intervals that we print hold what they say? Every design, at 5, 10 and 20 seeds, where nothing differs.

`python -m benchmarks.statistics OUT`: two methods of equal merit (each learns from features of its own, drawn alike)
are trained and judged as the design says, thousands of times; a test at 5 % should find a difference in 5 % of them.
One seed knows nothing of how training varies, so its interval is that of these two trained models, not of the methods:
"one seed" counts against the methods' difference, 0, and "one seed, models" against that of the two models, known here.
`--labeled` is how many of the 180 training people have a label.
Writes `OUT/statistics.tsv`: `design labeled seeds replicates size_percent error_percent` and prints it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm
from tqdm import tqdm

from adni_tcgm.evaluation.intervals import PairedRun, paired_difference

SEEDS = (5, 10, 20)
REPLICATES = 4000
TRAIN, TEST, LABELED = 180, 60, 18
FEATURES = 4  # of each of the two methods
EFFECT = 0.5  # of each feature, in SD
HEADS = 20
DESIGNS = ("independent", "shared", "shared heads", "resplits", "one seed", "one seed, models")


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """By comparing all pairs: the quickest for 60 people without ties, asked millions of times here."""
    return float((scores[labels == 1][:, None] > scores[labels == 0]).mean())


class People:
    """n people of two classes; scores of both methods by what they learned from some of them."""

    def __init__(self, rng: np.random.Generator, n: int, heads: int = 0) -> None:
        self.labels = (rng.permutation(n) % 2).astype(int)
        self.x = rng.normal(size=(2, n, FEATURES)) + EFFECT * self.labels[:, None]
        self.heads = np.arange(n) % heads if heads else None
        if heads:  # what people of one head have in common, in both methods' features apart
            self.x = self.x + rng.normal(size=(2, heads, FEATURES))[:, self.heads]


def population_auc(learned: np.ndarray) -> np.ndarray:
    """(2,): AUC of both methods' weights (2, FEATURES) among all people, without common heads."""
    return norm.cdf(EFFECT * learned.sum(1) / (2**0.5 * np.linalg.norm(learned, axis=1)))


def weights(people: People, rows: np.ndarray) -> np.ndarray:
    """(2, FEATURES): the difference of class means over these people."""
    labels = people.labels[rows]
    return people.x[:, rows][:, labels == 1].mean(1) - people.x[:, rows][:, labels == 0].mean(1)


def judged(learned: np.ndarray, people: People, rows: np.ndarray, names: list[str], trained: int) -> PairedRun:
    first, second = (people.x[method, rows] @ learned[method] for method in (0, 1))
    groups = None if people.heads is None else [str(head) for head in people.heads[rows]]
    return PairedRun(names, people.labels[rows], first, second, trained, groups)


def labeled_rows(rng: np.random.Generator, people: People, among: np.ndarray, labeled: int) -> np.ndarray:
    """`labeled` of them, half of each class."""
    chosen = [rng.permutation(among[people.labels[among] == c])[: labeled // 2] for c in (0, 1)]
    return np.concatenate(chosen)


def draw_runs(
    rng: np.random.Generator, design: str, seeds: int, labeled: int = LABELED
) -> tuple[list[PairedRun], np.ndarray]:
    """What `seeds` trainings of both methods say of their test people, and the weights of the last, (2, FEATURES)."""
    runs, names = [], [str(i) for i in range(TEST)]
    everybody = np.arange(TEST)
    shared = People(rng, TEST, HEADS if design == "shared heads" else 0)
    cohort = People(rng, TRAIN + TEST)
    for seed in range(seeds):
        if design == "resplits":
            order = rng.permutation(TRAIN + TEST)
            learned = weights(cohort, labeled_rows(rng, cohort, order[:TRAIN], labeled))
            test = order[TRAIN:]
            runs.append(judged(learned, cohort, test, [str(i) for i in test], TRAIN))
            continue
        own = People(rng, TRAIN)
        learned = weights(own, labeled_rows(rng, own, np.arange(TRAIN), labeled))
        if design == "independent":
            others = People(rng, TEST)
            runs.append(judged(learned, others, everybody, [f"{seed}-{name}" for name in names], TRAIN))
        else:
            runs.append(judged(learned, shared, everybody, names, TRAIN))
    return runs, learned


def size_of(design: str, seeds: int, replicates: int, labeled: int = LABELED) -> dict[str, object]:
    """How often the 95 % interval misses the true difference: 0, or for "one seed, models" that of the two models."""
    found = 0
    for replicate in tqdm(range(replicates), desc=f"{design}, {seeds} seeds", disable=None, leave=False):
        rng = np.random.default_rng([replicate, seeds, DESIGNS.index(design)])
        runs, learned = draw_runs(rng, design, seeds, labeled)
        by = design if design in ("independent", "resplits") else "shared"
        first, second = population_auc(learned) if design == "one seed, models" else (0.0, 0.0)
        difference = paired_difference(auc, runs, by)
        found += not difference.low <= first - second <= difference.high
    share = found / replicates
    error = 100 * (share * (1 - share) / replicates) ** 0.5
    row = {"design": design, "labeled": labeled, "seeds": seeds, "replicates": replicates}
    return row | {"size_percent": round(100 * share, 2), "error_percent": round(error, 2)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--replicates", type=int, default=REPLICATES)
    parser.add_argument("--labeled", type=int, default=LABELED, metavar="N")
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=list(DESIGNS))
    arguments = parser.parse_args(argv)
    rows = []
    for design in arguments.designs:
        for seeds in (1,) if design.startswith("one seed") else SEEDS:
            rows.append(size_of(design, seeds, arguments.replicates, arguments.labeled))
            print("{design:16} {seeds:3} seeds  {size_percent:5.2f} ± {error_percent:.2f} %".format(**rows[-1]))
    arguments.out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(arguments.out / "statistics.tsv", sep="\t", index=False)


if __name__ == "__main__":
    main()
