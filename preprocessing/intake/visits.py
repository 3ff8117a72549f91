"""Months from a person's baseline examination: of scans, diagnoses and scores.

Dates decide. Codes that count from the person's own baseline (VISCODE2, and ADNI1's bl and m12) are nominal and only
check them; they decide where a date is missing. Codes and words that count from the start of a phase (init, y1, v11,
"ADNI3 Year 2 Visit") say nothing: a person's first visit in ADNI3 may be ten years after baseline.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from preprocessing.intake.catalog import EXAM_DATES, VISIT_CODES, Tables, match_people
from preprocessing.intake.columns import find_column, is_missing
from preprocessing.intake.people import DAYS_A_MONTH

FLAGGED_MONTHS = 3
EXCLUDED_MONTHS = 9
# Screening, with its scan, comes before baseline.
SCREENING_MONTHS = 4
# v03 and 4_bl are given to people whom ADNI2 and ADNI4 enrolled, never to those who continue from an earlier phase.
BASELINE_CODES = ("bl", "v03", "4_bl")
SCREENING_CODES = ("sc", "4_sc", "scmri", "v01", "v02")


def person_month(code: object) -> float | None:
    """Months from the person's own baseline that a visit code names, None where it counts from something else.

    >>> person_month("m12"), person_month("sc"), person_month("init"), person_month("ADNI3 Year 2 Visit")
    (12.0, 0.0, None, None)
    """
    text = str(code).strip().lower()
    if text in ("bl", "4_bl", "sc", "4_sc", "scmri"):
        return 0.0
    match = re.fullmatch(r"m(\d{1,3})", text)
    return float(match[1]) if match else None


def place_visits(dates: pd.Series, codes: pd.Series, baselines: pd.Series) -> pd.DataFrame:
    """Where visits lie: `month` from baseline (NaN where nothing tells), `wrong` (a sentence, or empty), `note`.

    dates, codes: of the visits; baselines: the date of their people's baseline examination; NaT where unknown. A visit
    that is `wrong` must not be used: its date contradicts its code, or lies before any screening. Months are whole.
    """
    by_date = ((dates - baselines).dt.days / DAYS_A_MONTH).round()
    by_date = by_date.mask(by_date.between(-SCREENING_MONTHS, 0), 0.0)
    by_code = pd.to_numeric(codes.map(person_month)).astype(float)
    apart = (by_date - by_code).abs()
    both = [
        f"month {date:.0f} by date, {code:.0f} by visit code {text!r}"
        for date, code, text in zip(by_date, by_code, codes, strict=True)
    ]
    rows = list(zip(by_date, apart, both, strict=True))
    wrong = [_why_wrong(date, difference, text) for date, difference, text in rows]
    note = [
        text if difference > FLAGGED_MONTHS and not why else ""
        for (_, difference, text), why in zip(rows, wrong, strict=True)
    ]
    return pd.DataFrame({"month": by_date.fillna(by_code), "wrong": wrong, "note": note}, index=dates.index)


def _why_wrong(by_date: float, apart: float, both: str) -> str:
    if apart > EXCLUDED_MONTHS:
        return f"{both}; they may be {EXCLUDED_MONTHS} months apart"
    if by_date < 0:
        early = f"{-by_date:.0f} months before the baseline examination"
        return f"{early}; screening may be {SCREENING_MONTHS} months before it"
    return ""


@dataclass(frozen=True)
class Calendar:
    """When people were examined: the date of baseline by PTID, and of visits by PTID and code."""

    baselines: Mapping[str, pd.Timestamp]
    exams: Mapping[tuple[str, str], pd.Timestamp]

    def place(self, people: pd.Series, dates: pd.Series, codes: pd.Series) -> pd.DataFrame:
        """`place_visits` of rows; a missing date is that of the same visit in REGISTRY or ADNIMERGE."""
        keys = zip(people, codes, strict=True)
        other = pd.to_datetime(pd.Series([self.exams.get(key, pd.NaT) for key in keys], people.index))
        return place_visits(dates.fillna(other), codes, pd.to_datetime(people.map(dict(self.baselines))))

    def place_rows(self, tables: Tables, path: Path, table: pd.DataFrame, people: pd.Series) -> pd.DataFrame:
        """`place` of a table's rows, with `screening` (bool); rows that are wrong have no month and are counted in a
        warning."""
        codes = visit_codes(table, path)
        placed = self.place(people, tables.dates(path, table, EXAM_DATES), codes)
        wrong = placed[(placed.wrong != "") & (people != "")]
        if len(wrong):
            line = wrong.index[0]
            first = f"the first {people[line]} in line {line}: {wrong.wrong[line]}"
            warnings.warn(f"{path}: {len(wrong)} visits are left out, {first}", stacklevel=2)
        month = placed.month.where(placed.wrong == "")
        return pd.DataFrame({"month": month, "screening": codes.isin(SCREENING_CODES)})


def visit_codes(table: pd.DataFrame, path: Path) -> pd.Series:
    """The visit code of each row in lower case: VISCODE2 where it is filled, else VISCODE."""
    codes = pd.Series("", index=table.index)
    for name in VISIT_CODES:
        if column := find_column(table, path, (name,), required=False):
            written = table[column].str.strip().str.lower()
            codes = codes.where(codes != "", written.mask(written.map(is_missing).astype(bool), ""))
    return codes


def read_calendar(tables: Tables, ptids: set[str], images: pd.DataFrame | None = None) -> Calendar:
    """The calendar of these people.

    Baseline: the EXAMDATE of the baseline visit in the diagnostic table, else in REGISTRY, else in ADNIMERGE (there
    also EXAMDATE_bl), else the date of the first image (columns ptid, date, visit) whose code says baseline, or else
    screening.
    """
    exams: dict[tuple[str, str], pd.Timestamp] = {}
    baselines: dict[str, pd.Timestamp] = {}
    for kind in ("diagnoses", "registry", "merged"):
        for path, table in tables.of(kind):
            people = match_people(table, path, ptids)
            codes, dates = visit_codes(table, path), tables.dates(path, table, EXAM_DATES)
            found = dict(_first(people, dates.where(codes.isin(BASELINE_CODES))))
            if kind == "merged":
                found |= dict(_first(people, tables.dates(path, table, ("EXAMDATE_bl",))))
            baselines = {**found, **baselines}
            if kind != "diagnoses":
                known = dates.notna() & (codes != "")
                exams = {**dict(zip(zip(people[known], codes[known], strict=True), dates[known], strict=True)), **exams}
    if images is not None:
        codes = images.visit.str.strip().str.lower()
        for wanted in (BASELINE_CODES, SCREENING_CODES):
            baselines = {**dict(_first(images.ptid, images.date.where(codes.isin(wanted)))), **baselines}
    return Calendar(baselines, exams)


def _first(people: pd.Series, dates: pd.Series) -> Iterator[tuple[str, pd.Timestamp]]:
    known = dates.notna() & (people != "")
    return iter(dates[known].groupby(people[known]).min().items())
