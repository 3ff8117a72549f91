"""Feature files of recorded utterances as people have them: which array is what, read one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import loadmat

from adni_tcgm.datasets.convert_pickle import LENGTHS
from adni_tcgm.datasets.sequences import find_steps, mark_steps, mean_over_steps
from adni_tcgm.limits import check_hdf5, check_npz
from adni_tcgm.transforms import ROWS_AT_ONCE

EMOTIONS = ("neutral", "happy", "sad", "angry")  # In this order where one file holds the labels of all four.
TASKS = ("sentiment", *EMOTIONS)
SPLIT_WORDS = {"train": ("train",), "validation": ("valid", "validation", "val", "dev"), "test": ("test",)}
ROLES = ("labels", "ids", "groups", "split")
OPTIONAL = ("ids", "groups", "split")
# {split} stands for a word of SPLIT_WORDS, {task} for the task; converted pickles have a "/" where these had a key.
LAYOUTS: dict[str, dict[str, str]] = {
    "Multimodal Transformer": {
        **{"text": "{split}/text", "audio": "{split}/audio", "video": "{split}/vision"},
        **{"labels": "{split}/labels", "ids": "{split}/id"},
    },
    "MMSA": {
        **{"text": "{split}/text", "audio": "{split}/audio", "video": "{split}/vision"},
        **{"labels": "{split}/regression_labels", "ids": "{split}/id"},
    },
    "LMF, one task": {
        **{"text": "{split}/glove", "audio": "{split}/covarep", "video": "{split}/facet", "labels": "{split}/label"},
    },
    "LMF, a task each": {
        **{"text": "{task}/{split}/glove", "audio": "{task}/{split}/covarep", "video": "{task}/{split}/facet"},
        **{"labels": "{task}/{split}/label"},
    },
    "one array a split": {
        **{"text": "text_{split}", "audio": "audio_{split}", "video": "video_{split}"},
        **{"labels": "y_{split}", "groups": "vid_{split}", "ids": "id_{split}"},
    },
    "one array": {
        **{"text": "text", "audio": "audio", "video": "video"},
        **{"labels": "labels", "groups": "groups", "ids": "ids", "split": "split"},
    },
}


@dataclass(frozen=True)
class Utterances:
    """What a file holds. views: modality -> (N, D) or (N, T, 1 + D) float32, see `sequences`; present: (N, M) bool.

    labels: (N,) 1, 0 or -1. groups: N videos or speakers, or None where the file names none. split: N words of
    SPLIT_WORDS, or None.
    """

    views: dict[str, np.ndarray]
    present: np.ndarray
    labels: np.ndarray
    ids: list[str]
    groups: list[str] | None
    split: list[str] | None


def read_utterances(
    arrays: Mapping[str, Any],
    layout: Mapping[str, str] | None,
    task: str,
    sequences: Sequence[str],
    max_steps: int | None,
) -> Utterances:
    """layout: role (a modality, or one of ROLES) -> name of its array; None: whichever of LAYOUTS fits.

    Arrays of steps, (N, T, D), become marked sequences for the modalities in `sequences`, cut after `max_steps`, and
    means over their steps for all others. A sample lacks a modality where it has no step, or NaN throughout.
    Raises ValueError naming the array that is missing or does not fit.
    """
    layout = dict(layout) if layout else find_layout(arrays, task)
    words = split_words(arrays, layout, task)

    def names(role: str) -> list[str]:
        """Of the role's arrays, one for each split."""
        return [layout[role].format(split=word, task=task) for word in words.values()]

    labels = [read_labels(np.asarray(arrays[name][()]), task) for name in names("labels")]
    sizes = [len(part) for part in labels]
    views = {}
    for modality in (role for role in layout if role not in ROLES):
        as_sequence = modality in sequences
        parts = [
            _read_view(arrays, name, size, as_sequence, max_steps)
            for name, size in zip(names(modality), sizes, strict=True)
        ]
        views[modality] = _concatenate(parts, modality)
    columns = {role: _column(arrays, names(role)) if role in layout else None for role in OPTIONAL}
    if None in words:
        split = columns["split"] and [_split_of(word) for word in columns["split"]]
    else:
        split = [part for part, size in zip(words, sizes, strict=True) for _ in range(size)]
    ids = columns["ids"]
    groups = columns["groups"] or (ids and [group_of(name) for name in ids])
    if ids is None or len(set(ids)) < len(ids):
        ids = [f"{name}-{row:05d}" for row, name in enumerate(groups or split or ["utterance"] * sum(sizes))]
    present = np.stack([_present(values) for values in views.values()], axis=1)
    return Utterances(views, present, np.concatenate(labels), ids, groups, split)


def find_layout(arrays: Mapping[str, Any], task: str) -> dict[str, str]:
    """The first known layout whose modalities and labels are all there."""
    for layout in LAYOUTS.values():
        needed = [name for role, name in layout.items() if role not in OPTIONAL]
        if all(name.format(split="train", task=task) in arrays for name in needed):
            return layout
    shown = ", ".join(sorted(arrays)[:12])
    raise ValueError(f"it holds {shown}; no known layout of feature files. Name its arrays in `arrays`")


def split_words(arrays: Mapping[str, Any], layout: Mapping[str, str], task: str) -> dict[str | None, str]:
    """train, validation, test -> the file's word for it, where it has that split; None -> "" if one array holds all."""
    if "labels" not in layout or not any(role not in ROLES for role in layout):
        raise ValueError(f"arrays names {', '.join(layout)}; it must name the labels and at least one modality")
    name = layout["labels"]
    if "{split}" not in name:
        return {None: ""}
    found = {}
    for part, words in SPLIT_WORDS.items():
        word = next((word for word in words if name.format(split=word, task=task) in arrays), None)
        if word is not None:
            found[part] = word
    if not {"train", "test"} <= set(found):
        raise ValueError(f"no array {name!r} for train and test; it holds {', '.join(sorted(arrays)[:12])}")
    return found


def read_labels(values: np.ndarray, task: str) -> np.ndarray:
    """(N,) int64, 1 where the task's emotion is there or the sentiment is >= 0, -1 where nobody knows.

    Takes (N,) or (N, 1, …) of 0 and 1 or, for sentiment, of any scores; (N, 2) or (N, 4, 2) one-hot; (N, 4) of 0 and 1,
    four standing for EMOTIONS in order. Raises ValueError for anything else.

    >>> read_labels(np.array([-1.2, 0.0, 2.4, np.nan]), "sentiment").tolist()
    [0, 1, 1, -1]
    """
    values = np.asarray(values, dtype=float)
    shape = values.shape
    values = values.reshape(len(values), -1) if values.ndim != 3 or shape[2] != 2 else values
    unknown = np.isnan(values).reshape(len(values), -1).any(1)
    if values.ndim == 3 or values.shape[1] == 2:  # One-hot in the last axis.
        values = np.nan_to_num(values).argmax(-1).reshape(len(values), -1).astype(float)
    if values.shape[1] == len(EMOTIONS) and task in EMOTIONS:
        values = values[:, [EMOTIONS.index(task)]]
    if values.shape[1] != 1:
        raise ValueError(f"labels have shape {shape}, which says nothing about {task}; expected one a sample")
    column = values[:, 0]
    known = column[~unknown]
    if not np.isin(known, (0, 1)).all():
        if task != "sentiment":
            raise ValueError(f"labels of {task} hold {known[~np.isin(known, (0, 1))][0]:g}; expected 0 and 1")
        column = (column >= 0).astype(float)
    return np.where(unknown, -1, np.nan_to_num(column)).astype(np.int64)


def _split_of(word: str) -> str:
    """ "dev" is "validation"; a word that nobody knows stays, to be refused by name."""
    return next((part for part, words in SPLIT_WORDS.items() if word in words), word)


def group_of(name: str) -> str:
    """The speaker or video that an utterance's name begins with; the name itself where it tells neither.

    "Ses01F_impro01_M003" was said by speaker Ses01M; "03bSnISJMiM$_$11" and "03bSnISJMiM[11]" are of one video.

    >>> group_of("Ses01F_impro01_M003"), group_of("03bSnISJMiM[11]")
    ('Ses01M', '03bSnISJMiM')
    """
    iemocap = re.match(r"(Ses\d\d)[FM]_.*_([FM])\d+$", name)
    return iemocap.expand(r"\1\2") if iemocap else re.split(r"\$_\$|\[", name)[0]


def _column(arrays: Mapping[str, Any], names: Sequence[str]) -> list[str] | None:
    """Text of all splits; None where a file has no such arrays."""
    if any(name not in arrays for name in names):
        return None
    return [text for name in names for text in _names(np.asarray(arrays[name][()]))]


def _names(values: np.ndarray) -> list[str]:
    """Rows of several columns are a video, a start and an end."""
    rows = values.reshape(len(values), -1)
    shown = [[v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in row] for row in rows]
    return [row[0] if len(row) == 1 else f"{row[0]}[{','.join(row[1:])}]" for row in shown]


def _read_view(arrays: Mapping[str, Any], name: str, size: int, as_sequence: bool, max_steps: int | None) -> np.ndarray:
    """(N, D) or (N, T, 1 + D) float32 of one array; in blocks of rows, so that little of a file is in memory."""
    if name not in arrays:
        raise ValueError(f"no array {name!r}; it holds {', '.join(sorted(arrays)[:12])}")
    values, lengths = arrays[name], _lengths(arrays, name)
    if len(values.shape) == 2 and lengths is not None and len(lengths) == size and len(values) == lengths.sum():
        ends = np.cumsum(lengths)
        pieces = (_pad(values, lengths[i : i + ROWS_AT_ONCE], ends[i : i + ROWS_AT_ONCE]) for i in _starts(lengths))
    elif len(values) != size:
        raise ValueError(f"{name} has {len(values)} utterances and its labels {size}; one label each")
    elif len(values.shape) == 3:
        pieces = (
            (block, find_steps(block, None if lengths is None else lengths[i : i + ROWS_AT_ONCE]))
            for i in _starts(values)
            for block in [np.asarray(values[i : i + ROWS_AT_ONCE])]
        )
    elif len(values.shape) == 2:
        vectors = np.asarray(values[()], dtype=np.float32)
        return np.where(np.isfinite(vectors), vectors, np.nan)
    else:
        raise ValueError(f"{name} has shape {tuple(values.shape)}; expected (N, D) or (N, T, D)")
    if not as_sequence:
        return np.concatenate([mean_over_steps(block, real) for block, real in pieces])
    longest = int(lengths.max()) if len(values.shape) == 2 else values.shape[1]
    steps = min(longest, max_steps or longest)
    return np.concatenate([mark_steps(block, real, steps) for block, real in pieces])


def _lengths(arrays: Mapping[str, Any], name: str) -> np.ndarray | None:
    for known in (name + LENGTHS, f"{name}_lengths"):
        if known in arrays:
            return np.asarray(arrays[known][()]).ravel().astype(np.int64)
    return None


def _starts(values: Any) -> range:
    return range(0, len(values), ROWS_AT_ONCE)


def _pad(values: Any, lengths: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    block = np.zeros((len(lengths), max(int(lengths.max()), 1), values.shape[1]), dtype=np.float32)
    for row, (length, end) in enumerate(zip(lengths, ends, strict=True)):
        block[row, :length] = values[end - length : end]
    return block, find_steps(block, lengths)


def _concatenate(parts: list[np.ndarray], modality: str) -> np.ndarray:
    """Splits may be padded to different lengths, but not differ in features."""
    if len({(part.ndim, part.shape[-1]) for part in parts}) > 1:
        shapes = ", ".join(str(part.shape) for part in parts)
        raise ValueError(f"{modality} has shapes {shapes} in the splits; features must be the same in all")
    if parts[0].ndim == 2:
        return np.concatenate(parts)
    whole = np.zeros((sum(map(len, parts)), max(p.shape[1] for p in parts), parts[0].shape[2]), dtype=np.float32)
    row = 0
    while parts:  # Each part is let go as soon as it is copied.
        part = parts.pop(0)
        whole[row : row + len(part), : part.shape[1]] = part
        row += len(part)
    return whole


def _present(values: np.ndarray) -> np.ndarray:
    return (values[:, :, 0] > 0).any(1) if values.ndim == 3 else ~np.isnan(values).all(1)


@contextmanager
def open_arrays(path: Path) -> Iterator[Mapping[str, Any]]:
    """Name -> array of an .npz, .mat or HDF5 file or a folder of .npy files; nested names joined by "/".

    Arrays are read when they are asked for. Raises FileNotFoundError where nothing is, ValueError for what is no such
    file; pickles are refused with the way to convert them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", labels=np.arange(3))
    ...     with open_arrays(Path(folder) / "a.npz") as arrays:
    ...         arrays["labels"].tolist()
    [0, 1, 2]
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: nothing here; expected an .npz, .mat or HDF5 file or a folder of .npy files")
    if path.suffix in (".pkl", ".pickle", ".p"):
        command = f"python -m adni_tcgm.datasets.convert_pickle {path.name} {path.stem}.npz"
        raise ValueError(f"{path}: a pickle can run code, so it is not read here; convert it once: {command}")
    try:
        if path.is_dir():
            yield {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in sorted(path.glob("*.npy"))}
        elif path.suffix == ".npz":
            check_npz(path)
            with np.load(path, allow_pickle=False) as file:
                yield file
        elif h5py.is_hdf5(path):
            with h5py.File(path) as file:
                yield _datasets(file, matlab=path.suffix == ".mat")
        else:
            yield dict(_members(loadmat(path, simplify_cells=True)))
    except (ValueError, OSError, NotImplementedError) as error:
        raise ValueError(f"{path}: {error}") from error


def _datasets(file: h5py.File, matlab: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("#"):
            check_hdf5(item)
            found[name] = _from_matlab(file, item) if matlab else item

    file.visititems(visit)
    return found


def _from_matlab(file: h5py.File, item: h5py.Dataset) -> np.ndarray:
    """MATLAB 7.3 stores arrays with their axes in reverse, and cells of text as references to arrays of characters."""
    values = np.asarray(item[()]).T
    if h5py.check_ref_dtype(item.dtype) is None:
        return values
    return np.array(["".join(map(chr, np.asarray(file[cell][()]).ravel())) for cell in values.ravel()])


def _members(value: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for key, inner in value.items():
        if key.startswith("__"):
            continue
        full = f"{name}/{key}" if name else key
        if isinstance(inner, Mapping):
            yield from _members(inner, full)
        else:
            yield full, np.atleast_1d(inner)
