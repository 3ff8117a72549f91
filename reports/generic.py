"""The report of runs on anything but brains: metrics, confusion, what modalities agree on, how training went."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from adni_tcgm.files import verify_checksums
from reports.figures import GREY, INK, STYLE, save_svg
from reports.intervals import accuracy_interval
from reports.records import describe_calibration
from reports.study import COLORS, MARKERS, method_title
from reports.tables import fixed
from reports.typesetting import show_missing_glyphs, typeset

# Beyond this many classes the numbers of a confusion matrix no longer fit their cells.
MOST_NUMBERED = 12


@dataclass(frozen=True)
class GenericRun:
    """One fit on any data; `predictions` has one row per sample and modality."""

    folder: Path
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    history: pd.DataFrame
    classes: list[str]

    @property
    def title(self) -> str:
        return f"{method_title(self.metrics['method'])}, {100 * self.metrics['label_rate']:g} %, {self.metrics['seed']}"

    @property
    def modalities(self) -> list[str]:
        return list(dict.fromkeys(self.predictions["modality"]))

    def chosen(self, modality: str) -> pd.DataFrame:
        """Labeled test samples that have the modality: `label` and `choice`, by sample id."""
        rows = self.predictions
        rows = rows[(rows["split"] == "test") & (rows["modality"] == modality) & rows["present"]]
        rows = rows[rows["label"] != ""].set_index("sample_id")
        values = rows[[f"log_p_calibrated_{name}" for name in self.classes]].to_numpy(float)
        choice = np.array(self.classes, dtype=object)[values.argmax(1)] if len(rows) else []
        return pd.DataFrame({"label": rows["label"], "choice": choice}, index=rows.index)


def is_generic(folder: Path) -> bool:
    """Whether a finished run is on something else than brains."""
    file = Path(folder) / "metrics.json"
    return file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("features") is None


def load_generic(folder: Path) -> GenericRun:
    """Read a run folder. Raises FileNotFoundError where no run was finished, ValueError where a file has changed."""
    folder = Path(folder).resolve()
    if not (folder / "metrics.json").is_file():
        raise FileNotFoundError(f"{folder} is not a finished run: it has no metrics.json")
    verify_checksums(folder)
    predictions = pd.read_csv(folder / "predictions.tsv", sep="\t", dtype=str, keep_default_na=False)
    columns = [name for name in predictions.columns if name.startswith(("p_", "log_p_"))]
    classes = [name[2:] for name in columns if f"log_p_calibrated_{name[2:]}" in columns]
    predictions[columns] = predictions[columns].astype(float)
    predictions["present"] = predictions["present"].str.lower() == "true"
    history = folder / "history.tsv"
    return GenericRun(
        folder=folder,
        metrics=json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        predictions=predictions,
        history=pd.read_csv(history, sep="\t") if history.is_file() else pd.DataFrame(),
        classes=classes,
    )


def _title(modality: str) -> str:
    return "all modalities" if modality == "all" else modality


def tabulate_run(run: GenericRun) -> list[dict[str, str]]:
    """A row per modality: accuracy with its interval, and the metrics before and after calibration."""
    rows = []
    for modality in run.modalities:
        table = run.chosen(modality)
        limits = accuracy_interval((table["label"] == table["choice"]).to_numpy(bool))
        shown = run.metrics["test"].get(modality) or {}
        raw = run.metrics.get("test_uncalibrated", {}).get(modality) or {}
        interval = f" ({fixed(limits[0], 3)} to {fixed(limits[1], 3)})" if limits else ""
        rows.append(
            {
                "modality": _title(modality),
                "n": str(len(table)),
                "accuracy": fixed(shown.get("accuracy"), 3) + interval,
                "balanced_accuracy": fixed(shown.get("balanced_accuracy"), 3),
                "auc": fixed(shown.get("auc"), 3),
                "log_loss": f"{fixed(raw.get('log_loss'), 3)} → {fixed(shown.get('log_loss'), 3)}",
                "brier": f"{fixed(raw.get('brier'), 3)} → {fixed(shown.get('brier'), 3)}",
            }
        )
    return rows


def tabulate_agreement(run: GenericRun) -> list[dict[str, str]]:
    """Pairs of modalities on the test samples that have both: same choice, kappa, and who is right alone."""
    rows = []
    for first, second in combinations([m for m in run.modalities if m != "all"], 2):
        both = run.chosen(first).join(run.chosen(second), lsuffix="_1", rsuffix="_2", how="inner")
        if both.empty:
            continue
        right = [both[f"choice_{i}"] == both["label_1"] for i in (1, 2)]
        # Kappa has no value where both always choose one and the same class.
        several = both[["choice_1", "choice_2"]].stack().nunique() > 1
        kappa = cohen_kappa_score(both["choice_1"], both["choice_2"]) if several else None
        rows.append(
            {
                "pair": f"{first}, {second}",
                "n": str(len(both)),
                "same": f"{100 * (both['choice_1'] == both['choice_2']).mean():.0f} %",
                "kappa": fixed(kappa),
                "first": str(int((right[0] & ~right[1]).sum())),
                "second": str(int((right[1] & ~right[0]).sum())),
                "neither": str(int((~right[0] & ~right[1]).sum())),
            }
        )
    return rows


def draw_confusion(run: GenericRun) -> bytes:
    """Row: true class; column: choice of the combined prediction; the color is the share of the row."""
    table = run.chosen("all")
    counts = confusion_matrix(table["label"], table["choice"], labels=run.classes)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    with matplotlib.rc_context(STYLE):
        size = min(6.0, 1.6 + 0.32 * len(run.classes))
        figure = Figure(figsize=(size + 1.6, size))
        axes = figure.add_subplot()
        drawn = axes.imshow(share, cmap="Greys", vmin=0, vmax=1)
        names = [show_missing_glyphs(name if len(name) <= 22 else f"{name[:21]}…") for name in run.classes]
        places = range(len(names))
        axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=7.5)
        axes.set_yticks(places, names, fontsize=7.5)
        axes.set_xlabel("chosen", fontsize=8)
        axes.set_ylabel("true", fontsize=8)
        if len(names) <= MOST_NUMBERED:
            for (row, column), count in np.ndenumerate(counts):
                color = "white" if share[row, column] > 0.55 else INK
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=color)
        bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.04)
        bar.set_label("share of the true class", fontsize=8)
        bar.ax.tick_params(labelsize=7.5, length=2)
        figure.tight_layout()
        return save_svg(figure)


def draw_history(run: GenericRun) -> bytes | None:
    """Gain and validation log-loss over steps; None where the method records none."""
    history = run.history
    panels = [("gain", "total correlation gain (nats)"), ("validation_loss", "validation log-loss")]
    panels = [(key, title) for key, title in panels if key in history and history[key].notna().sum() > 1]
    if not panels:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.1, 2.2))
        for axes, (key, title) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
            axes.plot(history["round"], history[key], color=INK, lw=1.3)
            best = history["validation_loss"].idxmin() if history["validation_loss"].notna().any() else None
            if best is not None:
                axes.axvline(history.loc[best, "round"], color=GREY, lw=0.8, ls=(0, (3, 2)))
            axes.set_title(title, loc="left", fontsize=9.5, weight="bold")
            axes.set_xlabel("step", fontsize=8, labelpad=1)
            axes.tick_params(labelsize=7.5, length=2.5)
        figure.tight_layout()
        return save_svg(figure)


def draw_label_rates(runs: list[GenericRun]) -> bytes | None:
    """Test accuracy of the combined prediction against the label rate, mean and runs; None with a single rate."""
    table = pd.DataFrame(
        [
            (run.metrics["method"], run.metrics["label_rate"], 100 * run.metrics["test"]["all"]["accuracy"])
            for run in runs
        ],
        columns=["method", "rate", "accuracy"],
    )
    if table["rate"].nunique() < 2:
        return None
    rates = sorted(table["rate"].unique())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.1, 2.5))
        axes = figure.add_subplot()
        for index, (method, rows) in enumerate(table.groupby("method", sort=False)):
            style = {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}
            mean = rows.groupby("rate")["accuracy"].mean()
            axes.plot(
                [rates.index(rate) for rate in mean.index], mean, lw=1.3, ms=5, label=method_title(method), **style
            )
            axes.plot([rates.index(rate) for rate in rows["rate"]], rows["accuracy"], "_", color=style["color"], ms=6)
        axes.set_xticks(range(len(rates)), [f"{100 * rate:g} %" for rate in rates])
        axes.set_xlabel("label rate", fontsize=8)
        axes.set_ylabel("test accuracy (%)", fontsize=8)
        axes.tick_params(labelsize=7.5, length=2.5)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.tight_layout()
        return save_svg(figure)


def describe_generic(runs: list[GenericRun]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Data and figures. Raises ValueError where the runs are not of one data set."""
    datasets = sorted({run.metrics["dataset"] for run in runs})
    if len(datasets) != 1:
        raise ValueError(f"runs of {len(datasets)} data sets: {', '.join(datasets)}; a report is about one")
    drawn: dict[str, bytes] = {}
    sections = []
    for index, run in enumerate(runs):
        figures = {"confusion": draw_confusion(run), "history": draw_history(run)}
        names = {key: f"{key}-{index}.svg" if content else None for key, content in figures.items()}
        drawn |= {names[key]: content for key, content in figures.items() if content}
        labels = run.metrics["labels"]
        sections.append(
            {
                "name": run.folder.name,
                "title": run.title,
                "method": method_title(run.metrics["method"]),
                "rate": f"{100 * run.metrics['label_rate']:g}",
                "seed": str(run.metrics["seed"]),
                "labels": {"train_visible": str(labels["train_visible"])},
                "calibrated_on": describe_calibration(run.metrics),
                "n": {key: str(value) for key, value in run.metrics["n"].items()},
                "metrics": tabulate_run(run),
                "agreement": tabulate_agreement(run),
                **names,
            }
        )
    curve = draw_label_rates(runs)
    if curve:
        drawn["rates.svg"] = curve
    simulated = any(run.metrics["simulated"] for run in runs)
    about = {"dataset": datasets[0], "simulated": simulated, "classes": runs[0].classes, "rates": curve is not None}
    return about | {"runs": sections}, drawn


def write_generic(run_dirs: list[Path], destination: Path) -> Path:
    """Write `<destination>/<data set>.pdf` and return its path."""
    data, drawn = describe_generic([load_generic(folder) for folder in run_dirs])
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in data["dataset"])
    return typeset("generic", data, drawn, Path(destination) / f"{name}.pdf")
