"""Page one of the cohort report: five questions, each answered in words and one figure."""

from __future__ import annotations

from typing import Any

import numpy as np

from adni_tcgm.evaluation.clinical import calibration_line
from reports import performance
from reports.clinical_scores import clinical_section
from reports.evidence import CALIBRATED, labeled_rows, list_subgroups
from reports.gathering import Cohort
from reports.intervals import auc, auc_interval
from reports.performance import ForestRow
from reports.records import MODALITIES, MODALITY_TITLES
from reports.tables import SMALLEST_CELL, fixed

# Budgets of labels that are no larger than the runs' own.
SAME_OR_FEWER_LABELS = ("visible", "none")


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" (95 % {fixed(low)} to {fixed(high)})"


def say_how_well(cohort: Cohort, forest: list[ForestRow]) -> str:
    """AUC of the headline run, combined and by scan, and whether it is above chance."""
    own = {row.modality: row for row in forest if row.kind == "run" and row.title.endswith("(headline)")}
    row, n = own.get("all"), len(labeled_rows(cohort.headline, "test"))
    if row is None:
        return f"{n} labeled test people are too few to say how well stable people and converters are told apart."
    chance = "above" if row.low is not None and row.low > 0.5 else "not shown to be above"
    single = [f"{MODALITY_TITLES[m]} {fixed(own[m].auc)}" for m in MODALITIES[:2] if m in own]
    alone = f" Single scans: {', '.join(single)}." if single else ""
    return (
        f"Of a converter and a stable person, the converter has the higher probability in {100 * row.auc:.0f} % of "
        f"pairs: AUC {fixed(row.auc)}{_interval(row.low, row.high)} on {n} test people, {chance} chance (.50).{alone}"
    )


def say_against(cohort: Cohort, forest: list[ForestRow], baselines: list[dict[str, Any]]) -> str:
    """The headline run beside simpler classifiers that saw as many labels or fewer, and beside clinical scores."""
    rows = [row for row in forest if row.modality == "all"]
    own = next((row for row in rows if row.kind == "run" and row.title.endswith("(headline)")), None)
    rivals = [row for row in rows if row.kind == "baseline" and _budget(row.title) in SAME_OR_FEWER_LABELS]
    said = []
    if own is None or not rivals:
        said.append("No simpler classifier was computed for this cohort.")
    else:
        best = max(rivals, key=lambda row: row.auc)
        higher = sum(row.auc > own.auc for row in rivals)
        inside = own.low is not None and own.low <= best.auc <= own.high
        place = "within" if inside else "outside"
        said.append(
            f"{higher} of {len(rivals)} simpler classifiers with as many labels or fewer have a higher AUC; the best, "
            f"{_name(best.title)}, has {fixed(best.auc)}, {place} the interval of the headline run."
        )
    clinical = clinical_section(cohort, baselines)
    if clinical:
        shown = {row["name"]: row for row in clinical["rows"]}
        alone, both = shown["clinical scores"], shown["both"]
        said.append(f"Clinical scores alone: {alone['auc']}; with imaging added {both['difference']}.")
    return " ".join(said)


def say_believable(cohort: Cohort) -> str:
    """Mean prediction against the observed share, and the calibration line, in words."""
    rows = labeled_rows(cohort.headline, "test")
    if not len(rows):
        return "There is no labeled test person to compare the probabilities with."
    labels, p = rows["converter"].to_numpy(), rows[CALIBRATED].to_numpy()
    said = f"On average it predicts {100 * p.mean():.0f} %, and {100 * labels.mean():.0f} % converted. "
    line = calibration_line(labels, p)
    if line is None:
        return said + "A calibration line is not defined here."
    level, slope = line.intercept, line.slope
    wrong = []
    if level.low > 0 or level.high < 0:
        wrong.append("too low" if level.low > 0 else "too high")
    if slope.low > 1 or slope.high < 1:
        wrong.append("too timid" if slope.low > 1 else "too extreme")
    verdict = f"The probabilities are {' and '.join(wrong)}" if wrong else "No departure from right ones is shown"
    return (
        f"{said}{verdict}: intercept {fixed(level.value)}{_interval(level.low, level.high)}, right 0; "
        f"slope {fixed(slope.value)}{_interval(slope.low, slope.high)}, right 1."
    )


def _budget(title: str) -> str:
    return title.rpartition(" (labels: ")[2].rstrip(")")


def _name(title: str) -> str:
    return title.rpartition(" (labels: ")[0] or title


def rate_subgroups(cohort: Cohort) -> list[ForestRow]:
    """AUC of the headline run by subgroup of test people, with 95 % intervals; groups with few of a class are left
    out."""
    rows = labeled_rows(cohort.headline, "test")
    if cohort.people is None:
        return []
    found = []
    for name, member in list_subgroups(cohort, rows).items():
        part = rows[member.to_numpy(bool)]
        converter, p = part["converter"].to_numpy(bool), part[CALIBRATED].to_numpy()
        if min(converter.sum(), (~converter).sum()) < SMALLEST_CELL:
            continue
        limits = auc_interval(converter, p)
        found.append(ForestRow(name, "all", "run", auc(converter, p), *(limits or (None, None))))
    return found


def message_section(
    cohort: Cohort,
    forest: list[ForestRow],
    scores: dict[str, list[performance.Scores]],
    baselines: list[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Words and figures of page one."""
    data: dict[str, Any] = {
        "well": say_how_well(cohort, forest),
        "against": say_against(cohort, forest, baselines),
        "believable": say_believable(cohort),
        "test": str(len(labeled_rows(cohort.headline, "test"))),
    }
    own = {m: next((s for s in runs if s.run == cohort.headline.name), None) for m, runs in scores.items()}
    shown = {m: s for m, s in own.items() if s is not None and np.ptp(s.converter.astype(int)) > 0}
    drawn = {"one-roc.svg": performance.draw_headline_roc(shown, MODALITY_TITLES)} if shown else {}
    if "all" in shown:
        drawn["one-calibration.svg"] = performance.draw_calibration(shown["all"])
    combined = [
        row
        for row in forest
        if row.modality == "all" and (row.kind != "baseline" or _budget(row.title) in SAME_OR_FEWER_LABELS)
    ]
    if combined:
        drawn["one-against.svg"] = performance.draw_small_forest(combined)
    groups = rate_subgroups(cohort)
    if groups:
        drawn["one-groups.svg"] = performance.draw_small_forest(groups)
    data["figures"] = sorted(drawn)
    return data, drawn
