"""Labels of the same people under other rules."""

from __future__ import annotations

import pandas as pd

from preprocessing.intake.label_rules import REVERTERS_STABLE, tabulate_rules
from preprocessing.intake.labels import LabelRule, parse_history


def label(history: str, rule: str, months_to_death: float | None = None, **options) -> str:
    manifest = pd.DataFrame(
        {"participant_id": ["sub-1"], "session_id": ["ses-M000"], "months": [0.0], "months_to_death": [months_to_death]}
    )
    table = tabulate_rules(manifest, {"sub-1": parse_history(history)}, LabelRule(**options))
    return table.set_index("rule").label[rule]


def test_a_conversion_at_forty_two_months_is_one_within_forty_eight_alone():
    history = "0:MCI 12:MCI 24:MCI 36:MCI 42:AD"
    assert [label(history, f"{months} months") for months in (24, 36, 48)] == ["stable", "stable", "converter"]


def test_who_was_seen_for_two_years_is_stable_for_two_years_alone():
    history = "0:MCI 12:MCI 24:MCI"
    assert [label(history, f"{months} months") for months in (24, 36, 48)] == ["stable", "", ""]


def test_a_reverter_counts_as_stable_by_that_rule_alone_and_never_when_demented_within_the_horizon():
    assert label("0:MCI 12:CN 24:CN 36:CN", "36 months") == ""
    assert label("0:MCI 12:CN 24:CN 36:CN", REVERTERS_STABLE) == "stable"
    assert label("0:MCI 12:AD 24:MCI 36:MCI", REVERTERS_STABLE) == ""


def test_the_rules_own_horizon_is_among_them_and_death_before_it_leaves_no_label():
    assert label("0:MCI 12:MCI 18:MCI", "18 months", horizon_months=18) == "stable"
    assert label("0:MCI 12:MCI 24:MCI", "24 months", months_to_death=20.0) == ""


def test_cognitively_normal_people_carry_none_of_these_labels():
    assert label("0:CN 12:CN 24:CN 36:CN", "36 months", classes=("cn", "stable", "converter")) == ""


def test_people_without_a_history_have_no_row():
    manifest = pd.DataFrame({"participant_id": ["a"], "session_id": ["s"], "months": [0.0], "months_to_death": [None]})
    assert tabulate_rules(manifest, {}, LabelRule()).empty
