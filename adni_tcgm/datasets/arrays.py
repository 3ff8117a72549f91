"""Anybody's modalities: one array of features each, from an .npz or .mat file or a folder of .npy and .tsv files."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.io import loadmat

from adni_tcgm.choices import check_choice, check_choices, choice
from adni_tcgm.datasets.arrays_folder import SAMPLE_ID, read_folder
from adni_tcgm.datasets.arrays_matlab import plain, read_cell
from adni_tcgm.datasets.multiview import Arrays, to_splits
from adni_tcgm.datasets.splitting import check_label_rate
from adni_tcgm.limits import check_npz
from adni_tcgm.tcgm.batch import UNLABELED, Splits
from adni_tcgm.transforms import TRANSFORMS, Matrix

ROWS = ("by_id", "aligned")


@dataclass(frozen=True)
class ArraysConfig:
    """What to read and how to split.

    path: .npz, .mat, or a folder of .npy, .npz (a sparse matrix as SciPy writes it) and .tsv files.
    views: modality -> name of its array; in a folder, of the file without its ending. Of a .mat file also the name of
        one cell of views, which are then called view1, view2, … (`arrays_matlab.read_cell`).
    labels: name of the array of labels, numbers or text; negative, NaN or empty: unknown.
    split: array of "train", "validation", "test" or "" (left out). groups: samples that no split may separate.
    nuisance_groups: a nuisance that samples share, such as site or speaker.
    None: 60/20/20, each sample its own group, no nuisance.
    In a folder, a .tsv file `NAME.tsv` gives its columns as arrays called NAME.COLUMN, and all of its numeric columns
    together as NAME. Several tables are lined up by the column that names the samples in each of them: `ids`, else
    `sample_id`, else the one that all share; `rows: aligned` says that row k of every table is the same sample.
    transform, unit_norm: see `transforms.Transform`; one transform for all modalities, or one for each by name.
    label_rate: share of the labeled training samples whose label is shown.

    >>> ArraysConfig("digits.npz", views={"left": "left", "right": "right"}, labels="digit").transform
    'zscore'
    >>> ArraysConfig("digits.npz", views={})
    Traceback (most recent call last):
        ...
    ValueError: views is empty; name at least one modality and its array
    """

    path: str
    views: dict | str
    labels: str = "labels"
    split: str | None = None
    groups: str | None = None
    nuisance_groups: str | None = None
    ids: str | None = None
    rows: str = choice("by_id", ROWS)
    transform: str | dict = "zscore"
    unit_norm: bool = False
    label_rate: float = 0.1

    def __post_init__(self) -> None:
        check_label_rate(self.label_rate)
        check_choices(self)
        if self.ids is not None and self.rows == "aligned":
            raise ValueError(f"ids is {self.ids!r} and rows is 'aligned'; give one of them")
        if not self.views:
            raise ValueError("views is empty; name at least one modality and its array")
        by_view = self.transform if isinstance(self.transform, dict) else dict.fromkeys(self.views, self.transform)
        for kind in by_view.values():
            check_choice("transform", kind, TRANSFORMS)
        if isinstance(self.views, dict):
            self.check_transforms(self.views)

    def check_transforms(self, views: Collection[str]) -> None:
        """Raises ValueError where transforms are named and are not those of these views."""
        if isinstance(self.transform, dict) and set(self.transform) != set(views):
            raise ValueError(f"transform names {sorted(self.transform)}; the views are {sorted(views)}")


def load(config: ArraysConfig, seed: int) -> Splits:
    """Read, split, hide labels, transform by the training samples.

    Raises FileNotFoundError where the path is missing and ValueError naming the file and array that do not fit.

    >>> from tempfile import TemporaryDirectory
    >>> rng = np.random.default_rng(0)
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", left=rng.normal(size=(40, 2)), labels=np.arange(40) % 2)
    ...     splits = load(ArraysConfig(f"{folder}/a.npz", {"left": "left"}, label_rate=0.5), seed=0)
    >>> len(splits.train), len(splits.validation), len(splits.test)
    (24, 8, 8)
    """
    return to_splits(read(config), seed, config.label_rate, config.transform, config.unit_norm)


def fingerprint(config: ArraysConfig) -> str:
    """SHA-256 of the file, or of every file in the folder, to know whether the data changed."""
    path = _existing(Path(config.path))
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def read(config: ArraysConfig) -> Arrays:
    """The samples as the file has them. Raises ValueError naming the file and array that do not fit."""
    found, views = _open(config)

    def column(name: str | None, role: str) -> list[str] | None:
        return None if name is None else [_text(value) for value in np.ravel(_array(found, config, name, role))]

    values = {view: _view(found, config, view, name) for view, name in views.items()}
    labels, classes = _classes(np.ravel(_array(found, config, config.labels, "the labels")), config.path)
    return Arrays(
        views=values,
        labels=labels,
        classes=classes,
        sample_ids=_names(found, len(labels)),
        groups=column(config.groups, "the groups"),
        nuisance_groups=column(config.nuisance_groups, "the nuisance groups"),
        split=column(config.split, "the split"),
    )


def read_views(config: ArraysConfig) -> tuple[dict[str, np.ndarray | None], list[str]]:
    """View -> (N, …) numbers, None for one that the file lacks, and the names of the N samples; labels are not needed,
    but for those of a cell of views, which say whether a row or a column is a sample.

    Raises ValueError naming the file where it holds none of the views, or other numbers of rows in each.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/new.npz", left=np.ones((3, 2)))
    ...     views, names = read_views(ArraysConfig(f"{folder}/new.npz", {"left": "left", "right": "right"}))
    >>> views["left"].shape, views["right"], names
    ((3, 2), None, ['0', '1', '2'])
    """
    found, views = _open(config, labeled=False)
    there = {view: name for view, name in views.items() if name in found}
    if not there:
        _array(found, config, *next((name, f"view {view!r}") for view, name in views.items()))
    values: dict[str, np.ndarray | None] = dict.fromkeys(views)
    for view, name in there.items():
        given = _view(found, config, view, name)
        values[view] = given.toarray() if sparse.issparse(given) else np.asarray(given)
    rows = {view: len(v) for view, v in values.items() if v is not None}
    names = _names(found, next(iter(rows.values())))
    if {*rows.values(), len(names)} != {len(names)}:
        raise ValueError(f"{config.path}: views have {rows} rows, and {len(names)} samples are named; all must agree")
    return values, names


def _open(config: ArraysConfig, labeled: bool = True) -> tuple[Mapping[str, Matrix], dict[str, str]]:
    """The arrays of the file by name, and view -> name of its array."""
    found, views = _read_path(config, labeled), config.views
    if isinstance(views, dict):
        return found, views
    try:
        cells, labels = read_cell(found, views, config.labels)
    except ValueError as error:
        raise ValueError(f"{config.path}: {error}") from error
    config.check_transforms(cells)
    return {**found, **cells, config.labels: labels}, {name: name for name in cells}


def _array(found: Mapping[str, Matrix], config: ArraysConfig, name: str, role: str) -> Matrix:
    if name not in found:
        known = ", ".join(sorted(key for key in found if key != SAMPLE_ID))
        raise ValueError(f"{config.path}: no array {name!r} for {role}; it holds {known}")
    return found[name]


def _view(found: Mapping[str, Matrix], config: ArraysConfig, view: str, name: str) -> Matrix:
    values = _array(found, config, name, f"view {view!r}")
    if values.ndim < 2 or not (sparse.issparse(values) or np.issubdtype(values.dtype, np.number)):
        raise ValueError(
            f"{config.path}: view {view!r} has shape {values.shape}, {values.dtype}; expected (N, D) numbers"
        )
    return values


def _names(found: Mapping[str, Matrix], size: int) -> list[str]:
    given = found.get(SAMPLE_ID)
    return [str(row) for row in range(size)] if given is None else [_text(name) for name in given]


def _classes(values: np.ndarray, path: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(N,) index or UNLABELED, and the class names in sorted order (numbers by size)."""
    if np.issubdtype(values.dtype, np.number):
        unknown = np.isnan(values) | (values < 0)
    else:
        values = np.array([_text(value) for value in values])
        unknown = values == ""
    names = np.unique(values[~unknown])
    if len(names) < 2:
        raise ValueError(f"{path}: the labels name {len(names)} classes; at least 2 are needed")
    index = np.where(unknown, UNLABELED, np.searchsorted(names, np.where(unknown, names[0], values)))
    return index.astype(np.int64), tuple(_text(name) for name in names)


def _text(value: object) -> str:
    """1.0 and 1 are the same name."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else str(int(value)) if value == int(value) else str(value)
    return str(value)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path}: nothing here; expected an .npz or .mat file or a folder")
    return path


def _read_path(config: ArraysConfig, labeled: bool) -> Mapping[str, Matrix]:
    path = Path(config.path)
    if _existing(path).is_dir():
        more = (config.labels, config.split, config.groups, config.nuisance_groups) if labeled else ()
        if isinstance(config.views, str):
            raise ValueError(f"{path}: views is {config.views!r}, a cell of a .mat file; in a folder, name each view")
        used = {name for name in (*config.views.values(), *more) if name is not None}
        return read_folder(path, used, config.ids, config.rows == "aligned")
    try:
        if path.suffix == ".npz":
            check_npz(path)
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        if path.suffix == ".mat":
            return {name: plain(v) for name, v in loadmat(path).items() if not name.startswith("__")}
    except (ValueError, OSError, NotImplementedError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    raise ValueError(f"{path}: {path.suffix or 'no ending'}; expected .npz, .mat or a folder")
