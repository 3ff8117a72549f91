"""The two-page report of one person: what the classifiers say, what was measured, and where it lies in the brain."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports import figures, overlays
from reports.carried import carried_section
from reports.changes import list_changes
from reports.gathering import Cohort
from reports.norms import HIPPOCAMPUS, MEASURES, META_ROI, Measure, asymmetry
from reports.own_scan import draw_own_scan, find_own_scan
from reports.probability import probability_section
from reports.quality import contour_pictures, override_notes, quality_rows
from reports.records import (
    AGE_CAP,
    MODALITIES,
    MODALITY_TITLES,
    Run,
)
from reports.response import describe_response
from reports.saliency import saliency_section
from reports.tables import fixed, signed
from reports.typesetting import typeset

# A report flags a value beyond this percentile of the norm, at the measure's Alzheimer-like end.
FLAGGED_PERCENTILE = 5.0

DAYS_A_MONTH = 30.44
# Shown even where they pass: whether each scan lies where it should.
TELLING_CHECKS = ("brain_dice", "t1_correlation", "pet_correlation", "misfit_mm")


def show_age(visit: pd.Series) -> str:
    """One decimal, and 89+ for everybody older than 89."""
    if not np.isfinite(visit["age"]):
        return "unknown"
    return f"{AGE_CAP:.0f}+" if visit["over_age_cap"] else f"{visit['age']:.1f}"


def show_interval(days: float) -> str:
    """same day, 19 days, 7 months; unknown where nobody says."""
    if not np.isfinite(days):
        return "unknown"
    if days < 1:
        return "same day"
    if days >= 92:
        return f"{days / DAYS_A_MONTH:.0f} months"
    return "1 day" if round(days) == 1 else f"{days:.0f} days"


def safe_stem(text: str) -> str:
    """A file name for an id: unsafe characters become _, with a hash so that no two ids share a name."""
    cleaned = re.sub(r"[^A-Za-z0-9_-]", "_", text)[:100]
    return cleaned if cleaned == text else f"{cleaned}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def model_hash(run: Run) -> str:
    """First 8 hex digits of the weights' SHA-256, or of the metrics' where a run keeps no weights."""
    weights = run.folder / "weights.safetensors"
    return hashlib.sha256((weights if weights.is_file() else run.folder / "metrics.json").read_bytes()).hexdigest()[:8]


def _withheld(cohort: Cohort, sample_id: str, quality: list[dict[str, Any]]) -> str | None:
    if cohort.prepared is None or cohort.prepared.visits.at[sample_id, "qc"].lower() != "fail":
        return None
    failed = [row for row in quality if row["verdict"] == "fail"]
    reasons = "; ".join([*override_notes(cohort.prepared, sample_id), *(_describe_check(row) for row in failed)])
    return reasons or "the manifest marks this visit as failed and gives no further reason"


def measurement_rows(cohort: Cohort, sample_id: str) -> list[dict[str, Any]]:
    """One row per measure. z only against a norm; z and percentile are dashes where the comparison or the person's
    covariates are missing."""
    person, rows = cohort.people.loc[[sample_id]], []
    for measure in MEASURES:
        sides = {s: float(cohort.measurements.at[sample_id, (measure.key, s)]) for s in ("left", "right", "both")}
        norm, z, percentile = cohort.norms[measure.key], float("nan"), float("nan")
        if norm is not None and np.isfinite(sides["both"]) and person[list(norm.covariates)].notna().all(axis=None):
            z, percentile = norm.place(sides["both"], person)
        toward = percentile if measure.low else 100 - percentile
        rows.append(
            {
                "title": measure.title,
                **{side: fixed(value, measure.decimals) for side, value in sides.items()},
                "asymmetry": signed(asymmetry(sides["left"], sides["right"])),
                "z": signed(z) if cohort.reference.norm else "–",
                "percentile": fixed(percentile, 0),
                "n": str(norm.n) if norm else "–",
                "flagged": bool(toward < FLAGGED_PERCENTILE),
                "modality": "pet" if measure.column == "suvr" else "mri",
            }
        )
    return rows


def norm_curve(cohort: Cohort, sample_id: str, measure: Measure, color: str) -> figures.NormCurve | None:
    """The norm at this person's sex and head size; None where value, norm or covariates are missing."""
    norm, person = cohort.norms[measure.key], cohort.people.loc[[sample_id]]
    values = cohort.measurements[(measure.key, "both")]
    if norm is None or not np.isfinite(values[sample_id]) or person.isna().any(axis=None):
        return None
    members = cohort.people.index.intersection(cohort.reference.sample_ids)
    group = cohort.people.loc[members].assign(value=values).dropna()
    alike = group.assign(male=person["male"].iloc[0], tiv_ml=person["tiv_ml"].iloc[0])
    ages = np.linspace(group["age"].min(), group["age"].max(), 50)
    grid = pd.DataFrame({"age": ages, "male": person["male"].iloc[0], "tiv_ml": person["tiv_ml"].iloc[0]})
    return figures.NormCurve(
        title=measure.title,
        color=color,
        ages=group["age"].to_numpy(),
        adjusted=group["value"].to_numpy() - norm.expect(group) + norm.expect(alike),
        grid=ages,
        expected=norm.expect(grid),
        residuals=norm.residuals,
        age=float(person["age"].iloc[0]),
        value=float(values[sample_id]),
    )


def quality_section(cohort: Cohort, sample_id: str, quality: list[dict[str, Any]]) -> dict[str, Any]:
    visit = cohort.prepared.visits.loc[sample_id]
    said = "".join(f" Overridden: {note}." for note in override_notes(cohort.prepared, sample_id))
    if visit["kind"] != "raw":
        return {"note": f"Prepared on the grid, without scans of its own: no registration QC.{said}", "rows": []}
    if not quality:
        return {"note": f"QC numbers are missing for this visit.{said}", "rows": []}
    passed = sum(row["verdict"] == "pass" for row in quality)
    shown = [row for row in quality if row["verdict"] != "pass" or row["name"] in TELLING_CHECKS]
    return {
        "note": f"{passed} of {len(quality)} checks passed; all, with pictures: qc.html of the prepared folder.{said}",
        "rows": [{"verdict": row["verdict"], "text": _describe_check(row)} for row in shown],
    }


def _describe_check(row: dict[str, Any]) -> str:
    """name value (limit): the limit of a pass, or the one that made it fail."""
    limits, value = row["threshold"], row["value"]
    comparison = "≥" if limits["warn"] >= limits["fail"] else "≤"
    limit = limits["fail" if row["verdict"] == "fail" else "warn"]
    shown = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if not np.isfinite(value):
        shown = "not measurable"
    return f"{row['name'].replace('_', ' ')} {shown} ({comparison} {limit:g})"


def _shorten(text: str, longest: int = 40) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def header(cohort: Cohort, sample_id: str) -> list[dict[str, str]]:
    visit = cohort.prepared.visits.loc[sample_id]
    same = cohort.prepared.visits["participant_id"] == visit["participant_id"]
    sessions = ", ".join(cohort.prepared.visits.loc[same, "session_id"])
    entries = {
        "Subject": _shorten(cohort.show_participant(visit["participant_id"])),
        "Visit": visit["session_id"] if same.sum() == 1 else f"{visit['session_id']} (of {sessions})",
        "Age (years)": show_age(visit),
        "Sex": visit["sex"] or "unknown",
        "Site": visit["site"] or "unknown",
        "TIV (mL)": fixed(visit["tiv_ml"], 0),
        "Prepared from": "raw scans" if visit["kind"] == "raw" else "maps on the grid",
        "Field strength": f"{visit['field_strength_t']:g} T" if visit["field_strength_t"] > 0 else "unknown",
        "Tracer": (visit["tracer"] or "unknown") if visit["pet_path"] else "no PET",
        "MRI to PET": show_interval(visit["days_between"]) if visit["pet_path"] else "no PET",
        "Trained in": cohort.headline.month or "unknown",
    }
    return [{"name": name, "value": value} for name, value in entries.items()]


def overlay_section(cohort: Cohort, sample_id: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Deficits against the norm first, the plain maps after them."""
    plain, deficits, missing = [], [], []
    for modality in MODALITIES[:2]:
        path = cohort.prepared.volume(sample_id, modality)
        if path is None or not path.is_file():
            missing.append(MODALITY_TITLES[modality])
            continue
        image, norm = overlays.load_map(path), cohort.voxel_norms[modality]
        plain.append((MODALITY_TITLES[modality], modality, image))
        z = norm.deficit(image, cohort.people.loc[[sample_id]]) if norm else None
        if z is not None:
            deficits.append((MODALITY_TITLES[modality], f"{modality}_deficit", z))
    data: dict[str, Any] = {"figure": None, "deficits": None, "missing": missing}
    drawn = {}
    if plain:
        # One scan alone has all cuts in one line; beside each other, two have the coronal ones.
        draw = overlays.draw_side_by_side if len(plain) > 1 else overlays.draw_overlays
        data["figure"], drawn["overlays.svg"] = "overlays.svg", draw(plain)
    if deficits:
        data["deficits"], drawn["deficits.svg"] = "deficits.svg", overlays.draw_overlays(deficits)
    counts = {m: norm.n for m, norm in cohort.voxel_norms.items() if norm}
    data["norm_n"] = ", ".join(f"{MODALITY_TITLES[m]} {n}" for m, n in counts.items())
    return data, drawn


def own_scan_section(cohort: Cohort, sample_id: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The T1 as scanned with its hippocampi; what is said instead where there is none."""
    scan = find_own_scan(cohort.prepared, sample_id)
    if scan is not None:
        return {"figure": "own.svg", "note": "", "pet": scan.pet is not None}, {"own.svg": draw_own_scan(scan)}
    raw = cohort.prepared.visits.at[sample_id, "kind"] == "raw"
    note = "The prepared folder holds no picture of the T1 as scanned" if raw else "This person came as prepared maps"
    note += ": there is no scan of their own to show, and the figures below lie on the template."
    return {"figure": None, "note": note, "pet": False}, {}


def describe_subject(cohort: Cohort, sample_id: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The data and figures of a subject's report. Raises KeyError where neither manifest nor run knows the person."""
    identity = {
        "simulated": cohort.simulated,
        "origin": cohort.origin,
        "horizon": cohort.horizon_months,
        "suvr_reference": cohort.reference_region,
        "run": cohort.headline.name,
        "tcgm": cohort.headline.metrics["method"] == "tcgm",
    }
    identity |= {"model": model_hash(cohort.headline), "sample_id": cohort.show_sample(sample_id)}
    identity["guest"] = cohort.prepared is not None and sample_id in cohort.prepared.elsewhere
    if cohort.prepared is None:
        if sample_id not in cohort.headline.splits.index:
            raise KeyError(f"{sample_id} is in neither run nor manifest")
        probability, drawn = probability_section(cohort, sample_id, None)
        entries = [{"name": "Subject and visit", "value": cohort.show_sample(sample_id)}]
        carried, bars = carried_section(cohort, sample_id)
        data = {"header": entries, "prepared": False, "probability": probability, "carried": carried}
        return identity | data, drawn | bars
    if sample_id not in cohort.prepared.visits.index:
        raise KeyError(f"{sample_id} is not in {cohort.prepared.root / 'manifest.tsv'}")
    quality = quality_rows(cohort.prepared, sample_id)
    withheld = _withheld(cohort, sample_id, quality)
    probability, drawn = probability_section(cohort, sample_id, withheld)
    overlay, maps = overlay_section(cohort, sample_id)
    own, own_drawn = own_scan_section(cohort, sample_id)
    contours = {f"contours-{name}.png": drawn for name, drawn in contour_pictures(cohort.prepared, sample_id).items()}
    shown, saliency_maps = (None, {}) if withheld else saliency_section(cohort, sample_id)
    carried, bars = (None, {}) if withheld else carried_section(cohort, sample_id)
    choices = ((HIPPOCAMPUS, figures.RED), (META_ROI, figures.BLUE))
    curves = [curve for measure, color in choices if (curve := norm_curve(cohort, sample_id, measure, color))]
    if curves:
        drawn["curves.svg"] = figures.draw_norm_curves(curves)
    data = identity | {
        "prepared": True,
        "header": header(cohort, sample_id),
        "quality": quality_section(cohort, sample_id, quality),
        "probability": probability,
        # Without a PET, no lines of dashes: the page says that it is missing.
        "measurements": [row for row in measurement_rows(cohort, sample_id) if row["both"] != "–"],
        "norm": {"name": cohort.reference.name, "is_norm": cohort.reference.norm},
        "changes": list_changes(cohort, sample_id),
        "response": describe_response(cohort.prepared, sample_id),
        "carried": carried,
        "own": own,
        "curves": "curves.svg" if curves else None,
        "overlays": overlay,
        "contours": sorted(contours),
        "saliency": shown,
    }
    return data, drawn | maps | contours | saliency_maps | own_drawn | bars


def write_subject(cohort: Cohort, sample_id: str, destination: Path) -> Path:
    """Write `<destination>/<sample id or pseudonym>.pdf` and return its path."""
    data, drawn = describe_subject(cohort, sample_id)
    return typeset("subject", data, drawn, destination / f"{safe_stem(cohort.show_sample(sample_id))}.pdf")
