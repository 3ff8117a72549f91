"""Cross-validation over groups (people, anatomies, sites): each group tests once, where a split draws by chance."""

from __future__ import annotations

import numpy as np

from adni_tcgm.datasets.splitting import LEFT_OUT, MAX_DRAWS
from adni_tcgm.tcgm.batch import UNLABELED

SMALLEST = 3


def fold_splits(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int, classes: int) -> np.ndarray:
    """(N,) "train", "validation", "test" or `LEFT_OUT`: what `draw_splits` says, for fold `seed % folds` of `folds`.

    That fold tests, the next one validates, the others train; with five of them that is 60/20/20. Seeds 0 to folds - 1
    share one dealing of the groups, so that together they test every labeled sample once; the next seeds share another.
    labels: (N,) class index or UNLABELED; groups: (N,) names, dealt out whole. A sample without a label trains, unless
    its group is elsewhere.

    Raises ValueError when no dealing gives every fold each of the `classes`.

    >>> labels, groups = np.arange(20) % 2, np.array([f"p{i}" for i in range(20)])
    >>> tested = [fold_splits(labels, groups, 5, seed, 2) == "test" for seed in range(5)]
    >>> np.sum(tested, axis=0).tolist() == [1] * 20  # each of them once
    True
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    labeled = labels != UNLABELED
    home = _deal(labels[labeled], groups[labeled], folds, classes, np.random.default_rng([seed // folds, 2]))
    test = seed % folds
    names = {test: "test", (test + 1) % folds: "validation"}
    split = np.array([names.get(home.get(group), "train") for group in groups], dtype="<U10")
    split[~labeled & (split != "train")] = LEFT_OUT
    return split


def _deal(labels: np.ndarray, groups: np.ndarray, folds: int, classes: int, rng: np.random.Generator) -> dict[str, int]:
    """group -> fold. In random order, each group goes to the fold that has the fewest samples so far."""
    names, member = np.unique(groups, return_inverse=True)
    # (groups, classes): how many samples of each class a group brings.
    counts = np.zeros((len(names), classes), dtype=int)
    np.add.at(counts, (member, labels), 1)
    for _ in range(MAX_DRAWS):
        dealt, home = np.zeros((folds, classes), dtype=int), {}
        for position in rng.permutation(len(names)):
            fold = int(dealt.sum(1).argmin())
            home[str(names[position])] = fold
            dealt[fold] += counts[position]
        if (dealt > 0).all():
            return home
    raise ValueError(
        f"{MAX_DRAWS} dealings of {len(names)} groups with labeled samples to {folds} folds left a fold without one of "
        f"the {classes} classes; take fewer folds"
    )


def check_folds(folds: int) -> None:
    """Raises ValueError for a number of folds that leaves no training people; 0 is none.

    >>> check_folds(5)
    >>> check_folds(2)
    Traceback (most recent call last):
        ...
    ValueError: folds is 2; training, validation and test need 3 or more, and 0 means none
    """
    if folds and folds < SMALLEST:
        raise ValueError(f"folds is {folds}; training, validation and test need {SMALLEST} or more, and 0 means none")
