"""A folder of .npy, sparse .npz and .tsv files as named arrays; tables are lined up by the ids of their samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from adni_tcgm.limits import MAX_TABLE_BYTES, check_npz, load_npy, require_size
from adni_tcgm.transforms import Matrix

SAMPLE_ID = "sample_id"


def read_folder(folder: Path, used: set[str], ids: str | None, aligned: bool) -> dict[str, Matrix]:
    """Arrays by name: of NAME.npy and NAME.npz; of NAME.tsv its columns as NAME.COLUMN, the numeric ones as NAME.

    used: names of arrays that are wanted; only their tables must line up. ids: the column that names samples, the same
    in all of these tables (None: found); the array of that name is called `sample_id`. aligned: row k of every table is
    the same sample. Raises ValueError where several tables share no such column, naming them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/left.npy", np.zeros((3, 2)))
    ...     read_folder(Path(folder), {"left"}, ids=None, aligned=False)["left"].shape
    (3, 2)
    """
    found: dict[str, Matrix] = {}
    tables = {}
    for file in sorted(folder.glob("*.tsv")):
        require_size(file, MAX_TABLE_BYTES)
        tables[file] = pd.read_csv(file, sep="\t", dtype={ids or SAMPLE_ID: str})
    wanted = {file: table for file, table in tables.items() if _is_used(file.stem, used)}
    column = ids if ids is not None or aligned else _shared_id(wanted)
    if column is not None and not aligned:
        for file, table in wanted.items():
            if column not in table:
                raise ValueError(f"{file}: no column {column!r}, which names the samples in the other tables")
        order = next(iter(wanted.values()))[column].astype(str) if wanted else pd.Series(dtype=str)
        found[SAMPLE_ID] = order.to_numpy()
        tables |= {file: _line_up(table, column, order, file) for file, table in wanted.items()}
    for file, table in tables.items():
        numeric = table.drop(columns=column or [], errors="ignore").select_dtypes("number")
        if numeric.shape[1]:
            found[file.stem] = numeric.to_numpy(dtype=float)
        found |= {f"{file.stem}.{name}": _column(table[name]) for name in table}
    for file in sorted(folder.glob("*.npy")):
        found[file.stem] = load_npy(file)
    for file in sorted(folder.glob("*.npz")):
        check_npz(file)
        found[file.stem] = sparse.load_npz(file).tocsr()
    if not found:
        raise ValueError(f"{folder}: no .npy, .npz or .tsv file here")
    return found


def _is_used(stem: str, used: set[str]) -> bool:
    return any(name == stem or name.startswith(f"{stem}.") for name in used)


def _shared_id(tables: Mapping[Path, pd.DataFrame]) -> str | None:
    """The one column that stands in all tables and tells every row of each apart; `sample_id` before any other.

    None for a single table without it. Raises ValueError where several tables share none, or more than one.
    """
    shared = [name for name in next(iter(tables.values()), pd.DataFrame()) if all(name in t for t in tables.values())]
    if SAMPLE_ID in shared:
        return SAMPLE_ID
    if len(tables) < 2:
        return None
    naming = [name for name in shared if all(_names_rows(table[name]) for table in tables.values())]
    if len(naming) == 1:
        return naming[0]
    names = ", ".join(file.name for file in tables)
    what = f"several columns that could name the samples: {', '.join(naming)}" if naming else "no column of sample ids"
    where = next(iter(tables)).parent
    raise ValueError(
        f"{where}: {names} share {what}; say which one with `ids: NAME`, or `rows: aligned` if row k of every table is "
        "the same sample"
    )


def _names_rows(values: pd.Series) -> bool:
    """Text or whole numbers, none missing, none twice: measurements are neither."""
    return not (pd.api.types.is_float_dtype(values) or values.isna().any() or values.duplicated().any())


def _line_up(table: pd.DataFrame, column: str, order: pd.Series, file: Path) -> pd.DataFrame:
    """Rows in the order of the first table; a sample that this table lacks becomes a row without values."""
    table = table.assign(**{column: table[column].astype(str)}).set_index(column)
    if table.index.has_duplicates:
        raise ValueError(f"{file}: sample {table.index[table.index.duplicated()][0]!r} occurs twice")
    strange = table.index.difference(order)
    if len(strange):
        raise ValueError(f"{file}: sample {strange[0]!r} is not in the first table of the folder")
    return table.reindex(order)


def _column(values: pd.Series) -> np.ndarray:
    return values.to_numpy() if pd.api.types.is_numeric_dtype(values) else values.fillna("").astype(str).to_numpy()
