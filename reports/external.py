"""How well a frozen run does on other people, and whether its probabilities are right for them: numbers and words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from adni_tcgm.evaluation.clinical import CalibrationLine, calibration_line, recalibrate_intercept
from reports import drift
from reports.evidence import CALIBRATED, labeled_rows, show
from reports.gathering import Cohort
from reports.intervals import auc, auc_interval
from reports.records import MODALITIES, log_odds
from reports.tables import SMALLEST_CELL, fixed

# What the split of people is called who are of no cohort of the run's.
OTHER = "other"
FROZEN, SHIFTED = "as frozen", "with a recalibrated intercept"


def compare_discrimination(cohort: Cohort, other: Cohort, hide: bool) -> list[dict[str, Any]]:
    """A row per modality: AUC, interval and counts on the run's own test split (`test`) and on the others (`other`).

    With fewer than 5 people of a class there is no AUC: two and two that happen to lie in order have an interval from
    1 to 1. hide: the number of such a class is not shown either.
    """
    rows = []
    for modality in MODALITIES:
        row: dict[str, Any] = {"modality": modality}
        for name, people, split in (("test", cohort, "test"), ("other", other, OTHER)):
            labeled = labeled_rows(people.headline, split, modality)
            converter, score = labeled["converter"].to_numpy(bool), log_odds(labeled).to_numpy()
            fewest = min(converter.sum(), (~converter).sum())
            limits = auc_interval(converter, score) if fewest >= SMALLEST_CELL else None
            row[name] = {
                "n": len(labeled),
                "converters": None if hide and 0 < fewest < SMALLEST_CELL else int(converter.sum()),
                "auc": None if limits is None else auc(converter, score),
                "low": limits and limits[0],
                "high": limits and limits[1],
            }
        rows.append(row)
    return rows


def compare_calibration(other: Cohort) -> list[dict[str, Any]]:
    """The combined probability of the other people, as frozen and with an intercept of theirs; none with fewer than 5
    people of a class.

    The intercept is cross-fitted: each person's probability is shifted by what the people of nine other folds gave.
    """
    labeled = labeled_rows(other.headline, OTHER)
    labels, frozen = labeled["converter"].to_numpy(), labeled[CALIBRATED].to_numpy()
    shifted = recalibrate_intercept(labels, frozen)
    if shifted is None or min(labels.sum(), (1 - labels).sum()) < SMALLEST_CELL:
        return []
    return [_calibration(name, labels, p) for name, p in ((FROZEN, frozen), (SHIFTED, shifted))]


def _calibration(name: str, labels: np.ndarray, probability: np.ndarray) -> dict[str, Any]:
    p = probability.clip(1e-6, 1 - 1e-6)
    line = calibration_line(labels, p)
    return {
        "name": name,
        "n": len(labels),
        "predicted": float(p.mean()),
        "observed": float(labels.mean()),
        "brier": float(((p - labels) ** 2).mean()),
        "log_loss": float(-np.log(np.where(labels, p, 1 - p)).mean()),
        "line": line,
    }


def say_calibration(rows: list[dict[str, Any]]) -> str:
    """In words: whether the frozen probabilities are right for the other people."""
    if not rows:
        return "Too few people with a known outcome to say whether the probabilities are right."
    frozen = rows[0]
    said = f"It predicts {100 * frozen['predicted']:.0f} % on average, and {100 * frozen['observed']:.0f} % converted."
    line: CalibrationLine | None = frozen["line"]
    if line is None:
        return f"{said} A calibration line is not defined here."
    high_or_low = "low" if line.intercept.low > 0 else "high" if line.intercept.high < 0 else ""
    timid = "timid" if line.slope.low > 1 else "extreme" if line.slope.high < 1 else ""
    wrong = " and ".join(f"too {word}" for word in (high_or_low, timid) if word)
    return f"{said} {f'The frozen probabilities are {wrong}.' if wrong else 'No departure from right ones is shown.'}"


def say_discrimination(rows: list[dict[str, Any]]) -> str:
    """In words: the AUC among the others, and whether it is above chance."""
    combined = rows[-1]["other"]
    if combined["auc"] is None:
        return f"Fewer than {SMALLEST_CELL} people of a class: too few for an AUC."
    chance = "above" if combined["low"] > 0.5 else "not shown to be above"
    own = rows[-1]["test"]
    beside = f" On the run's own test split it was {_auc(own)}." if own["auc"] is not None else ""
    return f"AUC {_auc(combined)} on {combined['n']} people, {chance} chance (.50).{beside}"


def _auc(found: dict[str, Any]) -> str:
    if found["auc"] is None:
        return "–"
    return f"{fixed(found['auc'])} ({fixed(found['low'])} to {fixed(found['high'])})"


def say_drift(table: pd.DataFrame, flagged: dict[str, Any] | None) -> str:
    """In words: how many measurements differ much, and the share of people who are unlike the training people."""
    if flagged is None:
        return "The prepared folder of the run is not there: its people's measurements cannot be compared."
    size = table["difference"].abs()
    said = f"{int((size >= drift.LARGE).sum())} of {len(table)} measurements differ by {drift.LARGE} SD or more"
    said += f", {int((size < drift.SMALL).sum())} by less than {drift.SMALL}."
    (other, n), (test, n_test) = flagged["other"], flagged["test"]
    if n:
        said += f" {_share(other, n)} are out of the training people's distribution"
        said += f" ({_share(test, n_test)} in the run's test split)." if n_test else "."
    return said


def _share(count: int, n: int) -> str:
    return f"{count} of {n} people ({100 * count / n:.0f} %)"


def show_discrimination(found: dict[str, Any]) -> dict[str, str]:
    """One side of a row of `compare_discrimination`, as text."""
    return {
        "n": str(found["n"]),
        "converters": "hidden" if found["converters"] is None else str(found["converters"]),
        "auc": _auc(found),
    }


def show_calibration(row: dict[str, Any]) -> dict[str, str]:
    """A row of `compare_calibration`, as text."""
    line = row["line"]
    return {
        "name": row["name"],
        "n": str(row["n"]),
        "predicted": f"{100 * row['predicted']:.0f} %",
        "observed": f"{100 * row['observed']:.0f} %",
        "brier": fixed(row["brier"], 3),
        "log_loss": fixed(row["log_loss"], 3),
        "intercept": show(line and line.intercept),
        "slope": show(line and line.slope),
    }


def record_calibration(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `compare_calibration` as JSON takes it."""
    line = row["line"]
    parts = {} if line is None else {name: vars(getattr(line, name)) for name in ("intercept", "slope")}
    return {key: value for key, value in row.items() if key != "line"} | parts
