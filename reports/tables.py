"""The cohort's tables as rows of text: flow, labels, groups, splits, metrics. Small cells of real data are hidden."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.intervals import auc, auc_interval
from reports.performance import ForestRow, Scores
from reports.records import CLASSES, MODALITIES, MODALITY_TITLES, Run, log_odds

SMALLEST_CELL = 5
LABEL_DEFINITIONS = {
    "converter": "MCI at the scan; dementia within the horizon",
    "stable": "MCI at the scan, and still MCI at or after the horizon",
    "censored": "follow-up ends before the horizon, still MCI: unlabeled, never stable",
    "reverter": "back to normal cognition, or more than one change: unlabeled",
    "cn": "normal cognition at the scan and ever after: teaches only where asked for",
    "ad": "dementia at the scan and ever after: teaches only where asked for",
    "not_mci": "normal cognition or dementia at the scan: not used",
    "no_diagnosis": "no diagnosis known at the scan: not used",
    "unknown_visit": "nothing tells when the scan was taken: not used",
}


def fixed(value: Any, decimals: int = 2) -> str:
    """A number with a true minus sign and no negative zero; a dash for what is not known."""
    if value is None or not np.isfinite(value):
        return "–"
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: Any, decimals: int = 1) -> str:
    """+1.2, −0.3, 0.0; a dash for what is not known."""
    text = fixed(value, decimals)
    return f"+{text}" if value > 0 and float(text) > 0 else text


def hide_small_cells(counts: dict[str, int], hide: bool) -> dict[str, str]:
    """Counts that add up to a printed total, as text; those of 1 to 4 people read <5.

    Where a single cell would be hidden, the next smallest is hidden too, or the total would give it away.
    """
    small = [key for key, count in counts.items() if hide and 0 < count < SMALLEST_CELL]
    others = sorted((count, key) for key, count in counts.items() if key not in small and count > 0)
    hidden = {small[0], others[0][1]} if len(small) == 1 and others else set(small)
    return {
        key: (f"<{SMALLEST_CELL}" if key in small else "hidden" if key in hidden else str(count))
        for key, count in counts.items()
    }


HARMONIZATIONS = {
    "site": "ComBat",
    "means_and_scales": "means and scales",
    "gaussian_flow": "matching means and covariances (Gaussian flow)",
    "real_nvp_flow": "a RealNVP flow",
    "dual": "the dual adversarial distance",
    "ls_gan": "an adversarial map (LS-GAN)",
}


def describe_adjustment(features: str, adjustment: dict[str, Any]) -> str:
    """One sentence: what was done about sites, head size, age and sex before classifiers of these features trained."""
    if features != "regions":
        return "Voxels are neither harmonized over sites nor adjusted for age, sex or head size."
    fitted = "fitted on the training people without their labels"
    sites = "sites are not harmonized"
    harmonize = adjustment.get("harmonize", "none")
    parts = [part.get("site") or {} for part in adjustment.get("modalities", {}).values()]
    if harmonize != "none" and parts and not any(parts):
        sites = "sites are not harmonized, for want of two groups of 20 training people"
    elif harmonize != "none":
        sites = (
            "effects of sites with at least 20 training people, and of the field strength of all smaller ones, are "
            f"taken out by {HARMONIZATIONS.get(harmonize, harmonize)} ({fitted}; people of any other site stay as they "
            "are)"
        )
        flagged = sorted({site for part in parts for site in part.get("flagged", ())})
        if flagged:
            sites += f", which left differences from the reference site at {len(flagged)} sites"
    if adjustment.get("adjust") == "tiv_age_sex":
        covariates = f"adjusted for age, sex and (volumes, in mL) intracranial volume by regression {fitted}"
    else:
        covariates = "not adjusted for age and sex, volumes are divided by intracranial volume"
    return f"Regional measurements: {sites}; values are {covariates}{_describe_shared(adjustment)}."


def _describe_shared(adjustment: dict[str, Any]) -> str:
    limit, found = adjustment.get("shared_limit"), adjustment.get("shared")
    if limit is None:
        return ""
    rule = f"directions that MRI and PET share beyond a correlation of {limit:g} are damped"
    if found is None:  # a study of several runs, or a run of too few people
        return f"; {rule}"
    above = count_damped(adjustment)
    strongest = f"the strongest has {found['correlations'][0]:.2f} among {found['people']} people, no outcome read"
    return f"; {rule} ({above or 'none'} of {len(found['correlations'])}; {strongest})"


def count_damped(adjustment: dict[str, Any]) -> int:
    """How many directions that MRI and PET share a run damped.

    >>> count_damped({"shared_limit": 0.45, "shared": {"correlations": [0.8, 0.3], "people": 200}})
    1
    """
    found = adjustment.get("shared") or {"correlations": []}
    return sum(correlation > adjustment["shared_limit"] for correlation in found["correlations"])


PRETEXT_TASKS = {
    "targets": "to predict the regional measurements of their own scan",
    "cross_modal": "to predict those of the other scan",
    "shared": "to tell what both scans of a person show from what one of them shows alone",
    "murauer": "to be like simulated people, whose labels are all known",
}


def describe_pretraining(metrics: dict[str, Any]) -> str:
    """One sentence: what the networks learned before the labels of this cohort; empty where they learned nothing."""
    start = metrics.get("pretraining")
    if not start:
        return ""
    tasks = " and ".join(PRETEXT_TASKS.get(task, task) for task in start["tasks"])
    learned = f"first learned, from all training people without their labels, {tasks}"
    return f"Networks for {metrics['features']} {learned}."


def describe_gain(runs: Sequence[Run]) -> str:
    """A sentence for each TCGM whose weights are older than its first step on the gain; empty where there is none.

    Comparing it with CE says nothing of the gain: it is CE, wherever CE kept the weights of the same step.
    """
    sentences = []
    for run in runs:
        if run.metrics["method"] != "tcgm" or "best_step" not in run.metrics:
            continue
        best, begin = run.metrics["best_step"], run.metrics["unlabeled_from"]
        if begin is not None and best >= begin:
            continue
        features = run.metrics["features"]
        rivals = [other for other in runs if (other.metrics["method"], other.metrics["features"]) == ("ce", features)]
        same = any(other.predictions.equals(run.predictions) for other in rivals)
        when = f"before the gain begins at step {begin}" if begin is not None else "and the gain never began"
        what = "TCGM and CE are the same classifier here" if same else "nothing of the gain is in this TCGM"
        sentences.append(f"{features.capitalize()}: validation chose step {best}, {when}: {what}.")
    return " ".join(sentences)


def describe_adjustments(runs: list[Run]) -> str:
    """Those sentences for every kind of run, each once."""
    sentences = [describe_adjustment(run.metrics["features"], run.adjustment) for run in runs]
    sentences += [describe_pretraining(run.metrics) for run in runs]
    return " ".join(dict.fromkeys(filter(None, sentences)))


def count_flow(visits: pd.DataFrame, ledger: pd.DataFrame, run: Run, hide: bool) -> dict[str, Any]:
    """Expected visits, what became of them, and the ledger's reasons."""
    keys = ["participant_id", "session_id"]
    expected = pd.concat([frame[keys] for frame in (ledger, visits) if len(frame)]).drop_duplicates()
    used = visits.index.intersection(run.splits.index)
    labeled = int(run.splits.loc[used, "label"].isin(CLASSES).sum())
    # Each step of the flow is a cell: the difference of two steps must not reveal a small group.
    kept = hide_small_cells({"kept": len(visits), "lost": len(expected) - len(visits)}, hide)
    known = hide_small_cells({"labeled": labeled, "unlabeled": len(used) - labeled}, hide)
    steps = [
        {"title": "expected visits", "count": str(len(expected))},
        {"title": "prepared", "count": kept["kept"]},
        {"title": "used by the classifiers", "count": str(len(used)) if kept["kept"].isdigit() else "hidden"},
        {"title": "labeled", "count": known["labeled"]},
        {"title": "unlabeled", "count": known["unlabeled"]},
    ]
    lost = ledger[ledger["status"] != "kept"] if len(ledger) else ledger
    reasons = lost.groupby(["modality", "status", "step", "reason_code"]).size() if len(lost) else pd.Series(dtype=int)
    shown = hide_small_cells({" · ".join(key): int(count) for key, count in reasons.items()}, hide)
    return {"steps": steps, "reasons": [{"reason": key, "count": count} for key, count in shown.items()]}


def count_labels(visits: pd.DataFrame, hide: bool) -> list[dict[str, str]]:
    counts = visits["label_reason"].value_counts()
    names = [*LABEL_DEFINITIONS, *sorted(set(counts.index) - set(LABEL_DEFINITIONS))]
    shown = hide_small_cells({name: int(counts.get(name, 0)) for name in names}, hide)
    return [
        {"name": name or "(none)", "definition": LABEL_DEFINITIONS.get(name, ""), "count": shown[name]}
        for name in names
    ]


def count_splits(run: Run, hide: bool) -> list[dict[str, str]]:
    rows = []
    for name in ("train", "validation", "test"):
        part = run.splits[run.splits["split"] == name]
        counts = {label: int((part["label"] == label).sum()) for label in CLASSES}
        shown = hide_small_cells(counts | {"unlabeled": len(part) - sum(counts.values())}, hide)
        known = part[part["label"].isin(CLASSES)]
        visible = hide_small_cells(
            {label: int((known["label_visible"] & (known["label"] == label)).sum()) for label in CLASSES}, hide
        )
        use = " + ".join(f"{visible[label]} {label}" for label in CLASSES) if name != "test" else "judging only"
        rows.append({"name": name, "n": str(len(part)), **shown, "visible": use})
    return rows


def straddling_groups(run: Run) -> int:
    """Number of groups (people, anatomies) with samples in more than one split; anything but 0 is a leak."""
    return int((run.splits.groupby("group_id")["split"].nunique() > 1).sum()) if "group_id" in run.splits else 0


def gather_scores(runs: list[Run]) -> dict[str, list[Scores]]:
    """Test predictions by modality, of labeled people who have the modality."""
    result: dict[str, list[Scores]] = {}
    for modality in MODALITIES:
        for run in runs:
            rows = run.predictions
            rows = rows[(rows["split"] == "test") & (rows["modality"] == modality) & rows["present"]]
            rows = rows[rows["label"].isin(CLASSES) & rows["p_calibrated_converter"].notna()]
            scores = Scores(
                run=run.name,
                method=run.metrics["method"],
                features=run.metrics["features"],
                converter=(rows["label"] == "converter").to_numpy(),
                log_odds=log_odds(rows).to_numpy(),
                calibrated=rows["p_calibrated_converter"].to_numpy(),
            )
            result.setdefault(modality, []).append(scores)
    return result


def _row(
    name: str, kind: str, modality: str, values: dict[str, Any], interval: str = "", n: str = ""
) -> dict[str, str]:
    return {
        "name": name,
        "kind": kind,
        "modality": MODALITY_TITLES[modality],
        "n": n,
        "auc": fixed(values.get("auc")),
        "interval": interval,
        **{key: fixed(values.get(key)) for key in ("accuracy", "balanced_accuracy", "log_loss", "brier")},
    }


def tabulate_metrics(
    runs: list[Run], baselines: list[dict[str, Any]], headline: Run
) -> tuple[list[dict[str, str]], list[ForestRow]]:
    """Every run and baseline on the test split, Bayes where the truth is known; and the same for the AUC figure."""
    table, forest = [], []
    for modality, all_scores in gather_scores(runs).items():
        bayes = ((headline.metrics.get("bayes") or {}).get(modality) or {}).get("auc")
        for run, scores in zip(runs, all_scores, strict=True):
            title = run.title + (" (headline)" if run is headline else "")
            values = run.metrics.get("test", {}).get(modality) or {}
            _check_auc(run, modality, values.get("auc"), auc(scores.converter, scores.log_odds))
            limits = auc_interval(scores.converter, scores.log_odds)
            interval = f"{limits[0]:.2f}–{limits[1]:.2f}" if limits else ""
            table.append(_row(title, "run", modality, values, interval, str(len(scores.converter))))
            if limits and values.get("auc") is not None:
                forest.append(ForestRow(title, modality, "run", values["auc"], *limits))
        for baseline in baselines:
            if baseline["modality"] != modality or baseline["split"] not in ("test", "exact"):
                continue
            if baseline["split"] == "exact":  # known from how simulated people were made, not measured on any
                if baseline["auc"] != bayes:
                    table.append(_row(baseline["baseline"], "bayes", modality, baseline))
                continue
            title = f"{baseline['baseline']} (labels: {baseline['labels']})"
            table.append(_row(title, "baseline", modality, baseline, n=str(baseline.get("n", ""))))
            if baseline.get("auc") is not None:
                forest.append(ForestRow(title, modality, "baseline", float(baseline["auc"])))
        if bayes is not None:
            table.append(_row("Bayes (knows how the data were made)", "bayes", modality, {"auc": bayes}))
            forest.append(ForestRow("Bayes", modality, "bayes", float(bayes)))
    return table, forest


def _check_auc(run: Run, modality: str, stated: float | None, found: float) -> None:
    if stated is not None and np.isfinite(found) and abs(stated - found) > 1e-6:
        place = f"{run.folder / 'metrics.json'}: AUC {stated:.3f} ({modality}, test)"
        warnings.warn(f"{place} does not follow from predictions.tsv, which gives {found:.3f}", stacklevel=2)


def tabulate_external(runs: list[Run], baselines: list[dict[str, Any]]) -> list[dict[str, str]]:
    """AUC by modality on the external test set, a row per run and baseline; empty where there is none."""
    rows: dict[str, dict[str, str]] = {}
    for run in runs:
        for modality, values in run.metrics.get("external", {}).items():
            rows.setdefault(run.title, {})[modality] = fixed(values.get("auc"), 3)
    for baseline in baselines:
        if baseline["split"] == "external":
            rows.setdefault(f"{baseline['baseline']} (labels: {baseline['labels']})", {})[baseline["modality"]] = fixed(
                baseline["auc"], 3
            )
    return [{"name": name} | {m: values.get(m, "–") for m in MODALITIES} for name, values in rows.items()]


def auc_standard_error(value: float, positives: int, negatives: int) -> float:
    """Hanley & McNeil, Radiology 1982; 143: 29–36."""
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (positives - 1) * (q1 - value**2) + (negatives - 1) * (q2 - value**2)
    return float(np.sqrt(variance / (positives * negatives)))
