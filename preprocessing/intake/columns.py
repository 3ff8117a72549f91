"""Tables as people export them: found under a folder, read in the encoding they have, columns by any known name."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import pandas as pd

from adni_tcgm.limits import MAX_COLUMNS, MAX_TABLE_BYTES, require_size


def plain(name: object) -> str:
    """A column name without case, spaces and underscores: exports of different years then compare equal."""
    return re.sub(r"[\s_]+", "", str(name)).lower()


def find_column(table: pd.DataFrame, path: Path, spellings: tuple[str, ...], required: bool = True) -> str | None:
    """The table's own name of a column that is known by several spellings."""
    known = {plain(name): name for name in table.columns}
    found = next((known[plain(spelling)] for spelling in spellings if plain(spelling) in known), None)
    if found is None and required:
        raise ValueError(f"{path}: no column {spellings[0]!r}; known spellings: {', '.join(spellings)}")
    return found


def csv_files(folder: Path) -> list[Path]:
    walked = ((Path(where), name) for where, _, names in os.walk(folder) for name in names)
    return sorted(where / name for where, name in walked if name.lower().endswith(".csv"))


def read_text_table(path: Path, separator: str | None = None, rows: int | None = None) -> pd.DataFrame:
    """A table with every cell as text, in UTF-8 or else, with a warning, Windows-1252.

    `separator` None takes the one of tab, semicolon and comma that stands most in the header line. Raises ValueError
    for an empty file or lines that do not fit the header.
    """
    require_size(path, MAX_TABLE_BYTES)
    content = path.read_bytes()
    try:
        encoding = "utf-8-sig"
        content.decode(encoding)
    except UnicodeDecodeError:
        encoding = "cp1252"
        warnings.warn(f"{path}: not UTF-8; read as Windows-1252, check names with accents", stacklevel=2)
    header = content.partition(b"\n")[0].decode(encoding, errors="replace")
    separator = separator or max("\t;,", key=header.count)
    if not header.strip():
        raise ValueError(f"{path}: the table is empty; not even a header line")
    if (columns := header.count(separator) + 1) > MAX_COLUMNS:
        raise ValueError(f"{path}: {columns} columns; at most {MAX_COLUMNS} are read")
    try:
        return pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding=encoding,
            encoding_errors="replace",
            nrows=rows,
        )
    except pd.errors.ParserError as error:
        raise ValueError(f"{path}: not a table; {' '.join(str(error).split())}") from error
