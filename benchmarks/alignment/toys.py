"""The papers' toys: moons and blobs that were turned, scaled and shifted, and a classifier that never saw them."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import make_blobs, make_moons
from sklearn.neighbors import KNeighborsClassifier

from adni_tcgm.alignment import ALIGNMENTS

KINDS, DEGREES, COUNT = ("moons", "blobs"), (20, 40), 100
NONE = "none"


def draw(kind: str, degrees: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(2 COUNT, 2) points, the first half as they are, the second turned, stretched and shifted; and their classes."""
    if kind == "moons":
        x, y = make_moons(2 * COUNT, noise=0.08, random_state=seed)
    else:
        x, y = make_blobs(2 * COUNT, centers=[[0, 0], [3, 0], [0.5, 4]], cluster_std=0.5, random_state=seed)
    x = x - x.mean(0)
    angle = np.deg2rad(degrees)
    turned = x[COUNT:] @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.concatenate([x[:COUNT], turned * [1.5, 0.7] + [6, -4]]), y


def align(name: str, x: np.ndarray, seed: int) -> np.ndarray:
    if name == NONE:
        return x
    sites, values = ["a"] * COUNT + ["b"] * COUNT, torch.tensor(x)
    alignment = ALIGNMENTS[name]() if name == "site" else ALIGNMENTS[name](measure_remaining=False)
    onto = {} if name == "site" else {"reference": "a"}
    return alignment.fit(values, sites, **onto, seed=seed).transform(values, sites).numpy()


def accuracy(x: np.ndarray, y: np.ndarray) -> float:
    """Of a classifier of the first half on the second."""
    return KNeighborsClassifier(5).fit(x[:COUNT], y[:COUNT]).score(x[COUNT:], y[COUNT:])


def run(out: Path, seeds: range) -> None:
    """Writes OUT/toys.tsv and OUT/toys.png, and prints means and SDs over seeds."""
    torch.set_num_threads(1)
    rows = []
    for seed in seeds:
        for kind in KINDS:
            for degrees in DEGREES:
                x, y = draw(kind, degrees, seed)
                found = {name: align(name, x, seed) for name in (NONE, *ALIGNMENTS)}
                about = {"seed": seed, "toy": kind, "degrees": degrees}
                rows += [about | {"alignment": name, "accuracy": accuracy(a, y)} for name, a in found.items()]
    table = pd.DataFrame(rows)
    table.to_csv(out / "toys.tsv", sep="\t", index=False)
    cells = table.groupby(["alignment", "toy", "degrees"], sort=False).accuracy
    print(cells.agg(["mean", "std"]).round(3).unstack(["toy", "degrees"]).to_string())
    draw_picture(out / "toys.png", seeds[0])


def draw_picture(file: Path, seed: int) -> None:
    """A row a toy (turned by 20 degrees), a column an alignment: the second half, colored by class, over the first."""
    names = (NONE, *ALIGNMENTS)
    figure, axes = plt.subplots(len(KINDS), len(names), figsize=(2 * len(names), 2 * len(KINDS)), dpi=80)
    for row, kind in zip(axes, KINDS, strict=True):
        x, y = draw(kind, DEGREES[0], seed)
        for axis, name in zip(row, names, strict=True):
            aligned = align(name, x, seed)
            axis.scatter(*aligned[:COUNT].T, s=4, c="0.75")
            axis.scatter(*aligned[COUNT:].T, s=4, c=y[COUNT:], cmap="viridis")
            axis.set_title(f"{name}\n{accuracy(aligned, y):.2f}", fontsize=8)
            axis.set_xticks([]), axis.set_yticks([])
    figure.tight_layout()
    figure.savefig(file)
    plt.close(figure)
