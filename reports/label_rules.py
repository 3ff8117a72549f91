"""Does the result hang on the label rule? AUC of the frozen probabilities under other horizons, and other reverters."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.evidence import CALIBRATED, labeled_rows
from reports.gathering import Cohort
from reports.intervals import auc, auc_interval
from reports.records import CLASSES
from reports.tables import SMALLEST_CELL, fixed, hide_small_cells

FILE = "label_rules.tsv"


def load_rules(cohort: Cohort) -> pd.DataFrame:
    """sample id, rule, label; empty where the prepared folder has no such table."""
    file = cohort.prepared.root / FILE if cohort.prepared is not None else None
    if file is None or not file.is_file():
        return pd.DataFrame(columns=["sample_id", "rule", "label"])
    table = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)
    return table.assign(sample_id=table["participant_id"] + "_" + table["session_id"])[["sample_id", "rule", "label"]]


def list_outcomes(cohort: Cohort) -> pd.DataFrame:
    """Whose outcome another rule can label, by sample id: `p` and `weight`.

    The labeled test people, and those without a label by the run's own rule, who trained without one. All of these have
    a probability, but only the test split of the labeled: each counts that split's share.
    """
    run = cohort.headline
    test = labeled_rows(run, "test")
    labeled = run.splits["label"].isin(CLASSES)
    found = run.predictions[(run.predictions["modality"] == "all") & (run.predictions["split"] == "train")]
    unlabeled = found.set_index("sample_id")[CALIBRATED].dropna()
    unlabeled = unlabeled[unlabeled.index.isin(run.splits.index[~labeled])]
    weight = len(test) / max(int(labeled.sum()), 1)
    parts = [pd.DataFrame({"p": test[CALIBRATED], "weight": 1.0}), pd.DataFrame({"p": unlabeled, "weight": weight})]
    return pd.concat([part for part in parts if len(part)]) if len(test) else parts[0]


def rules_section(cohort: Cohort) -> dict[str, Any] | None:
    """A row per rule: n of each class, who has none, AUC with its interval; None where no other labels are known."""
    rules, scored = load_rules(cohort), list_outcomes(cohort)
    rows = []
    for name, part in rules.groupby("rule", sort=False):
        labels = part.set_index("sample_id")["label"].reindex(scored.index).fillna("")
        known = labels.isin(CLASSES).to_numpy()
        people = (labels[known] == "converter").to_numpy(), *scored.loc[known, ["p", "weight"]].to_numpy().T
        counts = {label: int((labels == label).sum()) for label in CLASSES}
        few = min(counts.values()) < SMALLEST_CELL
        limits = None if few else auc_interval(*people)
        shown = hide_small_cells(counts | {"none": int((~known).sum())}, not cohort.simulated)
        value = f"{fixed(auc(*people))} ({fixed(limits[0])} to {fixed(limits[1])})" if limits else "–"
        rows.append({"rule": name, **shown, "auc": value})
    if all(row["auc"] == "–" for row in rows):
        return None
    weight = scored["weight"].min()
    return {"rows": rows, "weight": fixed(weight) if weight < 1 else None}
