"""Figures of how well classifiers do on a cohort: ROC, precision-recall, calibration, AUCs, net benefit."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.figures import GREY, INK, MODALITY_COLORS, STYLE, save_svg
from reports.intervals import reliability, roc_curve

LONGEST_NAME = 44  # characters of a name beside the AUC figure


def _diagonal(axes: Axes, title: str, x: str, y: str) -> None:
    axes.plot([0, 1], [0, 1], color="#bbbbbb", lw=0.7, ls=(0, (3, 2)))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
    axes.set_title(title, loc="left", fontsize=9.5, weight="bold")
    axes.set_xlabel(x, fontsize=8, labelpad=1)
    axes.set_ylabel(y, fontsize=8, labelpad=1)
    axes.tick_params(labelsize=7.5, length=2.5)


@dataclass(frozen=True)
class Scores:
    """Test predictions of one run in one modality: converter (n,) bool, calibrated log odds and probability."""

    run: str
    method: str
    features: str
    converter: np.ndarray
    log_odds: np.ndarray
    calibrated: np.ndarray


def line_style(method: str, features: str) -> dict:
    """TCGM is drawn dark and others lighter; regions are dashed."""
    return {"alpha": 1.0 if method == "tcgm" else 0.45, "ls": "-" if features == "voxels" else (0, (4, 1.5)), "lw": 1.2}


def draw_roc(scores: dict[str, list[Scores]], titles: dict[str, str], headline: str) -> bytes:
    """ROC curves, a panel per modality and a line per run, and the headline run's calibration on the test split."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.1, 2.15))
        for index, (modality, runs) in enumerate(scores.items()):
            axes = figure.add_axes((0.045 + 0.247 * index, 0.27, 0.195, 0.65))
            _diagonal(axes, titles[modality], "1 − specificity", "sensitivity")
            for run in runs:
                style = line_style(run.method, run.features)
                axes.plot(*roc_curve(run.converter, run.log_odds), color=MODALITY_COLORS[modality], **style)
        axes = figure.add_axes((0.795, 0.27, 0.195, 0.65))
        _diagonal(axes, "Calibration", "predicted", "observed")
        for run in scores.get("all", []):
            if run.run == headline:
                predicted, observed, size = reliability(run.converter, run.calibrated)
                error = 1.96 * np.sqrt(np.maximum(observed * (1 - observed), 0.25 / size) / size)
                axes.errorbar(predicted, observed, yerr=error, fmt="o", color=INK, ms=4, lw=0.8)
        keys = {(run.method, run.features): run.run for runs in scores.values() for run in runs}
        lines = [Line2D([], [], color=INK, **line_style(*key)) for key in keys]
        labels = [f"{method.upper()}, {features}" for method, features in keys]
        figure.legend(
            lines, labels, loc="lower left", bbox_to_anchor=(0.035, -0.02), ncols=4, frameon=False, fontsize=8
        )
        return save_svg(figure)


@dataclass(frozen=True)
class ForestRow:
    """One line of the AUC figure; `low` and `high` may be None (no interval), `kind` is run, baseline or bayes."""

    title: str
    modality: str
    kind: str
    auc: float
    low: float | None = None
    high: float | None = None


def _split_budget(title: str) -> tuple[str, str]:
    """ "linear SVM (labels: visible)" -> the name and "visible"."""
    name, _, budget = title.rpartition(" (labels: ")
    return (name, budget.rstrip(")")) if name else (title, "")


def _shorten(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _draw_forest_rows(axes: Axes, rows: list[ForestRow], names: list[str], modality: str) -> None:
    for row in rows:
        if row.kind == "bayes":
            axes.axvline(row.auc, color="#444444", lw=0.9, ls=":")
            continue
        y = len(names) - 1 - names.index(row.title)
        color = MODALITY_COLORS[modality] if row.kind == "run" else "#767676"
        if row.low is not None:
            axes.hlines(y, row.low, row.high, color=color, lw=1.0)
        axes.plot(row.auc, y, "o" if row.kind == "run" else "D", color=color, ms=4.5 if row.kind == "run" else 3.5)
    axes.axvline(0.5, color="#cccccc", lw=0.7, zorder=0)
    axes.set(xlim=(0.3, 1), ylim=(-0.6, len(names) - 0.4), yticks=[], xticks=[0.5, 0.75, 1])
    axes.tick_params(labelsize=7.5, length=2.5)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("AUC", fontsize=8, labelpad=1)


def draw_forest(rows: list[ForestRow], modalities: dict[str, str]) -> bytes:
    """AUC of every run and baseline, a panel per modality, with 95 % intervals; dotted: Bayes."""
    names = list(dict.fromkeys(row.title for row in rows if row.kind != "bayes"))
    kinds = {row.title: row.kind for row in rows}
    with matplotlib.rc_context(STYLE):
        height = 0.62 + 0.175 * len(names)
        figure = Figure(figsize=(7.1, height))
        for index, (modality, title) in enumerate(modalities.items()):
            axes = figure.add_axes((0.455 + 0.183 * index, 0.36 / height, 0.158, 1 - 0.62 / height))
            axes.set_title(title, fontsize=9, weight="bold", color=MODALITY_COLORS[modality], pad=3)
            _draw_forest_rows(axes, [row for row in rows if row.modality == modality], names, modality)
            if index == 0:
                for position, title in enumerate(reversed(names)):
                    name, budget = _split_budget(title)
                    weight = "bold" if kinds[title] == "run" else "normal"
                    x = figure.transFigure.transform((0, 0))[0]
                    place = axes.transData.transform((0, position))[1]
                    y = figure.transFigure.inverted().transform((x, place))[1]
                    figure.text(0.0, y, _shorten(name), va="center", fontsize=8, weight=weight)
                    figure.text(0.335, y, budget, va="center", fontsize=8, color=GREY)
        figure.text(0.335, 1 - 0.17 / height, "labels", va="center", fontsize=8, color=GREY)
        return save_svg(figure)


def draw_small_forest(rows: list[ForestRow]) -> bytes:
    """AUCs of one modality with their intervals, names on the left: for half a page's width."""
    names = list(dict.fromkeys(row.title for row in rows if row.kind != "bayes"))
    kinds = {row.title: row.kind for row in rows}
    with matplotlib.rc_context(STYLE):
        height = 0.36 + 0.138 * len(names)
        figure = Figure(figsize=(4.1, height))
        axes = figure.add_axes((0.6, 0.31 / height, 0.37, 1 - 0.33 / height))
        _draw_forest_rows(axes, rows, names, "all")
        axes.tick_params(pad=1)
        for position, title in enumerate(reversed(names)):
            name, budget = _split_budget(title)
            words = _shorten(name) + (f" · {budget}" if budget else "")
            weight = "bold" if kinds[title] == "run" and title.endswith("(headline)") else "normal"
            axes.text(0.28, position, words, ha="right", va="center", fontsize=7.5, weight=weight)
        return save_svg(figure)


def draw_headline_roc(scores: dict[str, Scores], titles: dict[str, str]) -> bytes:
    """ROC curves of one run, a line per modality."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.1, 1.75))
        axes = figure.add_axes((0.1, 0.2, 0.36, 0.78))
        _diagonal(axes, "", "1 − specificity", "sensitivity")
        for modality, run in scores.items():
            width = 1.8 if modality == "all" else 1.0
            dash = {"mri": (0, (4, 1.5)), "pet": (0, (1, 1)), "all": "-"}[modality]
            curve = roc_curve(run.converter, run.log_odds)
            axes.plot(*curve, color=MODALITY_COLORS[modality], lw=width, ls=dash, label=titles[modality])
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.08, 0.5))
        return save_svg(figure)


def draw_calibration(run: Scores, people: str = "test people") -> bytes:
    """Observed share against the predicted one in five groups, beside the number of people at each probability."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.1, 1.75))
        axes = figure.add_axes((0.1, 0.2, 0.36, 0.78))
        _diagonal(axes, "", "predicted", "observed")
        predicted, observed, size = reliability(run.converter, run.calibrated)
        error = 1.96 * np.sqrt(np.maximum(observed * (1 - observed), 0.25 / size) / size)
        axes.errorbar(predicted, observed, yerr=error, fmt="o", color=INK, ms=4, lw=0.8)
        below = figure.add_axes((0.6, 0.2, 0.38, 0.56))
        bins = np.linspace(0, 1, 11)
        parts = [run.calibrated[~run.converter], run.calibrated[run.converter]]
        below.hist(parts, bins=bins, stacked=True, color=["#b8b8b8", INK], label=["stable", "converter"], rwidth=0.9)
        below.set(xlim=(0, 1), xticks=[0, 0.5, 1])
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        below.tick_params(labelsize=7.5, length=2.5)
        below.set_xlabel("predicted", fontsize=8, labelpad=1)
        below.set_title(people, loc="left", fontsize=8, pad=17)
        below.legend(frameon=False, fontsize=7.5, loc="lower left", bbox_to_anchor=(0, 0.98), ncols=2, borderpad=0)
        return save_svg(figure)


def draw_precision_recall(scores: dict[str, list[Scores]], titles: dict[str, str]) -> bytes:
    """Precision over recall, a panel per modality and a line per run; dashed: the share of converters."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.1, 1.95))
        for index, (modality, runs) in enumerate(scores.items()):
            axes = figure.add_axes((0.05 + 0.33 * index, 0.22, 0.215, 0.66))
            for run in runs:
                if not run.converter.any():
                    continue
                order = np.argsort(-run.log_odds, kind="stable")
                hits, called = np.cumsum(run.converter[order]), np.arange(1, len(order) + 1)
                last = np.append(np.diff(run.log_odds[order]) != 0, True)
                style = line_style(run.method, run.features)
                curve = (hits / run.converter.sum())[last], (hits / called)[last]
                axes.plot(*curve, color=MODALITY_COLORS[modality], drawstyle="steps-post", **style)
                axes.axhline(run.converter.mean(), color="#bbbbbb", lw=0.7, ls=(0, (3, 2)))
            axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
            axes.set_title(titles[modality], loc="left", fontsize=9.5, weight="bold")
            axes.set_xlabel("recall", fontsize=8, labelpad=1)
            axes.set_ylabel("precision", fontsize=8, labelpad=1)
            axes.tick_params(labelsize=7.5, length=2.5)
        return save_svg(figure)


def draw_decision(thresholds: np.ndarray, curves: dict[str, np.ndarray]) -> bytes:
    """Net benefit over thresholds; the first curve is the classifier, the others are what it has to beat."""
    styles = ({"color": INK, "lw": 1.6}, {"color": GREY, "lw": 1.0, "ls": (0, (4, 2))}, {"color": "#b0b0b0", "lw": 1.0})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.45, 2.3))
        axes = figure.add_axes((0.15, 0.19, 0.82, 0.67))
        for (name, values), style in zip(curves.items(), styles, strict=True):
            axes.plot(thresholds, values, label=name, **style)
        highest = max(values.max() for values in curves.values())
        axes.set(xlim=(0, thresholds[-1]), ylim=(-0.1, max(highest, 0.05) * 1.15))
        axes.set_title("Decision curve", loc="left", fontsize=9.5, weight="bold")
        axes.set_xlabel("threshold probability", fontsize=8, labelpad=1)
        axes.set_ylabel("net benefit", fontsize=8, labelpad=1)
        axes.tick_params(labelsize=7.5, length=2.5)
        axes.legend(frameon=False, fontsize=7.5, loc="upper right")
        return save_svg(figure)
