"""Whether a cohort's probabilities are right, worth acting on, and for whom: tables and figures from predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from adni_tcgm.evaluation.clinical import (
    Estimate,
    calibration_line,
    compare_decisions,
    net_benefit,
    predictive_values,
)
from reports import performance
from reports.gathering import Cohort
from reports.intervals import accuracy_interval, auc, auc_interval, balanced_accuracy, balanced_accuracy_interval
from reports.records import CLASSES, Run
from reports.survival import survival_section
from reports.tables import SMALLEST_CELL, fixed, hide_small_cells

RAW, CALIBRATED = "p_converter", "p_calibrated_converter"
# Magnets of 1.5 tesla are told from those of 3.
STRONG_MAGNET = 2.5
THRESHOLDS = np.linspace(0.01, 0.8, 80)


def labeled_rows(run: Run, split: str, modality: str = "all") -> pd.DataFrame:
    """Predictions of labeled people of a split who have the modality, by sample id, with `converter` as 0 or 1."""
    rows = run.predictions
    rows = rows[(rows["split"] == split) & (rows["modality"] == modality) & rows["present"]]
    rows = rows[rows["label"].isin(CLASSES) & rows[CALIBRATED].notna()].set_index("sample_id")
    return rows.assign(converter=(rows["label"] == "converter").astype(int))


def show(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{fixed(estimate.value)} ({fixed(estimate.low)} to {fixed(estimate.high)})"


def tabulate_calibration(runs: list[Run]) -> list[dict[str, str]]:
    """Brier, log-loss, calibration intercept and slope, before and after, on test and, if there is one, evaluation."""
    table = []
    for run in runs:
        for split in ("test", "external"):
            rows = labeled_rows(run, split)
            for column, kind in ((RAW, "raw"), (CALIBRATED, "calibrated")) if len(rows) else ():
                labels, p = rows["converter"].to_numpy(), rows[column].to_numpy().clip(1e-6, 1 - 1e-6)
                line = calibration_line(labels, p)
                table.append(
                    {
                        "name": f"{run.title}, {kind}",
                        "split": split,
                        "n": str(len(rows)),
                        "brier": fixed(((p - labels) ** 2).mean(), 3),
                        "log_loss": fixed(-np.log(np.where(labels, p, 1 - p)).mean(), 3),
                        "intercept": show(line and line.intercept),
                        "slope": show(line and line.slope),
                    }
                )
    return table


def _with_interval(value: float | None, limits: tuple[float, float] | None) -> str:
    return show(Estimate(value, *limits)) if value is not None and limits else "–"


def tabulate_decisions(cohort: Cohort) -> list[dict[str, str]]:
    """Accuracies at .5 with intervals, and each run against the headline run on the people that both predicted."""
    reference, table = labeled_rows(cohort.headline, "test"), []
    for run in cohort.runs:
        rows = labeled_rows(run, "test")
        converter = rows["converter"].to_numpy(bool)
        right = (rows[CALIBRATED] >= 0.5).astype(int) == rows["converter"]
        hits = right.to_numpy()
        entry = {
            "name": run.title + (" (headline)" if run is cohort.headline else ""),
            "accuracy": _with_interval(float(hits.mean()) if len(hits) else None, accuracy_interval(hits)),
            "balanced": _with_interval(balanced_accuracy(converter, hits), balanced_accuracy_interval(converter, hits)),
            **dict.fromkeys(("headline_only", "this_only", "p"), "–"),
        }
        both = rows.index.intersection(reference.index)
        if run is not cohort.headline and len(both):
            theirs = ((reference[CALIBRATED] >= 0.5).astype(int) == reference["converter"]).loc[both]
            found = compare_decisions(theirs, right.loc[both])
            p = "< .001" if found.p_value < 0.001 else fixed(found.p_value, 3)
            entry |= {"headline_only": str(found.first_only), "this_only": str(found.second_only), "p": p}
        table.append(entry)
    return table


def tabulate_operating_point(rows: pd.DataFrame, prevalence: float | None) -> list[dict[str, str]]:
    """Sensitivity, specificity and predictive values at .5, at the test people's prevalence and the one stated."""
    converter, called = rows["converter"].to_numpy(bool), (rows[CALIBRATED] >= 0.5).to_numpy()
    if not converter.any() or converter.all():
        return []
    sensitivity, specificity = float(called[converter].mean()), float((~called[~converter]).mean())
    places = {f"{100 * converter.mean():.0f} %, as in the test split": float(converter.mean())}
    if prevalence is not None:
        places[f"{100 * prevalence:.0f} %, as stated"] = prevalence
    table = []
    for name, share in places.items():
        values = (sensitivity, specificity, *predictive_values(sensitivity, specificity, share))
        shown = zip(("sensitivity", "specificity", "ppv", "npv"), values, strict=True)
        table.append({"name": name} | {key: fixed(value) for key, value in shown})
    return table


def list_subgroups(cohort: Cohort, rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Name -> (n,) bool over `rows`: age, sex, head size, scans, scanners; cut points come from the training people."""
    people = cohort.people.reindex(rows.index)
    splits = cohort.headline.splits
    training = cohort.people.reindex(splits.index[splits["split"] == "train"])
    age, tiv = training["age"].median(), training["tiv_ml"].quantile([1 / 3, 2 / 3]).to_numpy()
    visits = cohort.prepared.visits.reindex(rows.index)
    groups = {
        f"age up to {age:.0f}": people["age"] <= age,
        f"age above {age:.0f}": people["age"] > age,
        "women": people["male"] == 0,
        "men": people["male"] == 1,
        f"head up to {tiv[0]:.0f} mL": people["tiv_ml"] <= tiv[0],
        f"head {tiv[0]:.0f} to {tiv[1]:.0f} mL": (people["tiv_ml"] > tiv[0]) & (people["tiv_ml"] <= tiv[1]),
        f"head above {tiv[1]:.0f} mL": people["tiv_ml"] > tiv[1],
        "with PET": visits["pet_path"] != "",
        "without PET": visits["pet_path"] == "",
    }
    return groups | list_scanners(cohort, visits)


def list_scanners(cohort: Cohort, visits: pd.DataFrame) -> dict[str, pd.Series]:
    """Name -> (n,) bool over `visits`: field strength, and larger and smaller sites, where the manifest has several.

    Larger sites are the fewest that hold half of the training people.
    """
    tesla, groups = visits["field_strength_t"], {}
    if tesla.notna().any():
        groups |= {"below 2.5 tesla": tesla < STRONG_MAGNET, "2.5 tesla and more": tesla >= STRONG_MAGNET}
        groups |= {"field strength unknown": tesla.isna()} if tesla.isna().any() else {}
    splits = cohort.headline.splits
    training = cohort.prepared.visits["site"].reindex(splits.index[splits["split"] == "train"])
    counts = training[training != ""].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    if len(counts) > 1:
        large = counts.index[: int(np.searchsorted(counts.cumsum(), counts.sum() / 2)) + 1]
        inside = visits["site"].isin(large)
        groups |= {
            f"{len(large)} larger sites": inside,
            f"{len(counts) - len(large)} smaller sites, and new ones": ~inside,
        }
    return groups


def tabulate_subgroups(cohort: Cohort, rows: pd.DataFrame) -> list[dict[str, str]]:
    groups = {"everybody": pd.Series(True, index=rows.index)}
    if cohort.people is not None:
        groups |= list_subgroups(cohort, rows)
    table = []
    for name, member in groups.items():
        part = rows[member.to_numpy(bool)]
        converter, p = part["converter"].to_numpy(bool), part[CALIBRATED].to_numpy()
        counts = hide_small_cells({"yes": int(converter.sum()), "no": int((~converter).sum())}, not cohort.simulated)
        enough = min(converter.sum(), (~converter).sum()) >= SMALLEST_CELL
        limits = auc_interval(converter, p) if enough else None
        shown = enough or cohort.simulated
        table.append(
            {
                "name": name,
                "n": str(len(part)) if shown or len(part) >= SMALLEST_CELL else f"<{SMALLEST_CELL}",
                "converters": counts["yes"],
                "auc": show(Estimate(auc(converter, p), *limits)) if limits else "–",
                "predicted": f"{100 * p.mean():.0f} %" if len(part) and shown else "–",
                "observed": f"{100 * converter.mean():.0f} %" if len(part) and shown else "–",
            }
        )
    return table


def describe_evidence(cohort: Cohort) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The data and figures of those sections of the cohort report."""
    rows = labeled_rows(cohort.headline, "test")
    labels, p = rows["converter"].to_numpy(), rows[CALIBRATED].to_numpy()
    curves = {
        "headline run": net_benefit(labels, p, THRESHOLDS),
        "treat all": net_benefit(labels, np.ones(len(p)), THRESHOLDS),
        "treat nobody": np.zeros(len(THRESHOLDS)),
    }
    drawn = {"decision.svg": performance.draw_decision(THRESHOLDS, curves)}
    survival, curve = survival_section(cohort, rows)
    drawn |= curve
    data = {
        "believable": tabulate_calibration(cohort.runs),
        "decisions": tabulate_decisions(cohort),
        "operating": tabulate_operating_point(rows, cohort.prevalence),
        "stated": cohort.prevalence is not None,
        "subgroups": tabulate_subgroups(cohort, rows),
        "survival": survival,
    }
    return data, drawn
