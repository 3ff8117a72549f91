"""Change since an earlier visit, and whether a second scan alone would show as much."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from reports.changes import BOUND, find_earlier_visit, list_changes
from reports.norms import HIPPOCAMPUS, MEASURES


def cohort(loss: float, months: float = 12.0, qc: str = "pass") -> SimpleNamespace:
    """One person with two visits; the hippocampi lose `loss` percent between them."""
    names = ["sub-A_ses-M000", "sub-A_ses-M012"]
    visits = pd.DataFrame(
        {"participant_id": "sub-A", "session_id": ["ses-M000", "ses-M012"], "qc": [qc, "pass"]}, names
    )
    visits["months"] = [0.0, months]
    columns = pd.MultiIndex.from_tuples([(m.key, "both") for m in MEASURES])
    table = pd.DataFrame(np.nan, names, columns)
    table[(HIPPOCAMPUS.key, "both")] = [8.0, 8.0 * (1 - loss / 100)]
    return SimpleNamespace(prepared=SimpleNamespace(visits=visits), measurements=table)


@pytest.mark.parametrize(("loss", "verdict"), [(1.5, "not distinguishable from measurement error"), (4.7, "beyond it")])
def test_a_loss_is_set_against_what_a_second_scan_alone_would_show(loss, verdict):
    (row,) = list_changes(cohort(loss), "sub-A_ses-M012")["rows"]
    assert (row["change"], row["verdict"]) == (f"−{loss}", verdict)
    assert row["retest"] == f"± {BOUND * HIPPOCAMPUS.retest:.1f}"


def test_change_counts_by_the_year():
    (row,) = list_changes(cohort(4.0, months=24.0), "sub-A_ses-M012")["rows"]
    assert (row["change"], row["per_year"]) == ("−4.0", "−2.0")


def test_two_percent_of_mean_error_bound_a_difference_at_about_five():
    assert pytest.approx(4.9, abs=0.05) == BOUND * 2


def test_an_earlier_visit_that_failed_quality_control_is_none():
    assert find_earlier_visit(cohort(4.0, qc="fail"), "sub-A_ses-M012") is None


def test_a_first_visit_has_no_change():
    assert list_changes(cohort(4.0), "sub-A_ses-M000") is None
