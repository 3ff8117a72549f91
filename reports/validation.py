"""The report of a frozen run on another cohort: flow, Table 1 of both, AUC, calibration, drift of measurements."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from adni_tcgm.evaluation.clinical import recalibrate_intercept
from adni_tcgm.files import write_text
from reports import drift, performance
from reports.evidence import CALIBRATED, labeled_rows
from reports.external import (
    OTHER,
    compare_calibration,
    compare_discrimination,
    record_calibration,
    say_calibration,
    say_discrimination,
    say_drift,
    show_calibration,
    show_discrimination,
)
from reports.gathering import Cohort, gather_cohort
from reports.norms import list_covariates, list_measurements
from reports.probability import tabulate_likeness
from reports.records import (
    CLASSES,
    MODALITIES,
    MODALITY_TITLES,
    describe_origin,
    find_prepared,
    load_prepared,
    load_run,
    log_odds,
)
from reports.subject import model_hash
from reports.table1 import UNLABELED, tabulate_groups
from reports.tables import SMALLEST_CELL, count_flow, hide_small_cells
from reports.typesetting import typeset


@dataclass(frozen=True)
class Validation:
    """cohort: that of the run; other: the same run with the other people and what it says of them (split OTHER);
    known: sample ids of the other folder that are of the run's cohort and are left out."""

    cohort: Cohort
    other: Cohort
    known: list[str]
    simulated: bool

    @property
    def hide(self) -> bool:
        """Whether small cells are hidden."""
        return not self.simulated


def join(
    run_dir: Path, prepared: Path, predictions: pd.DataFrame, known: list[str], acknowledgement: str
) -> Validation:
    """Both cohorts in memory. predictions: rows as in `predictions.tsv` with split OTHER, of the other people alone."""
    run = load_run(run_dir)
    folder = find_prepared(run)
    cohort = gather_cohort([run], load_prepared(folder) if folder else None)
    others = load_prepared(prepared)
    others = replace(others, visits=others.visits.drop(index=known, errors="ignore"))
    people = predictions.drop_duplicates("sample_id").set_index("sample_id", drop=False)
    splits = people[["sample_id", "label"]].assign(split=OTHER, label_visible=False)
    frozen = replace(run, predictions=predictions, splits=splits)
    other = replace(
        cohort,
        runs=[frozen],
        headline=frozen,
        prepared=others,
        people=list_covariates(others),
        measurements=list_measurements(others),
        acknowledgement=acknowledgement,
    )
    return Validation(cohort, other, known, is_simulated(prepared))


def is_simulated(prepared: Path) -> bool:
    """Whether the prepared folder says that its people were simulated."""
    file = prepared / "dataset_description.json"
    return file.is_file() and json.loads(file.read_text(encoding="utf-8"))["Name"].startswith("SIMULATED")


def measure_drift(both: Validation) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """The table of drift, and the shares flagged as out of distribution; empty and None without the run's people."""
    cohort, other = both.cohort, both.other
    if cohort.prepared is None:
        return pd.DataFrame(), None
    splits = cohort.headline.splits
    parts = {
        name: cohort.people.index.intersection(splits.index[splits["split"] == name]) for name in ("train", "test")
    }
    predicted = other.people.index.intersection(other.headline.splits.index)
    table = drift.tabulate_drift(
        drift.tabulate_regions(cohort.prepared),
        drift.tabulate_regions(other.prepared),
        cohort.people.loc[parts["train"]],
        other.people.loc[predicted],
    )
    mine, theirs = (tabulate_likeness(one.measurements, one.people) for one in (cohort, other))
    training = mine.loc[parts["train"]]
    flagged = {"test": drift.share_flagged(training, mine.loc[parts["test"]])}
    flagged["other"] = drift.share_flagged(training, theirs.loc[predicted])
    return table, flagged


def count_people(both: Validation) -> dict[str, Any]:
    """Flow of the other cohort, from expected visits to stable people and converters."""
    run = both.other.headline
    flow = count_flow(both.other.prepared.visits, both.other.prepared.ledger, run, both.hide)
    labels = {label: int((run.splits["label"] == label).sum()) for label in CLASSES}
    return flow | {"known": len(both.known), "labels": hide_small_cells(labels, both.hide)}


def compare_groups(both: Validation) -> dict[str, Any] | None:
    """Table 1 of both cohorts: the groups of people with mild cognitive impairment, side by side."""
    cohorts = {"this run's cohort": both.cohort, "the other cohort": both.other}
    tables = {n: tabulate_groups(c, both.hide) for n, c in cohorts.items() if c.prepared is not None}
    wanted = (*CLASSES, UNLABELED)
    rows: dict[str, dict[str, list[str]]] = {}
    groups = []
    for name, table in tables.items():
        places = [i for i, group in enumerate(table["groups"]) if group["name"] in wanted]
        groups += [{"cohort": name, **table["groups"][i]} for i in places]
        for row in table["rows"]:
            rows.setdefault(row["name"], {})[name] = [row["cells"][i] for i in places]
    blank = ["–"] * len(wanted)
    return {
        "groups": groups,
        "rows": [
            {"name": title, "cells": [cell for name in tables for cell in cells.get(name, blank)]}
            for title, cells in rows.items()
        ],
    }


def describe_validation(both: Validation) -> tuple[dict[str, Any], dict[str, bytes], dict[str, Any], pd.DataFrame]:
    """The template's data and figures, what `validation.json` says, and the table of drift."""
    discrimination, calibration = (
        compare_discrimination(both.cohort, both.other, both.hide),
        compare_calibration(both.other),
    )
    table, flagged = measure_drift(both)
    flow, run = count_people(both), both.cohort.headline
    drawn = draw_validation(both, calibration)
    if len(table):
        drawn["drift.svg"] = drift.draw_drift(table)
    data = {
        "simulated": both.simulated,
        "trained_on_simulated": both.cohort.simulated,
        "origin": describe_origin(both.simulated, both.other.headline.splits.index, both.other.acknowledgement),
        "run": run.name,
        "model": model_hash(run),
        "title": run.title,
        "horizon": both.cohort.horizon_months,
        "figures": sorted(drawn),
        "flow": flow,
        "groups": compare_groups(both),
        "said": {
            "well": say_discrimination(discrimination),
            "believable": say_calibration(calibration),
            "alike": say_drift(table, flagged),
        },
        "auc": [
            {"modality": MODALITY_TITLES[row["modality"]]}
            | {
                f"{name}_{key}": text
                for name in ("test", "other")
                for key, text in show_discrimination(row[name]).items()
            }
            for row in discrimination
        ],
        "calibration": [show_calibration(row) for row in calibration],
        "trained": run.metrics.get("labels", {}).get("train_visible", "–"),
    }
    record = {
        "run": run.name,
        "model": model_hash(run),
        "simulated": both.simulated,
        "auc": discrimination,
        "calibration": [record_calibration(row) for row in calibration],
        "out_of_distribution": flagged
        and {name: dict(zip(("flagged", "n"), value, strict=True)) for name, value in flagged.items()},
        "labels": flow["labels"],
        "left_out_of_the_run_s_cohort": flow["known"],
    }
    return data, drawn, record, table


def draw_validation(both: Validation, calibration: list[dict[str, Any]]) -> dict[str, bytes]:
    """ROC curves of the other people, and their calibration as frozen and with the recalibrated intercept."""
    scores = {}
    for modality in MODALITIES:
        rows = labeled_rows(both.other.headline, OTHER, modality)
        converter = rows["converter"].to_numpy(bool)
        if min(converter.sum(), (~converter).sum()) >= SMALLEST_CELL:
            metrics = both.other.headline.metrics
            about = (both.other.headline.name, metrics["method"], metrics["features"])
            scores[modality] = performance.Scores(
                *about, converter, log_odds(rows).to_numpy(), rows[CALIBRATED].to_numpy()
            )
    drawn = {"roc.svg": performance.draw_headline_roc(scores, MODALITY_TITLES)} if scores else {}
    if calibration:
        combined = scores["all"]
        shifted = recalibrate_intercept(combined.converter.astype(int), combined.calibrated)
        drawn["frozen.svg"] = performance.draw_calibration(combined, "other people")
        drawn["shifted.svg"] = performance.draw_calibration(replace(combined, calibrated=shifted), "other people")
    return drawn


def write_validation(
    run_dir: Path, prepared: Path, predictions: pd.DataFrame, known: list[str], out: Path, acknowledgement: str = ""
) -> list[Path]:
    """Write validation.pdf, validation.json and drift.tsv to `out`; arguments as `join`. Returns their paths."""
    data, drawn, record, table = describe_validation(join(run_dir, prepared, predictions, known, acknowledgement))
    paths = [out / "validation.json", out / "drift.tsv"]
    write_text(paths[0], json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_text(paths[1], table.to_csv(sep="\t", index=False, float_format="%.5g"))
    return [typeset("validation", data, drawn, out / "validation.pdf"), *paths]
