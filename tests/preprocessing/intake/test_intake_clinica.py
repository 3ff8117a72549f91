"""A BIDS data set as Clinica's adni-to-bids writes it: people, months, labels and what its tables say of scans."""

from __future__ import annotations

import warnings

import pytest

PERSON = "sub-ADNI011S4105"
SESSIONS = f"{PERSON}/{PERSON}_sessions.tsv"
COURSE = {"M000": ("2006-03-01", "71.2", "MCI"), "M006": ("2006-09-03", "71.7", "n/a")}
COURSE |= {"M012": ("2007-03-05", "72.2", "MCI"), "M024": ("2008-03-01", "73.2", "AD")}


def t1(session: str) -> str:
    return f"{PERSON}/ses-{session}/anat/{PERSON}_ses-{session}_T1w.nii.gz"


def pet(session: str, named: str = "trc-18FFDG_rec-coregiso8") -> str:
    return f"{PERSON}/ses-{session}/pet/{PERSON}_ses-{session}_{named}_pet.nii.gz"


def scans_table(data, session: str, **tesla: str) -> None:
    kinds = {"anat": t1(session), "pet": pet(session)}
    lines = [f"{kind}/{name.rsplit('/')[-1]} 10206 {tesla.get(kind, 'n/a')}" for kind, name in kinds.items()]
    path = f"{PERSON}/ses-{session}/{PERSON}_ses-{session}_scans.tsv"
    data.table(path, "filename scan_id mri_field", *lines)


@pytest.fixture
def clinica(data):
    """Columns, their order and values as Clinica 0.12 has them; visits without scans stand in sessions.tsv too."""
    data.table(
        "participants.tsv",
        "alternative_id_1 participant_id sex education_level age_bl marital_status adni_rid site diagnosis_sc",
        f"011_S_4105 {PERSON} F 18 71.2 n/a 4105 11 LMCI",
    )
    data.text("conversion_info/v0/t1_paths.tsv", "Subject_ID\tVISCODE\n011_S_4105\tbl\n")
    header = "RID session_id examination_date age current_study diagnosis adni_pib MMSE a_stat tau_stat"
    rows = [f"4105 ses-{name} {day} {age} ADNI1 {dx} n/a 27.0 Au Tu" for name, (day, age, dx) in COURSE.items()]
    return data.table(SESSIONS, header, *rows)


def test_a_person_has_the_label_that_the_diagnoses_of_all_sessions_give(clinica):
    clinica.add(t1("M000"), pet("M000"))
    scans_table(clinica, "M000", anat="1.5")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = clinica.read()
    (person,) = found.people
    assert (person.participant_id, person.session_id, person.months) == (PERSON, "ses-M000", 0)
    assert (person.label.label, person.label.months_to_conversion) == ("converter", 24)
    assert [(v.month, v.diagnosis) for v in found.histories[PERSON]] == [(0, "MCI"), (12, "MCI"), (24, "AD")]
    assert (person.age, person.sex, person.tracer, person.pet.days_from_t1) == (71.2, "F", "18F-FDG", 0)
    assert not found.ledger


def test_the_field_strength_is_that_of_the_t1_in_the_scans_table(clinica):
    clinica.add(t1("M000"), pet("M000"), t1("M012"))
    scans_table(clinica, "M000", anat="1.5")
    scans_table(clinica, "M012", anat="3.0")
    assert [person.field_strength_t for person in clinica.read(visits="all").people] == [1.5, 3.0]
    clinica.sidecar(t1("M000").replace(".nii.gz", ".json"), MagneticFieldStrength=2.9)
    assert clinica.read().people[0].field_strength_t == 2.9


def test_a_later_scan_has_the_age_and_the_label_of_its_own_session(clinica):
    clinica.add(t1("M012"), pet("M012"))
    (person,) = clinica.read().people
    assert (person.age, person.label.months_to_conversion) == (72.2, 12)


def test_the_age_at_baseline_stands_where_a_session_has_none(clinica):
    clinica.add(t1("M003"), pet("M003"))
    (person,) = clinica.read().people
    assert (person.age, person.months) == (71.2, 3)


def test_a_pet_of_another_session_is_paired_by_the_dates_of_the_examinations(clinica):
    clinica.add(t1("M000"), pet("M006"))
    assert clinica.read(pair_days=190).people[0].pet.days_from_t1 == 186
    assert clinica.read(pair_days=180).people[0].pet is None


def test_a_pet_of_uniform_resolution_is_taken_before_earlier_steps_of_processing(clinica):
    clinica.add(t1("M000"), *(pet("M000", f"trc-18FFDG_rec-{step}") for step in ("coregavg", "coregdyn", "coregiso8")))
    clinica.add(pet("M000", "trc-18FAV45_rec-coregiso6"))
    assert "rec-coregiso8" in clinica.read().people[0].pet.path.name


@pytest.mark.parametrize(("label", "found"), [("fdg", True), ("FDG", True), ("av45", False), ("dyn", False)])
def test_the_tracer_of_older_versions_stands_in_acq(clinica, label, found):
    clinica.add(t1("M000"), pet("M000", f"task-rest_acq-{label}"))
    assert (clinica.read().people[0].pet is not None) == found


def test_a_sidecar_that_names_another_tracer_counts_before_acq(clinica):
    clinica.add(t1("M000"), pet("M000", "acq-fdg"))
    clinica.sidecar(pet("M000", "acq-fdg").replace(".nii.gz", ".json"), TracerName="Florbetapir")
    found = clinica.read()
    assert found.people[0].pet is None and found.ledger[0].reason_code == "other_tracer"


def test_a_person_with_a_pet_alone_is_left_out_with_the_reason(clinica):
    clinica.add(pet("M000"))
    found = clinica.read()
    assert not found.people
    assert [(row.modality, row.reason_code) for row in found.ledger] == [("mri", "no_t1"), ("pet", "no_t1")]
