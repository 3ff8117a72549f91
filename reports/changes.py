"""How much a person's measurements have changed since an earlier visit, beside what a second scan would show."""

from __future__ import annotations

import numpy as np

from reports.gathering import Cohort
from reports.norms import MEASURES
from reports.tables import fixed, signed

# 95 % of differences of two sessions lie within this many mean absolute differences (of a normal distribution).
BOUND = 1.96 * np.sqrt(np.pi / 2)
SHORTEST_MONTHS = 3.0


def find_earlier_visit(cohort: Cohort, sample_id: str) -> tuple[str, float] | None:
    """The earliest visit of the same person that passed quality control, and the months since; None without one."""
    visits = cohort.prepared.visits
    now = visits.loc[sample_id]
    same = visits[(visits["participant_id"] == now["participant_id"]) & (visits["qc"].str.lower() != "fail")]
    months = (now["months"] - same["months"]).dropna()
    months = months[months >= SHORTEST_MONTHS]
    return (str(months.idxmax()), float(months.max())) if len(months) else None


def list_changes(cohort: Cohort, sample_id: str) -> dict[str, object] | None:
    """Rows title, before, now, change, per_year (%), retest, verdict; None without an earlier visit."""
    earlier = find_earlier_visit(cohort, sample_id)
    if earlier is None:
        return None
    before_id, months = earlier
    rows = []
    for measure in MEASURES:
        before, now = (float(cohort.measurements.at[name, (measure.key, "both")]) for name in (before_id, sample_id))
        if measure.per_tiv or not np.isfinite([before, now]).all() or before <= 0:
            continue
        change = 100 * (now / before - 1)
        row = {"title": measure.title, "before": fixed(before, measure.decimals), "now": fixed(now, measure.decimals)}
        row |= {"change": signed(change), "per_year": signed(12 * change / months), "retest": "–"}
        row["verdict"] = "retest error not measured"
        if measure.retest is not None:
            bound = BOUND * measure.retest
            row["retest"] = f"± {fixed(bound, 1)}"
            beyond = abs(change) > bound
            row["verdict"] = "beyond it" if beyond else "not distinguishable from measurement error"
        rows.append(row)
    session = cohort.prepared.visits.at[before_id, "session_id"]
    return {"rows": rows, "months": f"{months:.0f}", "session": session} if rows else None
