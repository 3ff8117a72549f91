"""What a person's answer hangs on, as a run folder holds it: maps of voxels or a list of regions, and how faithful."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from reports import overlays, own_scan
from reports.figures import GREY, STYLE, save_svg
from reports.gathering import Cohort
from reports.mosaic import Bar, Row, draw_blocks
from reports.own_scan import OwnScan, find_own_scan
from reports.records import MODALITIES, MODALITY_TITLES
from reports.tables import fixed

HEADLINE = "integratedgradients"
TEMPLATE = "MNI152NLin2009cSym_res-2"
# Against and for conversion. Neither red nor blue, which stand for MRI and PET.
COLORS = LinearSegmentedColormap.from_list("saliency", ("#00695c", "#4db6ac", "#ffffff", "#ffb74d", "#e65100"))
# Weaker than this share of the scale is left uncolored.
SHOWN_SHARE = 0.15
STRONGEST_PERCENTILE = 99.5
DIM = 420.0  # gray value that would be white: the T1 stays behind what lies on it
REGIONS = "regions.tsv"


def find_saliency(cohort: Cohort, sample_id: str) -> Path | None:
    """The person's folder of maps of the run behind the printed probability; a new person's lie beside their scans."""
    places = [cohort.headline.folder]
    places += [cohort.prepared.home(sample_id)] if cohort.prepared is not None else []
    folders = (place / "saliency" / sample_id for place in places)
    return next((folder for folder in folders if (folder / "saliency.json").is_file()), None)


def load_maps(folder: Path, method: str = HEADLINE, space: str = TEMPLATE) -> dict[str, nib.Nifti1Image]:
    """Modality -> map in template space, or on the person's own T1 (space "T1w")."""
    found = {}
    for modality in MODALITIES[:2]:
        files = sorted(folder.glob(f"*_space-{space}_mod-{modality}_desc-{method}_saliency.nii.gz"))
        if files:
            found[modality] = overlays.load_map(files[0])
    return found


def strongest(image: nib.Nifti1Image) -> float:
    """The end of a map's color scale: 99.5th percentile of the absolute values; 1 where all are zero."""
    return float(np.percentile(np.abs(image.get_fdata()), STRONGEST_PERCENTILE)) or 1.0


def _bar(limit: float) -> Bar:
    ticks = ((-limit, "against"), (0.0, "0"), (limit, "for"))
    return Bar(COLORS, (-limit, limit), ticks, f"± {limit:.1g} log-odds\nper voxel".replace("e-0", "e−"))


def draw_saliency(maps: dict[str, nib.Nifti1Image]) -> bytes:
    """SVG of two cuts of the template for each modality: orange speaks for conversion, green against."""
    rows = []
    for modality, image in maps.items():
        limit = strongest(image)
        panels = []
        for cut in overlays.CUTS[:2]:
            values = overlays.sample_slice(image, cut, order=1)
            shown = np.where(np.abs(values) > SHOWN_SHARE * limit, values, np.nan)
            panels.append(overlays.panel_of(cut, shown, COLORS, (-limit, limit), overlays.cut_title(cut)))
        rows.append(Row(MODALITY_TITLES[modality], overlays.SCALES[modality].colors[1], panels, _bar(limit)))
    return draw_blocks(rows)


def draw_on_own_scan(maps: dict[str, nib.Nifti1Image], scan: OwnScan, limits: dict[str, float]) -> bytes:
    """SVG: the coronal and the axial plane through the hippocampi for each modality, on the T1 as scanned.

    limits: modality -> end of the color scale, that of the template's map.
    """
    planes = [where for where in own_scan.choose_slices(scan.hippocampi) if where.axis]
    rows = []
    for modality, image in maps.items():
        limit = limits[modality]
        over = own_scan.Over(image, COLORS, (-limit, limit), SHOWN_SHARE * limit)
        panels = [own_scan.plane(scan, where, over, brightest=DIM) for where in planes]
        rows.append(Row(MODALITY_TITLES[modality], overlays.SCALES[modality].colors[1], panels, _bar(limit)))
    return draw_blocks(rows)


def load_regions(folder: Path) -> pd.DataFrame:
    """Columns modality feature z baseline_z attribution; empty where the run was on voxels."""
    file = folder / REGIONS
    return pd.read_csv(file, sep="\t") if file.is_file() else pd.DataFrame()


def region_title(feature: str) -> str:
    """hippocampus_volume_per_tiv -> "hippocampus"; precuneus_left_suvr -> "precuneus left"."""
    return re.sub(r"_(volume_per_tiv|volume_ml|suvr)$", "", feature).replace("_", " ")


def draw_regions(table: pd.DataFrame, listed: int) -> bytes:
    """SVG: a bar for each of the `listed` strongest of a modality, a panel a modality; orange speaks for conversion,
    green against. table: columns modality, name, attribution."""
    parts = {m: rows for m in MODALITIES[:2] if len(rows := table[table["modality"] == m])}
    parts = {m: rows.loc[rows["attribution"].abs().sort_values().index[-listed:]] for m, rows in parts.items()}
    limit = max(float(rows["attribution"].abs().max()) for rows in parts.values()) or 1.0
    most = max(map(len, parts.values()))
    height = 0.5 + 0.15 * most
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.1, height))
        for panel, (modality, rows) in enumerate(parts.items()):
            axes = figure.add_axes((0.26 + 0.51 * panel, 0.3 / height, 0.22, 1 - 0.5 / height))
            colors = ["#c74600" if value > 0 else "#00695c" for value in rows["attribution"]]
            axes.barh(range(len(rows)), rows["attribution"], color=colors, height=0.62)
            axes.set_yticks(range(len(rows)), rows["name"], fontsize=8)
            axes.tick_params(axis="y", length=0)
            axes.axvline(0, color=GREY, lw=0.6)
            axes.set(xlim=(-1.1 * limit, 1.1 * limit), ylim=(len(rows) - most - 0.6, len(rows) - 0.4))
            axes.tick_params(axis="x", labelsize=7.5, length=2, pad=2)
            axes.set_xlabel("log-odds: against (−), for (+)", fontsize=8, labelpad=1)
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
    """Maps of a network on voxels; None where nobody computed any. Of measurements `carried` tells all."""
    folder = find_saliency(cohort, sample_id)
    maps = load_maps(folder) if folder else {}
    if not maps:
        return None, {}
    record = json.loads((folder / "saliency.json").read_text(encoding="utf-8"))
    about = {key: record[key] for key in ("run", "baseline", "target", "normalization")}
    rows = describe_fidelity(record) if any(part["fidelity"] for part in record["modalities"].values()) else []
    data = about | {"figure": "saliency.svg", "rows": rows, "own": None}
    drawn = {"saliency.svg": draw_saliency(maps)}
    own, scan = load_maps(folder, space="T1w"), find_own_scan(cohort.prepared, sample_id) if cohort.prepared else None
    if own and scan is not None:
        limits = {name: strongest(image) for name, image in maps.items()}
        data["own"], drawn["saliency-own.svg"] = "saliency-own.svg", draw_on_own_scan(own, scan, limits)
    return data, drawn
