"""Segmentation networks trained on images drawn from label maps: layers, drawing, training, and the weights."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def weights_path(network: str, fold: int | None = None) -> Path:
    """Where the weights of a network ("head" or "hippocampus") lie; fold: of the one that never saw that fold's heads,
    which is in the repository and not in the package."""
    return WEIGHTS / "folds" / f"{network}-fold{fold}.safetensors" if fold else WEIGHTS / f"{network}.safetensors"
