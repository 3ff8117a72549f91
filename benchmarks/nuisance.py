"""When does the gain help, and when does it mislead? Shared severity × shared nuisance, CE against TCGM.

`python -m benchmarks.nuisance OUT [--seeds 40]`: SIMULATED people with two modalities of a few numbers. The first of
each is the severity, apart by the effect sizes of hippocampal volume and meta-ROI SUVR between stable and converting
people; the second bears a nuisance that both modalities share. Writes OUT/table.tsv, OUT/paired.tsv and prints them.

Severities correlate by 0 or .3 within a class: what the gain finds there lies along the label. The nuisance does not:
it is absent, or a scanner (one of four, which shifts both modalities), or an age (continuous, with its quartiles as
groups). TCGM is mended in two ways: the gain within groups, and the groups' means taken out of the inputs beforehand.

Rates and steps are those of `pipelines/configs/adni_regions.yaml`, chosen before and elsewhere. Every seed draws
people, labels and weights; 1,000 further people are the test set, by AUC. Weights are those of the step that 60
labeled validation people choose, as in the paper's protocol, or those of the last step, where nothing shields a method
from its gain.

Every batch holds everybody, so nothing is drawn during training and all runs of the grid are trained side by side, as
one set of tensors: the same steps as `tcgm.trainer.fit`, in seconds. Shapes: R runs, M = 2 modalities, B people, C = 2
classes, F numbers, G groups.
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
from torch import Tensor
from torch.nn.functional import one_hot
from torch.optim import Adam

from adni_tcgm.evaluation.intervals import Difference, verdicts
from adni_tcgm.evaluation.metrics import binary_auc
from adni_tcgm.methods.method import Spec
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.mlp import MLPConfig
from adni_tcgm.tcgm.aggregator import label_prior, nuisance_group_priors
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import TrainConfig

EFFECTS = {"mri": 0.75, "pet": 1.1}
NUISANCES = ("none", "scanner", "age")
GROUPS = 4
VALIDATION = 60
TRAIN = TrainConfig(
    steps=400,
    supervised_steps=50,
    validate_every=10,
    batch_size_labeled=18,
    batch_size_unlabeled=10_000,
    lr_labeled=1e-2,
    lr_unlabeled=1e-2,
    weight_decay=1e-2,
    device="cpu",
)


@dataclass(frozen=True)
class Way:
    """gain: whether there is an unlabeled step. within: the gain within groups. means_out: see `take_means_out`."""

    gain: bool = True
    within: bool = False
    means_out: bool = False


METHODS = {
    "CE": Way(gain=False),
    "TCGM": Way(),
    "TCGM within groups": Way(within=True),
    "CE, means out": Way(gain=False, means_out=True),
    "TCGM, means out": Way(means_out=True),
}
COMPARISONS = (
    ("TCGM", "CE"),
    ("TCGM within groups", "CE"),
    ("TCGM within groups", "TCGM"),
    ("TCGM, means out", "CE, means out"),
)

# Temperatures of `tcgm.trainer.tempered_log_loss`.
TEMPERATURES = torch.logspace(-0.5, 1.5, 21).view(1, -1, 1, 1)


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
    """That many people with all their labels. Groups: scanners or quartiles of age; without a nuisance, chance."""
    labels = rng.integers(2, size=people)
    r = design.severity_correlation
    noise = rng.standard_normal((2, people, design.features))
    noise[1, :, 0] = r * noise[0, :, 0] + np.sqrt(1 - r**2) * noise[1, :, 0]
    groups = rng.integers(GROUPS, size=people)
    values = (groups - (GROUPS - 1) / 2) / np.sqrt((GROUPS**2 - 1) / 12)
    if design.nuisance == "age":
        values = rng.standard_normal(people)
        groups = (norm.cdf(values) * GROUPS).astype(int)
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
        nuisance_groups=[str(group) for group in groups],
    )


def draw_splits(design: Design, seed: int, validation: int = VALIDATION) -> Splits:
    """The same training people and judges whatever the number of validation people."""
    train = draw(design, design.people, np.random.default_rng([seed, 0]))
    visible = torch.arange(design.people) < design.labels
    train = replace(train, labels=torch.where(visible, train.labels, UNLABELED))
    others = [draw(design, size, np.random.default_rng([seed, k])) for k, size in ((1, validation), (2, design.judges))]
    modalities = [Modality(name, (design.features,)) for name in EFFECTS]
    return Splits(modalities, ("stable", "converter"), train, *others)


def take_means_out(splits: Splits) -> Splits:
    """Every input less the mean of its group over the training people, whose labels play no part."""
    groups = np.array(splits.train.nuisance_groups)
    means = {
        name: {group: values[torch.from_numpy(groups == group)].mean(0) for group in np.unique(groups)}
        for name, values in splits.train.inputs.items()
    }

    def less(batch: MultimodalBatch) -> MultimodalBatch:
        return batch.with_inputs(
            {
                name: values - torch.stack([means[name][group] for group in batch.nuisance_groups])
                if len(batch)
                else values
                for name, values in batch.inputs.items()
            }
        )

    return replace(splits, train=less(splits.train), validation=less(splits.validation), test=less(splits.test))


@dataclass(frozen=True)
class Runs:
    """R runs side by side. names: (design, seed, method) of each.

    weights (R, M, C, F), biases (R, M, C): as the networks of `TCGM` begin. x, validation, test: (R, M, B, F) inputs of
    all; labels (R, n) of the first n training people, and of all others. groups: (R, B, G) one-hot, everybody in the
    first where the gain is over all; log_priors: (R, G, C), of each group; log_prior: (R, C). gain: (R,) bool.
    """

    names: list[tuple[Design, int, str]]
    weights: Tensor
    biases: Tensor
    x: Tensor
    validation: Tensor
    test: Tensor
    labels: Tensor
    validation_labels: Tensor
    test_labels: Tensor
    groups: Tensor
    log_priors: Tensor
    log_prior: Tensor
    gain: Tensor


def stack_runs(designs: Sequence[Design], seeds: Sequence[int]) -> Runs:
    """Every method on every design and seed; one seed's methods see the same people and begin with the same weights."""
    names, columns = [], []
    for design, seed in product(designs, seeds):
        splits = draw_splits(design, seed)
        centered = take_means_out(splits)
        for name, way in METHODS.items():
            names.append((design, seed, name))
            columns.append(_one_run(centered if way.means_out else splits, way, design.labels, seed))
    return Runs(names, *(torch.stack(column) for column in zip(*columns, strict=True)))


def _one_run(splits: Splits, way: Way, labels: int, seed: int) -> tuple[Tensor, ...]:
    """The tensors of `Runs` without the axis of runs."""
    train = splits.train
    log_prior = label_prior(train.labels, len(splits.classes), TRAIN.prior_smoothing).log()
    priors = nuisance_group_priors(train.labels, train.nuisance_groups, log_prior.exp()) if way.within else {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TCGM(MLPConfig()).build(Spec(splits.modalities, splits.classes, log_prior))
    heads = [classifier.head for classifier in model.classifiers.values()]
    inputs = [torch.stack(list(part.inputs.values())) for part in (train, splits.validation, splits.test)]
    groups = torch.tensor([int(name) if way.within else 0 for name in train.nuisance_groups])
    return (
        torch.stack([head.weight.data for head in heads]),
        torch.stack([head.bias.data for head in heads]),
        *inputs,
        train.labels[:labels],
        splits.validation.labels,
        splits.test.labels,
        one_hot(groups, GROUPS).float(),
        torch.stack([priors[str(g)].log() if str(g) in priors else log_prior for g in range(GROUPS)]),
        log_prior,
        torch.tensor(way.gain),
    )


def log_posteriors(weights: Tensor, biases: Tensor, x: Tensor) -> Tensor:
    """(R, M, B, C) of linear classifiers."""
    return (torch.einsum("rmbf,rmcf->rmbc", x, weights) + biases.unsqueeze(2)).log_softmax(-1)


def cross_entropy(found: Tensor, labels: Tensor) -> Tensor:
    """Mean over people, (R, K) for (R, K, B, C) log-posteriors and (R, B) labels."""
    index = labels[:, None, :, None].expand(-1, found.shape[1], -1, 1)
    return -found.gather(-1, index).squeeze(-1).mean(-1)


def gain_within(found: Tensor, groups: Tensor, log_priors: Tensor) -> Tensor:
    """(R,) gains of two modalities (paper Eq. 6), each the mean over groups weighted by their people."""
    h, counts = found.exp(), groups.sum(1)
    joint = (found.sum(1) - torch.einsum("rbg,rgc->rbc", groups, log_priors)).logsumexp(-1)
    reward = torch.einsum("rb,rbg->rg", joint, groups) / counts.clamp(min=1)
    first, second, both = (torch.einsum("rbc,rbg->rgc", h_, groups) for h_ in (h[:, 0], h[:, 1], h[:, 0] * h[:, 1]))
    pairs = (counts * (counts - 1)).clamp(min=1)
    penalty = ((first * second - both) / log_priors.exp()).sum(-1) / pairs
    share = counts / groups.shape[1]
    return torch.where(counts >= 2, share * (1 + reward - penalty), 0.0).sum(1)


def combine(found: Tensor, log_prior: Tensor) -> Tensor:
    """The aggregator of two modalities: (R, M, B, C) -> (R, 1, B, C)."""
    return (found.sum(1, keepdim=True) - log_prior[:, None, None]).log_softmax(-1)


def validation_loss(runs: Runs, weights: Tensor, biases: Tensor) -> Tensor:
    """(R,) mean of `tempered_log_loss` over the modalities and their combination."""
    found = log_posteriors(weights, biases, runs.validation)
    losses = []
    for one in (*found.split(1, dim=1), combine(found, runs.log_prior)):
        tempered = (one.clamp(min=-1e4) / TEMPERATURES).log_softmax(-1)
        losses.append(cross_entropy(tempered, runs.validation_labels).min(1).values)
    return torch.stack(losses).mean(0)


def train(runs: Runs) -> dict[str, tuple[Tensor, Tensor]]:
    """Choice of the step -> weights and biases: the steps of `tcgm.trainer.fit`, of all runs at once."""
    weights, biases = (values.clone().requires_grad_() for values in (runs.weights, runs.biases))
    rates = (TRAIN.lr_labeled, TRAIN.lr_unlabeled)
    labeled, unlabeled = (Adam([weights, biases], rate, weight_decay=TRAIN.weight_decay) for rate in rates)
    best, lowest = [values.detach().clone() for values in (weights, biases)], torch.full((len(runs.names),), torch.inf)
    seen = runs.x[:, :, : runs.labels.shape[1]]
    for step in range(1, TRAIN.steps + 1):
        _step(labeled, cross_entropy(log_posteriors(weights, biases, seen), runs.labels).sum())
        if step > TRAIN.supervised_steps:
            kept = [values.detach()[~runs.gain].clone() for values in (weights, biases)]
            found = log_posteriors(weights, biases, runs.x)
            _step(unlabeled, -gain_within(found, runs.groups, runs.log_priors).sum())
            # Without an unlabeled step there is no weight decay in it either.
            for values, before in zip((weights, biases), kept, strict=True):
                values.data[~runs.gain] = before
        if step % TRAIN.validate_every == 0 or step == TRAIN.steps:
            with torch.no_grad():
                loss = validation_loss(runs, weights, biases)
            better = loss < lowest
            lowest[better] = loss[better]
            for chosen, values in zip(best, (weights, biases), strict=True):
                chosen[better] = values.detach()[better]
    return {"validation": tuple(best), "last step": (weights.detach(), biases.detach())}


def _step(optimizer: Adam, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def judge(runs: Runs, weights: Tensor, biases: Tensor) -> Iterator[dict[str, object]]:
    """Rows `r nuisance method modality seed auc`."""
    found = log_posteriors(weights, biases, runs.test)
    scores = torch.cat([found, combine(found, runs.log_prior)], dim=1)[..., 1].numpy()
    for (design, seed, method), labels, values in zip(runs.names, runs.test_labels.numpy(), scores, strict=True):
        cell = {"r": design.severity_correlation, "nuisance": design.nuisance, "method": method}
        for modality, score in zip((*EFFECTS, "all"), values, strict=True):
            yield cell | {"modality": modality, "seed": seed, "auc": binary_auc(labels, score)}


def compare(table: pd.DataFrame, draws: int = 20_000) -> pd.DataFrame:
    """COMPARISONS on "all", bootstrapped over seeds: each has people, judges, labels and weights of its own, so that
    nothing is shared between them. Holm within a nuisance and a choice of the step."""
    rows, rng = [], np.random.default_rng(0)
    everything = table[table.modality == "all"]
    for (chosen, nuisance), family in everything.groupby(["chosen by", "nuisance"], sort=False):
        found = {}
        for r, cell in family.groupby("r"):
            aucs = cell.pivot(index="seed", columns="method", values="auc")
            for first, second in COMPARISONS:
                values = (aucs[first] - aucs[second]).to_numpy()
                drawn = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
                tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
                p_value = min(1.0, 2 * (tail + 1) / (draws + 1))
                low, high = np.quantile(drawn, [0.025, 0.975])
                found[r, f"{first} - {second}"] = Difference(values.mean(), low, high, p_value, len(values))
        shown = verdicts(found)
        for (r, name), d in found.items():
            about = {"chosen by": chosen, "nuisance": nuisance, "r": r, "comparison": name}
            rows.append(about | {"difference": d.estimate, "low": d.low, "high": d.high, "verdict": shown[r, name]})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--features", type=int, default=5, help="numbers of each modality")
    parser.add_argument("--strength", type=float, default=2.0, help="SD of the nuisance, in SDs of the noise")
    parser.add_argument("--people", type=int, default=180, help="who trains; 18 have a label")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"features": arguments.features, "people": arguments.people, "strength": arguments.strength}
    designs = [Design(r, nuisance, **sizes) for nuisance, r in product(NUISANCES, (0.0, 0.3))]
    runs = stack_runs(designs, range(arguments.seeds))
    rows = [{"chosen by": chosen} | row for chosen, found in train(runs).items() for row in judge(runs, *found)]
    table = pd.DataFrame(rows)
    paired = compare(table)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, values in (("table", table), ("paired", paired)):
        values.to_csv(arguments.out / f"{name}.tsv", sep="\t", index=False)
    means = table[table.modality == "all"].groupby(["chosen by", "nuisance", "r", "method"], sort=False).auc
    print(means.agg(["mean", "std"]).round(3).unstack("method").to_string())
    print(f"\nDifferences of AUC of all, {arguments.seeds} seeds")
    print(paired.round(3).to_string(index=False))
    print("\nBayes, severities:", {r: round(Design(r).bayes_auc, 3) for r in (0.0, 0.3)})


if __name__ == "__main__":
    main()
