"""A person's probability of conversion: calibrated, with its interval, at a prevalence, and what stands against it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from adni_tcgm.evaluation.calibration import probability_intervals, shift_prevalence
from adni_tcgm.evaluation.out_of_distribution import FLAGGED_SHARE, score_out_of_distribution
from reports import figures
from reports.gathering import Cohort
from reports.norms import MEASURES
from reports.records import MODALITIES, MODALITY_TITLES, Run, list_posteriors
from reports.tables import describe_adjustments, fixed


def find_probability(run: Run, sample_id: str, modality: str) -> float | None:
    """Calibrated probability of conversion; None where the modality is absent or the run never saw the person."""
    rows = run.predictions
    row = rows[(rows["sample_id"] == sample_id) & (rows["modality"] == modality)]
    if len(row) != 1 or not row["present"].iloc[0]:
        return None
    value = float(row["p_calibrated_converter"].iloc[0])
    return value if np.isfinite(value) else None


def find_intervals(cohort: Cohort, sample_id: str) -> dict[str, tuple[float, float]]:
    """Modality -> 95 % interval of the headline run's probability over the calibrations that the labels leave open.

    The probability itself is in it: where a calibration may only soften, what the labels leave open may lie beyond.
    """
    rows = cohort.headline.predictions
    rows = rows[rows["sample_id"] == sample_id]
    if not cohort.calibrations or rows.empty:
        return {}
    found = list_posteriors(cohort.headline, rows)
    limits = probability_intervals(cohort.calibrations, found.log, found.present)
    intervals = {}
    for name, values in limits.items():
        shown = find_probability(cohort.headline, sample_id, name)
        ends = [*values[0, 1], *([] if shown is None else [shown])]
        intervals[name] = float(min(ends)), float(max(ends))
    return intervals


def is_calibrated(run: Run) -> bool:
    """Whether every rescaling that the run kept was fitted on labeled people."""
    rescalings = run.calibration.get("rescalings", {})
    return bool(rescalings) and all(entry.get("samples", 0) > 0 for entry in rescalings.values())


def describe_choice(cohort: Cohort) -> str:
    """One sentence: which classifier the headline comes from, and by which numbers."""
    rivals = [run for run in cohort.runs if run.metrics["method"] == cohort.headline.metrics["method"]]
    if cohort.headline.austere:
        why = "regions before voxels, as fixed beforehand" if len(rivals) > 1 else "the only classifier of this method"
        return f"Headline: {cohort.headline.title}, {why}."
    values = ", ".join(f"{run.title} {fixed(run.validation_log_loss, 3)}" for run in rivals)
    if len(rivals) == 1:
        return f"Headline: {values} (validation log-loss), the only classifier of this method."
    return f"Headline: {cohort.headline.title}, chosen by the lower validation log-loss ({values})."


def tabulate_likeness(measurements: pd.DataFrame, people: pd.DataFrame) -> pd.DataFrame:
    """Sample id × what a person's likeness to the training people is measured by: measurements, age and head size."""
    keys = [(measure.key, "both") for measure in MEASURES if not measure.per_tiv]
    table = measurements[keys].set_axis([measure for measure, _ in keys], axis=1)
    return table.assign(age=people["age"], tiv_ml=people["tiv_ml"])


def describe_out_of_distribution(cohort: Cohort, sample_id: str) -> dict[str, Any] | None:
    """How far out among the training people the person's age, head size and regional measurements lie."""
    if cohort.prepared is None or sample_id not in cohort.people.index:
        return None
    table = tabulate_likeness(cohort.measurements, cohort.people)
    splits = cohort.headline.splits
    training = table.index.intersection(splits.index[splits["split"] == "train"]).difference([sample_id])
    found = score_out_of_distribution(table.loc[training].to_numpy(float), table.loc[sample_id].to_numpy(float))
    if found is None:
        return None
    where = f"further out than {100 * found.share:.0f} % of {found.n} training people"
    return {"flagged": found.flagged, "text": f"{where} (Mahalanobis; flagged from {100 * FLAGGED_SHARE:.0f} %)"}


def restate(cohort: Cohort, rows: list[figures.ProbabilityRow]) -> str | None:
    """The same evidence at the prevalence that the reader states; None where none was stated."""
    if cohort.prevalence is None or cohort.base_rate is None or not rows or not 0 < cohort.base_rate[0] < 1:
        return None
    shifted = [
        f"{row.title} {100 * float(shift_prevalence(row.value, cohort.base_rate[0], cohort.prevalence)):.0f} %"
        for row in rows
    ]
    base, stated = 100 * cohort.base_rate[0], 100 * cohort.prevalence
    return f"At a prevalence of {stated:.0f} % instead of {base:.0f} %, the same evidence means: {', '.join(shifted)}."


def _rows(cohort: Cohort, sample_id: str) -> list[figures.ProbabilityRow]:
    intervals, rows = find_intervals(cohort, sample_id), []
    for modality in MODALITIES:
        value = find_probability(cohort.headline, sample_id, modality)
        others = [find_probability(run, sample_id, modality) for run in cohort.runs if run is not cohort.headline]
        if value is not None:
            shown = tuple(p for p in others if p is not None)
            limits = intervals.get(modality)
            rows.append(figures.ProbabilityRow(modality, MODALITY_TITLES[modality], value, shown, limits))
    if len(rows) == 2 and rows[-1].modality == "all":  # it then rests on the one modality that is there
        last = rows[-1]
        rows[-1] = figures.ProbabilityRow("all", "combined", last.value, last.others, last.limits)
    return rows


def _people(run: Run) -> str:
    if run.austere:
        return (
            f"the {run.metrics['calibration']['samples']} with a visible label, each predicted by a model without them"
        )
    return "of validation"


def is_of_other_site(cohort: Cohort, sample_id: str) -> bool:
    """Whether the headline run took sites out of the measurements, but not this person's."""
    adjustment = cohort.headline.adjustment
    groups = adjustment.get("groups")
    if not groups or cohort.prepared is None or sample_id not in cohort.prepared.visits.index:
        return False
    return cohort.prepared.visits.at[sample_id, "site"].strip() not in groups


def _first_note(cohort: Cohort, sample_id: str) -> str:
    """What the figure's marks are, and what would flatter the number."""
    notes = []
    if cohort.calibrations:
        notes.append(f"Line: 95 % interval of the calibration ({_people(cohort.headline)}).")
    if len(cohort.runs) > 1:
        notes.append("Hollow: the other runs, which show disagreement and no interval.")
    if cohort.base_rate:
        notes.append("Base rate: this cohort's, by its design.")
    split = cohort.headline.splits["split"].get(sample_id, "")
    if split == "train" or (split == "validation" and not cohort.headline.austere):
        notes.append(f"This person belongs to the {split} split: the probability is likely to flatter the classifier.")
    return " ".join(notes)


def _notes(cohort: Cohort, sample_id: str) -> list[str]:
    base, headline = cohort.base_rate, cohort.headline
    labels, n = headline.metrics.get("labels", {}), headline.splits["split"].value_counts()
    notes = [f"{describe_choice(cohort)} {describe_adjustments([headline])}"]
    if cohort.calibrations:
        notes.append("Another training could give another probability: the interval leaves that out.")
    notes.append(
        f"Trained with {labels.get('train_visible', '?')} visible labels of {n.get('train', 0)} training subjects; "
        f"{headline.calibrated_on}."
    )
    if base:
        notes.append(
            f"Base rate {100 * base[0]:.0f} %: share of converters among those {base[1]} labels, a choice of this "
            "cohort's design and not of yours."
        )
    if is_of_other_site(cohort, sample_id):
        notes.append(
            "This person's site is in no group that had enough training people: nothing was taken out of the "
            "measurements for its scanner."
        )
    return notes


def probability_section(
    cohort: Cohort, sample_id: str, withheld: str | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The probability of each modality that is there, with the notes that say how to read it."""
    if withheld:
        return {"withheld": withheld, "figure": None, "notes": [], "rows": [], "out_of_distribution": None}, {}
    rows = _rows(cohort, sample_id)
    absent = [m for m in MODALITIES[:2] if m not in {row.modality for row in rows}]
    data = {
        "withheld": None,
        "figure": "probabilities.svg" if rows else None,
        "rows": [{"title": row.title, "percent": f"{100 * row.value:.0f}"} for row in rows],
        "missing": [MODALITY_TITLES[m] for m in absent] if rows else [],
        "calibrated": is_calibrated(cohort.headline),
        "out_of_distribution": describe_out_of_distribution(cohort, sample_id) if rows else None,
        "restated": restate(cohort, rows),
        "first-note": _first_note(cohort, sample_id),
        "notes": _notes(cohort, sample_id),
    }
    base = cohort.base_rate
    return data, {"probabilities.svg": figures.draw_probabilities(rows, base[0] if base else None)} if rows else {}
