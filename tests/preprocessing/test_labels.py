"""Conversion labels from diagnostic histories, one rule a test."""

from __future__ import annotations

import pytest

from preprocessing.intake.labels import Label, LabelRule, Visit, derive_label, diagnosis_at


def history(**diagnoses: str) -> list[Visit]:
    """history(m0="MCI", m12="AD") -> visits."""
    return [Visit(float(name[1:]), diagnosis) for name, diagnosis in diagnoses.items()]


def test_dementia_within_the_horizon_makes_a_converter_with_its_months():
    assert derive_label(history(m0="MCI", m12="MCI", m24="AD"), 0) == Label("converter", "converter", 24)


def test_the_horizon_counts_from_the_scan_and_not_from_baseline():
    visits = history(m0="MCI", m24="MCI", m48="AD")
    assert derive_label(visits, 24) == Label("converter", "converter", 24)
    assert derive_label(visits, 0).label == ""  # MCI at 24, dementia at 48: what was at 36 is not known


def test_mci_at_the_horizon_is_stable_whatever_comes_later():
    assert derive_label(history(m0="MCI", m36="MCI", m48="AD"), 0) == Label("stable", "stable")


@pytest.mark.parametrize(("last", "reason"), [(29, "censored"), (30, "stable"), (35, "stable"), (42, "stable")])
def test_a_last_mci_visit_counts_for_the_horizon_within_six_months(last, reason):
    assert derive_label([Visit(0, "MCI"), Visit(last, "MCI")], 0).reason == reason


def test_a_horizon_visit_at_38_months_with_dementia_makes_a_converter():
    assert derive_label(history(m0="MCI", m24="MCI", m38="AD"), 0) == Label("converter", "converter", 38)


def test_the_visit_nearest_to_the_horizon_decides_within_the_window():
    assert derive_label(history(m0="MCI", m36="MCI", m41="AD"), 0).reason == "stable"
    assert derive_label(history(m0="MCI", m30="MCI", m42="AD"), 0).reason == "censored"


def test_follow_up_of_twelve_months_is_censored_and_never_stable():
    assert derive_label(history(m0="MCI", m12="MCI"), 0) == Label("", "censored")


def test_a_single_visit_is_censored():
    assert derive_label(history(m0="MCI"), 0) == Label("", "censored")


@pytest.mark.parametrize(
    "course", [{"m12": "CN", "m36": "MCI"}, {"m12": "AD", "m24": "MCI"}, {"m36": "MCI", "m48": "CN"}]
)
def test_whoever_returns_from_mci_or_dementia_is_a_reverter(course):
    assert derive_label(history(m0="MCI", **course), 0) == Label("", "reverter")


def test_progression_to_mci_before_the_scan_is_no_reversion():
    assert derive_label(history(m0="CN", m12="MCI", m36="AD"), 12).label == "converter"


@pytest.mark.parametrize("diagnosis", ["CN", "AD"])
def test_a_scan_visit_other_than_mci_has_no_label(diagnosis):
    assert derive_label([Visit(0, diagnosis), Visit(36, "AD")], 0) == Label("", "not_mci")


def test_a_missing_visit_is_filled_only_if_both_neighbors_agree():
    assert diagnosis_at(history(m0="MCI", m12="MCI"), 6) == "MCI"
    assert diagnosis_at(history(m0="CN", m12="MCI"), 6) is None
    assert diagnosis_at(history(m0="MCI"), 6) is None
    assert derive_label(history(m0="CN", m12="MCI"), 6) == Label("", "no_diagnosis")


def test_the_order_of_the_visits_does_not_matter():
    visits = history(m0="MCI", m12="MCI", m24="AD")
    assert derive_label(visits[::-1], 0) == derive_label(visits, 0)


def test_a_shorter_horizon_turns_a_late_converter_into_a_stable_person():
    visits = history(m0="MCI", m12="MCI", m24="AD")
    assert derive_label(visits, 0, LabelRule(horizon_months=12)).label == "stable"
