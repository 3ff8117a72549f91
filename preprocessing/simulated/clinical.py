"""Education, APOE ε4 and baseline scores of simulated people, as tables of a download.

Means and spreads are round numbers of the size that ADNI's groups show; they are chosen, not fitted. Within a group a
score follows the mean of the two severities with correlation `CORRELATION`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from preprocessing.simulated.disease import MODALITIES, POSITION, draw_disease
from preprocessing.simulated.people import Person

CORRELATION = 0.4
STAGE = 9  # a random stream of its own: whoever had scans before has the same ones now


@dataclass(frozen=True)
class _Scale:
    """Mean of stable people, what converters add to it, the spread within a group, the steps and the range."""

    stable: float
    effect: float
    sd: float
    step: float
    limits: tuple[float, float]


SCALES = {
    "mmse": _Scale(27.6, -0.9, 1.7, 1.0, (18, 30)),
    "cdrsb": _Scale(1.3, 0.6, 0.8, 0.5, (0, 10)),
    "adas13": _Scale(16.5, 4.5, 6.0, 1 / 3, (0, 60)),
}
EDUCATION_YEARS, EDUCATION_SD = 15.8, 2.9
E4_SHARE, E4_EFFECT = 0.24, 0.14  # of the alleles of stable people, and what converters add


def draw_scores(person: Person) -> dict[str, float]:
    """education (years), apoe4 (number of ε4 alleles), mmse, cdrsb and adas13 of the baseline visit."""
    rng, position = person.rng(STAGE), POSITION[person.group]
    disease = draw_disease(person.disease_seed)
    within = [getattr(person, f"severity_{m}") - disease.center(person.group, m) for m in MODALITIES]
    severity = sum(within) / np.sqrt(2)
    education = float(np.clip(np.rint(EDUCATION_YEARS + EDUCATION_SD * rng.standard_normal()), 6, 20))
    scores = {
        "education": education,
        "apoe4": float(rng.binomial(2, np.clip(E4_SHARE + E4_EFFECT * position, 0.05, 1))),
    }
    for name, scale in SCALES.items():
        noise = CORRELATION * severity * np.sign(scale.effect) + np.sqrt(1 - CORRELATION**2) * rng.standard_normal()
        value = scale.stable + scale.effect * position + scale.sd * noise
        scores[name] = round(float(np.clip(np.rint(value / scale.step) * scale.step, *scale.limits)), 2)
    return scores


def clinical_tables(people: Iterable[Person]) -> dict[str, pd.DataFrame]:
    """File name -> table, as LONI has them; every name says SIMULATED, and ends as Clinica looks for it."""
    rows: dict[str, list[dict[str, object]]] = {}
    for person in people:
        scores = draw_scores(person)
        ids = {"PTID": person.ptid, "RID": person.rid, "VISCODE2": "bl"}
        alleles = {"APGEN1": 4 if scores["apoe4"] == 2 else 3, "APGEN2": 4 if scores["apoe4"] else 3}
        rows.setdefault("PTDEMOG", []).append(ids | {"VISCODE2": "sc", "PTEDUCAT": int(scores["education"])})
        rows.setdefault("APOERES", []).append(ids | {"VISCODE2": "sc"} | alleles)
        for table, column, name in (
            ("MMSE", "MMSCORE", "mmse"),
            ("CDR", "CDRSB", "cdrsb"),
            ("ADASSCORES", "TOTAL13", "adas13"),
        ):
            rows.setdefault(table, []).append(ids | {column: scores[name]})
    return {f"SIMULATED_{name}.csv": pd.DataFrame(table) for name, table in rows.items()}
