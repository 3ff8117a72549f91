"""The two-page report of one person: what the classifiers say, what was measured, and where it lies in the brain."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports import figures, overlays
from reports.norms import (
    HIPPOCAMPUS,
    MEASURES,
    META_ROI,
    NORM_NAME,
    Measure,
    Norm,
    fit_norms,
    list_covariates,
    list_measurements,
)
from reports.records import (
    AGE_CAP,
    MODALITIES,
    MODALITY_TITLES,
    Prepared,
    Run,
    choose_headline,
    label_budget,
    quality_rows,
)
from reports.tables import describe_adjustments, fixed
from reports.typesetting import typeset

HORIZON_MONTHS = 36
# A report flags a value beyond this percentile of the norm, at the measure's Alzheimer-like end.
FLAGGED_PERCENTILE = 5.0


@dataclass(frozen=True)
class Cohort:
    """All that the reports of one cohort share; `prepared`, `people` and `measurements` are None without its folder."""

    runs: list[Run]
    headline: Run
    prepared: Prepared | None
    people: pd.DataFrame | None
    measurements: pd.DataFrame | None
    norms: dict[str, Norm | None]

    @property
    def simulated(self) -> bool:
        return bool(self.headline.metrics["simulated"])

    @property
    def base_rate(self) -> tuple[float, int] | None:
        """Share of converters among the labels that training and selection knew, and their number."""
        known = label_budget(self.headline)
        return (float((known["label"] == "converter").mean()), len(known)) if len(known) else None


def gather_cohort(runs: list[Run], prepared: Prepared | None) -> Cohort:
    """Choose the headline run and fit the norms. Raises ValueError where simulated and real runs are mixed."""
    if not runs:
        raise ValueError("a report needs at least one run folder; got none")
    if len({bool(run.metrics["simulated"]) for run in runs}) > 1:
        raise ValueError(f"runs mix simulated and real data: {', '.join(run.name for run in runs)}")
    headline = choose_headline(runs)
    if prepared is None:
        return Cohort(runs, headline, None, None, None, {})
    people, measurements = list_covariates(prepared), list_measurements(prepared)
    return Cohort(runs, headline, prepared, people, measurements, fit_norms(measurements, people, headline))


def signed(value: float, decimals: int = 1) -> str:
    """+1.2, −0.3, 0.0; a dash for what is not known."""
    text = fixed(value, decimals)
    return f"+{text}" if value > 0 and float(text) > 0 else text


def show_age(visit: pd.Series) -> str:
    """One decimal, and 89+ for everybody older than 89."""
    if not np.isfinite(visit["age"]):
        return "unknown"
    return f"{AGE_CAP:.0f}+" if visit["over_age_cap"] else f"{visit['age']:.1f}"


def safe_stem(text: str) -> str:
    """A file name for an id: unsafe characters become _, with a hash so that no two ids share a name."""
    cleaned = re.sub(r"[^A-Za-z0-9_-]", "_", text)[:100]
    return cleaned if cleaned == text else f"{cleaned}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def model_hash(run: Run) -> str:
    """First 8 hex digits of the weights' SHA-256, or of the metrics' where a run keeps no weights."""
    weights = run.folder / "weights.safetensors"
    return hashlib.sha256((weights if weights.is_file() else run.folder / "metrics.json").read_bytes()).hexdigest()[:8]


def find_probability(run: Run, sample_id: str, modality: str) -> float | None:
    """Calibrated probability of conversion; None where the modality is absent or the run never saw the person."""
    rows = run.predictions
    row = rows[(rows["sample_id"] == sample_id) & (rows["modality"] == modality)]
    if len(row) != 1 or not row["present"].iloc[0]:
        return None
    value = float(row["p_calibrated_converter"].iloc[0])
    return value if np.isfinite(value) else None


def describe_choice(cohort: Cohort) -> str:
    """One sentence: which classifier the headline comes from, and by which numbers."""
    rivals = [run for run in cohort.runs if run.metrics["method"] == cohort.headline.metrics["method"]]
    values = ", ".join(f"{run.title} {fixed(run.validation_log_loss, 3)}" for run in rivals)
    if len(rivals) == 1:
        return f"Headline: {values} (validation log-loss), the only classifier of this method."
    return f"Headline: {cohort.headline.title}, chosen by the lower validation log-loss ({values})."


def _withheld(cohort: Cohort, sample_id: str, quality: list[dict[str, Any]]) -> str | None:
    if cohort.prepared is None or cohort.prepared.visits.at[sample_id, "qc"].lower() != "fail":
        return None
    failed = [row for row in quality if row["verdict"] == "fail"]
    reasons = "; ".join(_describe_check(row) for row in failed)
    return reasons or "the manifest marks this visit as failed and gives no further reason"


def probability_section(
    cohort: Cohort, sample_id: str, withheld: str | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The probability of each modality that is there, with the notes that say how to read it."""
    if withheld:
        return {"withheld": withheld, "figure": None, "notes": [], "rows": []}, {}
    rows = []
    for modality in MODALITIES:
        value = find_probability(cohort.headline, sample_id, modality)
        others = [find_probability(run, sample_id, modality) for run in cohort.runs if run is not cohort.headline]
        if value is not None:
            shown = tuple(p for p in others if p is not None)
            rows.append(figures.ProbabilityRow(modality, MODALITY_TITLES[modality], value, shown))
    absent = [m for m in MODALITIES[:2] if m not in {row.modality for row in rows}]
    if absent:  # the combined prediction then rests on the other modality alone
        rows = [
            r if r.modality != "all" else figures.ProbabilityRow("all", "combined", r.value, r.others) for r in rows
        ]
    base = cohort.base_rate
    labels, n = cohort.headline.metrics.get("labels", {}), cohort.headline.splits["split"].value_counts()
    split = cohort.headline.splits["split"].get(sample_id, "")
    notes = [f"{describe_choice(cohort)} {describe_adjustments([cohort.headline])}"]
    if len(cohort.runs) > 1:
        notes.append(
            "Hollow dots: the other runs for the same person. They show disagreement, not a confidence interval."
        )
    notes.append(
        f"Trained with {labels.get('train_visible', '?')} visible labels of {n.get('train', 0)} training subjects; "
        f"chosen and calibrated on {labels.get('validation', '?')} labeled validation subjects."
    )
    if base:
        notes.append(f"Base rate {100 * base[0]:.0f} %: share of converters among those {base[1]} labels.")
    if split in ("train", "validation"):
        notes.append(f"This person belongs to the {split} split: the probability is likely to flatter the classifier.")
    data = {
        "withheld": None,
        "figure": "probabilities.svg" if rows else None,
        "rows": [{"title": row.title, "percent": f"{100 * row.value:.0f}"} for row in rows],
        "missing": [MODALITY_TITLES[m] for m in absent] if rows else [],
        "notes": notes,
    }
    return data, {"probabilities.svg": figures.draw_probabilities(rows, base[0] if base else None)} if rows else {}


def measurement_rows(cohort: Cohort, sample_id: str) -> list[dict[str, Any]]:
    """One row per measure; z and percentile are dashes where the norm or the person's covariates are missing."""
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
                "z": signed(z),
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
    splits = cohort.headline.splits
    training = cohort.people.index.intersection(splits.index[splits["split"] == "train"])
    group = cohort.people.loc[training].assign(value=values).dropna()
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
    if visit["kind"] != "raw":
        return {"note": "Prepared on the grid, without scans of its own: no registration QC.", "rows": []}
    rows = [{"verdict": row["verdict"], "text": _describe_check(row)} for row in quality]
    return {"note": "" if rows else "QC numbers are missing for this visit.", "rows": rows}


def _describe_check(row: dict[str, Any]) -> str:
    """name value (limit): the limit of a pass, or the one that made it fail."""
    limits, value = row["threshold"], row["value"]
    comparison = "≥" if limits["warn"] >= limits["fail"] else "≤"
    limit = limits["fail" if row["verdict"] == "fail" else "warn"]
    shown = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{row['name'].replace('_', ' ')} {shown} ({comparison} {limit:g})"


def _shorten(text: str, longest: int = 40) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def header(cohort: Cohort, sample_id: str) -> list[dict[str, str]]:
    visit = cohort.prepared.visits.loc[sample_id]
    same = cohort.prepared.visits["participant_id"] == visit["participant_id"]
    sessions = ", ".join(cohort.prepared.visits.loc[same, "session_id"])
    entries = {
        "Subject": _shorten(visit["participant_id"]),
        "Visit": visit["session_id"] if same.sum() == 1 else f"{visit['session_id']} (of {sessions})",
        "Age (years)": show_age(visit),
        "Sex": visit["sex"] or "unknown",
        "Site": visit["site"] or "unknown",
        "TIV (mL)": fixed(visit["tiv_ml"], 0),
        "Prepared from": "raw scans" if visit["kind"] == "raw" else "maps on the grid",
    }
    return [{"name": name, "value": value} for name, value in entries.items()]


def overlay_section(cohort: Cohort, sample_id: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    rows, missing = [], []
    for modality in MODALITIES[:2]:
        path = cohort.prepared.volume(sample_id, modality)
        if path is None or not path.is_file():
            missing.append(MODALITY_TITLES[modality])
        else:
            rows.append((MODALITY_TITLES[modality], modality, overlays.load_map(path)))
    if not rows:
        return {"figure": None, "missing": missing}, {}
    return {"figure": "overlays.svg", "missing": missing}, {"overlays.svg": overlays.draw_overlays(rows)}


def describe_subject(cohort: Cohort, sample_id: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The data and figures of a subject's report. Raises KeyError where neither manifest nor run knows the person."""
    identity = {
        "simulated": cohort.simulated,
        "horizon": HORIZON_MONTHS,
        "run": cohort.headline.name,
        "tcgm": cohort.headline.metrics["method"] == "tcgm",
    }
    identity |= {"model": model_hash(cohort.headline), "sample_id": sample_id}
    if cohort.prepared is None:
        if sample_id not in cohort.headline.splits.index:
            raise KeyError(f"{sample_id} is in neither run nor manifest")
        probability, drawn = probability_section(cohort, sample_id, None)
        entries = [{"name": "Subject and visit", "value": sample_id}]
        return identity | {"header": entries, "prepared": False, "probability": probability}, drawn
    if sample_id not in cohort.prepared.visits.index:
        raise KeyError(f"{sample_id} is not in {cohort.prepared.root / 'manifest.tsv'}")
    quality = quality_rows(cohort.prepared, sample_id)
    withheld = _withheld(cohort, sample_id, quality)
    probability, drawn = probability_section(cohort, sample_id, withheld)
    overlay, maps = overlay_section(cohort, sample_id)
    choices = ((HIPPOCAMPUS, figures.RED), (META_ROI, figures.BLUE))
    curves = [curve for measure, color in choices if (curve := norm_curve(cohort, sample_id, measure, color))]
    if curves:
        drawn["curves.svg"] = figures.draw_norm_curves(curves)
    data = identity | {
        "prepared": True,
        "header": header(cohort, sample_id),
        "quality": quality_section(cohort, sample_id, quality),
        "probability": probability,
        "measurements": measurement_rows(cohort, sample_id),
        "norm": NORM_NAME,
        "curves": "curves.svg" if curves else None,
        "overlays": overlay,
    }
    return data, drawn | maps


def write_subject(cohort: Cohort, sample_id: str, destination: Path) -> Path:
    """Write `<destination>/<sample id>.pdf` and return its path."""
    data, drawn = describe_subject(cohort, sample_id)
    return typeset("subject", data, drawn, destination / f"{safe_stem(sample_id)}.pdf")
