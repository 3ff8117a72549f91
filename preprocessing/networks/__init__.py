"""Segmentation networks trained on images drawn from label maps: layers, drawing, training, and the weights."""

from __future__ import annotations

import re
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
NETWORKS = ("head", "hippocampus")
# The label maps of the shipped networks, by number, and the parts of them that the networks of a fold never saw.
TRAINING_MAP, TRAINING_MAPS, FOLDS = re.compile(r"training_seg_(\d+)"), 20, 5


def weights_path(network: str, fold: int | None = None) -> Path:
    """Where the weights of one of NETWORKS lie; fold: of the one that never saw that fold's heads, which is in the
    repository and not in the package."""
    return WEIGHTS / "folds" / f"{network}-fold{fold}.safetensors" if fold else WEIGHTS / f"{network}.safetensors"


def fold_of_label_map(file: Path) -> int | None:
    """The fold (from 1) whose networks never saw the head of a label map; None where the shipped ones never did.

    >>> fold_of_label_map(Path("training_seg_05.nii.gz")), fold_of_label_map(Path("another.nii.gz"))
    (2, None)
    """
    match = TRAINING_MAP.fullmatch(file.name.split(".")[0])
    number = int(match[1]) if match else 0
    return (number - 1) * FOLDS // TRAINING_MAPS + 1 if 1 <= number <= TRAINING_MAPS else None
