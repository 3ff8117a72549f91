"""Regional measurements against a norm: the cohort's cognitively normal people, or else against its training people.

The comparison is a regression on age, sex and (volumes only) intracranial volume; z is the residual over its standard
deviation, the percentile the share of the group with a lower residual. Only cognitively normal people make a norm:
among patients a person has a percentile and no z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.records import Prepared, Run

SMALLEST_NORM = 20
NORMAL = "CN"


@dataclass(frozen=True)
class Reference:
    """Whom a person is set against: sample ids and what they are called. norm: whether they are cognitively normal."""

    sample_ids: pd.Index
    name: str
    norm: bool


def choose_reference(prepared: Prepared, run: Run) -> Reference:
    """The first visits of cognitively normal people who passed quality control; with fewer than 20, all training
    people, whose labels play no part.

    No label enters, hidden or shown, nor anybody of validation and test.
    """
    visits, splits = prepared.visits, run.splits
    normal = (visits["diagnosis"] == NORMAL) | (visits["label"].str.upper() == NORMAL)
    usable = visits[normal & (visits["qc"].str.lower() != "fail")]
    usable = usable.drop(index=usable.index.intersection(splits.index[splits["split"] != "train"]))
    usable = usable.sort_values(["months", "session_id"], kind="stable").drop_duplicates("participant_id")
    if len(usable) >= SMALLEST_NORM:
        drawn = "simulated " if run.metrics["simulated"] else ""
        name = f"{len(usable)} {drawn}cognitively normal people of this cohort"
        return Reference(usable.index.sort_values(), name, True)
    everybody = visits.index.intersection(splits.index[splits["split"] == "train"])
    return Reference(everybody, f"{len(everybody)} training people of this cohort, labels not used", False)


@dataclass(frozen=True)
class Measure:
    """One row of the measurement table. `low` says which end is the Alzheimer-like one.

    retest: mean absolute difference of two sessions in percent, by `benchmarks.heads` (8 heads); None: not measured.
    """

    title: str
    region: str
    column: str
    decimals: int
    per_tiv: bool = False
    low: bool = True
    retest: float | None = None

    @property
    def key(self) -> str:
        return f"{self.region}:{self.column}{':per_tiv' if self.per_tiv else ''}"

    @property
    def covariates(self) -> tuple[str, ...]:
        adjusts_head = self.column == "volume_ml" and not self.per_tiv
        return ("age", "male", "tiv_ml") if adjusts_head else ("age", "male")


MEASURES = (
    Measure("Hippocampus (mL)", "hippocampus", "volume_ml", 2, retest=1.0),
    Measure("Hippocampus / intracranial volume (‰)", "hippocampus", "volume_ml", 2, per_tiv=True),
    Measure("Entorhinal cortex (mL)", "entorhinal", "volume_ml", 2),
    Measure("Lateral ventricle (mL)", "lateral_ventricle", "volume_ml", 1, low=False, retest=5.1),
    Measure("Meta-ROI proxy SUVR", "meta_roi_proxy", "suvr", 2),
    Measure("Isthmus cingulate SUVR", "isthmus_cingulate", "suvr", 2),
    Measure("Precuneus SUVR", "precuneus", "suvr", 2, retest=1.7),
    Measure("Inferior parietal SUVR", "inferior_parietal", "suvr", 2),
)
# What the meta-ROI proxy is made of: its sides are the means of these, weighted by their grey matter.
META_ROI_PARTS = ("inferior_parietal", "inferior_temporal", "middle_temporal", "isthmus_cingulate", "precuneus")
HIPPOCAMPUS, META_ROI = MEASURES[0], MEASURES[4]


@dataclass(frozen=True)
class Norm:
    """A fitted norm: `coefficients` (k+1,) for the covariates minus `center` (k,), then the intercept."""

    covariates: tuple[str, ...]
    center: np.ndarray
    coefficients: np.ndarray
    residuals: np.ndarray
    sd: float

    @property
    def n(self) -> int:
        return len(self.residuals)

    def expect(self, people: pd.DataFrame) -> np.ndarray:
        """The norm's mean for each person (row with the covariates): (n,)."""
        return _design(people[list(self.covariates)].to_numpy(float) - self.center) @ self.coefficients

    def place(self, value: float, person: pd.DataFrame) -> tuple[float, float]:
        """z and percentile (0–100, mid-rank) of one person's value."""
        residual = value - float(self.expect(person)[0])
        below, equal = (self.residuals < residual).sum(), (self.residuals == residual).sum()
        return residual / self.sd, 100 * (below + 0.5 * equal + 0.5) / (self.n + 1)


def _design(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


def list_covariates(prepared: Prepared) -> pd.DataFrame:
    """age (capped), male (0/1), tiv_ml by sample id."""
    visits = prepared.visits
    male = visits["sex"].str.strip().str.upper().str[:1].map({"M": 1.0, "F": 0.0})
    return pd.DataFrame({"age": visits["age"], "male": male, "tiv_ml": visits["tiv_ml"]})


def list_measurements(prepared: Prepared) -> pd.DataFrame:
    """Sample id × (measure key, left|right|both). Volumes add over the sides, SUVR averages; ‰ is mL per litre."""
    regions = pd.concat([prepared.regions, _meta_roi_sides(prepared.regions)], ignore_index=True)
    wide = regions.pivot(index="sample_id", columns=["region", "side"], values=["volume_ml", "suvr"])
    table = {}
    empty = pd.Series(np.nan, index=wide.index)
    for measure in MEASURES:
        left, right, both = (wide.get((measure.column, measure.region, s), empty) for s in ("left", "right", "both"))
        total = left + right if measure.column == "volume_ml" else (left + right) / 2
        sides = {"left": left, "right": right, "both": both.fillna(total)}
        scale = 1000 / prepared.visits["tiv_ml"].reindex(wide.index) if measure.per_tiv else 1.0
        table |= {(measure.key, side): values * scale for side, values in sides.items()}
    return pd.DataFrame(table).reindex(prepared.visits.index)


def _meta_roi_sides(regions: pd.DataFrame) -> pd.DataFrame:
    """Left and right of the meta-ROI proxy, of which the table has both sides together; people with all its parts."""
    parts = regions[regions["region"].isin(META_ROI_PARTS) & regions["side"].isin(("left", "right"))]
    weighted = parts.assign(weight=parts["volume_ml"], uptake=parts["suvr"] * parts["volume_ml"])
    groups = weighted.groupby(["sample_id", "side"])
    sums = groups[["uptake", "weight"]].sum(min_count=len(META_ROI_PARTS))
    found = (sums["uptake"] / sums["weight"]).rename("suvr").reset_index()
    return found.assign(region=META_ROI.region)


def asymmetry(left: float, right: float) -> float:
    """100 (left − right) / mean of both, in percent: below 0 where the left is smaller."""
    return 200 * (left - right) / (left + right) if left + right > 0 else float("nan")


def fit_norm(values: pd.Series, people: pd.DataFrame, covariates: tuple[str, ...]) -> Norm | None:
    """Least squares of `values` on `covariates` over people who have all; None below 20 people or without spread."""
    data = people[list(covariates)].assign(value=values).dropna()
    if len(data) < SMALLEST_NORM:
        return None
    matrix, target = data[list(covariates)].to_numpy(float), data["value"].to_numpy(float)
    center = matrix.mean(0)
    design = _design(matrix - center)
    coefficients, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    residuals = target - design @ coefficients
    sd = float(np.sqrt((residuals**2).sum() / (len(target) - rank)))
    return Norm(covariates, center, coefficients, np.sort(residuals), sd) if sd > 0 else None


def fit_norms(measurements: pd.DataFrame, people: pd.DataFrame, reference: Reference) -> dict[str, Norm | None]:
    """Measure key -> norm, fitted on the people of the reference."""
    chosen = people.index.intersection(reference.sample_ids)
    return {
        m.key: fit_norm(measurements.loc[chosen, (m.key, "both")], people.loc[chosen], m.covariates) for m in MEASURES
    }
