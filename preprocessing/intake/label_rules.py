"""The same people under other rules: shorter and longer horizons, and reverters as stable. For evaluation alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from preprocessing.intake.labels import CONVERSION_CLASSES, Label, LabelRule, Visit, derive_label

HORIZONS_MONTHS = (24.0, 36.0, 48.0)
# Besides horizons: at the rule's own one, who returns from MCI and was not seen demented within it counts as stable.
REVERTERS_STABLE = "reverters as stable"
COLUMNS = ("participant_id", "session_id", "rule", "label", "label_reason")


def tabulate_rules(manifest: pd.DataFrame, histories: Mapping[str, Sequence[Visit]], rule: LabelRule) -> pd.DataFrame:
    """A row per visit of somebody with a history, and rule: 24, 36 and 48 months, the rule's own, reverters as stable.

    manifest: participant_id, session_id, months (of the scan, from baseline), months_to_death (from the scan).
    """
    horizons = sorted({*HORIZONS_MONTHS, rule.horizon_months})
    rules = {f"{months:g} months": replace(rule, horizon_months=months) for months in horizons}
    rows = []
    for visit in manifest.dropna(subset="months").itertuples():
        history = histories.get(visit.participant_id, ())
        if not history:
            continue
        death = None if pd.isna(visit.months_to_death) else visit.months + visit.months_to_death
        found = {name: derive_label(history, visit.months, each, death) for name, each in rules.items()}
        found[REVERTERS_STABLE] = _with_reverters(
            derive_label(history, visit.months, rule, death), history, visit, rule
        )
        for name, label in found.items():
            kept = label.label if label.label in CONVERSION_CLASSES else ""
            rows.append((visit.participant_id, visit.session_id, name, kept, label.reason))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _with_reverters(label: Label, history: Sequence[Visit], visit: tuple, rule: LabelRule) -> Label:
    demented = any(v.diagnosis == "AD" and 0 <= v.month - visit.months <= rule.horizon_months for v in history)
    return replace(label, label="stable") if label.reason == "reverter" and not demented else label
