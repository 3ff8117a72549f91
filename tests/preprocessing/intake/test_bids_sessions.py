"""BIDS sessions in time: months from baseline, or unknown; days between T1 and PET."""

from __future__ import annotations

import pytest

from preprocessing.intake import bids_sessions
from preprocessing.intake.labels import Visit

HISTORY = "0:MCI;12:MCI;24:AD;36:AD"


def with_history(data, *sessions: str, history: str = HISTORY):
    for name in sessions:
        data.add(f"sub-1/ses-{name}/anat/sub-1_ses-{name}_T1w.nii")
    return data.table("participants.tsv", "participant_id diagnosis_history", f"sub-1 {history}")


def label_of(data) -> tuple[str, str]:
    (person,) = data.read().people
    return person.session_id, person.label.reason


def test_a_session_whose_month_nothing_tells_gives_no_label(data):
    (person,) = with_history(data, "03").read().people
    assert (person.label.label, person.label.reason) == ("", "unknown_visit")
    assert (person.months, person.months_without_dementia) == (None, None)
    assert person.t1.note.startswith("nothing tells the month of its session")


def test_without_any_diagnosis_there_is_no_label_to_lose(data):
    data.add("sub-1/ses-03/anat/sub-1_ses-03_T1w.nii")
    assert label_of(data) == ("ses-03", "no_diagnosis")


def test_diagnoses_at_sessions_of_unknown_months_give_no_label(data):
    for name in ("03", "04"):
        data.add(f"sub-1/ses-{name}/anat/sub-1_ses-{name}_T1w.nii")
    data.table("sub-1/sub-1_sessions.tsv", "session_id diagnosis", "ses-03 MCI", "ses-04 AD")
    assert label_of(data) == ("ses-03", "unknown_visit")


def test_the_only_diagnosis_is_that_of_the_only_session(data):
    assert label_of(with_history(data, "03", history="7:CN")) == ("ses-03", "not_mci")


def test_a_person_without_sessions_was_scanned_at_baseline(data):
    data.add("sub-1/anat/sub-1_T1w.nii")
    assert label_of(with_history(data)) == ("ses-M000", "converter")


@pytest.mark.parametrize(
    ("name", "month"),
    [
        ("M012", 12),
        ("m12", 12),
        ("month12", 12),
        ("12mo", 12),
        ("bl", 0),
        ("Baseline", 0),
        ("screening", 0),
        ("d0129", 129 / 30.44),
        ("day61", 61 / 30.44),
        *((name, None) for name in ("03", "1", "a", "d1", "mri", "y2", "V12", "2012", "M")),
    ],
)
def test_months_and_days_in_the_name_of_a_session(name, month):
    assert bids_sessions.place_by_name(f"ses-{name}")[0] == month


@pytest.mark.parametrize(
    ("header", "cell", "session"),
    [("months", "12", 12), ("months", "m12", 12), ("month", "bl", 0), ("days", "366", 12), ("months", "6,0", 6)],
)
def test_the_sessions_table_says_months_or_days(data, header, cell, session):
    data = with_history(data, "b").table("sub-1/sub-1_sessions.tsv", f"session_id {header}", f"ses-b {cell}")
    (person,) = data.read().people
    assert person.label.months_to_conversion == pytest.approx(24 - session, abs=0.1)


def test_the_sessions_table_is_believed_before_the_name(data):
    data = with_history(data, "M000").table("sub-1/sub-1_sessions.tsv", "session_id months", "M000 24")
    assert label_of(data) == ("ses-M000", "not_mci")


def test_the_first_row_of_a_session_that_stands_twice_counts(data):
    with_history(data, "b").table("sub-1/sub-1_sessions.tsv", "session_id months", "ses-b 12", "ses-b 36")
    with pytest.warns(UserWarning, match="session ses-b stands twice"):
        assert data.read().people[0].months == 12


def test_a_session_is_placed_by_its_date_and_that_of_baseline(data):
    with_history(data, "03")
    data.table("sub-1/sub-1_sessions.tsv", "session_id acq_time", "ses-bl 2010-01-01", "ses-03 2012-01-05T10:00:00")
    assert label_of(data) == ("ses-03", "not_mci")


def test_a_session_is_placed_by_the_dates_of_its_scans(data):
    with_history(data, "bl", "03")
    for name, day in (("bl", "2010-01-01"), ("03", "2011-01-01T12:00:00")):
        row = f"anat/sub-1_ses-{name}_T1w.nii {day}"
        data.table(f"sub-1/ses-{name}/sub-1_ses-{name}_scans.tsv", "filename acq_time", row)
    (data.root / "sub-1/ses-bl/anat/sub-1_ses-bl_T1w.nii").unlink()
    (person,) = data.read().people
    assert (person.session_id, person.months) == ("ses-03", 12)
    assert person.label.months_to_conversion == pytest.approx(12, abs=0.1)


def test_a_session_with_a_date_is_not_baseline_where_it_is_alone_or_a_later_one(data):
    with_history(data, "03", "04")
    data.table("sub-1/sub-1_sessions.tsv", "session_id acq_time", "ses-03 2012-01-05", "ses-04 n/a")
    assert label_of(data)[1] == "unknown_visit"
    data.table("sub-1/sub-1_sessions.tsv", "session_id acq_time", "ses-03 2012-01-05", "ses-04 2013-01-05")
    assert label_of(data)[1] == "unknown_visit"


def test_a_date_alone_makes_no_baseline_even_of_a_first_session(data):
    with_history(data, "01").table("sub-1/sub-1_sessions.tsv", "session_id acq_time", "ses-01 2012-01-05")
    assert label_of(data)[1] == "unknown_visit"


def test_baseline_is_before_the_session_whose_month_is_known(data):
    with_history(data, "M012", "x")
    data.table("sub-1/sub-1_sessions.tsv", "session_id acq_time", "ses-M012 2011-01-01", "ses-x 2012-01-05")
    (data.root / "sub-1/ses-M012/anat/sub-1_ses-M012_T1w.nii").unlink()
    assert data.read().people[0].months == 24


def test_the_first_of_several_dated_sessions_is_baseline(data):
    with_history(data, "01", "02")
    data.table("sub-1/sub-1_sessions.tsv", "session_id session_date", "ses-01 2012-01-05", "ses-02 2013-01-05")
    assert label_of(data) == ("ses-01", "converter")


def test_diagnoses_at_sessions_need_no_baseline(data):
    for name in ("03", "04"):
        data.add(f"sub-1/ses-{name}/anat/sub-1_ses-{name}_T1w.nii")
    data.table("sub-1/sub-1_sessions.tsv", "session_id acq_time dx", "ses-03 2012-01-05 MCI", "ses-04 2013-01-05 AD")
    assert label_of(data) == ("ses-03", "converter")


def test_diagnoses_at_named_months_do_not_make_the_first_date_baseline(data):
    data.add("sub-1/ses-03/anat/sub-1_ses-03_T1w.nii")
    data.table("sub-1/ses-03/sub-1_ses-03_scans.tsv", "filename acq_time", "anat/sub-1_ses-03_T1w.nii 2012-01-05")
    rows = ("sub-1 ses-M000 MCI", "sub-1 ses-M024 AD")
    data.table("phenotype/diagnosis.tsv", "participant_id session_id diagnosis", *rows)
    assert data.read().histories["sub-1"] == [Visit(0, "MCI"), Visit(24, "AD")]
    assert label_of(data) == ("ses-03", "unknown_visit")


def test_one_date_for_sessions_of_different_months_stands_for_nothing(data):
    data.add("sub-1/ses-M000/anat/sub-1_ses-M000_T1w.nii", "sub-1/ses-M024/pet/sub-1_ses-M024_trc-FDG_pet.nii")
    rows = ("ses-M000 1900-01-01", "ses-M024 1900-01-01")
    data.table("sub-1/sub-1_sessions.tsv", "session_id acq_time", *rows)
    assert "731 days" in [row.reason for row in data.read().ledger][0]


def test_scans_of_one_session_are_together_whatever_its_month(data):
    data.add("sub-1/ses-a/anat/sub-1_ses-a_T1w.nii", "sub-1/ses-a/pet/sub-1_ses-a_trc-FDG_pet.nii")
    assert data.read().people[0].pet.days_from_t1 == 0


def test_sessions_named_by_days_pair_by_days(data):
    data.add("sub-1/ses-d0129/anat/sub-1_ses-d0129_T1w.nii", "sub-1/ses-d0145/pet/sub-1_ses-d0145_trc-FDG_pet.nii")
    assert data.read().people[0].pet.days_from_t1 == 16


def scans(data, session: str, file: str, time: str):
    data.add(f"sub-1/ses-{session}/{file}")
    folder = f"sub-1/ses-{session}"
    return data.table(f"{folder}/sub-1_ses-{session}_scans.tsv", "filename acq_time", f"{file} {time}")


def test_t1_and_pet_in_sessions_of_their_own_pair_by_the_dates_of_the_scans(data):
    scans(data, "mri", "anat/sub-1_ses-mri_T1w.nii", "2020-01-10T10:00:00")
    scans(data, "pet", "pet/sub-1_ses-pet_trc-FDG_pet.nii", "2020-01-17T08:00:00")
    (person,) = data.read().people
    assert (person.session_id, person.pet.days_from_t1) == ("ses-mri", 7)


def test_a_scans_table_of_the_person_lists_the_scans_of_all_sessions(data):
    data.add("sub-1/ses-mri/anat/sub-1_ses-mri_T1w.nii", "sub-1/ses-pet/pet/sub-1_ses-pet_trc-FDG_pet.nii")
    rows = ("ses-mri/anat/sub-1_ses-mri_T1w.nii 2020-01-10", "ses-pet/pet/sub-1_ses-pet_trc-FDG_pet.nii 2020-02-10")
    data.table("sub-1/sub-1_scans.tsv", "filename acq_time", *rows)
    assert data.read().people[0].pet.days_from_t1 == 31


def test_a_scans_table_of_the_person_dates_each_session_by_its_own_scans(data):
    with_history(data, "bl", "03")
    rows = ("ses-bl/anat/sub-1_ses-bl_T1w.nii 2010-01-01", "ses-03/anat/sub-1_ses-03_T1w.nii 2012-01-05")
    data.table("sub-1/sub-1_scans.tsv", "filename acq_time", *rows)
    (data.root / "sub-1/ses-bl/anat/sub-1_ses-bl_T1w.nii").unlink()
    assert data.read().people[0].months == 24


def test_dates_of_scans_decide_within_one_session_and_before_months(data):
    data.add("sub-1/ses-M000/anat/sub-1_ses-M000_T1w.nii", "sub-1/ses-M000/pet/sub-1_ses-M000_trc-FDG_pet.nii")
    rows = ("anat/sub-1_ses-M000_T1w.nii 2020-01-10", "pet/sub-1_ses-M000_trc-FDG_pet.nii 2020-06-10")
    data.table("sub-1/ses-M000/sub-1_ses-M000_scans.tsv", "filename acq_time", *rows)
    assert "152 days" in data.read().ledger[0].reason
    assert data.read(pair_days=160).people[0].pet.days_from_t1 == 152


def test_a_scans_table_without_dates_is_warned_of_once(data, recwarn):
    data.add("sub-1/anat/sub-1_T1w.nii").table("sub-1/sub-1_scans.tsv", "filename acq_time", "anat/a.nii 10:00:00")
    assert data.read().people[0].months == 0
    assert ["1 cells are no date" in str(warning.message) for warning in recwarn] == [True]


def test_a_t1_beside_the_sessions_is_found(data):
    data.add("sub-1/anat/sub-1_T1w.nii", "sub-1/ses-pet/pet/sub-1_ses-pet_trc-FDG_pet.nii")
    intake = data.table("participants.tsv", "participant_id diagnosis_history", f"sub-1 {HISTORY}").read()
    assert [person.label.reason for person in intake.people] == ["unknown_visit"]
    assert [row.reason_code for row in intake.ledger] == ["pet_too_far"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "the table is empty; not even a header line; the table is left out"),
        ("session\tx\nses-a\n", None),
        ("name\tmonths\nses-a\t0\n", "no column 'session_id'; the table is left out"),
        ("session_id\tmonths\nses-a\t0\nses-a\t12\n", "session ses-a stands twice; its first row counts"),
        ("session_id\tmonths\nses-a\tsoon\n", "column 'months': 1 cells are no months"),
        ("session_id\tacq_time\nses-a\tMonday\n", "column 'acq_time': 1 cells are no date"),
        ("session_id\tacq_time\nses-a\t01/02/2020\n", "day and month cannot be told apart; the dates are left out"),
    ],
)
def test_a_sessions_table_that_cannot_be_used_is_a_warning(data, content, sentence, recwarn):
    data.add("sub-1/ses-a/anat/sub-1_ses-a_T1w.nii").text("sub-1/sub-1_sessions.tsv", content)
    assert len(data.read().people) == 1
    messages = [str(warning.message) for warning in recwarn]
    assert len(messages) == (sentence is not None)
    assert all(sentence in text and "sub-1_sessions.tsv" in text for text in messages)
