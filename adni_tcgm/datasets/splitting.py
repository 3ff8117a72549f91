"""Who trains, who validates, who tests, and whose label is shown."""

from __future__ import annotations

import numpy as np

from adni_tcgm.tcgm.batch import UNLABELED

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
# What `draw_splits` calls a sample without a label whose group is in validation or test: it can join no split.
LEFT_OUT = ""
MAX_DRAWS = 1000


def draw_splits(
    labels: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    first: np.ndarray | None = None,
    classes: int | None = None,
) -> np.ndarray:
    """(N,) "train", "validation", "test" in shares 60/20/20, or `LEFT_OUT`.

    labels: (N,) class index or UNLABELED; groups: (N,) names, dealt out whole. Labeled samples are drawn into all three
    splits. A sample without a label trains, unless its group is elsewhere. first: (N,) bool, samples whose groups are
    dealt before the others, so that they are spread evenly too. classes: how many there are; None: those that occur.

    Raises ValueError when no draw gives every split every class.

    >>> labels, groups = np.arange(20) % 2, np.array([f"p{i}" for i in range(20)])
    >>> split = draw_splits(labels, groups, np.random.default_rng(0))
    >>> {str(name): int((split == name).sum()) for name in SHARES}
    {'train': 12, 'validation': 4, 'test': 4}
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    labeled = labels != UNLABELED
    first = np.zeros(len(labels), dtype=bool) if first is None else first
    wanted = set(labels[labeled].tolist()) if classes is None else set(range(classes))
    for _ in range(MAX_DRAWS):
        home = _deal_groups(groups[labeled], first[labeled], rng)
        where = np.array([home[group] for group in groups[labeled]])
        if all(set(labels[labeled][where == split].tolist()) == wanted for split in SHARES):
            break
    else:
        raise ValueError(
            f"{MAX_DRAWS} draws of {len(set(groups[labeled]))} groups with labeled samples left a split without "
            f"one of the {len(wanted)} classes; every split needs all of them"
        )
    split = np.array([home.get(group, "train") for group in groups], dtype="<U10")
    split[~labeled & (split != "train")] = LEFT_OUT
    return split


def _deal_groups(groups: np.ndarray, first: np.ndarray, rng: np.random.Generator) -> dict[str, str]:
    """group -> split. Each group goes where most samples are still wanted; big groups make the shares approximate."""
    names, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    early = np.bincount(member, weights=first) > 0
    home: dict[str, str] = {}
    dealt = dict.fromkeys(SHARES, 0)
    for now in (early, ~early):
        wanted = {split: count - dealt[split] for split, count in apportion(len(groups)).items()}
        if now is early:
            wanted = apportion(int(sizes[early].sum()))
            if early.sum() > 1 and wanted["test"] == 0:
                wanted |= {"test": 1, "train": wanted["train"] - 1}
        for position in rng.permutation(np.flatnonzero(now)):
            split = max(SHARES, key=wanted.get)
            home[names[position]] = split
            wanted[split] -= sizes[position]
            dealt[split] += sizes[position]
    return home


def apportion(samples: int) -> dict[str, int]:
    """How many samples each split should get; the shares add up exactly (largest remainder).

    >>> apportion(58)
    {'train': 35, 'validation': 12, 'test': 11}
    """
    exact = {split: share * samples for split, share in SHARES.items()}
    counts = {split: int(value + 1e-9) for split, value in exact.items()}
    by_remainder = sorted(SHARES, key=lambda split: counts[split] - exact[split])
    for split in by_remainder[: samples - sum(counts.values())]:
        counts[split] += 1
    return counts


def draw_visible(labels: np.ndarray, candidates: np.ndarray, label_rate: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) bool: the share `label_rate` of the candidates, drawn at random but with one of each class at least.

    labels: (N,) class index or UNLABELED; candidates: (N,) bool, the training samples. The labels shown at a low rate
    are among those shown at a higher one, but for the one or two that a rare class takes.

    >>> draw_visible(np.arange(10) % 2, np.ones(10, bool), 0.4, np.random.default_rng(0)).sum().item()
    4
    """
    order = rng.permutation(np.flatnonzero(candidates & (labels != UNLABELED)))
    classes = np.unique(labels[order])
    shown = max(int(label_rate * len(order) + 0.5), len(classes))
    chosen, rest = order[:shown].tolist(), order[shown:]
    for missing in np.setdiff1d(classes, labels[chosen]):
        # The last one that is not the only one of its class gives way to the first of the missing class.
        counts = np.bincount(labels[chosen])
        spare = next(i for i in reversed(range(shown)) if counts[labels[chosen[i]]] > 1)
        chosen[spare] = next(row for row in rest.tolist() if labels[row] == missing)
    visible = np.zeros(len(labels), dtype=bool)
    visible[chosen] = True
    return visible


def check_label_rate(label_rate: float) -> None:
    """Raises ValueError unless 0 < label_rate <= 1.

    >>> check_label_rate(0.1)
    >>> check_label_rate(10)
    Traceback (most recent call last):
        ...
    ValueError: label_rate is 10; it must be > 0 and at most 1
    """
    if not 0 < label_rate <= 1:
        raise ValueError(f"label_rate is {label_rate}; it must be > 0 and at most 1")
