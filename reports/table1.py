"""Table 1: who is in each group. Small cells of real data are hidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from reports.clinical_scores import load_scores
from reports.gathering import Cohort
from reports.norms import HIPPOCAMPUS, META_ROI
from reports.records import CLASSES
from reports.tables import SMALLEST_CELL, fixed, hide_small_cells

UNLABELED, NORMAL, DEMENTED = "MCI, unlabeled", "cognitively normal", "dementia"
OTHER_DIAGNOSES = {"CN": NORMAL, "AD": DEMENTED}


def name_groups(visits: pd.DataFrame) -> pd.Series:
    """stable, converter, MCI without a label, and, where the manifest knows diagnoses, normal people and demented."""
    group = visits["label"].where(visits["label"].isin(CLASSES), UNLABELED)
    return group.mask(group.eq(UNLABELED), visits["diagnosis"].map(OTHER_DIAGNOSES).fillna(UNLABELED))


def tabulate_groups(cohort: Cohort, hide: bool) -> dict[str, Any]:
    """`groups`: name and n of each group of visits; `rows`: a characteristic and its text in each of them.

    A group below 5 shows no statistics. Numbers are mean (standard deviation), counts have a percentage.
    """
    visits = cohort.prepared.visits
    group = name_groups(visits)
    names = [*CLASSES, UNLABELED, *(name for name in (NORMAL, DEMENTED) if (group == name).any())]
    sizes = hide_small_cells({name: int((group == name).sum()) for name in names}, hide)
    parts = {name: visits.index[group == name] for name in names}
    rows = [{"name": name, "cells": [write(parts[g], sizes[g]) for g in names]} for name, write in _rows(cohort, hide)]
    kept = [row for row in rows if any(cell != "–" for cell in row["cells"])]
    return {"groups": [{"name": name, "n": sizes[name]} for name in names], "rows": kept}


Writer = Callable[[pd.Index, str], str]


def _rows(cohort: Cohort, hide: bool) -> list[tuple[str, Writer]]:
    visits, scores = cohort.prepared.visits, load_scores(cohort)
    tesla = visits["field_strength_t"]
    pet = visits["pet_path"] != ""
    numbers: list[tuple[str, pd.Series, int]] = [("age (years)", visits["age"], 1)]
    titles = {"education": "education (years)", "mmse": "MMSE", "cdrsb": "CDR sum of boxes", "adas13": "ADAS-Cog 13"}
    numbers += [(title, scores[name], 1) for name, title in titles.items() if name in scores]
    numbers += [
        ("intracranial volume (mL)", visits["tiv_ml"], 0),
        ("hippocampi (mL)", cohort.measurements[(HIPPOCAMPUS.key, "both")], 2),
        ("meta-ROI proxy SUVR", cohort.measurements[(META_ROI.key, "both")], 2),
        ("days from T1 to PET", visits["days_between"].where(pet), 0),
    ]
    shares: list[tuple[str, pd.Series]] = [("women", visits["sex"].str.upper().str.startswith("F"))]
    if "apoe4" in scores:
        shares.append(("APOE ε4 carriers", (scores["apoe4"] > 0).where(scores["apoe4"].notna())))
    shares += [("3 T", (tesla >= 2.5).where(tesla.notna())), ("with PET", pet)]
    first, *others = [(name, _mean(values, decimals, hide)) for name, values, decimals in numbers]
    return [first, *((name, _share(flags, hide)) for name, flags in shares), *others]


def _mean(values: pd.Series, decimals: int, hide: bool) -> Writer:
    def write(people: pd.Index, size: str) -> str:
        known = values.reindex(people).dropna().astype(float)
        if not size.isdigit() or not len(known) or (hide and len(known) < SMALLEST_CELL):
            return "–"
        return f"{fixed(known.mean(), decimals)} ({fixed(known.std(), decimals)})"

    return write


def _share(flags: pd.Series, hide: bool) -> Writer:
    def write(people: pd.Index, size: str) -> str:
        known = flags.reindex(people).dropna().astype(bool)
        if not size.isdigit() or not len(known):
            return "–"
        shown = hide_small_cells({"yes": int(known.sum()), "no": int((~known).sum())}, hide)["yes"]
        return f"{shown} ({100 * known.mean():.0f} %)" if shown.isdigit() else shown

    return write
