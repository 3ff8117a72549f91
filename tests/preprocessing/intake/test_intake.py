"""Which scan of whom, from the tables and names of an ADNI download."""

from __future__ import annotations

import pandas as pd
import pytest

from preprocessing.intake import adni
from preprocessing.intake.people import Intake, month_of, session_id
from preprocessing.intake.tables import read_collection, read_histories
from preprocessing.intake.visits import person_month

PERSON = "011_S_4105"
SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
N3M = "MT1; GradWarp; N3m"
FDG_8MM = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
FDG_AVERAGED = "Co-registered, Averaged"
FDG_DYNAMIC = "Co-registered Dynamic"


def reasons(intake: Intake) -> dict[str, str]:
    return {row.modality: row.reason_code for row in intake.ledger}


def test_the_most_processed_t1_and_fdg_series_are_chosen(download):
    for description in ("MPRAGE", N3M, SCALED):
        download.add_image(PERSON, description)
    for description in (FDG_AVERAGED, FDG_8MM):
        download.add_image(PERSON, description, modality="PET", date="2006-03-20")
    download.add_diagnoses(PERSON, bl=2, m12=2, m24=3)
    (person,) = adni.read_download(download.write()).people
    assert (person.t1.description, person.pet.description) == (SCALED, FDG_8MM)
    assert (person.participant_id, person.session_id, person.site) == ("sub-ADNI011S4105", "ses-M000", "011")
    assert (person.label.label, person.label.months_to_conversion) == ("converter", 24)


def test_ranks_follow_adnis_processing_and_refuse_what_is_no_structural_t1():
    ranks = [adni.rank_t1(text) for text in (SCALED, N3M, "MPRAGE", "MP-RAGE REPEAT", "Accelerated Sag IR-FSPGR")]
    assert ranks == [0, 1, 2, 2.5, 2]
    assert [adni.rank_t1(text) for text in ("MPRAGE_ND", "Axial T2 FLAIR", "MPR; GradWarp; Mask")] == [None] * 3


@pytest.mark.parametrize(
    ("series", "code"),
    [(FDG_DYNAMIC, "dynamic"), ("FDG Early, Avg", "early_frames"), (f"AV45 {FDG_8MM}", "other_tracer")],
)
def test_a_pet_that_is_no_averaged_fdg_is_excluded_with_its_reason(download, series, code):
    download.add_image(PERSON, SCALED)
    download.add_image(PERSON, series, modality="PET")
    download.add_diagnoses(PERSON, bl=2)
    intake = adni.read_download(download.write())
    assert reasons(intake) == {"pet": code}
    assert intake.people[0].pet is None


@pytest.mark.parametrize(("date", "paired"), [("2006-05-30", True), ("2006-05-31", False)])
def test_a_pet_pairs_up_to_ninety_days_from_the_t1(download, date, paired):
    download.add_image(PERSON, SCALED, date="2006-03-01")
    download.add_image(PERSON, FDG_8MM, modality="PET", date=date)
    download.add_diagnoses(PERSON, bl=2)
    intake = adni.read_download(download.write())
    assert (intake.people[0].pet is not None) == paired
    assert reasons(intake) == ({} if paired else {"pet": "pet_too_far"})


def test_the_earliest_visit_with_mci_is_the_scan_visit(download):
    for visit, date in (("bl", "2006-03-01"), ("m12", "2007-03-01"), ("m24", "2008-03-01")):
        download.add_image(PERSON, SCALED, visit=visit, date=date)
    download.add_diagnoses(PERSON, bl=1, m12=2, m24=2, m48=2)
    (person,) = adni.read_download(download.write()).people
    assert (person.session_id, person.label.reason) == ("ses-M012", "stable")


def test_every_expected_scan_is_a_person_to_process_or_one_ledger_row(download):
    download.add_image("001_S_0001", SCALED)
    download.add_image("001_S_0002", SCALED, file=False)
    download.add_image("001_S_0003", "Axial T2")
    download.add_image("001_S_0004", SCALED, visit="nv")
    download.add_image("001_S_0004", SCALED, visit="uns1", file=False)
    download.add_diagnoses("001_S_0001", bl=2)
    raw = download.write()
    (raw / "ADNI" / "001_S_0005").mkdir()
    intake = adni.read_download(raw)
    planned = {(p.participant_id, "mri") for p in intake.people}
    planned |= {(p.participant_id, "pet") for p in intake.people if p.pet}
    rows = [(row.participant_id, row.modality) for row in intake.ledger]
    expected = {(f"sub-ADNI001S000{n}", modality) for n in range(1, 6) for modality in ("mri", "pet")}
    assert sorted([*planned, *rows]) == sorted(expected)
    t1_codes = {row.participant_id[-1]: row.reason_code for row in intake.ledger if row.modality == "mri"}
    assert t1_codes == {"2": "missing_file", "3": "no_t1", "4": "unknown_visit", "5": "not_in_collection"}


@pytest.mark.parametrize(
    ("code", "month"),
    [("sc", 0), ("bl", 0), ("4_bl", 0), ("scmri", 0), ("m06", 6), ("m120", 120), ("4_m12", None), ("nv", None)]
    + [("v04", None), ("v11", None), ("init", None), ("4_init", None), ("y1", None), ("uns1", None), ("", None)]
    + [("ADNI1/GO Month 12", None), ("ADNI2 Year 1 Visit", None), ("ADNI2 Initial Visit-Cont Pt", None)],
)
def test_a_visit_code_names_a_month_only_where_it_counts_from_the_persons_own_baseline(code, month):
    assert person_month(code) == month


def test_old_and_new_diagnosis_columns_give_the_same_history(tmp_path):
    rows = {"RID": ["4105"] * 3, "VISCODE": ["bl", "m12", "m24"], "Phase": ["ADNI1"] * 3}
    old = pd.DataFrame(rows | {"DXCURREN": ["2", "", ""], "DXCHANGE": ["", "4", "5"]})
    new = pd.DataFrame({"PTID": [PERSON] * 3, "VISCODE2": ["bl", "m12", "m24"], "DIAGNOSIS": [2, 2, 3]})
    found = []
    for name, table in (("DXSUM_PDXCONV_ADNIALL", old), ("DXSUM_21Nov2026", new)):
        (tmp_path / name).mkdir()
        table.to_csv(tmp_path / name / f"{name}.csv", index=False)
        found.append([(v.month, v.diagnosis) for v in read_histories(tmp_path / name, {PERSON})[PERSON]])
    assert found == [[(0, "MCI"), (12, "MCI"), (24, "AD")]] * 2


def test_baseline_counts_before_screening(tmp_path):
    table = pd.DataFrame({"PTID": [PERSON] * 2, "VISCODE2": ["bl", "sc"], "DIAGNOSIS": [2, 1]})
    table.to_csv(tmp_path / "DXSUM.csv", index=False)
    assert read_histories(tmp_path, {PERSON})[PERSON][0].diagnosis == "MCI"


def test_a_missing_column_is_named_with_its_file_and_known_spellings(download):
    raw = download.write()
    pd.DataFrame({"PTID": [PERSON], "VISCODE2": ["bl"], "DXX": [2]}).to_csv(raw / "DXSUM_01Jan2020.csv", index=False)
    with pytest.raises(ValueError, match=r"DXSUM_01Jan2020.csv: no column 'DIAGNOSIS'.*DXCHANGE, DXCURREN"):
        read_histories(raw, {PERSON})


def test_missing_tables_are_named_with_their_known_spellings(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no collection CSV; .*Image Data ID, Subject"):
        read_collection(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no diagnostic table; DXSUM .with DIAGNOSIS"):
        read_histories(tmp_path, {PERSON})


def test_people_of_one_group_file_share_a_group_and_others_are_their_own(download):
    for ptid in ("001_S_0001", "001_S_0002"):
        download.add_image(ptid, SCALED)
        download.add_diagnoses(ptid, bl=2)
    raw = download.write()
    pd.DataFrame({"PTID": ["001_S_0001"], "GROUP": ["anatomy-3"]}).to_csv(raw / "GROUPS.csv", index=False)
    assert [p.group_id for p in adni.read_download(raw).people] == ["anatomy-3", "sub-ADNI001S0002"]


def test_participant_and_session_names_go_there_and_back():
    assert adni.ptid_of(adni.participant_id("941_S_10013")) == "941_S_10013"
    assert month_of(session_id(120)) == 120


def test_an_empty_table_is_named(tmp_path):
    (tmp_path / "collection.csv").write_text("\n")
    with pytest.raises(ValueError, match="collection.csv: the table is empty"):
        read_collection(tmp_path)
