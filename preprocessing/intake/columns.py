"""Tables as people export them: found under a folder, read in the encoding they have, columns by any known name."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from adni_tcgm.limits import MAX_COLUMNS, MAX_TABLE_BYTES, require_size
from adni_tcgm.tables import decode_table
from preprocessing.intake.walk import files_under

# What tables write where they know nothing; -1 and -4 are ADNI's.
MISSING = ("", "na", "n/a", "nan", "nat", "none", "null", "unknown", "-", "-1", "-4", "-1.0", "-4.0")
NAMED_WORDS = 5
NUMBER = re.compile(r"[<>≤≥]?=?\s*([+-]?\d+)(?:[.,](\d+))?\s*\+?")


def plain(name: object) -> str:
    """A column name without case, spaces and underscores: exports of different years then compare equal."""
    return re.sub(r"[\s_]+", "", str(name)).lower()


def find_column(table: pd.DataFrame, path: Path, spellings: tuple[str, ...], required: bool = True) -> str | None:
    """The table's own name of a column that is known by several spellings, in the order of these."""
    known = {plain(name): name for name in reversed(table.columns)}
    found = next((known[plain(spelling)] for spelling in spellings if plain(spelling) in known), None)
    if found is None and required:
        raise ValueError(f"{path}: {no_column(spellings)}")
    return found


def no_column(spellings: tuple[str, ...]) -> str:
    return f"no column {spellings[0]!r}; known spellings: {', '.join(spellings)}"


def csv_files(folder: Path) -> list[Path]:
    return [path for path in files_under(folder) if path.suffix.lower() == ".csv" and path.is_file()]


def is_missing(text: object) -> bool:
    return str(text).strip().lower() in MISSING


def read_number(text: object) -> float:
    """A number as tables write it, NaN where there is none.

    >>> read_number("71,5"), read_number("89+"), read_number("N/A")
    (71.5, 89.0, nan)
    """
    match = NUMBER.fullmatch(str(text).strip())
    return float(f"{match[1]}.{match[2] or 0}") if match else float("nan")


def read_numbers(texts: pd.Series) -> pd.Series:
    return texts.map(read_number).astype(float)


def warn_unread(texts: pd.Series, place: str, what: str) -> None:
    """One warning that counts the cells of a column that could not be read and names their words.

    texts: those cells, by their line; place: the file and the column; what: what they should be, in the plural.
    """
    if len(texts):
        words = [f"{word!r} ({count})" for word, count in texts.value_counts(sort=False).items()]
        named = ", ".join(words[:NAMED_WORDS]) + (f" and {len(words) - NAMED_WORDS} more" * (len(words) > NAMED_WORDS))
        first = f"the first in line {texts.index[0]}"
        warnings.warn(f"{place}: {len(texts)} cells are no {what} and count as empty, {first}: {named}", stacklevel=3)


def is_filled(texts: pd.Series) -> pd.Series:
    return ~texts.map(is_missing).astype(bool)


def read_ids(texts: pd.Series) -> pd.Series:
    """Image ids as digits: without "I", and without the ".0" that spreadsheets add."""
    return texts.str.strip().str.replace(r"^[Ii]?(\d+)(\.0*)?$", r"\1", regex=True)


def read_text_table(path: Path, separator: str | None = None, rows: int | None = None) -> pd.DataFrame:
    """A table with every cell as text; its index is the line of each row in the file. Blank rows are left out.

    In UTF-8, in UTF-16 where the file says so, or else, with a warning, in Windows-1252. `separator` None takes the one
    of tab, semicolon and comma that stands most in the header line. Raises ValueError for an empty file and for a row
    with more or fewer cells than the header; empty cells at its end do not count.
    """
    require_size(path, MAX_TABLE_BYTES)
    text = decode_table(path)
    header = next((line for line in io.StringIO(text, newline=None) if line.strip("\t\n;, ")), "")
    if not header:
        raise ValueError(f"{path}: the table is empty; not even a header line")
    separator = separator or max("\t;,", key=header.count)
    if (columns := header.count(separator) + 1) > MAX_COLUMNS:
        raise ValueError(f"{path}: {columns} columns; at most {MAX_COLUMNS} are read")
    found = _read_rows(path, text, separator)
    names = _unique(next(found)[1])
    kept: dict[int, list[str]] = {}
    for line, cells in found:
        if rows is not None and len(kept) >= rows:
            break
        kept[line] = _fit(path, line, cells, len(names), separator)
    return pd.DataFrame(list(kept.values()), index=pd.Index(list(kept), dtype=int), columns=names, dtype=str)


def _read_rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row that holds anything."""
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=separator, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{path}: not a table; line {reader.line_num}: {error}") from error


def _unique(names: list[str]) -> list[str]:
    """Column names; one that stands twice gets a number, and the first is the one that is found."""
    while names and not names[-1].strip():
        names = names[:-1]
    return [f"{name}.{names[:k].count(name)}" if name in names[:k] else name for k, name in enumerate(names)]


def _fit(path: Path, line: int, cells: list[str], width: int, separator: str) -> list[str]:
    """The cells of a row, as many as the header has. Editors strip tabs, which are white space, from a line's end."""
    while len(cells) > width and not cells[-1].strip():
        cells = cells[:-1]
    if separator == "\t":
        cells = cells + [""] * (width - len(cells))
    if len(cells) != width:
        raise ValueError(f"{path}: not a table; line {line} has {len(cells)} cells where the header has {width}")
    return cells
