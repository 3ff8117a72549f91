"""The Gaussian test bed of the paper (Figure 3): modalities that are Gaussian given the class, and their exact limit.

The paper names three modalities and no size; its supplement is not available. All sizes here are a choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax

from adni_tcgm.datasets.splitting import SHARES, check_label_rate, draw_visible
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, SplitRow, Splits
from adni_tcgm.transforms import Transform


@dataclass(frozen=True)
class GaussianConfig:
    """M modalities of D numbers: x^m = μ^m_y + nuisance · u · a^m + noise, with classes y equally likely.

    samples, validation_samples, test_samples: numbers of training samples, and of the others; a new draw each.
    separation: distance of any two class means in each modality, in standard deviations of the noise N(0, I). The
        means of a modality are the corners of a regular simplex, turned at random.
    nuisance: standard deviation of a factor u ~ N(0, 1) that all modalities share, each along a random unit vector
        a^m of its own. At 0 they are conditionally independent given the class, as the paper assumes.
    label_rate: share of training samples whose label is shown; at least one of each class.

    >>> GaussianConfig(samples=100, classes=2, modalities=2).dimensions
    10
    >>> GaussianConfig(classes=20, dimensions=3)
    Traceback (most recent call last):
        ...
    ValueError: dimensions is 3; 20 equidistant class means need 19
    """

    samples: int = 1000
    validation_samples: int = 0
    test_samples: int = 10_000
    modalities: int = 3
    classes: int = 4
    dimensions: int = 10
    separation: float = 2.5
    nuisance: float = 0.0
    label_rate: float = 0.01

    def __post_init__(self) -> None:
        check_label_rate(self.label_rate)
        if self.dimensions < self.classes - 1:
            raise ValueError(
                f"dimensions is {self.dimensions}; {self.classes} equidistant class means need {self.classes - 1}"
            )
        if self.classes < 2 or self.modalities < 1:
            raise ValueError(f"{self.classes} classes in {self.modalities} modalities; at least 2 in 1 are needed")
        if self.samples < self.classes:
            raise ValueError(f"samples is {self.samples}; each of {self.classes} classes needs a training sample")
        if self.separation < 0 or self.nuisance < 0:
            raise ValueError(f"separation {self.separation} and nuisance {self.nuisance} must be >= 0")


@dataclass(frozen=True)
class Population:
    """What the samples are drawn from. means: (M, C, D); directions: (M, D), unit vectors a^m; nuisance: SD of u.

    >>> labels, inputs = population(GaussianConfig(), seed=0).draw(5, np.random.default_rng(0))
    >>> labels.shape, inputs.shape
    ((5,), (5, 3, 10))
    """

    means: np.ndarray
    directions: np.ndarray
    nuisance: float

    def draw(self, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(N,) classes and (N, M, D) float64 inputs."""
        modalities, classes, dimensions = self.means.shape
        labels = rng.integers(classes, size=samples)
        noise = rng.standard_normal((samples, modalities, dimensions))
        shared = self.nuisance * rng.standard_normal(samples)
        return labels, self.means[:, labels].swapaxes(0, 1) + shared[:, None, None] * self.directions + noise

    def log_posterior(self, inputs: np.ndarray, modalities: list[int] | None = None) -> np.ndarray:
        """(N, M, D) -> (N, C) log Pr(y | the inputs of `modalities`), exact; None: of all of them."""
        chosen = slice(None) if modalities is None else modalities
        values = inputs[:, chosen].reshape(len(inputs), -1)
        means = self.means[chosen].swapaxes(0, 1).reshape(self.means.shape[1], -1)
        direction = self.directions[chosen].ravel()
        precision = np.linalg.inv(np.eye(len(direction)) + self.nuisance**2 * np.outer(direction, direction))
        weights = means @ precision
        return log_softmax(values @ weights.T - 0.5 * (weights * means).sum(1), axis=1)


def fingerprint(config: GaussianConfig) -> str:
    """Seed and settings are all there is: nothing else can change.

    >>> fingerprint(GaussianConfig())
    ''
    """
    return ""


def load(config: GaussianConfig, seed: int) -> Splits:
    """Modalities "m1" … "mM" and classes "0" … "C-1". `rows` knows every label, `train.labels` only the visible ones.

    The seed decides the population, the samples and whose label is shown. With the same seed another separation moves
    the same samples, and the labels shown at a low rate are among those shown at a higher one.

    >>> splits = load(GaussianConfig(samples=100, test_samples=20, label_rate=0.1), seed=0)
    >>> splits.classes, int((splits.train.labels >= 0).sum())
    (['0', '1', '2', '3'], 10)
    """
    modalities = [Modality(f"m{m + 1}", (config.dimensions,)) for m in range(config.modalities)]
    classes = [str(c) for c in range(config.classes)]
    batches, rows = {}, []
    for split in SHARES:
        labels, inputs = draw(config, seed, split)
        visible = np.ones(len(labels), dtype=bool)
        if split == "train":
            visible = draw_visible(labels, visible, config.label_rate, np.random.default_rng([seed, 1]))
        ids = [f"s{seed}-{split}-{i}" for i in range(len(labels))]
        batches[split] = MultimodalBatch(
            sample_ids=ids,
            inputs={modality.name: torch.from_numpy(inputs[:, m]).float() for m, modality in enumerate(modalities)},
            present=torch.ones(len(labels), config.modalities, dtype=torch.bool),
            labels=torch.from_numpy(np.where(visible, labels, UNLABELED)),
            groups=ids,
        )
        shown = zip(ids, labels.tolist(), visible.tolist(), strict=True)
        rows += [SplitRow(sample, sample, split, classes[label], seen) for sample, label, seen in shown]
    return Splits(modalities, classes, **batches, rows=rows, transforms={m.name: Transform("raw") for m in modalities})


def draw(config: GaussianConfig, seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(N,) classes and (N, M, D) inputs of "train", "validation" or "test", float64; `load` makes them float32.

    >>> labels, inputs = draw(GaussianConfig(test_samples=6), seed=0, split="test")
    >>> inputs.shape
    (6, 3, 10)
    """
    samples = {"train": config.samples, "validation": config.validation_samples, "test": config.test_samples}[split]
    return population(config, seed).draw(samples, np.random.default_rng([seed, 2 + list(SHARES).index(split)]))


def population(config: GaussianConfig, seed: int) -> Population:
    """What the samples of this seed are drawn from.

    >>> population(GaussianConfig(), seed=0).means.shape  # modalities, classes, dimensions
    (3, 4, 10)
    """
    rng = np.random.default_rng([seed, 0])
    # The rows of these vectors are the corners of a simplex around 0 with sides √2, in C-1 dimensions.
    corners = np.linalg.svd(np.eye(config.classes) - 1 / config.classes)[0][:, :-1]
    means, directions = [], []
    for _ in range(config.modalities):
        turned, _ = np.linalg.qr(rng.standard_normal((config.dimensions, config.classes - 1)))
        means.append(config.separation / np.sqrt(2) * corners @ turned.T)
        direction = rng.standard_normal(config.dimensions)
        directions.append(direction / np.linalg.norm(direction))
    return Population(np.stack(means), np.stack(directions), config.nuisance)


def bayes_accuracy(config: GaussianConfig, seed: int, split: str = "test") -> dict[str, float]:
    """Accuracy of the exact posterior on the samples of `load(config, seed)`: of each modality, and of "all".

    >>> 0.9 < bayes_accuracy(GaussianConfig(separation=2.5), seed=0)["all"] < 1
    True
    """
    source = population(config, seed)
    labels, inputs = draw(config, seed, split)
    chosen = {f"m{m + 1}": [m] for m in range(config.modalities)} | {"all": None}
    return {
        name: float((source.log_posterior(inputs, modalities).argmax(1) == labels).mean())
        for name, modalities in chosen.items()
    }
