"""Tables as tab-separated text that a spreadsheet shows and never runs, and as people save them.

A cell that begins with =, +, -, @ or a control character is a formula to a spreadsheet, and a formula can start a
program or send the table away. Text from elsewhere (a site, a participant, a reason) therefore gets an apostrophe in
front, the mark by which spreadsheets themselves know text (OWASP, "CSV Injection").
"""

from __future__ import annotations

import codecs
import warnings
from pathlib import Path

import pandas as pd

STARTS = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")


def neutral(cell: object) -> object:
    """The cell, with an apostrophe in front where a spreadsheet would run it. Numbers stay; so does everything else.

    >>> neutral("=1+1"), neutral("-0.5"), neutral(3)
    ("'=1+1", '-0.5', 3)
    """
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r", " ")  # which begins a line to some readers, and is written without quotes
    return f"'{cell}" if cell.lstrip(" ").startswith(STARTS) and not _is_number(cell) else cell


def to_tsv(table: pd.DataFrame) -> str:
    """Tab-separated with header; missing values are empty, no cell is a formula. Doing it twice changes nothing.

    >>> to_tsv(pd.DataFrame({"id": ["a", "b"], "age": [71.5, None]})).split()
    ['id', 'age', 'a', '71.5', 'b']
    """
    safe = table.rename(columns=neutral)
    text = [i for i, kind in enumerate(safe.dtypes) if not pd.api.types.is_numeric_dtype(kind)]
    for position in text:
        safe.isetitem(position, safe.iloc[:, position].map(neutral, na_action="ignore"))
    return safe.to_csv(sep="\t", index=False, lineterminator="\n")


def decode_table(path: Path) -> str:
    """The text of a table: UTF-8, UTF-16 where the file says so, or else, with a warning, Windows-1252.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "t.csv").write_text("site,Zürich", encoding="utf-16")
    ...     decode_table(Path(folder) / "t.csv")
    'site,Zürich'
    """
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        warnings.warn(f"{path}: not UTF-8; read as Windows-1252, check names with accents", stacklevel=3)
        return content.decode("cp1252", errors="replace")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
