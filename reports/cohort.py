"""The report of a cohort: who is in it, who was labeled, how well each method does and how sure that is."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from reports import evidence, overlays, performance, tables
from reports.checklist import checklist_rows
from reports.clinical_scores import clinical_section, split_baselines
from reports.gathering import Cohort
from reports.label_rules import rules_section
from reports.message import message_section
from reports.probability import describe_choice, find_probability
from reports.records import CLASSES, MODALITIES, MODALITY_TITLES, Prepared, Run
from reports.subject import model_hash
from reports.table1 import tabulate_groups
from reports.tables import SMALLEST_CELL, fixed
from reports.typesetting import typeset


def load_baselines(path: Path | None) -> list[dict[str, Any]]:
    """The rows of a baselines.json; none where there is no such file."""
    if path is None:
        return []
    file = path / "baselines.json" if path.is_dir() else path
    if not file.is_file():
        return []
    rows = json.loads(file.read_text(encoding="utf-8"))
    for row in rows:
        for key in ("baseline", "labels", "modality", "split"):
            if key not in row:
                raise ValueError(f"{file}: a row has no {key!r}: {row}")
    return rows


def _load_maps(paths: list[Path]) -> tuple[list[nib.Nifti1Image], int]:
    """The maps that can be read, and the number of those that cannot."""
    images = []
    for path in paths:
        try:
            images.append(overlays.load_map(path))
        except ValueError as error:
            warnings.warn(f"left out of the mean map: {error}", stacklevel=2)
    return images, len(paths) - len(images)


def mean_overlays(prepared: Prepared, run: Run, smallest: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Mean maps of the stable and the converting test people, and their difference beside its standard error; a group
    with fewer than `smallest` maps is left out."""
    test = run.splits[run.splits["split"] == "test"]
    rows, differences, groups, unreadable = [], [], [], 0
    for modality in MODALITIES[:2]:
        found = {}
        for label in CLASSES:
            ids = [i for i in test.index[test["label"] == label] if i in prepared.visits.index]
            paths = [path for i in ids if (path := prepared.volume(i, modality)) is not None]
            images, failed = _load_maps(paths)
            unreadable += failed
            if len(images) >= smallest:
                found[label] = images
                rows.append((label, modality, overlays.mean_map(images)))
                groups.append({"title": f"{MODALITY_TITLES[modality]}, {label}", "n": len(images)})
        if len(found) == 2 and min(map(len, found.values())) > 1:
            titles, kind = ("stable − converter", "standard error"), f"{modality}_difference"
            pair = zip(titles, overlays.difference_map(found), strict=True)
            differences += [(title, kind, image) for title, image in pair]
    drawn = {"overlays.svg": overlays.draw_overlays(rows)} if rows else {}
    drawn |= {"difference.svg": overlays.draw_overlays(differences)} if differences else {}
    about = {"overlay_groups": groups, "unreadable_maps": unreadable, "difference": bool(differences)}
    return about, drawn


def list_predictions(cohort: Cohort) -> list[dict[str, str]]:
    """Test people by descending combined probability of the headline run."""
    run, rows = cohort.headline, []
    for sample_id, row in run.splits[run.splits["split"] == "test"].iterrows():
        values = {m: find_probability(run, sample_id, m) for m in MODALITIES}
        shown = {m: "–" if p is None else f"{100 * p:.0f}" for m, p in values.items()}
        rows.append(
            (
                -(values["all"] or 0.0),
                {"id": cohort.show_sample(sample_id), "label": row["label"] or "unlabeled", **shown},
            )
        )
    return [entry for _, entry in sorted(rows, key=lambda row: (row[0], row[1]["id"]))]


def _precision_note(cohort: Cohort) -> str:
    test = cohort.headline.splits[cohort.headline.splits["split"] == "test"]
    converters, stable = (int((test["label"] == label).sum()) for label in ("converter", "stable"))
    if min(converters, stable) < 2:
        return "The test split has fewer than two labeled people of a class: no AUC can be estimated."
    error = tables.auc_standard_error(0.75, converters, stable)
    return (
        f"{converters + stable} labeled test people: an AUC of .75 has a standard error of about {error:.2f}, so most "
        "differences between the rows above are within chance. One seed and one split: nothing here ranks the methods."
    )


def describe_cohort(cohort: Cohort, baselines: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The data and figures of the cohort report; sections that need the prepared folder are left out without it."""
    hide, headline = not cohort.simulated, cohort.headline
    scores = tables.gather_scores(cohort.runs)
    clinical_baselines, baselines = split_baselines(baselines)
    metrics, forest = tables.tabulate_metrics(cohort.runs, baselines, headline)
    drawn = {"roc.svg": performance.draw_roc(scores, MODALITY_TITLES, headline.name)}
    if forest:
        drawn["forest.svg"] = performance.draw_forest(forest, MODALITY_TITLES)
    labels = headline.metrics.get("labels", {})
    base = cohort.base_rate
    data = {
        "simulated": cohort.simulated,
        "origin": cohort.origin,
        "horizon": cohort.horizon_months,
        "suvr_reference": cohort.reference_region,
        "run": headline.name,
        "model": model_hash(headline),
        "runs": [{"name": run.name, "title": run.title, "model": model_hash(run)} for run in cohort.runs],
        "label_rate": fixed(100 * headline.metrics.get("label_rate", np.nan), 0),
        "seed": str(headline.metrics.get("seed", "–")),
        "labels": {"train_visible": str(labels.get("train_visible", "–")), "calibrated_on": headline.calibrated_on},
        "austere": headline.austere,
        "base_rate": fixed(100 * base[0], 0) if base else "–",
        "choice": f"{describe_choice(cohort)} {tables.describe_adjustments(cohort.runs)}",
        "agreement": headline.metrics.get("agreement", {}).get("words", ""),
        "unused_gain": tables.describe_gain(cohort.runs),
        "splits": tables.count_splits(headline, hide),
        "straddling": tables.straddling_groups(headline),
        "same_splits": all(run.splits["split"].equals(headline.splits["split"]) for run in cohort.runs),
        "metrics": metrics,
        "external": tables.tabulate_external(cohort.runs, baselines),
        "forest": "forest.svg" if forest else None,
        "has_baselines": bool(baselines),
        "has_bayes": any(row["kind"] == "bayes" for row in metrics),
        "precision": _precision_note(cohort),
        "smallest_cell": SMALLEST_CELL,
        # A list of people is participant-level data: with real data it stays in the run folder.
        "predictions": list_predictions(cohort) if cohort.simulated else [],
        "prepared": cohort.prepared is not None,
    }
    found, figures_of_evidence = evidence.describe_evidence(cohort)
    data |= found
    drawn |= figures_of_evidence
    data["message"], pictures = message_section(cohort, forest, scores, clinical_baselines)
    drawn |= pictures
    drawn["pr.svg"] = performance.draw_precision_recall(scores, MODALITY_TITLES)
    data["clinical"] = clinical_section(cohort, clinical_baselines)
    data["rules"] = rules_section(cohort)
    data["checklist"] = checklist_rows()
    if cohort.prepared is not None:
        visits = cohort.prepared.visits
        data["flow"] = tables.count_flow(visits, cohort.prepared.ledger, headline, hide)
        data["label_reasons"] = tables.count_labels(visits, hide)
        data["groups"] = tabulate_groups(cohort, hide)
        maps, images = mean_overlays(cohort.prepared, headline, SMALLEST_CELL if hide else 1)
        data |= maps
        drawn |= images
    return data, drawn


def write_cohort(cohort: Cohort, baselines: list[dict[str, Any]], destination: Path) -> Path:
    """Write `<destination>/cohort.pdf` and return its path."""
    data, drawn = describe_cohort(cohort, baselines)
    return typeset("cohort", data, drawn, destination / "cohort.pdf")
