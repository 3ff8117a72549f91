"""Dates of a table's column. Whether the day or the month comes first is one fact about a column, never about a cell.

Cells with the year first, or with the month as a word, can be read in one way only. Of the others (03/01/2006), a
number above 12 anywhere in the column proves the order for all of it; so does a dot between the numbers (day first).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from preprocessing.choices import DATE_ORDERS
from preprocessing.intake.columns import is_missing

YEAR_FIRST = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[t ].*)?|(\d{4})(\d\d)(\d\d)")
YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d\d)(?:[t ].*)?")
DAY_WORD = re.compile(r"(\d{1,2})[-\s.]*([a-z]{3})[a-z]*[-\s.,]*(\d{4}|\d\d)")
WORD_DAY = re.compile(r"([a-z]{3})[a-z]*[-\s.]*(\d{1,2})[-\s,]+(\d{4}|\d\d)")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass(frozen=True)
class _Cell:
    """The numbers of a date. `ordered` is False where `first` and `second` may be day and month or month and day."""

    year: int
    first: int
    second: int
    ordered: bool = True
    dots: bool = False

    def proof(self) -> str | None:
        if self.ordered or (self.first > 12 and self.second > 12):
            return None
        return "mdy" if self.second > 12 else "dmy" if self.first > 12 or self.dots else None

    def date(self, order: str | None) -> pd.Timestamp:
        """NaT for a day that no calendar has."""
        month, day = (self.second, self.first) if order == "dmy" and not self.ordered else (self.first, self.second)
        try:
            return pd.Timestamp(self.year, month, day)
        except ValueError:
            return pd.NaT


def _read_cell(text: str) -> _Cell | None:
    text = text.strip().lower()
    if match := YEAR_FIRST.fullmatch(text):
        return _Cell(*(int(part) for part in match.groups() if part))
    if match := YEAR_LAST.fullmatch(text):
        return _Cell(_year(match[4]), int(match[1]), int(match[3]), ordered=False, dots=match[2] == ".")
    if (match := DAY_WORD.fullmatch(text)) and match[2] in MONTHS:
        return _Cell(_year(match[3]), MONTHS.index(match[2]) + 1, int(match[1]))
    if (match := WORD_DAY.fullmatch(text)) and match[1] in MONTHS:
        return _Cell(_year(match[3]), MONTHS.index(match[1]) + 1, int(match[2]))
    return None


def _year(text: str) -> int:
    return int(text) if len(text) == 4 else 2000 + int(text) - 100 * (int(text) >= 70)


def find_order(texts: Iterable[str], place: str) -> str | None:
    """The order that the cells of a column prove, None where none does. Raises ValueError where they prove both.

    >>> find_order(["05/03/2006", "20/03/2006"], "a column")
    'dmy'
    """
    proofs = {proof: text for text in texts if (cell := _read_cell(text)) and (proof := cell.proof())}
    if len(proofs) > 1:
        raise ValueError(
            f"{place}: {proofs['dmy']!r} has the day first and {proofs['mdy']!r} the month; a column needs one order"
        )
    return next(iter(proofs), None)


def order_by_known_days(texts: pd.Series, known: Mapping[str, pd.Timestamp]) -> str | None:
    """The order that agrees with days known from elsewhere, where all of those that can tell agree on one.

    texts: cells of a column by a key of `known`.
    """
    orders = set()
    for key, text in texts.items():
        cell = _read_cell(text)
        if cell and not cell.ordered and cell.first != cell.second and key in known:
            orders |= {order for order in DATE_ORDERS if cell.date(order) == known[key]}
    return orders.pop() if len(orders) == 1 else None


def read_dates(texts: pd.Series, place: str, order: str | None = None) -> pd.Series:
    """Dates of a column, NaT where a cell is empty. `order` decides where no cell does; `place` names the column.

    Cells that are no date are counted in a warning. Raises ValueError where nothing says what comes first.
    """
    cells = {text: _read_cell(text) for text in texts.unique()}
    order = find_order(cells, place) or order
    open_cells = [text for text, cell in cells.items() if cell and not cell.ordered and cell.first != cell.second]
    if open_cells and order is None:
        raise ValueError(
            f"{place}: {int(texts.isin(open_cells).sum())} dates in which day and month cannot be told apart; "
            "say which comes first with --dates dmy or --dates mdy"
        )
    dates = {text: cell.date(order) if cell else pd.NaT for text, cell in cells.items()}
    found = pd.to_datetime(texts.map(dates))
    strange = texts[found.isna() & ~texts.map(is_missing).astype(bool)]
    if len(strange):
        warnings.warn(
            f"{place}: {len(strange)} cells are no date and count as empty, the first in line {strange.index[0]}: "
            f"{strange.iloc[0]!r}",
            stacklevel=2,
        )
    return found
