"""What clinical scores say alone, what the imaging says alone, and both together. No network ever sees such a score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit

from adni_tcgm.evaluation.baselines import logistic_scores
from adni_tcgm.evaluation.intervals import PairedRun, paired_difference
from reports.evidence import CALIBRATED, labeled_rows
from reports.gathering import Cohort
from reports.intervals import auc, auc_interval
from reports.tables import SMALLEST_CELL, fixed

FILE = "clinical.tsv"
TITLES = {
    "education": "education (years)",
    "apoe4": "APOE ε4 alleles",
    "mmse": "MMSE",
    "cdrsb": "CDR sum of boxes",
    "adas13": "ADAS-Cog 13",
}
COVARIATES = {"age": "age", "male": "sex"}
# What asks for no judgment of the dementia itself, as CDR sum of boxes does.
COGNITIVE_TESTS = ("mmse", "adas13")
# Names of baselines that say the same with simpler imaging; they stand in this section, not among the others.
CLINICAL_BASELINES = ("clinical", "imaging:")


def split_baselines(baselines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The baselines of clinical scores, and all others."""
    chosen = [baseline for baseline in baselines if baseline["baseline"].startswith(CLINICAL_BASELINES)]
    return chosen, [baseline for baseline in baselines if baseline not in chosen]


def load_scores(cohort: Cohort) -> pd.DataFrame:
    """Sample id -> the scores that somebody has; no columns where the prepared folder has none."""
    file = cohort.prepared.root / FILE if cohort.prepared is not None else None
    if file is None or not file.is_file():
        return pd.DataFrame()
    table = pd.read_csv(file, sep="\t", dtype={"participant_id": str, "session_id": str})
    table = table.set_index(table["participant_id"] + "_" + table["session_id"])
    return table[[name for name in TITLES if name in table]].astype(float).dropna(axis=1, how="all")


def compare(cohort: Cohort, scores: pd.DataFrame) -> list[dict[str, str]]:
    """Rows name, auc, difference (to the same scores alone), of the labeled test people.

    Logistic regressions are fitted on scores, age and sex, and on these with the headline run's log-odds beside them:
    on the people who calibrated that run, with log-odds of models that did not train on them. Imaging alone is that
    run's own probability, its difference that to all clinical scores. MMSE and ADAS-Cog 13 follow by themselves.
    """
    headline = cohort.headline
    fitted, tested = (labeled_rows(headline, split) for split in (headline.calibration_split, "test"))
    converter = tested["converter"].to_numpy(bool)
    if min(converter.sum(), (~converter).sum()) < SMALLEST_CELL:
        return []
    labels = fitted["converter"].to_numpy()
    imaging = _columns(cohort, scores, tested)["imaging"].to_numpy()
    rows = []
    tests = [name for name in COGNITIVE_TESTS if name in scores]
    kinds = {"clinical scores": list(scores)} | ({_and_list(tests): tests} if len(tests) < scores.shape[1] else {})
    for name, columns in kinds.items():
        tables = [_columns(cohort, scores[columns], part) for part in (fitted, tested)]
        clinical = [table.drop(columns="imaging").to_numpy() for table in tables]
        alone = logistic_scores(clinical[0], labels, [clinical[1]])[0]
        both = logistic_scores(tables[0].to_numpy(), labels, [tables[1].to_numpy()])[0]
        if not columns or alone is None or both is None:
            continue
        rows.append(_row(name, converter, alone, None))
        if not rows[1:]:
            rows.append(_row("imaging: the headline run", converter, imaging, alone))
        rows.append(_row("both" if name == "clinical scores" else f"{name}, and imaging", converter, both, alone))
    return rows


def _and_list(names: list[str]) -> str:
    return " and ".join(TITLES[name] for name in names)


def _columns(cohort: Cohort, scores: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    people = cohort.people[list(COVARIATES)].reindex(rows.index)
    imaging = logit(rows[CALIBRATED].clip(1e-6, 1 - 1e-6))
    return people.join(scores.reindex(rows.index)).assign(imaging=imaging).astype(float)


def _row(name: str, converter: np.ndarray, values: np.ndarray, other: np.ndarray | None) -> dict[str, str]:
    limits = auc_interval(converter, values)
    shown = {"name": name, "auc": f"{fixed(auc(converter, values))} ({fixed(limits[0])} to {fixed(limits[1])})"}
    if other is None:
        return shown | {"difference": "–"}
    run = PairedRun([str(i) for i in range(len(converter))], converter, values, other)
    found = paired_difference(_auc_or_none, [run], "shared")
    return shown | {"difference": f"{found.estimate:+.2f} ({found.low:+.2f} to {found.high:+.2f})".replace("-", "−")}


def _auc_or_none(converter: np.ndarray, values: np.ndarray) -> float | None:
    return auc(converter, values) if converter.any() and not converter.all() else None


def clinical_section(cohort: Cohort, baselines: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What the report says of clinical scores; None where the prepared folder has none."""
    scores = load_scores(cohort)
    rows = compare(cohort, scores) if len(scores.columns) else []
    if not rows:
        return None
    shares = scores.reindex(labeled_rows(cohort.headline, "test").index).notna().mean()
    budgets: dict[str, dict[str, str]] = {}
    for baseline in baselines:
        if baseline["split"] == "test":
            # The baseline's name lists its scores; the note does that.
            name = (
                "clinical scores"
                if baseline["baseline"].startswith("clinical:")
                else baseline["baseline"].removeprefix("imaging: ")
            )
            budgets.setdefault(name, {})[baseline["labels"]] = fixed(baseline["auc"])
    simple = [
        {"name": name, "visible": values.get("visible", "–"), "more": values.get("visible+validation", "–")}
        for name, values in budgets.items()
    ]
    named = [TITLES[name] + (f" (known of {100 * share:.0f} %)" if share < 1 else "") for name, share in shares.items()]
    fitted = len(labeled_rows(cohort.headline, cohort.headline.calibration_split))
    return {"rows": rows, "baselines": simple, "scores": ", ".join(named), "fitted": fitted}
