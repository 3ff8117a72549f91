"""The tables of a BIDS data set that are about people: participants.tsv, and diagnoses below phenotype/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from preprocessing.intake.bids_scans import optional_table
from preprocessing.intake.bids_sessions import DIAGNOSIS, MONTHS, Written, read_months, session_name
from preprocessing.intake.columns import (
    find_column,
    is_filled,
    is_missing,
    read_numbers,
    read_text_table,
    warn_unread,
)
from preprocessing.intake.labels import Visit, read_diagnoses, read_histories
from preprocessing.intake.people import read_ages, read_sexes
from preprocessing.intake.walk import is_hidden

SITE = ("site", "site_id", "institution", "center")


@dataclass(frozen=True)
class About:
    """What participants.tsv says of a person."""

    age: float = float("nan")
    sex: str = ""
    site: str = ""
    group_id: str = ""
    history: tuple[Visit, ...] = ()
    death_month: float | None = None


def _participant(text: str) -> str:
    return text.strip() if text.strip().startswith("sub-") else f"sub-{text.strip()}"


def read_participants(path: Path) -> dict[str, About]:
    """participants.tsv by participant_id; empty where there is none. Cells that cannot be read are warned of by column.

    Raises ValueError for a table without participant_id, and for a participant who stands twice.
    """
    if not path.is_file():
        return {}
    table = read_text_table(path, "\t")
    ids = find_column(table, path, ("participant_id",))
    table = table[is_filled(table[ids])]
    names = table[ids].map(_participant)
    if (twice := names[names.duplicated()]).size:
        raise ValueError(f"{path}: participant {table[ids][twice.index[0]]} stands twice; one row a person")

    def column(*spellings: str) -> tuple[pd.Series, str]:
        name = find_column(table, path, spellings, required=False)
        texts = table[name].str.strip() if name else pd.Series("", table.index, dtype=str)
        return texts.where(is_filled(texts), ""), f"{path}: column {name!r}"

    deaths, place = column("death_month")
    months = read_numbers(deaths)
    warn_unread(deaths[months.isna() & is_filled(deaths)], place, "months")
    rows = zip(
        names,
        read_ages(*column("age", "age_bl")),
        read_sexes(*column("sex", "gender")),
        column(*SITE)[0],
        column("group_id")[0],
        read_histories(*column("diagnosis_history")),
        months,
        strict=True,
    )
    return {
        name: About(age, sex, site, group, tuple(history), None if pd.isna(death) else float(death))
        for name, age, sex, site, group, history, death in rows
    }


def read_phenotype(folder: Path) -> dict[str, list[Written]]:
    """The diagnoses of phenotype/diagnosis.tsv or else of the other tables there, by participant."""
    found: dict[str, list[Written]] = {}
    main = folder / "diagnosis.tsv"
    if main.is_file():
        _add_diagnoses(read_text_table(main, "\t"), main, found)
        return found
    for path in sorted(folder.glob("*.tsv")):
        table = None if is_hidden(path) else optional_table(path)
        needed = (("participant_id",), DIAGNOSIS, (*MONTHS, "session_id"))
        if table is not None and all(find_column(table, path, names, required=False) for names in needed):
            _add_diagnoses(table, path, found)
    return found


def _add_diagnoses(table: pd.DataFrame, path: Path, found: dict[str, list[Written]]) -> None:
    people = table[find_column(table, path, ("participant_id",))]
    column = find_column(table, path, DIAGNOSIS)
    words = read_diagnoses(table[column], f"{path}: column {column!r}")
    name = find_column(table, path, MONTHS, required=False)
    months = read_months(table[name], f"{path}: column {name!r}") if name else [None] * len(table)
    name = find_column(table, path, ("session_id", *MONTHS))
    sessions = table[name].map(session_name)
    for person, session, month, word in zip(people, sessions, months, words, strict=True):
        if word and not is_missing(person):
            found.setdefault(_participant(person), []).append(Written(session, month, word))
