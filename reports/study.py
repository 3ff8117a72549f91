"""The report of a study: methods x label rates x seeds, from the tables in its folder alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from adni_tcgm.files import whole_file, write_text
from reports.figures import GREY, INK, STYLE, save_svg
from reports.records import describe_origin
from reports.tables import describe_adjustment
from reports.typesetting import typeset

ALL = "all"
METRIC_TITLES = {
    "accuracy": "accuracy (%)",
    "balanced_accuracy": "balanced accuracy (%)",
    "auc": "AUC",
    "log_loss": "log-loss",
}
PERCENT = ("accuracy", "balanced_accuracy")
LOWER_IS_BETTER = ("log_loss",)
# Okabe and Ito's palette without its yellow, which is too light for lines; the reference is drawn in ink. Markers
# differ too, so that nothing hangs on color alone.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5230", "#888888")
AMBER = "#a86400"
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">")
METHOD_TITLES = {
    "tcgm": "TCGM",
    "ce": "CE",
    "vat": "VAT",
    "soft_hgr": "Soft-HGR",
    "pvcc": "PVCC",
    "lmf": "LMF",
    "pairwise": "pairwise gain",
    "freematch": "FreeMatch",
    "mean_teacher": "mean teacher",
    "mmatch": "MMatch",
    "stil": "STiL",
}


@dataclass(frozen=True)
class Study:
    """The tables of a study's folder as they are in their files; `tuning` and `failures` may be empty."""

    about: dict[str, Any]
    table: pd.DataFrame
    differences: pd.DataFrame
    tuning: pd.DataFrame
    failures: pd.DataFrame
    sample_ids: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        return self.about["metric"]

    @property
    def modalities(self) -> list[str]:
        """In the order of the table, the combined prediction last."""
        return [*(m for m in dict.fromkeys(self.table["modality"]) if m != ALL), ALL]

    @property
    def panels(self) -> list[str]:
        """What the plot shows: the configured choice among the modalities, or all of them."""
        return [m for m in self.about.get("panels", []) if m in self.modalities] or self.modalities

    def cell(self, method: str, label_rate: float, modality: str) -> pd.Series | None:
        """mean, std and n of the study's metric; None where no run gave one."""
        table = self.table
        rows = table[
            (table["method"] == method)
            & (table["label_rate"] == label_rate)
            & (table["modality"] == modality)
            & (table["metric"] == self.metric)
        ]
        return rows.iloc[0] if len(rows) else None


def load_study(folder: Path) -> Study:
    """Raises FileNotFoundError where the folder holds no study."""
    folder = Path(folder)
    for name in ("study.json", "table.tsv"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is not a finished study: it has no {name}")
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return Study(
        about=about,
        table=_read_table(folder / "table.tsv"),
        differences=_read_table(folder / "differences.tsv"),
        tuning=_read_table(folder / "tuning.tsv") if about["tuned"] else pd.DataFrame(),
        failures=_read_table(folder / "failures.tsv"),
        sample_ids=_read_sample_ids(folder),
    )


def _read_sample_ids(folder: Path) -> tuple[str, ...]:
    """Of the first run that the study's folder still has."""
    file = next(iter(sorted(folder.glob("runs/**/splits.tsv"))), None)
    return () if file is None else tuple(_read_table(file)["sample_id"])


def _read_table(file: Path) -> pd.DataFrame:
    """Empty where there is no such file. Names stay text: a modality may be called NA, a method 1."""
    if not file.is_file():
        return pd.DataFrame()
    table = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)
    text = ("dataset", "method", "modality", "metric", "reference", "verdict", "chosen", "reason", "run", "failure")
    text += ("sample_id", "group_id", "split", "label", "label_visible")
    for column in table.columns.difference(list(text)):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    return table


def write_study_report(folder: Path) -> Path:
    """Write `table.md`, `plot.png`, `plot.svg` and `study.pdf` beside the tables of a study; the path of the PDF."""
    folder = Path(folder)
    study = load_study(folder)
    write_text(folder / "table.md", write_markdown(study))
    # Letters as shapes: these two are looked at where our fonts are not.
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 8}):
        for name in ("plot.png", "plot.svg"):
            metadata = {"Date": None} if name.endswith("svg") else {}
            with whole_file(folder / name) as partial:
                draw_label_rates(study).savefig(partial, dpi=200, metadata=metadata)
    with matplotlib.rc_context(STYLE):
        drawn = {"plot.svg": save_svg(draw_label_rates(study))}
    return typeset("study", describe_study(study), drawn, folder / "study.pdf")


def method_title(name: str) -> str:
    """A method, and after a comma how it began."""
    method, *rest = name.split(", ")
    return ", ".join([METHOD_TITLES.get(method, method), *rest])


def fixed(value: float | None, metric: str, sign: bool = False) -> str:
    """A value of that metric as text: percent with one decimal, or three decimals; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    shown = f"{100 * value:{'+' if sign else ''}.1f}" if metric in PERCENT else f"{value:{'+' if sign else ''}.3f}"
    return shown.replace("-", "−")


def show_cell(study: Study, method: str, label_rate: float, modality: str) -> str:
    """ "88.0 ± 2.1"; the number of seeds behind it where some are missing."""
    cell = study.cell(method, label_rate, modality)
    if cell is None:
        return "–"
    spread = f" ± {fixed(cell['std'], study.metric)}" if math.isfinite(cell["std"]) else ""
    seeds = f" (n = {cell['n']:.0f})" if cell["n"] < len(study.about["seeds"]) else ""
    return f"{fixed(cell['mean'], study.metric)}{spread}{seeds}"


def _count_seeds(study: Study) -> str:
    count = len(study.about["seeds"])
    return f"{count} seed{'s' if count > 1 else ''}"


def best_method(study: Study, label_rate: float, modality: str) -> str | None:
    """The method with the best mean of a column."""
    cells = {m: study.cell(m, label_rate, modality) for m in study.about["methods"]}
    means = {method: cell["mean"] for method, cell in cells.items() if cell is not None}
    if not means:
        return None
    return (min if study.metric in LOWER_IS_BETTER else max)(means, key=means.get)


def describe_budget(entry: dict[str, Any]) -> str:
    """The labels that training and selection knew, in words."""
    if entry["train_visible"] is None:
        return "no run has finished"
    shown = {key: _span(entry[key]) for key in ("train_visible", "n_train", "validation", "n_test")}
    others = "no other label" if shown["validation"] == "0" else f"{shown['validation']} labeled validation samples"
    return (
        f"{shown['train_visible']} visible labels among {shown['n_train']} training samples and {others}; "
        f"{shown['n_test']} test samples"
    )


def _span(bounds: list[int]) -> str:
    low, high = bounds
    return str(low) if low == high else f"{low} to {high}"


def write_markdown(study: Study) -> str:
    """One table per label rate, methods in rows and modalities in columns, and the differences."""
    about, lines = study.about, [f"# Study {study.about['name']}", ""]
    if about["simulated"]:
        lines += ["**SIMULATED data.**", ""]
    lines += [f"Test {METRIC_TITLES[study.metric]}, mean ± standard deviation over {_count_seeds(study)}.", ""]
    if about["brains"]:
        lines += [_adjustment(study), ""]
    for entry in about["budget"]:
        rate = entry["label_rate"]
        lines += [f"## Label rate {100 * rate:g} %", "", f"Label budget: {describe_budget(entry)}.", ""]
        lines += _markdown_table(
            ["method", *study.modalities],
            [[method_title(m), *(show_cell(study, m, rate, k) for k in study.modalities)] for m in about["methods"]],
        )
    rows = list_differences(study)
    if rows:
        lines += ["## Paired differences on all modalities", ""]
        lines += _markdown_table(
            ["label rate", "difference", "estimate (95 %)", "p (Holm)", "verdict"],
            [[row[k] for k in ("label_rate", "difference", "estimate", "p", "verdict")] for row in rows],
        )
    return "\n".join(lines)


def _adjustment(study: Study) -> str:
    """What was done about sites and covariates; a study of anything but brains has neither."""
    about = study.about
    return describe_adjustment(about["features"], about.get("adjustment", {})) if about["brains"] else ""


def _markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[text.replace("|", "\\|") for text in row] for row in (header, ["---"] * len(header), *rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def list_differences(study: Study) -> list[dict[str, str]]:
    rows = []
    for row in study.differences.itertuples():
        low, high = fixed(row.low, row.metric, sign=True), fixed(row.high, row.metric, sign=True)
        reference = method_title(row.reference)
        rows.append(
            {
                "label_rate": f"{100 * row.label_rate:g} %",
                "difference": f"{reference} − {method_title(row.method)}",
                "estimate": f"{fixed(row.estimate, row.metric, sign=True)} ({low} to {high})",
                "p": "< .001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}",
                "verdict": row.verdict.replace(row.reference, reference, 1),
                "seeds": str(int(row.seeds)),
            }
        )
    return rows


def describe_study(study: Study) -> dict[str, Any]:
    """The data of the template."""
    about, n_runs = study.about, study.about["runs"]
    tables = []
    for entry in about["budget"]:
        rate = entry["label_rate"]
        best = {k: best_method(study, rate, k) for k in study.modalities}
        rows = [
            {
                "method": method_title(method) + (" †" if method in about["not_trained"] else ""),
                "cells": [
                    {"text": show_cell(study, method, rate, k), "best": best[k] == method} for k in study.modalities
                ],
            }
            for method in about["methods"]
        ]
        title = METRIC_TITLES[study.metric]
        title = title[0].upper() + title[1:]
        tables.append({"title": title, "label_rate": f"{100 * rate:g}", "budget": describe_budget(entry), "rows": rows})
    return {
        "name": about["name"],
        "dataset": about["dataset"],
        "simulated": about["simulated"],
        "brains": about["brains"],
        "origin": describe_origin(about["simulated"], study.sample_ids),
        "adjustment": _adjustment(study),
        "validated": any(max(entry["validation"] or [0]) > 0 for entry in about["budget"]),
        "classes": [str(name) for name in about["classes"]],
        "methods": [method_title(method) for method in about["methods"]],
        "seeds": _count_seeds(study),
        "metric": METRIC_TITLES[study.metric],
        "when": about["when"],
        "modalities": study.modalities,
        "tables": tables,
        "not_trained": [method_title(method) for method in about["not_trained"]],
        "differences": list_differences(study),
        "reference": method_title(about["reference"]),
        "tuning": _list_tuning(study.tuning),
        "tuning_rate": "" if study.tuning.empty else f"{100 * study.tuning['label_rate'].iloc[0]:g}",
        "failures": [{"run": row.run, "reason": row.reason} for row in study.failures.itertuples()],
        "finished": f"{n_runs['finished']} of {n_runs['planned']}",
    }


def _list_tuning(tuning: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each pair of rates: mean loss over the seeds in which it trained, and in how many it was chosen."""
    rows = []
    if tuning.empty:
        return rows
    for (method, labeled, unlabeled), pairs in tuning.groupby(["method", "lr_labeled", "lr_unlabeled"], sort=False):
        loss, chosen = pairs["validation_log_loss"].mean(), int((pairs["chosen"] == "yes").sum())
        rows.append(
            {
                "method": method_title(method),
                "lr_labeled": f"{labeled:g}",
                "lr_unlabeled": f"{unlabeled:g}",
                "loss": "failed" if math.isnan(loss) else f"{loss:.3f}",
                "chosen": f"{chosen} of {len(pairs)}" if chosen else "",
            }
        )
    return rows


def line_styles(study: Study) -> dict[str, dict[str, Any]]:
    """method -> how its line looks: the reference dark and thick, the others in colors of their own."""
    others = [method for method in study.about["methods"] if method != study.about["reference"]]
    styles = {study.about["reference"]: {"color": INK, "marker": "o", "lw": 1.8, "ms": 5, "zorder": 5}}
    for place, method in enumerate(others):
        color, marker = COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)]
        # Past the palette's end, dashes tell two lines of one color apart.
        dashes = "-" if place < len(COLORS) else (0, (4, 1.5))
        styles[method] = {"color": color, "marker": marker, "lw": 1.1, "ms": 4, "ls": dashes}
    return {method: styles[method] for method in study.about["methods"] if method in styles}


def draw_label_rates(study: Study) -> Figure:
    """The metric against the label rate, a panel per modality and a line per method; bars: ± one standard deviation."""
    shown, styles = study.panels, line_styles(study)
    columns = len(shown) if len(shown) <= 4 else 3
    rows = math.ceil(len(shown) / columns)
    legend_rows = math.ceil(len(styles) / 5)
    below, height = 0.72 + 0.2 * legend_rows, 2.0
    figure = Figure(figsize=(7.1, rows * (height + 0.45) + below))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for panel, modality in zip(axes, shown, strict=False):
        draw_panel(panel, study, modality, styles)
        panel.set_title(modality_title(modality), loc="left", weight="bold")
    for panel in list(axes)[len(shown) :]:
        panel.set_visible(False)
    label_figure(figure, study, styles, columns, below)
    return figure


def modality_title(name: str) -> str:
    return "all modalities" if name == ALL else name


def draw_panel(panel: Axes, study: Study, modality: str, styles: dict[str, dict[str, Any]]) -> None:
    """One modality of a study: a line for each method, label rates side by side."""
    rates = study.about["label_rates"]
    factor = 100 if study.metric in PERCENT else 1
    for place, (method, style) in enumerate(styles.items()):
        cells = [(x, study.cell(method, rate, modality)) for x, rate in enumerate(rates)]
        points = [(x, cell["mean"], cell["std"]) for x, cell in cells if cell is not None]
        if not points:
            continue
        # Side by side: bars drawn on one another could not be told apart.
        shift = (place - (len(styles) - 1) / 2) * 0.5 / len(styles)
        panel.errorbar(
            [x + shift for x, _, _ in points],
            [factor * mean for _, mean, _ in points],
            yerr=[0 if math.isnan(std) else factor * std for _, _, std in points],
            elinewidth=0.7,
            mec="white",
            mew=0.5,
            **style,
        )
    panel.set(xlim=(-0.5, len(rates) - 0.5), xticks=range(len(rates)))
    panel.set_xticklabels([_tick(entry) for entry in study.about["budget"]])
    panel.grid(axis="y", color="#e4e4e4", lw=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(length=2.5)


def _tick(budget: dict[str, Any]) -> str:
    visible = budget["train_visible"]
    return f"{100 * budget['label_rate']:g} %" + (f"\n({_span(visible)})" if visible else "")


def label_figure(figure: Figure, study: Study, styles: dict[str, dict], columns: int, below: float) -> None:
    """Axis titles, the label budget, SIMULATED where it is so, and the legend."""
    height = figure.get_figheight()
    for panel in figure.axes[::columns]:
        panel.set_ylabel(METRIC_TITLES[study.metric])
    frame = {"left": 0.095, "right": 0.99, "top": 1 - 0.25 / height, "bottom": below / height}
    figure.subplots_adjust(**frame, wspace=0.1, hspace=0.35)
    validation = [count for entry in study.about["budget"] for count in entry["validation"] or ()]
    others = f"{_span([min(validation), max(validation)])} of validation" if max(validation) else "no label"
    budget = f"label rate (visible training labels; besides them, {others})"
    figure.text(0.53, (below - 0.56) / height, budget, ha="center", color=GREY)
    if study.about["simulated"]:
        figure.text(0.99, (below - 0.56) / height, "SIMULATED", ha="right", weight="bold", color=AMBER)
    handles = [Line2D([], [], label=method_title(method), **style) for method, style in styles.items()]
    # Bottom left corner of the legend at the bottom of the figure, in as many columns as there are at most.
    figure.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.53, 0), ncol=min(5, len(styles)), frameon=False
    )
