"""Censored people enter the survival curves as censored, and count as much as the test split does of the labeled."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from adni_tcgm.evaluation.clinical import cumulative_incidence
from reports.survival import follow_people, survival_section

TEST, TRAIN, LOST = 24, 96, 12


def build(lost: int = LOST, simulated: bool = True) -> tuple[SimpleNamespace, pd.DataFrame]:
    """A cohort of 24 test people (every other one converts at 18 months), 96 labeled training people and lost ones."""
    names = [f"t{i}" for i in range(TEST)] + [f"n{i}" for i in range(TRAIN)] + [f"c{i}" for i in range(lost)]
    label = ["converter", "stable"] * (TEST // 2) + ["stable"] * TRAIN + [""] * lost
    visits = pd.DataFrame({"label": label, "label_reason": label}, index=names)
    visits.loc[names[TEST + TRAIN :], "label_reason"] = "censored"
    visits["months_to_conversion"] = np.where(visits["label"] == "converter", 18.0, np.nan)
    visits["months_to_death"] = np.nan
    visits["months_without_dementia"] = np.where(visits["label"] == "stable", 48.0, 12.0)
    p = np.linspace(0.1, 0.9, len(names))
    split = np.where(np.arange(len(names)) < TEST, "test", "train")
    predictions = pd.DataFrame({"sample_id": names, "modality": "all", "split": split, "p_calibrated_converter": p})
    headline = SimpleNamespace(splits=pd.DataFrame({"label": label}, index=names), predictions=predictions)
    prepared = SimpleNamespace(visits=visits)
    cohort = SimpleNamespace(headline=headline, prepared=prepared, horizon_months=36, simulated=simulated)
    rows = predictions[:TEST].set_index("sample_id")
    return cohort, rows.assign(converter=(visits["label"][:TEST] == "converter").astype(int))


def test_censored_people_end_at_their_last_visit_and_stable_ones_at_the_horizon():
    people = follow_people(*build()).people
    lost = people[people.index.str.startswith("c")]
    assert len(lost) == LOST and not lost["event"].any()
    assert set(lost["months"]) == {12.0}
    assert set(people["months"][(people["event"] == 0) & people.index.str.startswith("t")]) == {36.0}


def test_each_counts_the_share_of_the_labeled_that_is_in_the_test_split():
    found = follow_people(*build())
    assert found.weight == TEST / (TEST + TRAIN)
    assert found.censored == LOST
    assert found.people["weight"].sum() == pytest.approx(TEST + LOST * 0.2)


def test_people_lost_before_the_first_conversion_do_not_change_the_curve():
    with_lost, without = (follow_people(*build(lost)).people for lost in (LOST, 0))
    columns = ("months", "event", "weight")
    curves = [cumulative_incidence(*(p[c].to_numpy() for c in columns)) for p in (with_lost, without)]
    assert curves[0].share == pytest.approx(curves[1].share)


def test_hidden_training_labels_play_no_part():
    cohort, rows = build()
    assert not follow_people(cohort, rows).people.index.str.startswith("n").any()


def test_reverters_are_left_out():
    cohort, rows = build()
    cohort.prepared.visits.loc["c0", "label_reason"] = "reverter"
    assert follow_people(cohort, rows).censored == LOST - 1


def test_a_manifest_that_does_not_know_how_long_people_were_seen_takes_stable_ones_to_the_horizon():
    cohort, rows = build()
    cohort.prepared.visits["months_without_dementia"] = np.nan
    found = follow_people(cohort, rows)
    assert found.censored == 0
    assert set(found.people["months"]) == {18.0, 36.0}


def test_numbers_at_risk_stand_below_the_figure_and_few_real_people_are_hidden():
    drawn = {simulated: survival_section(*build(simulated=simulated))[1]["survival.svg"] for simulated in (True, False)}
    assert b"at risk" in drawn[True] and b"highest" in drawn[True] and b"&lt;5" not in drawn[True]
    assert b"&lt;5" in drawn[False]


def test_who_died_is_a_competing_event_at_the_month_of_death_and_not_censored():
    cohort, rows = build()
    visits = cohort.prepared.visits
    visits.loc["c0", ["label_reason", "months_to_death"]] = ["died", 20.0]
    found = follow_people(cohort, rows)
    assert found.people.loc["c0", ["months", "event"]].tolist() == [20.0, 2]
    assert (found.died, found.censored) == (1, LOST - 1)
