"""Emotion and sentiment of recorded utterances from words, voice and face: IEMOCAP, MOSI, or a simulated stand-in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adni_tcgm.choices import check_choices, choice
from adni_tcgm.datasets.emotion_files import TASKS, Utterances, open_arrays, read_utterances
from adni_tcgm.datasets.emotion_simulated import StandIn, simulate
from adni_tcgm.datasets.multiview import Arrays, to_splits
from adni_tcgm.datasets.sequences import STEPS
from adni_tcgm.datasets.splitting import check_label_rate, draw_splits
from adni_tcgm.tcgm.batch import Splits

CLASSES = ("no", "yes")
SPLITS = ("given", "drawn")


@dataclass(frozen=True)
class EmotionConfig:
    """What to read, as what, and how to split.

    path: an .npz, .mat or HDF5 file or a folder of .npy files; "" for the simulated stand-in, SIMULATED everywhere.
    task: "sentiment" (yes: >= 0) or one of "neutral", "happy", "sad", "angry".
    arrays: modality, "labels", "ids", "groups" or "split" -> name of its array, with {split} where the three splits are
        arrays of their own and {task} where the tasks are; None: a layout that is known (`emotion_files.LAYOUTS`).
    sequences: modalities of which all steps are kept; the others are averaged over theirs, as in LMF.
    max_steps: of a sequence, where it is cut; None: never.
    split: "given" by the file, with a fifth of the training videos or speakers for validation where it has none; or
        "drawn", 60/20/20. Never through a video or speaker, if the file names them.
    label_rate: share of the labeled training utterances whose label is shown.

    >>> EmotionConfig(task="happy").path  # none: the simulated stand-in
    ''
    """

    path: str = ""
    task: str = choice("sentiment", TASKS)
    arrays: dict | None = None
    sequences: tuple[str, ...] = ("text",)
    max_steps: int | None = None
    split: str = choice("given", SPLITS)
    label_rate: float = 0.01
    stand_in: StandIn = field(default_factory=StandIn)

    def __post_init__(self) -> None:
        check_label_rate(self.label_rate)
        check_choices(self)
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps is {self.max_steps}; it must be at least 1")


def load(config: EmotionConfig, seed: int) -> Splits:
    """Train, validation and test utterances, labels hidden, every feature standardized by the training ones.

    The seed draws the labels that are shown, the split or the part of it that is not given, and the stand-in.
    Speakers or videos are also the nuisance groups. Raises FileNotFoundError where the path is missing
    and ValueError naming the file and what does not fit.
    """
    arrays = _arrays(config, read(config, seed), seed)
    kinds = {name: STEPS if values.ndim == 3 else "zscore" for name, values in arrays.views.items()}
    try:
        return to_splits(arrays, seed, config.label_rate, kinds, unit_norm=False)
    except ValueError as error:
        raise ValueError(f"{config.path or 'stand-in'}: {error}") from error


def read(config: EmotionConfig, seed: int) -> Utterances:
    how = (config.task, config.sequences, config.max_steps)
    if not config.path:
        return read_utterances(simulate(config.stand_in, config.task, seed), None, *how)
    with open_arrays(Path(config.path)) as arrays:
        return read_utterances(arrays, config.arrays, *how)


def fingerprint(config: EmotionConfig) -> str:
    """SHA-256 of the file, or of every file in the folder, to know whether the data changed; "" for the stand-in.

    >>> fingerprint(EmotionConfig())
    ''
    """
    if not config.path:
        return ""
    path = Path(config.path)
    total = hashlib.sha256()
    for file in sorted(path.glob("*.npy")) if path.is_dir() else [path]:
        with file.open("rb") as content:
            total.update(file.name.encode() + b"\0" + hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()


def _arrays(config: EmotionConfig, found: Utterances, seed: int) -> Arrays:
    split = found.split if config.split == "given" else None
    rng = np.random.default_rng([seed, 0])
    if split is not None and "validation" not in split:
        split = _draw_validation(np.array(split), found, rng)
    try:
        return Arrays(
            found.views, found.labels, CLASSES, found.ids, found.present, found.groups, found.groups, split=split
        )
    except ValueError as error:
        hint = " (data.split=drawn splits anew, by video or speaker)" if split is not None else ""
        raise ValueError(f"{config.path or 'stand-in'}: {error}{hint}") from error


def _draw_validation(split: np.ndarray, found: Utterances, rng: np.random.Generator) -> list[str]:
    """A fifth of the training utterances becomes validation, whole videos or speakers of them."""
    rows = np.flatnonzero(split == "train")
    groups = np.array(found.groups if found.groups is not None else found.ids)[rows]
    # The split in three of the training utterances, whose third part goes back to training.
    drawn = draw_splits(found.labels[rows], groups, rng, classes=len(CLASSES))
    widened = split.astype("<U10")
    widened[rows[drawn == "validation"]] = "validation"
    return widened.tolist()
