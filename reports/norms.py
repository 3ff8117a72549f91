"""Regional measurements against a norm: the cohort's cognitively normal people, or else stable or all training people.

The norm is a regression on age, sex and (volumes only) intracranial volume; z is the residual over its standard
deviation, the percentile the share of the norm group with a lower residual.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.records import Prepared, Run

SMALLEST_NORM = 20
NORMAL = "cn"


@dataclass(frozen=True)
class Reference:
    """Whom a person is set against: sample ids, what they are called, and what that means for reading z."""

    sample_ids: pd.Index
    name: str
    meaning: str


def choose_reference(prepared: Prepared, run: Run) -> Reference:
    """Cognitively normal people who passed quality control; with fewer than 20, stable training people whose label was
    shown; with fewer than 20 of those, all training people, whose labels then play no part.

    No hidden label enters, nor anybody of validation and test.
    """
    visits, splits = prepared.visits, run.splits
    status = visits["label"].where(visits["label"] != "", visits["label_reason"])
    usable = visits["qc"].str.lower() != "fail"
    elsewhere = splits.index[splits["split"] != "train"]
    normal = visits.index[(status == NORMAL) & usable].difference(elsewhere)
    if len(normal) >= SMALLEST_NORM:
        meaning = "z = 0 is an average healthy person of that age"
        return Reference(normal, f"cognitively normal people of this cohort, n = {len(normal)}", meaning)
    training = splits[splits["split"] == "train"]
    stable = visits.index.intersection(training.index[training["label_visible"] & (training["label"] == "stable")])
    meaning = "not healthy controls, of whom this cohort has too few: z = 0 is an average "
    if len(stable) >= SMALLEST_NORM:
        name = f"relative to stable MCI, n = {len(stable)} (visible training labels)"
        return Reference(stable, name, meaning + "stable patient")
    everybody = visits.index.intersection(training.index)
    name = f"training set of this cohort, n = {len(everybody)}, labels not used"
    return Reference(
        everybody, name, "people with mild cognitive impairment, stable and converting, " + meaning + "patient"
    )


@dataclass(frozen=True)
class Measure:
    """One row of the measurement table. `low` says which end is the Alzheimer-like one."""

    title: str
    region: str
    column: str
    decimals: int
    per_tiv: bool = False
    low: bool = True

    @property
    def key(self) -> str:
        return f"{self.region}:{self.column}{':per_tiv' if self.per_tiv else ''}"

    @property
    def covariates(self) -> tuple[str, ...]:
        adjusts_head = self.column == "volume_ml" and not self.per_tiv
        return ("age", "male", "tiv_ml") if adjusts_head else ("age", "male")


MEASURES = (
    Measure("Hippocampus (mL)", "hippocampus", "volume_ml", 2),
    Measure("Hippocampus / intracranial volume (‰)", "hippocampus", "volume_ml", 2, per_tiv=True),
    Measure("Entorhinal cortex (mL)", "entorhinal", "volume_ml", 2),
    Measure("Lateral ventricle (mL)", "lateral_ventricle", "volume_ml", 1, low=False),
    Measure("Meta-ROI proxy SUVR", "meta_roi_proxy", "suvr", 2),
    Measure("Isthmus cingulate SUVR", "isthmus_cingulate", "suvr", 2),
    Measure("Precuneus SUVR", "precuneus", "suvr", 2),
    Measure("Inferior parietal SUVR", "inferior_parietal", "suvr", 2),
)
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
    wide = prepared.regions.pivot(index="sample_id", columns=["region", "side"], values=["volume_ml", "suvr"])
    table = {}
    empty = pd.Series(np.nan, index=wide.index)
    for measure in MEASURES:
        left, right, both = (wide.get((measure.column, measure.region, s), empty) for s in ("left", "right", "both"))
        total = left + right if measure.column == "volume_ml" else (left + right) / 2
        sides = {"left": left, "right": right, "both": both.fillna(total)}
        scale = 1000 / prepared.visits["tiv_ml"].reindex(wide.index) if measure.per_tiv else 1.0
        table |= {(measure.key, side): values * scale for side, values in sides.items()}
    return pd.DataFrame(table).reindex(prepared.visits.index)


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
