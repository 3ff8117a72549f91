"""When does the gain help, and when does it mislead? Shared severity × shared nuisance, CE against TCGM.

`python -m benchmarks.nuisance OUT [--seeds 10]`: SIMULATED people with two modalities of a few numbers. The first of
each is the severity, apart by the effect sizes of hippocampal volume and meta-ROI SUVR between stable and converting
people; the second bears a nuisance that both modalities share. Writes OUT/table.tsv, OUT/paired.tsv and prints them.

Severities correlate by 0 or .3 within a class: what the gain finds there lies along the label. The nuisance does not:
it is absent, or a scanner (one of four, which shifts both modalities), or an age (continuous, with its quartiles as
strata). TCGM is mended in two ways: the gain within strata, and the strata's means taken out of the inputs beforehand.

Rates and rounds are those of `pipelines/configs/adni_regions.yaml`, chosen before and elsewhere. Every seed draws
people, labels and weights; 1,000 further people judge, by AUC. Weights are those of the round that 60 labeled
validation people choose, as in the paper's protocol, or those of the last round, where nothing shields a method from
its gain.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm

from adni_tcgm.evaluation.intervals import Difference, PairedRun, paired_difference, verdicts
from adni_tcgm.evaluation.metrics import binary_auc
from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import TrainConfig, fit, predict

EFFECTS = {"mri": 0.75, "pet": 1.1}
NUISANCES = ("none", "scanner", "age")
STRATA = 4
VALIDATION = 60
TRAIN = TrainConfig(
    rounds=400,
    warm_up_rounds=50,
    validate_every=10,
    batch_size_labeled=18,
    batch_size_unlabeled=180,
    gamma_l=1e-2,
    gamma_u=1e-2,
    weight_decay=1e-2,
    device="cpu",
)
LINEAR = MLPConfig()
# Method -> what it trains, and whether the strata's means are taken out of the inputs beforehand.
METHODS = {
    "CE": (CrossEntropy(LINEAR), False),
    "TCGM": (TCGM(LINEAR), False),
    "TCGM within strata": (TCGM(LINEAR, within_strata=True), False),
    "CE, means out": (CrossEntropy(LINEAR), True),
    "TCGM, means out": (TCGM(LINEAR), True),
}
COMPARISONS = (
    ("TCGM", "CE"),
    ("TCGM within strata", "CE"),
    ("TCGM within strata", "TCGM"),
    ("TCGM, means out", "CE, means out"),
)


@dataclass(frozen=True)
class Design:
    """One cell of the grid.

    severity_correlation: of the two severities within a class. nuisance: one of NUISANCES; strength: its SD, in SDs of
    the noise. features: numbers of each modality. people: who trains, `labels` of them with a label.
    """

    severity_correlation: float = 0.3
    nuisance: str = "none"
    strength: float = 2.0
    features: int = 5
    people: int = 180
    labels: int = 18
    judges: int = 1000

    @property
    def bayes_auc(self) -> float:
        """Of the best rule on the two severities: Φ(δ / √2), δ the Mahalanobis distance of the classes."""
        means, r = np.array(list(EFFECTS.values())), self.severity_correlation
        distance = means @ np.linalg.solve([[1, r], [r, 1]], means)
        return float(norm.cdf(np.sqrt(distance / 2)))


def draw(design: Design, people: int, rng: np.random.Generator) -> MultimodalBatch:
    """That many people with all their labels. Strata: scanners or quartiles of age; without a nuisance, chance."""
    labels = rng.integers(2, size=people)
    r = design.severity_correlation
    noise = rng.standard_normal((2, people, design.features))
    noise[1, :, 0] = r * noise[0, :, 0] + np.sqrt(1 - r**2) * noise[1, :, 0]
    strata = rng.integers(STRATA, size=people)
    values = (strata - (STRATA - 1) / 2) / np.sqrt((STRATA**2 - 1) / 12)
    if design.nuisance == "age":
        values = rng.standard_normal(people)
        strata = (norm.cdf(values) * STRATA).astype(int)
    inputs = {}
    for (name, effect), modality in zip(EFFECTS.items(), noise, strict=True):
        modality[:, 0] += effect * labels
        if design.nuisance != "none":
            modality[:, 1] += design.strength * values
        inputs[name] = torch.from_numpy(modality).float()
    return MultimodalBatch(
        [str(i) for i in range(people)],
        inputs,
        torch.ones(people, 2, dtype=torch.bool),
        torch.from_numpy(labels),
        strata=[str(stratum) for stratum in strata],
    )


def draw_splits(design: Design, seed: int, validation: int) -> Splits:
    """The same training people and judges whatever the number of validation people."""
    train = draw(design, design.people, np.random.default_rng([seed, 0]))
    visible = torch.arange(design.people) < design.labels
    train = replace(train, labels=torch.where(visible, train.labels, UNLABELED))
    others = [draw(design, size, np.random.default_rng([seed, k])) for k, size in ((1, validation), (2, design.judges))]
    modalities = [Modality(name, (design.features,)) for name in EFFECTS]
    return Splits(modalities, ("stable", "converter"), train, *others)


def take_means_out(splits: Splits) -> Splits:
    """Every input less the mean of its stratum over the training people, whose labels play no part."""
    strata = np.array(splits.train.strata)
    means = {
        name: {stratum: values[torch.from_numpy(strata == stratum)].mean(0) for stratum in np.unique(strata)}
        for name, values in splits.train.inputs.items()
    }

    def less(batch: MultimodalBatch) -> MultimodalBatch:
        return batch.with_inputs(
            {
                name: values - torch.stack([means[name][stratum] for stratum in batch.strata]) if len(batch) else values
                for name, values in batch.inputs.items()
            }
        )

    return replace(splits, train=less(splits.train), validation=less(splits.validation), test=less(splits.test))


def judge(design: Design, seed: int, validation: int) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """(N,) labels of the judges; method -> modality or "all" -> their P(converter)."""
    splits = draw_splits(design, seed, validation)
    centered, found = take_means_out(splits), {}
    for name, (method, means_out) in METHODS.items():
        seen = centered if means_out else splits
        log_posteriors = predict(fit(method, seen, replace(TRAIN, seed=seed)), seen.test, chunk=len(seen.test))
        found[name] = {modality: values[:, 1].exp().numpy() for modality, values in log_posteriors.items()}
    return splits.test.labels.numpy(), found


def run_cell(design: Design, seeds: range, validation: int) -> tuple[list[dict], dict[str, list[PairedRun]]]:
    """Rows `method modality seed auc`, and the pairs of COMPARISONS on "all"."""
    rows, pairs = [], {f"{first} - {second}": [] for first, second in COMPARISONS}
    for seed in seeds:
        labels, found = judge(design, seed, validation)
        for method, scores in found.items():
            for modality, values in scores.items():
                rows.append({"method": method, "modality": modality, "seed": seed, "auc": binary_auc(labels, values)})
        names = [f"{seed}-{i}" for i in range(len(labels))]
        for first, second in COMPARISONS:
            pair = PairedRun(names, labels, found[first]["all"], found[second]["all"])
            pairs[f"{first} - {second}"].append(pair)
    return rows, pairs


def grid(features: int, people: int, nuisances: Sequence[str] = NUISANCES) -> Iterator[Design]:
    for nuisance, r in product(nuisances, (0.0, 0.3)):
        yield Design(severity_correlation=r, nuisance=nuisance, features=features, people=people)


def write_tables(out: Path, rows: list[dict], differences: dict[tuple, dict[tuple, Difference]]) -> None:
    """table.tsv and paired.tsv of the cells so far; Holm over the rows of one nuisance and one choice of the round."""
    shown = {key: verdict for family in differences.values() for key, verdict in verdicts(family).items()}
    paired = [
        dict(zip(("r", "nuisance", "chosen by", "comparison"), key, strict=True))
        | {"difference": d.estimate, "low": d.low, "high": d.high, "p": d.p_value, "verdict": shown[key]}
        for family in differences.values()
        for key, d in family.items()
    ]
    for name, table in (("table", rows), ("paired", paired)):
        pd.DataFrame(table).to_csv(out / f"{name}.tsv", sep="\t", index=False)


def print_tables(out: Path) -> None:
    table, paired = (pd.read_csv(out / f"{name}.tsv", sep="\t", na_filter=False) for name in ("table", "paired"))
    means = table[table.modality == "all"].groupby(["chosen by", "r", "nuisance", "method"], sort=False).auc
    print(means.agg(["mean", "std"]).round(3).unstack("method").to_string())
    print(f"\nAUC of all, {table.seed.nunique()} seeds and their judges, paired; Holm within a nuisance and a choice")
    print(paired.round(3).to_string(index=False))
    print("\nBayes, severities:", {r: round(Design(r).bayes_auc, 3) for r in (0.0, 0.3)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--nuisances", nargs="+", choices=NUISANCES, default=list(NUISANCES))
    parser.add_argument("--features", type=int, default=5, help="numbers of each modality")
    parser.add_argument("--people", type=int, default=180, help="who trains; 18 have a label")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    cells = list(grid(arguments.features, arguments.people, arguments.nuisances))
    rows, differences = [], {}
    for design, chosen in product(cells, ("validation", "last round")):
        cell = {"r": design.severity_correlation, "nuisance": design.nuisance, "chosen by": chosen}
        found, pairs = run_cell(design, range(arguments.seeds), VALIDATION if chosen == "validation" else 0)
        rows += [cell | row for row in found]
        family = differences.setdefault((design.nuisance, chosen), {})
        for name, runs in pairs.items():
            family[(*cell.values(), name)] = paired_difference(binary_auc, runs)
        write_tables(arguments.out, rows, differences)
        print(*cell.values(), "done", flush=True)
    print_tables(arguments.out)


if __name__ == "__main__":
    main()
