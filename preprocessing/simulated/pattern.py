"""Regional values of one person: how severity, age, and what else varies show in volumes and in uptake.

Nothing is rendered here, so that whole cohorts of regional values are drawn in a second. Changes are natural
logarithms relative to the mean of normal people; see `preprocessing.simulated.disease` for where loadings come from.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from preprocessing.simulated import healthy
from preprocessing.simulated.disease import MODALITIES, SUBTYPES, SUMMARY, VARIANCE, VENTRICLES, draw_disease
from preprocessing.simulated.people import Person

STAGES = {"mri": 1, "pet": 2}


def regional_changes(person: Person, modality: str) -> dict[tuple[str, str], float]:
    """Log change of every (region, side) of this person; `modality` is "mri" or "pet"."""
    disease = draw_disease(person.disease_seed)
    shown, rng = disease.expressions[modality], person.rng(STAGES[modality])
    loading = shown.ad_loading if person.group == "dementia" else shown.loading
    amount = getattr(person, f"severity_{modality}") - disease.center("normal", modality)
    count, part = len(shown.regions), {name: np.sqrt(share) for name, share in VARIANCE.items()}
    signs = np.array([1.0 if r in VENTRICLES else -1.0 for r in shown.regions])
    aging = part["age"] * person.age_z + part["nuisance"] * shown.nuisance * getattr(person, f"nuisance_{modality}")
    other = signs * (aging + part["level"] * rng.standard_normal()) + part["own"] * rng.standard_normal(count)
    other = other + part["side"] * rng.standard_normal((2, count))
    change = loading[SUBTYPES.index(person.subtype)] * amount + shown.residual * other
    return {(r, s): float(change[j, i]) for i, r in enumerate(shown.regions) for j, s in enumerate(healthy.SIDES)}


def summaries(people: list[Person]) -> pd.DataFrame:
    """Log hippocampal volume (head size included) and log meta-ROI uptake as drawn, before any image, by person."""
    rows = []
    for person in people:
        row = {"participant_id": person.participant_id, "group": person.group}
        for modality in MODALITIES:
            changes = regional_changes(person, modality)
            sizes = [healthy.voxels(r) for r in SUMMARY[modality]]
            means = [np.mean([changes[r, side] for side in healthy.SIDES]) for r in SUMMARY[modality]]
            row[modality] = float(np.average(means, weights=sizes))
        row["mri"] += person.log_head_volume
        rows.append(row)
    return pd.DataFrame(rows).set_index("participant_id")
