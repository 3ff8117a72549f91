"""What a person's answer hangs on, as a run folder holds it: maps of voxels or a list of regions, and how faithful."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from reports import overlays
from reports.figures import GREY, save_svg
from reports.gathering import Cohort
from reports.records import MODALITIES, MODALITY_TITLES
from reports.tables import fixed

HEADLINE = "integratedgradients"
# Against and for conversion. Neither red nor blue, which stand for MRI and PET.
COLORS = LinearSegmentedColormap.from_list("saliency", ("#00695c", "#4db6ac", "#ffffff", "#ffb74d", "#e65100"))
# Weaker than this share of the scale is left uncolored.
SHOWN_SHARE = 0.15
STRONGEST_PERCENTILE = 99.5
LISTED = 10  # regions of a modality; the strongest, where a run has more


def find_saliency(cohort: Cohort, sample_id: str) -> Path | None:
    """The person's folder of maps, of the first run that has one; a new person's lie beside the prepared scans."""
    places = [run.folder for run in cohort.runs]
    places += [cohort.prepared.home(sample_id)] if cohort.prepared is not None else []
    folders = (place / "saliency" / sample_id for place in places)
    return next((folder for folder in folders if (folder / "saliency.json").is_file()), None)


def load_maps(folder: Path, method: str = HEADLINE) -> dict[str, nib.Nifti1Image]:
    """Modality -> map in template space."""
    found = {}
    for modality in MODALITIES[:2]:
        files = sorted(folder.glob(f"*_space-MNI152NLin2009cSym_res-2_mod-{modality}_desc-{method}_saliency.nii.gz"))
        if files:
            found[modality] = overlays.load_map(files[0])
    return found


def strongest(image: nib.Nifti1Image) -> float:
    """The end of a map's color scale: 99.5th percentile of the absolute values; 1 where all are zero."""
    return float(np.percentile(np.abs(image.get_fdata()), STRONGEST_PERCENTILE)) or 1.0


def draw_saliency(maps: dict[str, nib.Nifti1Image]) -> bytes:
    """SVG with one row of four panels, two cuts of each modality: orange speaks for conversion, green against."""
    cuts = overlays.CUTS[: 4 // len(maps)]
    widths = [np.ptp(overlays.EXTENT_MM[overlays.PLANES[cut.plane][1]]) for cut in cuts]
    figure = Figure(figsize=(7.1, 1.95))
    ratios = [*widths, 6, 42] * len(maps)
    grid = figure.add_gridspec(1, len(ratios), width_ratios=ratios, wspace=0.04, left=0, right=1, top=0.85, bottom=0.01)
    for group, (modality, image) in enumerate(maps.items()):
        limit, first = strongest(image), group * (len(cuts) + 2)
        for column, cut in enumerate(cuts):
            axes = figure.add_subplot(grid[0, first + column])
            values = overlays.sample_slice(image, cut, order=1)
            extent = overlays.draw_background(axes, cut)
            hidden = np.ma.masked_where(~(np.abs(values) > SHOWN_SHARE * limit), values)
            drawn = axes.imshow(hidden, origin="lower", extent=extent, cmap=COLORS, vmin=-limit, vmax=limit)
            overlays.finish_panel(axes, cut, extent)
            axes.set_title(overlays.cut_title(cut), fontsize=7.5, color=GREY, pad=3)
            if column == 0:
                place = axes.get_subplotspec().get_position(figure)
                color = overlays.SCALES[modality].colors[1]
                figure.text(place.x0, 0.95, MODALITY_TITLES[modality], fontsize=9, color=color)
        bar = figure.colorbar(drawn, cax=figure.add_subplot(grid[0, first + len(cuts)]))
        bar.set_ticks([-limit, 0, limit])
        bar.set_ticklabels(["against", "0", "for"])
        bar.set_label(f"± {limit:.1g} log-odds/voxel", fontsize=7, labelpad=-16)
        bar.ax.tick_params(labelsize=7, length=2, pad=2)
        bar.outline.set_linewidth(0.4)
    return save_svg(figure, dpi=220)


def load_regions(folder: Path) -> pd.DataFrame:
    """Columns modality feature z baseline_z attribution; empty where the run was on voxels."""
    file = folder / "regions.tsv"
    return pd.read_csv(file, sep="\t") if file.is_file() else pd.DataFrame()


def region_title(feature: str) -> str:
    """hippocampus_volume_per_tiv -> "hippocampus"; precuneus_left_suvr -> "precuneus left"."""
    return re.sub(r"_(volume_per_tiv|volume_ml|suvr)$", "", feature).replace("_", " ")


def draw_regions(table: pd.DataFrame) -> bytes:
    """SVG: a bar for each region, a panel a modality, strongest first; orange speaks for conversion, green against."""
    parts = {m: rows for m in MODALITIES[:2] if len(rows := table[table["modality"] == m])}
    parts = {m: rows.reindex(rows["attribution"].abs().sort_values().index[-LISTED:]) for m, rows in parts.items()}
    limit = float(table["attribution"].abs().max()) or 1.0
    most = max(map(len, parts.values()))
    height = 0.55 + 0.145 * most
    figure = Figure(figsize=(7.1, height))
    for panel, (modality, rows) in enumerate(parts.items()):
        axes = figure.add_axes((0.2 + 0.51 * panel, 0.34 / height, 0.27, 1 - 0.55 / height))
        colors = ["#e65100" if value > 0 else "#00695c" for value in rows["attribution"]]
        axes.barh(range(len(rows)), rows["attribution"], color=colors, height=0.62)
        named = zip(rows["feature"], rows["z"], strict=True)
        names = [f"{region_title(feature)} ({z:+.1f})".replace("-", "−") for feature, z in named]
        axes.set_yticks(range(len(rows)), names, fontsize=7)
        axes.tick_params(axis="y", length=0)
        axes.axvline(0, color=GREY, lw=0.6)
        axes.set(xlim=(-1.1 * limit, 1.1 * limit), ylim=(len(rows) - most - 0.6, len(rows) - 0.4))
        axes.tick_params(axis="x", labelsize=7, length=2, pad=2)
        axes.set_xlabel("log-odds, against (−) and for (+)", fontsize=7.5, labelpad=1)
        axes.set_title(MODALITY_TITLES[modality], fontsize=9, color=overlays.SCALES[modality].colors[1], pad=3)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return save_svg(figure)


def describe_fidelity(record: dict[str, Any]) -> list[dict[str, str]]:
    """A row per modality: completeness error, and deletion and insertion against random order and edges."""
    rows = []
    for modality, values in record["modalities"].items():
        shown = {"modality": MODALITY_TITLES[modality], "error": fixed(values["completeness_error"], 3)}
        shown["effect"] = fixed(values["log_odds"] - values["baseline_log_odds"])
        for kind in ("deletion", "insertion"):
            for name in (HEADLINE, "random", "edges"):
                found = values["fidelity"].get(name)
                shown[f"{kind}_{name}"] = fixed(found[kind]) if found else "–"
        rows.append(shown)
    return rows


def saliency_section(cohort: Cohort, sample_id: str) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """None where nobody computed maps of this person."""
    folder = find_saliency(cohort, sample_id)
    maps, regions = (load_maps(folder), load_regions(folder)) if folder else ({}, pd.DataFrame())
    if not maps and regions.empty:
        return None, {}
    record = json.loads((folder / "saliency.json").read_text(encoding="utf-8"))
    about = {key: record[key] for key in ("run", "baseline", "target", "normalization")}
    data = about | {"figure": "saliency.svg", "rows": describe_fidelity(record), "regions": not maps}
    return data, {"saliency.svg": draw_saliency(maps) if maps else draw_regions(regions)}
