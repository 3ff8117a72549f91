"""Conversion labels from diagnostic histories, one rule a test."""

from __future__ import annotations

import pytest

from preprocessing.intake.labels import (
    Label,
    LabelRule,
    Visit,
    derive_label,
    diagnosis_at,
    months_without_dementia,
    parse_history,
    read_diagnosis,
)


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


def test_who_dies_before_the_horizon_without_dementia_has_died_and_is_neither_stable_nor_censored():
    visits = history(m0="MCI", m12="MCI")
    assert derive_label(visits, 0, death_month=20) == Label("", "died")
    assert derive_label(visits, 0, death_month=40) == Label("", "censored")
    assert derive_label(history(m0="MCI", m32="MCI"), 0, death_month=34).reason == "died"


def test_dementia_before_death_makes_a_converter_and_death_after_the_horizon_changes_nothing():
    assert derive_label(history(m0="MCI", m12="AD"), 0, death_month=20).label == "converter"
    assert derive_label(history(m0="MCI", m36="MCI"), 0, death_month=37).label == "stable"


def test_death_counts_from_the_scan_and_not_from_baseline():
    visits = history(m0="MCI", m24="MCI", m36="MCI")
    assert derive_label(visits, 24, death_month=50).reason == "died"
    assert derive_label(visits, 0, death_month=50).label == "stable"


def test_a_minimum_follow_up_takes_labels_from_the_stable_but_not_from_converters():
    rule = LabelRule(minimum_follow_up_months=36)
    assert derive_label(history(m0="MCI", m31="MCI"), 0).label == "stable"
    assert derive_label(history(m0="MCI", m31="MCI"), 0, rule) == Label("", "short_follow_up")
    assert derive_label(history(m0="MCI", m36="MCI"), 0, rule).label == "stable"
    assert derive_label(history(m0="MCI", m12="AD"), 0, rule).label == "converter"


@pytest.mark.parametrize(
    ("course", "label"),
    [
        ({"m12": "CN", "m24": "MCI", "m36": "MCI"}, "stable"),
        ({"m12": "AD", "m24": "MCI", "m36": "AD"}, "converter"),
        ({"m12": "CN", "m24": "CN", "m36": "MCI"}, ""),  # two milder visits
        ({"m12": "CN", "m24": "MCI", "m30": "CN", "m36": "MCI"}, ""),  # twice
        ({"m24": "MCI", "m36": "CN"}, ""),  # the last word
        ({"m12": "AD", "m24": "CN", "m36": "MCI"}, ""),  # not back where it was
    ],
)
def test_a_single_milder_visit_is_forgiven_only_where_the_rule_says_so(course, label):
    visits = history(m0="MCI", **course)
    assert derive_label(visits, 0) == Label("", "reverter")
    assert derive_label(visits, 0, LabelRule(reversion="ignore_single")).label == label


def test_controls_and_dementia_are_labeled_only_when_asked_for():
    rule = LabelRule(classes=("cn", "stable", "converter", "ad"))
    normal, demented = history(m0="CN", m24="CN"), history(m0="AD", m12="AD")
    assert [derive_label(visits, 0).reason for visits in (normal, demented)] == ["not_mci"] * 2
    assert [derive_label(visits, 0, rule).label for visits in (normal, demented)] == ["cn", "ad"]
    assert derive_label(history(m0="CN", m24="MCI"), 0, rule) == Label("", "not_mci")
    assert derive_label(history(m0="AD", m24="MCI"), 0, rule) == Label("", "not_mci")
    assert derive_label(history(m0="MCI", m36="MCI"), 0, rule).label == "stable"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": ("stable", "converter", "hc")}, "'hc' is unknown; known: stable, converter, cn, ad"),
        ({"classes": ("cn", "ad")}, "stable and converter are always among them"),
        ({"reversion": "drop"}, "reversion 'drop'; known: unlabeled, ignore_single"),
        ({"scan_months": -1}, "windows and follow-up >= 0"),
        ({"horizon_months": 0}, "the horizon must be > 0 months"),
    ],
)
def test_a_wrong_rule_is_refused_with_what_is_known(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        LabelRule(**options)


def test_a_history_in_one_cell_is_read_and_a_wrong_part_of_it_is_named():
    assert parse_history("M24:Dementia, 0:MCI;12:mci") == history(m0="MCI", m12="MCI", m24="AD")
    with pytest.raises(ValueError, match="'12:XY' is not like 12:MCI"):
        parse_history("0:MCI 12:XY")


@pytest.mark.parametrize(
    ("word", "diagnosis"), [("Dementia", "AD"), ("NL", "CN"), ("MCI to Dementia", "AD"), ("LMCI", "MCI"), ("-4", "")]
)
def test_diagnoses_are_understood_as_tables_spell_them(word, diagnosis):
    assert read_diagnosis(word) == diagnosis


def test_a_scan_has_the_diagnosis_of_the_nearest_visit_within_three_months():
    assert diagnosis_at([Visit(3, "MCI")], 0) == diagnosis_at([Visit(-3, "MCI")], 0) == "MCI"
    assert diagnosis_at([Visit(3.5, "MCI")], 0) is None
    assert diagnosis_at([Visit(-2, "MCI"), Visit(1, "AD")], 0) == "AD"
    assert diagnosis_at([Visit(-2, "MCI"), Visit(2, "AD")], 0) is None
    assert derive_label([Visit(-2, "MCI")], 0).reason == "censored"
    assert derive_label([Visit(-2, "MCI")], 0, LabelRule(scan_months=1)).reason == "no_diagnosis"


def test_a_visit_half_a_month_after_the_scan_is_a_later_one():
    assert derive_label([Visit(0, "MCI"), Visit(0.5, "AD")], 0) == Label("converter", "converter", 0.5)
    assert derive_label([Visit(0, "MCI"), Visit(0.4, "AD")], 0) == Label("", "censored")


def test_mci_beyond_the_window_was_mci_at_the_horizon():
    assert derive_label(history(m0="MCI", m48="MCI"), 0) == Label("stable", "stable")
    assert derive_label(history(m0="MCI", m48="AD"), 0) == Label("", "censored")


def test_death_at_the_horizon_is_not_before_it():
    assert derive_label(history(m0="MCI", m36="MCI"), 0, death_month=36) == Label("stable", "stable")


def test_follow_up_counts_from_the_scan_and_is_nothing_without_a_later_visit():
    rule = LabelRule(minimum_follow_up_months=40, classes=("stable", "converter", "cn"))
    assert derive_label(history(m12="MCI", m48="MCI"), 12, rule) == Label("", "short_follow_up")
    assert derive_label(history(m12="CN"), 12, LabelRule(classes=rule.classes)) == Label("cn", "cn")
    least = LabelRule(minimum_follow_up_months=1, classes=rule.classes)
    assert derive_label(history(m12="CN"), 12, least) == Label("", "short_follow_up")


@pytest.mark.parametrize(
    ("course", "label"),
    [
        ({"m12": "MCI", "m24": "CN", "m36": "MCI"}, "stable"),
        ({"m36": "MCI", "m48": "AD"}, "stable"),
        ({"m36": "MCI"}, "stable"),
        ({"m12": "AD", "m24": "MCI", "m36": "AD"}, "converter"),
        ({"m36": "MCI", "m48": "CN"}, ""),
    ],
)
def test_forgiving_a_single_visit_takes_away_that_visit_and_no_other(course, label):
    assert derive_label(history(m0="MCI", **course), 0, LabelRule(reversion="ignore_single")).label == label


@pytest.mark.parametrize(
    ("visits", "scan", "months"),
    [
        (history(m0="MCI", m12="MCI", m24="AD"), 0, 12),
        (history(m0="MCI", m12="MCI", m24="AD"), 12, 0),
        (history(m0="MCI", m36="MCI", m48="MCI"), 12, 36),
        (history(m24="AD", m12="MCI", m0="MCI"), 0, 12),
        (history(m12="AD", m24="MCI"), 12, None),
        (history(m0="MCI"), 12, None),
        ([Visit(11.5, "MCI")], 12, None),
        ([Visit(11.6, "MCI")], 12, 0),
    ],
)
def test_time_without_dementia_ends_at_the_last_visit_before_it(visits, scan, months):
    assert months_without_dementia(visits, scan) == months


def test_the_smallest_numbers_of_a_rule_are_allowed():
    assert LabelRule(horizon_months=0.5, window_months=0, minimum_follow_up_months=0.5).window_months == 0


@pytest.mark.parametrize(
    ("words", "diagnosis"),
    [(("CN", "NL", "Normal", "HC", "SMC"), "CN"), (("MCI", "EMCI", "LMCI"), "MCI"), (("AD", "Dementia"), "AD")],
)
def test_every_word_for_a_diagnosis_is_known(words, diagnosis):
    assert {read_diagnosis(word) for word in words} == {diagnosis}
