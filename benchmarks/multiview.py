"""Multi-view sets in the usual .mat form: does TCGM with linear classifiers harm where labels are very few?

`python -m benchmarks.multiview OUT NGs.mat OTHER.mat`: scikit-learn's digits in two halves, written as such a file, and
every file named, whose views lie in the cell `X` or `data`. For each seed a split (60/20/20) and visible labels are
drawn; CE and TCGM train as `adni_tcgm.MultimodalClassifier` does when nothing is set, and are tested on the same
samples. Nothing is chosen on these data. Accuracy and log-loss of "all"; differences by the interval for re-splits of
one data set, Holm over the sets. Writes `OUT/multiview.tsv`: `set method seed accuracy log_loss`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.io import loadmat, savemat
from sklearn.datasets import load_digits
from tqdm import tqdm

from adni_tcgm.datasets.arrays import ArraysConfig, load
from adni_tcgm.estimators import MultimodalClassifier
from adni_tcgm.evaluation.intervals import Difference, PairedRun, paired_difference, verdicts
from adni_tcgm.evaluation.metrics import classification_metrics

METHODS = ("tcgm", "ce")
METRICS = ("accuracy", "log_loss")
CELLS = ("X", "data")


def write_digits(file: Path) -> Path:
    """The left and the right half of 1,797 handwritten digits, as a cell `X` of two views and labels `Y`."""
    images, digit = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    views = np.empty((1, 2), object)
    views[0] = [images[:, :, half].reshape(len(images), -1) for half in (slice(4), slice(4, 8))]
    savemat(file, {"X": views, "Y": digit[:, None]})
    return file


def cell_of(file: Path) -> str:
    """Raises ValueError where the file has no cell of the usual name."""
    names = set(loadmat(file))
    for cell in CELLS:
        if cell in names:
            return cell
    raise ValueError(f"{file}: no cell {' or '.join(CELLS)}; it holds {', '.join(sorted(names))}")


def train_both(file: Path, label_rate: float, seed: int, calibrate: bool) -> tuple[list[str], np.ndarray, dict, int]:
    """Names and labels (n,) of the test samples, method -> their log-posteriors (n, C), and how many trained."""
    splits = load(ArraysConfig(str(file), cell_of(file), label_rate=label_rate), seed)
    train, test = ({name: v.numpy() for name, v in part.inputs.items()} for part in (splits.train, splits.test))
    found = {}
    for method in METHODS:
        model = MultimodalClassifier(method, calibrate=calibrate, seed=seed).fit(train, splits.train.labels.numpy())
        found[method] = model.predict_log_proba(test)
    return splits.test.sample_ids, splits.test.labels.numpy(), found, len(splits.train)


def run(file: Path, label_rate: float, seeds: int, calibrate: bool) -> Iterator[tuple[list[dict], PairedRun]]:
    """For each seed a row a method, and TCGM (first) beside CE (second)."""
    for seed in tqdm(range(seeds), desc=file.stem, disable=None, leave=False):
        names, labels, found, trained = train_both(file, label_rate, seed, calibrate)
        rows = []
        for method, values in found.items():
            metrics = classification_metrics(values, labels)
            rows.append({"set": file.stem, "method": method, "seed": seed} | {m: metrics[m] for m in METRICS})
        yield rows, PairedRun(names, labels, *(found[method] for method in METHODS), train_size=trained)


def compare(pairs: dict[str, list[PairedRun]], metric: str) -> dict[str, Difference]:
    """Set -> TCGM less CE."""

    def value(labels: np.ndarray, log_posteriors: np.ndarray) -> float | None:
        return classification_metrics(log_posteriors, labels)[metric]

    return {name: paired_difference(value, runs, "resplits") for name, runs in pairs.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.mat")
    parser.add_argument("--label-rate", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=20, metavar="N")
    parser.add_argument("--calibrate", action="store_true", help="cross-fitted, as by default: six times the trainings")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, pairs = [], {}
    for file in (write_digits(arguments.out / "digits.mat"), *arguments.files):
        found = list(run(file, arguments.label_rate, arguments.seeds, arguments.calibrate))
        rows += [row for of_seed, _ in found for row in of_seed]
        pairs[file.stem] = [pair for _, pair in found]
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "multiview.tsv", sep="\t", index=False)
    print(table.groupby(["set", "method"], sort=False)[list(METRICS)].agg(["mean", "std"]).round(3).to_string())
    for metric in METRICS:
        differences = compare(pairs, metric)
        shown = verdicts(differences)
        print(f"\n{metric}, TCGM less CE, {arguments.seeds} seeds, 95 % by Nadeau and Bengio, Holm over the sets")
        for name, d in differences.items():
            print(f"{name:12} {d.estimate:+.3f} [{d.low:+.3f}, {d.high:+.3f}] p {d.p_value:.4f}  {shown[name]}")


if __name__ == "__main__":
    main()
