"""The demo over many cohorts: whose AUC is set against whose."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.demo_cohorts import compare

AUCS = {"tcgm, regions": (0.80, 0.70, 0.90), "ce, regions": (0.70, 0.70, 0.70), "mean z": (0.85, 0.75, 0.95)}


def table() -> pd.DataFrame:
    rows = []
    for by, aucs in AUCS.items():
        labels = "none" if by == "mean z" else "visible"
        for seed, auc in enumerate(aucs):
            rows.append({"seed": seed, "by": by, "labels": labels, "modality": "all", "auc": auc})
            rows.append({"seed": seed, "by": by, "labels": labels, "modality": "mri", "auc": 0.5})
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_differences_are_within_cohorts_on_both_modalities_with_a_t_interval() -> None:
    found = compare(table(), "tcgm, regions")
    assert sorted(found.index) == ["ce, regions, labels visible", "mean z, labels none"]
    ce = found.loc["ce, regions, labels visible"]
    # Differences .1, 0, .2: mean .1, SD .1, and t of 2 degrees of freedom is 4.303.
    assert ce.difference == pytest.approx(0.1)
    assert ce.high - ce.low == pytest.approx(2 * 4.303 * 0.1 / 3**0.5, rel=1e-3)
    assert found.loc["mean z, labels none"].difference == pytest.approx(-0.05)
