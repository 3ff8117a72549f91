"""The leak audit: what training may not know of validation and test, checked before and after every run.

It cannot be switched off. Names, groups, shown labels, copies of a sample under another name, and what every step was
fitted on; the test split is sealed until evaluation opens it; and a split, once drawn, is kept to.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor, nn

from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch, SplitRow, Splits

PARTS = ("train", "validation", "test")
# What may look at the validation split; everything else is fitted on training samples.
FITTED_ON_VALIDATION = ("calibration",)
MANIFEST = "split.json"
# Copies are looked for among this many independent directions, and that few false alarms are expected a modality.
DIRECTIONS = 32
FALSE_ALARMS = 1e-4
POOLED_VOLUME, POOLED_VECTOR = (6, 6, 6), 256
ROWS_AT_ONCE, SAMPLES_AT_ONCE = 1024, 32
# Norms fitted on others than the training samples leave their mean further from 0 than this.
LARGEST_MEAN = 1e-3
# A feature that is constant in every class says nothing about leaks where a class has fewer samples.
FEWEST_OF_A_CLASS = 5


class LeakError(ValueError):
    """Something that training may not know of validation or test."""


def audit_splits(splits: Splits, *, strict: bool, external: MultimodalBatch | None = None) -> dict:
    """Raises LeakError for the first leak; the record of what was compared, for `audit.json`.

    strict: a scan that is in two splits is an error, as with brains, and so is one that is nearly another. Otherwise a
    sample all of whose modalities are there twice, number by number, is a warning, since two short texts may be the
    same by chance; near copies are only counted (`nearly_twice`), since two sevens of one hand or two short texts are
    honestly that near. external: an external test set; nobody among them may be a copy of anybody else.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> splits = load(GaussianConfig(samples=60, test_samples=20, label_rate=0.2), seed=0)
    >>> sorted(audit_splits(splits, strict=False))
    ['copies', 'n', 'nearly_twice', 'twice']
    """
    _check_names(splits)
    _check_groups(splits)
    _check_labels(splits)
    _check_features(splits)
    audit_fits(splits.fitted_on, splits)
    if "norms" in splits.fitted_on:
        _check_norms(splits)
    parts = {name: getattr(splits, name) for name in PARTS}
    if external is not None:
        parts["external"] = external
    copies, records = {}, {}
    for column, modality in enumerate(splits.modalities):
        records[modality.name], copies[modality.name] = find_copies(parts, modality.name, column)
        if strict and copies[modality.name]:
            pair, word = next(iter(copies[modality.name].items()))
            raise LeakError(
                f"{modality.name} of {pair.one} is {word} that of {pair.other}; a person belongs to one split"
            )
    near = set.intersection(*map(set, copies.values())) if copies else set()
    twice = {pair for pair in near if all(words[pair] == SAME for words in copies.values())}
    if twice:
        pair = min(twice)
        more = f" ({len(twice)} such pairs)" if len(twice) > 1 else ""
        warnings.warn(f"{pair.one} is {SAME} {pair.other}{more}; give both one group", stacklevel=2)
    sizes = {name: len(batch) for name, batch in parts.items()}
    return {"n": sizes, "copies": records, "twice": len(twice), "nearly_twice": len(near - twice)}


def audit_fits(fitted_on: Mapping[str, Sequence[str]], splits: Splits) -> dict:
    """Raises LeakError where a step was fitted on a sample it may not see; step -> split and number of samples.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> splits = load(GaussianConfig(samples=40, test_samples=10, label_rate=0.2), seed=0)
    >>> audit_fits({"norms": splits.train.sample_ids[:3]}, splits)
    {'norms': {'split': 'train', 'n': 3}}
    >>> audit_fits({"norms": splits.test.sample_ids[:1]}, splits)
    Traceback (most recent call last):
        ...
    adni_tcgm.audit.LeakError: norms was fitted on 's0-test-0', which is not in train (1 such samples)
    """
    allowed = {name: set(getattr(splits, name).sample_ids) for name in ("train", "validation")}
    allowed["train"] |= splits.outside.keys()
    record = {}
    for step, names in fitted_on.items():
        part = "validation" if step in FITTED_ON_VALIDATION else "train"
        strange = sorted(set(names) - allowed[part])
        if strange:
            raise LeakError(
                f"{step} was fitted on {strange[0]!r}, which is not in {part} ({len(strange)} such samples)"
            )
        outside = sum(name in splits.outside for name in names)
        record[step] = {"split": part, "n": len(names) - outside} | ({"outside": outside} if outside else {})
    return record


class SealedSplit:
    """Stands for the test split until evaluation. Whatever asks it for anything raises LeakError.

    >>> SealedSplit().labels
    Traceback (most recent call last):
        ...
    adni_tcgm.audit.LeakError: training asked the test split for 'labels'; it is read once, by evaluation
    """

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):  # copying and pickling look for these, and may miss them
            raise AttributeError(name)
        raise LeakError(f"training asked the test split for {name!r}; it is read once, by evaluation")

    def __len__(self) -> int:
        raise LeakError("training asked for the size of the test split; it is read once, by evaluation")


def seal_test(splits: Splits) -> Splits:
    """What training may see: no test split, and of every row only what was already shown.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> splits = load(GaussianConfig(samples=40, test_samples=10, label_rate=0.2), seed=0)
    >>> sealed = seal_test(splits)
    >>> len(splits.test), type(sealed.test).__name__, any(row.split == "test" for row in sealed.rows)
    (10, 'SealedSplit', False)
    """
    rows = [row for row in splits.rows if row.split != "test"]
    shown = [row if row.label_visible else replace(row, label="") for row in rows]
    return replace(splits, test=SealedSplit(), rows=shown)


# ---- the split, once drawn


def split_manifest(rows: Sequence[SplitRow], about: Mapping[str, object]) -> dict:
    """`split.json`: what the split was drawn from (`about`), how many went where, and the hash of who went where.

    >>> rows = [SplitRow("a", "a", "train", "yes", True), SplitRow("b", "b", "test", "no", True)]
    >>> sorted(split_manifest(rows, {"seed": 0}))
    ['n', 'of', 'sha256']
    """
    lines = sorted([row.sample_id, row.group_id, row.split, row.label, row.label_visible] for row in rows)
    digest = hashlib.sha256(json.dumps(lines).encode()).hexdigest()
    counts = {part: sum(row.split == part for row in rows) for part in PARTS}
    return {"sha256": digest, "n": counts, "of": json.loads(json.dumps(about))}


def check_manifest(manifest: Mapping, runs: Path) -> None:
    """Raises LeakError where a run below `runs` has another split of the same data, seed and label rate."""
    for file in sorted(runs.glob(f"*/{MANIFEST}")):
        try:
            other = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue  # replaced this very moment, by a run of its own
        if other["of"] == manifest["of"] and other["sha256"] != manifest["sha256"]:
            raise LeakError(
                f"{file.parent.name} has another split of the same data, seed and label rate "
                f"({other['sha256'][:8]}, now {manifest['sha256'][:8]}): people would change sides between runs that "
                "are compared; choose another --out or seed"
            )


# ---- the checks


def _check_names(splits: Splits) -> None:
    home: dict[str, str] = {}
    for part in PARTS:
        for name in getattr(splits, part).sample_ids:
            if name in home:
                raise LeakError(f"sample {name!r} is in {home[name]} and in {part}; it belongs to one place")
            home[name] = part
    recorded = {row.sample_id: row.split for row in splits.rows}
    for name in home.keys() | recorded.keys():
        if home.get(name) != recorded.get(name):
            where = recorded.get(name, "no split")
            raise LeakError(f"sample {name!r} is in {home.get(name, 'no split')}; the record of the split says {where}")


def _check_groups(splits: Splits) -> None:
    home: dict[str, str] = {}
    recorded = {row.sample_id: row.group_id for row in splits.rows}
    for part in PARTS:
        batch = getattr(splits, part)
        for name, group in zip(batch.sample_ids, batch.groups or batch.sample_ids, strict=True):
            if recorded[name] != group:
                raise LeakError(f"sample {name!r} has group {group!r}; the record of the split says {recorded[name]!r}")
            if home.setdefault(group, part) != part:
                raise LeakError(f"group {group!r} is in {home[group]} and in {part}; a group belongs to one split")
    for name, group in splits.outside.items():
        if name in recorded or home.get(group, "train") != "train":
            where = home.get(group) or "a split"
            raise LeakError(f"inputs were changed by {name!r} of group {group!r}, which is in {where}")


def _check_labels(splits: Splits) -> None:
    """What a batch holds as labels is what the record says is shown."""
    recorded = {row.sample_id: row.label if row.label_visible else "" for row in splits.rows}
    for part in PARTS:
        batch = getattr(splits, part)
        for name, label in zip(batch.sample_ids, batch.labels.tolist(), strict=True):
            given = "" if label == UNLABELED else splits.classes[label]
            if given != recorded[name]:
                rule = f"the record shows {recorded[name]!r}" if recorded[name] else "the record hides it"
                raise LeakError(f"sample {name!r} in {part} has label {given!r}; {rule}")


def _check_features(splits: Splits) -> None:
    """A column that has one value in each class, and another in each, is the label in disguise."""
    for modality in splits.modalities:
        if len(modality.shape) != 1:
            continue
        parts = (splits.train, splits.validation)
        values, labels = torch.cat([p.inputs[modality.name] for p in parts]), torch.cat([p.labels for p in parts])
        classes = [values[labels == c] for c in range(len(splits.classes))]
        if min(map(len, classes)) < FEWEST_OF_A_CLASS:
            continue
        constant = torch.stack([(x == x[0]).all(0) for x in classes]).all(0)
        firsts = torch.stack([x[0] for x in classes])
        distinct = torch.stack([a != b for a, b in combinations(firsts, 2)]).all(0)
        columns = (constant & distinct).nonzero().flatten().tolist()
        if columns:
            raise LeakError(f"column {columns[0]} of modality {modality.name!r} has one value in each class: the label")


def _check_norms(splits: Splits) -> None:
    """Standardized by the training samples alone, these have mean 0 (over all voxels, or in each column)."""
    for column, modality in enumerate(splits.modalities):
        values, present = splits.train.inputs[modality.name], splits.train.present[:, column]
        if not present.any():
            continue
        # One volume at a time: a mean in double makes a double copy of what it reads. Kept as numbers: a tensor behind
        # each copy would hold its place in memory.
        means = [[x.mean(dtype=torch.float64).item()] for x in values] if values.ndim > 2 else values
        off = float(torch.as_tensor(means, dtype=torch.float64)[present].mean(0).abs().max())
        if off > LARGEST_MEAN:
            raise LeakError(
                f"modality {modality.name!r}: the training samples lie {off:.3g} SD from mean 0; their norms were "
                "fitted on other samples too"
            )


# ---- copies


SAME = "the same as"


class Pair(NamedTuple):
    """Two samples of different splits, each as "'name' in split".

    >>> Pair("'a' in train", "'b' in test").other
    "'b' in test"
    """

    one: str
    other: str


def find_copies(
    parts: Mapping[str, MultimodalBatch], modality: str, column: int
) -> tuple[dict[str, float | None], dict[Pair, str]]:
    """How many pairs were compared and how near the nearest is; and the pairs that are one sample twice, in a word.

    Each sample becomes a few independent numbers (pooled, then whitened principal components). Half the squared
    distance of two different ones follows about chi-squared of as many degrees of freedom; a pair nearer than chance
    brings FALSE_ALARMS times in the whole modality is a copy: a noisy, rescaled or mirrored one, too.

    >>> from adni_tcgm.datasets.gaussian import GaussianConfig, load
    >>> splits = load(GaussianConfig(samples=60, test_samples=20, label_rate=0.2), seed=0)
    >>> _, copies = find_copies({"train": splits.train, "test": splits.test}, "m1", 0)
    >>> copies
    {}
    """
    telling = {name: _telling(batch, modality, column) for name, batch in parts.items()}
    names = {name: [f"{batch.sample_ids[row]!r} in {name}" for row in telling[name]] for name, batch in parts.items()}
    values = dict(zip(parts, _same_shape([batch.inputs[modality] for batch in parts.values()]), strict=True))
    ids = dict(zip(parts, _content_ids([(values[name], telling[name]) for name in parts]), strict=True))
    codes = dict(zip(parts, _codes([_describe(values[name], telling[name]) for name in parts]), strict=True))
    pairs = sum(len(names[a]) * len(names[b]) for a, b in combinations(parts, 2))
    directions = codes["train"][0].shape[1]
    limit = float(chi2.ppf(FALSE_ALARMS / max(pairs, 1), directions)) if directions else 0.0
    found, nearest = {}, np.inf
    for a, b in combinations(parts, 2):
        # Against the other as it is and, of volumes, against its mirror image.
        for word, code in zip(("nearly the same as", "a mirror image of"), codes[b], strict=False):
            distance, near = _near(codes[a][0], code, limit, ids[a], ids[b])
            nearest = min(nearest, distance)
            for row, other in near.tolist():
                same = ids[a][row] == ids[b][other]
                found.setdefault(Pair(names[a][row], names[b][other]), SAME if same else word)
    closest = round(nearest, 3) if np.isfinite(nearest) else None
    return {"pairs": pairs, "directions": directions, "limit": round(limit, 3), "nearest": closest}, found


def _telling(batch: MultimodalBatch, modality: str, column: int) -> np.ndarray:
    """Rows of the samples that have the modality and more than one number in it, repeated."""
    varied = np.array([bool((row != row[0]).any()) for row in batch.inputs[modality].flatten(1)], dtype=bool)
    return np.flatnonzero(batch.present[:, column].numpy() & varied)


def _same_shape(values: Sequence[Tensor]) -> list[Tensor]:
    """Volumes read with a margin are cut to the size of those read without."""
    smallest = [min(sizes) for sizes in zip(*(part.shape[1:] for part in values), strict=True)]
    cut = []
    for part in values:
        starts = [(size - small) // 2 for size, small in zip(part.shape[1:], smallest, strict=True)]
        box = [slice(start, start + small) for start, small in zip(starts, smallest, strict=True)]
        cut.append(part[(slice(None), *box)])
    return cut


def _content_ids(values: Sequence[tuple[Tensor, np.ndarray]]) -> list[np.ndarray]:
    """A number for every sample, the same for the same content. values: samples and the rows of them that count."""
    known: dict[bytes, int] = {}
    digests = [[hashlib.sha256(part[row].contiguous().numpy()).digest() for row in rows] for part, rows in values]
    return [np.array([known.setdefault(digest, len(known)) for digest in part], dtype=int) for part in digests]


def _describe(values: Tensor, rows: np.ndarray) -> list[np.ndarray]:
    """Of (N, …) the n rows -> (n, d): vectors in at most POOLED_VECTOR numbers; volumes in coarse cells, whatever the
    scale of their intensities, and a second time mirrored along their first axis."""
    # A few at a time: a second copy of thousands of volumes might not fit.
    cells = torch.cat([_pool(values[few]) for few in torch.from_numpy(rows).split(SAMPLES_AT_ONCE)]).double()
    if values.ndim != 5:
        return [cells.numpy()]
    both = [part.flatten(1) for part in (cells, cells.flip(2))]
    return [((x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True).clamp_min(1e-12)).numpy() for x in both]


def _pool(values: Tensor) -> Tensor:
    if values.ndim == 5:
        return nn.functional.adaptive_avg_pool3d(values, POOLED_VOLUME)
    flat = values.flatten(1)
    return nn.functional.adaptive_avg_pool1d(flat[:, None], min(POOLED_VECTOR, flat.shape[1]))[:, 0]


def _codes(described: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """Principal components of everybody as described, scaled to SD 1; a fourth of the samples can tell that many."""
    everybody = np.concatenate([straight for straight, *_ in described])
    directions = min(DIRECTIONS, len(everybody) // 4)
    if not directions:
        return [[part[:, :0] for part in each] for each in described]
    mean = everybody.mean(0)
    strongest = np.linalg.eigh((everybody - mean).T @ (everybody - mean))[1][:, ::-1][:, :directions]
    sd = ((everybody - mean) @ strongest).std(0)
    kept = sd > 1e-6 * sd.max()
    return [[((part - mean) @ strongest[:, kept]) / sd[kept] for part in each] for each in described]


def _near(a: np.ndarray, b: np.ndarray, limit: float, ids_a: np.ndarray, ids_b: np.ndarray) -> tuple[float, np.ndarray]:
    """The smallest half squared distance of rows of a and b with other contents; (n, 2) the pairs that are copies."""
    nearest, pairs = np.inf, [np.zeros((0, 2), dtype=int)]
    for start in range(0, len(a), ROWS_AT_ONCE):
        rows = a[start : start + ROWS_AT_ONCE]
        same = ids_a[start : start + len(rows), None] == ids_b
        half = ((rows**2).sum(1)[:, None] + (b**2).sum(1) - 2 * rows @ b.T).clip(0) / 2
        if a.shape[1]:
            nearest = min(nearest, float(half[~same].min(initial=np.inf)))
        pairs.append(np.argwhere(same | (half < limit)) + [start, 0])
    return nearest, np.concatenate(pairs)
