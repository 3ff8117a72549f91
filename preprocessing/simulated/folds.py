"""Which networks prepare the simulated people who arrive as scans of heads that the shipped networks were trained on.

RAW/SIMULATED_folds.tsv: `participant_id fold`, written with the cohort. Nobody reads it in a download of real people.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from preprocessing.ledger import write_table
from preprocessing.networks import NETWORKS, fold_of_label_map, weights_path

MARK = "SIMULATED.txt"  # a download that holds this file was not taken of anybody
FILE = "SIMULATED_folds.tsv"


def folds_of(label_maps: list[Path]) -> list[int | None]:
    """The fold of each head. Raises FileNotFoundError where the networks of one are not there: the installed package
    has none of them, the repository has all."""
    folds = [fold_of_label_map(file) for file in label_maps]
    for file, fold in zip(label_maps, folds, strict=True):
        for network in NETWORKS if fold else ():
            weights = weights_path(network, fold)
            if not weights.is_file():
                raise FileNotFoundError(
                    f"{file}: the {network} network was trained on this head, and the one that never saw it, "
                    f"{weights}, is not there; --anatomies with these heads needs a checkout of the repository"
                )
    return folds


def write_folds(raw: Path, folds: Mapping[str, int | None]) -> None:
    """folds: by participant_id; who has None is prepared by the shipped networks and gets no row."""
    rows = [(participant, fold) for participant, fold in folds.items() if fold]
    if rows:
        write_table(pd.DataFrame(rows, columns=["participant_id", "fold"]), raw / FILE)


def read_folds(raw: Path) -> dict[str, int]:
    """Fold by participant_id; nothing where `raw` is not a simulated download."""
    if not ((raw / MARK).is_file() and (raw / FILE).is_file()):
        return {}
    table = pd.read_csv(raw / FILE, sep="\t")
    return dict(zip(table.participant_id, table.fold.map(int), strict=True))
