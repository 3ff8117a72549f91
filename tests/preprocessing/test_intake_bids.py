"""BIDS data sets: which scan of whom, and where diagnoses are read."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from preprocessing.intake import bids
from preprocessing.intake.labels import Visit

RAMP = nib.Nifti1Image(np.arange(64, dtype=np.float32).reshape(4, 4, 4), np.eye(4))


class DataSet:
    """Files of a BIDS data set, written as they are named."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def add(self, *names: str) -> DataSet:
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(RAMP, path) if name.endswith((".nii", ".nii.gz")) else path.write_bytes(b"MATRIX72v")
        return self

    def table(self, name: str, *lines: str) -> DataSet:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join("\t".join(line.split()) for line in lines) + "\n")
        return self

    def sidecar(self, name: str, **content: object) -> DataSet:
        (self.root / name).write_text(json.dumps(content))
        return self

    def read(self, **options):
        return bids.read_dataset(self.root, **options)


@pytest.fixture
def data(tmp_path) -> DataSet:
    return DataSet(tmp_path / "bids")


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


def test_the_plainest_t1_and_the_first_run_are_taken(data):
    data.add("sub-01/anat/sub-01_acq-fast_run-1_T1w.nii", "sub-01/anat/sub-01_run-2_T1w.nii")
    data.add("sub-01/anat/sub-01_run-1_T1w.nii")
    assert data.read().people[0].t1.path.name == "sub-01_run-1_T1w.nii"


def three_sessions(data: DataSet) -> DataSet:
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
    from preprocessing.intake.people import is_uniform

    data.add("sub-01/anat/sub-01_T1w.nii", "sub-01/pet/sub-01_trc-18FFDG_rec-coregiso_pet.nii.gz")
    assert is_uniform(data.read().people[0].pet.description)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["participant_id age", "sub-01 70", "sub-01 71"], "participants.tsv: participant sub-01 stands twice"),
        (["subject age", "sub-01 70"], "participants.tsv: no column 'participant_id'"),
        (["participant_id diagnosis_history", "sub-01 12-MCI"], "'12-MCI' is not like 12:MCI"),
    ],
)
def test_a_participants_table_that_is_not_understood_is_named(data, lines, sentence):
    data.add("sub-01/anat/sub-01_T1w.nii").table("participants.tsv", *lines)
    with pytest.raises(ValueError, match=sentence):
        data.read()


def test_a_folder_without_people_is_no_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="no sub-\\* folder"):
        bids.read_dataset(tmp_path)
