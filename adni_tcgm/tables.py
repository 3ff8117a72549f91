"""Tables as tab-separated text that a spreadsheet shows and never runs.

A cell that begins with =, +, -, @ or a control character is a formula to a spreadsheet, and a formula can start a
program or send the table away. Text from elsewhere (a site, a participant, a reason) therefore gets an apostrophe in
front, the mark by which spreadsheets themselves know text (OWASP, "CSV Injection").
"""

from __future__ import annotations

import pandas as pd

STARTS = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")


def neutral(cell: object) -> object:
    """The cell, with an apostrophe in front where a spreadsheet would run it. Numbers stay; so does everything else."""
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r", " ")  # which begins a line to some readers, and is written without quotes
    return f"'{cell}" if cell.lstrip(" ").startswith(STARTS) and not _is_number(cell) else cell


def to_tsv(table: pd.DataFrame) -> str:
    """Tab-separated with header; missing values are empty, no cell is a formula. Doing it twice changes nothing."""
    safe = table.rename(columns=neutral)
    text = [i for i, kind in enumerate(safe.dtypes) if not pd.api.types.is_numeric_dtype(kind)]
    for position in text:
        safe.isetitem(position, safe.iloc[:, position].map(neutral, na_action="ignore"))
    return safe.to_csv(sep="\t", index=False, lineterminator="\n")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
