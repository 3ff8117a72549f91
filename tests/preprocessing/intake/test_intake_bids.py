"""BIDS data sets: which scan of whom, and where diagnoses are read."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from preprocessing.intake import bids
from preprocessing.intake.labels import Visit
from preprocessing.steps.resolution import uniform_mm


def codes(intake) -> dict[tuple[str, str], tuple[str, str]]:
    return {(row.participant_id, row.modality): (row.status, row.reason_code) for row in intake.ledger}


def test_a_person_without_sessions_has_t1_pet_and_what_participants_tsv_says(data):
    data.add("sub-01/anat/sub-01_T1w.nii.gz", "sub-01/pet/sub-01_trc-18FFDG_pet.nii")
    data.table("participants.tsv", "participant_id age sex site_id group_id", "sub-01 71.5 female 941 family-2")
    (person,) = data.read().people
    assert (person.participant_id, person.session_id) == ("sub-01", "ses-M000")
    assert (person.age, person.sex, person.site, person.group_id) == (71.5, "F", "941", "family-2")
    assert person.t1.path.name == "sub-01_T1w.nii.gz" and person.pet.path.name == "sub-01_trc-18FFDG_pet.nii"
    assert (person.label.label, person.label.reason) == ("", "no_diagnosis")


def test_people_need_no_participants_tsv(data):
    (person,) = data.add("sub-01/anat/sub-01_T1w.nii").read().people
    assert np.isnan(person.age) and person.sex == "" and person.group_id == "sub-01"


def test_everybody_in_the_table_or_with_a_folder_is_a_person_or_two_ledger_rows(data):
    data.add("sub-01/anat/sub-01_T1w.nii", "sub-02/anat/sub-02_T2w.nii", "sub-03/anat/sub-03_T1w.v")
    data.table("participants.tsv", "participant_id", "sub-01", "sub-04")
    intake = data.read()
    assert [person.participant_id for person in intake.people] == ["sub-01"]
    assert codes(intake) == {
        ("sub-01", "pet"): ("excluded", "no_pet"),
        ("sub-02", "mri"): ("excluded", "no_t1"),
        ("sub-02", "pet"): ("excluded", "no_t1"),
        ("sub-03", "mri"): ("failed", "ecat"),
        ("sub-03", "pet"): ("excluded", "no_t1"),
        ("sub-04", "mri"): ("excluded", "missing_file"),
        ("sub-04", "pet"): ("excluded", "no_t1"),
    }


@pytest.mark.parametrize(
    ("tracer", "code"), [("trc-18FAV45", "other_tracer"), ("trc-PIB", "other_tracer"), ("run-1", "unknown_tracer")]
)
def test_a_pet_that_is_not_said_to_be_fdg_is_left_out(data, tracer, code):
    data.add("sub-01/anat/sub-01_T1w.nii", f"sub-01/pet/sub-01_{tracer}_pet.nii")
    assert codes(data.read()) == {("sub-01", "pet"): ("excluded", code)}


def test_a_sidecar_names_the_tracer_from_any_folder_above(data):
    data.add("sub-01/anat/sub-01_T1w.nii", "sub-01/pet/sub-01_pet.nii", "sub-02/anat/sub-02_T1w.nii")
    data.add("sub-02/pet/sub-02_pet.nii")
    data.sidecar("pet.json", TracerName="FDG").sidecar("sub-02/pet/sub-02_pet.json", TracerName="PIB")
    assert [person.pet is not None for person in data.read().people] == [True, False]


def test_a_sidecar_of_another_image_does_not_apply(data):
    data.add("sub-01/anat/sub-01_T1w.nii", "sub-01/pet/sub-01_run-1_pet.nii")
    data.sidecar("sub-01/pet/sub-01_run-2_pet.json", TracerName="FDG")
    assert codes(data.read())["sub-01", "pet"][1] == "unknown_tracer"


def test_swapped_modalities_are_seen_in_the_sidecar(data):
    data.add("sub-01/anat/sub-01_T1w.nii").sidecar("sub-01/anat/sub-01_T1w.json", Modality="PT")
    assert codes(data.read())["sub-01", "mri"] == ("failed", "wrong_modality")


def test_a_modality_that_is_not_said_is_not_wrong(data):
    data.add("sub-01/anat/sub-01_T1w.nii").sidecar("T1w.json", Modality=None)
    assert len(data.read().people) == 1


def test_the_plainest_t1_and_the_first_run_are_taken(data):
    data.add("sub-01/anat/sub-01_acq-fast_run-1_T1w.nii", "sub-01/anat/sub-01_run-2_T1w.nii")
    data.add("sub-01/anat/sub-01_run-1_T1w.nii")
    assert data.read().people[0].t1.path.name == "sub-01_run-1_T1w.nii"


def three_sessions(data):
    for month in ("M000", "M012", "M024"):
        data.add(f"sub-01/ses-{month}/anat/sub-01_ses-{month}_T1w.nii")
    return data.add("sub-01/ses-M012/pet/sub-01_ses-M012_trc-FDG_pet.nii")


HISTORY = [Visit(0, "CN"), Visit(12, "MCI"), Visit(24, "AD")]


def test_diagnoses_are_read_from_the_phenotype_by_months(data):
    lines = ("participant_id months diagnosis", "sub-01 0 CN", "sub-01 12 MCI", "sub-01 24 Dementia")
    three_sessions(data).table("phenotype/diagnosis.tsv", *lines)
    intake = data.read()
    assert intake.histories["sub-01"] == HISTORY
    (person,) = intake.people
    assert (person.session_id, person.label.label, person.label.months_to_conversion) == ("ses-M012", "converter", 12)
    assert person.pet is not None


def test_diagnoses_are_read_from_the_phenotype_by_session(data):
    lines = ("participant_id session_id diagnosis", "sub-01 ses-M000 CN", "sub-01 ses-M012 MCI", "sub-01 ses-M024 AD")
    assert three_sessions(data).table("phenotype/diagnosis.tsv", *lines).read().histories["sub-01"] == HISTORY


def test_diagnoses_are_read_from_the_sessions_table_by_its_dates(data):
    for name in ("a", "b", "c"):
        data.add(f"sub-01/ses-{name}/anat/sub-01_ses-{name}_T1w.nii")
    lines = ("ses-b 2007-03-01 MCI", "ses-a 2006-03-01 CN", "ses-c 2008-03-01 AD")
    data.table("sub-01/sub-01_sessions.tsv", "session_id acq_time diagnosis", *lines)
    (person,) = data.read().people
    assert person.session_id == "ses-b" and person.label.label == "converter"


def test_a_history_in_participants_tsv_labels_and_a_death_competes(data):
    data.add("sub-01/anat/sub-01_T1w.nii", "sub-02/anat/sub-02_T1w.nii")
    lines = ("participant_id diagnosis_history death_month", "sub-01 0:MCI;12:AD n/a", "sub-02 0:MCI;12:MCI 20")
    data.table("participants.tsv", *lines)
    assert [person.label.reason for person in data.read().people] == ["converter", "died"]


def test_a_pet_of_another_session_pairs_only_within_the_window(data):
    data.add("sub-01/ses-M000/anat/sub-01_ses-M000_T1w.nii", "sub-01/ses-M006/pet/sub-01_ses-M006_trc-FDG_pet.nii")
    assert codes(data.read())["sub-01", "pet"] == ("excluded", "pet_too_far")
    (person,) = data.read(pair_days=190).people
    assert person.pet.days_from_t1 == pytest.approx(6 * 30.44)


def test_a_pet_of_a_session_without_a_date_is_not_guessed_to_be_near(data):
    data.add("sub-01/ses-a/anat/sub-01_ses-a_T1w.nii", "sub-01/ses-b/pet/sub-01_ses-b_trc-FDG_pet.nii")
    assert codes(data.read())["sub-01", "pet"] == ("excluded", "pet_too_far")


def test_clinicas_coregiso_is_known_to_be_uniform(data):
    data.add("sub-01/anat/sub-01_T1w.nii", "sub-01/pet/sub-01_trc-18FFDG_rec-coregiso_pet.nii.gz")
    assert uniform_mm(data.read().people[0].pet.description) == 8


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["participant_id age", "sub-01 70", "sub-01 71"], "participants.tsv: participant sub-01 stands twice"),
        (["subject age", "sub-01 70"], "participants.tsv: no column 'participant_id'"),
    ],
)
def test_a_participants_table_that_is_not_understood_is_named(data, lines, sentence):
    data.add("sub-01/anat/sub-01_T1w.nii").table("participants.tsv", *lines)
    with pytest.raises(ValueError, match=sentence):
        data.read()


def test_a_folder_without_people_is_no_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="no sub-\\* folder"):
        bids.read_dataset(tmp_path)


def test_a_history_that_cannot_be_read_costs_its_person_the_label_and_is_named(data):
    data.add("sub-01/anat/sub-01_T1w.nii", "sub-02/anat/sub-02_T1w.nii")
    data.table("participants.tsv", "participant_id diagnosis_history", "sub-01 12-MCI", "sub-02 bl:MCI;m12,5:AD")
    with pytest.warns(UserWarning, match="'diagnosis_history': 1 histories .* line 2: .*'12-MCI' is not like 12:MCI"):
        first, second = data.read().people
    assert first.label.reason == "no_diagnosis"
    assert (second.label.label, second.label.months_to_conversion) == ("converter", 12.5)


def test_ages_and_sexes_are_read_as_tables_write_them(data):
    cells = {
        "01": ("89+", "Female"),
        "02": (">89", "m"),
        "03": ("71,5", "w"),
        "04": ("72 y", "MALE"),
        "05": ("NA", "N/A"),
    }
    data.add(*(f"sub-{name}/anat/sub-{name}_T1w.nii" for name in cells))
    rows = [f"sub-{name}\t{age}\t{sex}\tunknown" for name, (age, sex) in cells.items()]
    data.text("participants.tsv", "\n".join(["participant_id\tage\tsex\tsite", *rows]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        people = data.read().people
    assert [person.age for person in people[:4]] == [89, 89, 71.5, 72] and np.isnan(people[4].age)
    assert [person.sex for person in people] == ["F", "M", "F", "M", ""]
    assert {person.site for person in people} == {""}


def test_what_is_no_age_or_no_sex_is_counted_in_one_warning_a_column(data):
    data.add(*(f"sub-{number}/anat/sub-{number}_T1w.nii" for number in range(4)))
    lines = ("sub-0 70 F", "sub-1 1935 1", "sub-2 old married", "sub-3 old 1")
    data.table("participants.tsv", "participant_id age sex", *lines)
    with pytest.warns(UserWarning) as caught:
        people = data.read().people
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2
    assert "column 'age': 3 cells are no ages" in said[0] and "line 3: '1935' (1), 'old' (2)" in said[0]
    assert "column 'sex': 3 cells are no sexes" in said[1] and "'1' (2), 'married' (1)" in said[1]
    assert [person.sex for person in people] == ["F", "", "", ""] and np.isnan([p.age for p in people[1:]]).all()


def test_m_is_no_sex_where_men_are_called_h(data):
    data.add("sub-1/anat/sub-1_T1w.nii", "sub-2/anat/sub-2_T1w.nii")
    data.table("participants.tsv", "participant_id sex", "sub-1 H", "sub-2 M")
    with pytest.warns(UserWarning, match="2 cells are no sexes"):
        assert [person.sex for person in data.read().people] == ["", ""]


def test_months_of_the_phenotype_are_read_as_tables_write_them(data):
    rows = ("sub-1 bl MCI", "sub-1 m06 MCI", "sub-1 12.0 MCI", "1 24,5 AD", "sub-1 later AD", "sub-1 2019 AD")
    data.add("sub-1/anat/sub-1_T1w.nii").table("phenotype/diagnosis.tsv", "participant_id months diagnosis", *rows)
    with pytest.warns(
        UserWarning, match=r"diagnosis.tsv: column 'months': 2 cells .* line 6: 'later' \(1\), '2019' \(1\)"
    ):
        intake = data.read()
    assert intake.histories["sub-1"] == [Visit(0, "MCI"), Visit(6, "MCI"), Visit(12, "MCI"), Visit(24.5, "AD")]


def test_other_tables_of_the_phenotype_are_found_by_their_columns(data):
    data.add("sub-1/anat/sub-1_T1w.nii").table("phenotype/clinic.tsv", "participant_id months dx", "sub-1 0 MCI")
    data.table("phenotype/memory.tsv", "participant_id months score", "sub-1 0 27")
    data.table("phenotype/._clinic.tsv", "participant_id months dx", "sub-1 3 AD")
    assert data.read().histories["sub-1"] == [Visit(0, "MCI")]
    data.table("phenotype/diagnosis.tsv", "participant_id months diagnosis", "sub-1 0 CN")
    assert data.read().histories["sub-1"] == [Visit(0, "CN")]


def test_a_row_without_a_participant_is_nobody(data):
    data.add("sub-1/anat/sub-1_T1w.nii").table("participants.tsv", "participant_id age", "sub-1 70", "n/a 80")
    intake = data.read()
    assert {row.participant_id for row in intake.ledger} == {"sub-1"}


def test_links_to_folders_and_files_are_followed_and_hidden_files_are_nothing(data, tmp_path):
    store = tmp_path / "store"
    data.add("sub-1/ses-M000/anat/sub-1_ses-M000_T1w.nii.gz")
    (data.root / "sub-1").rename(store)
    (data.root / "sub-1").symlink_to(store)
    image = store / "ses-M000" / "anat" / "sub-1_ses-M000_T1w.nii.gz"
    image.rename(tmp_path / "MD5E-s1--0")  # as git-annex keeps it: no ending
    image.symlink_to(tmp_path / "MD5E-s1--0")
    (image.parent / "._sub-1_ses-M000_T1w.nii").write_bytes(b"Mac OS X")
    t1 = data.read().people[0].t1
    assert (t1.path.name, t1.rejected) == ("sub-1_ses-M000_T1w.nii.gz", "")


def test_a_link_that_leads_nowhere_is_missing_content(data, tmp_path):
    data.add("sub-1/anat/x.nii")
    (data.root / "sub-1/anat/sub-1_T1w.nii.gz").symlink_to(tmp_path / "gone")
    row = data.read().ledger[0]
    assert (row.status, row.reason_code) == ("excluded", "missing_content")
