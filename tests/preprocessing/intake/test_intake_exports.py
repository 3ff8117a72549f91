"""Old and new shapes of an ADNI download: folders, tables, encodings, quality tables, deaths."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from preprocessing.intake import adni
from preprocessing.intake.people import chosen_scans
from preprocessing.intake.tables import read_collection, read_histories
from preprocessing.intake.verdicts import read_verdicts

PERSON = "011_S_4105"
SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
FDG_8MM = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
FDG_AVERAGED = "Co-registered, Averaged"


@pytest.fixture
def pair(download):
    """One person with a T1 (I100000) and two FDG series (I100001, I100002), converter."""
    download.add_image(PERSON, SCALED)
    download.add_image(PERSON, FDG_8MM, modality="PET", date="2006-03-20")
    download.add_image(PERSON, FDG_AVERAGED, modality="PET", date="2006-03-20")
    download.add_diagnoses(PERSON, bl=2, m12=2, m24=3)
    return download


def codes(intake) -> dict[str, tuple[str, str]]:
    return {row.modality: (row.status, row.reason_code) for row in intake.ledger}


def write(table: dict, path) -> None:
    pd.DataFrame(table).to_csv(path, index=False)


def test_a_folder_named_by_series_holds_the_image_that_its_file_names(pair):
    raw = pair.write()
    for folder in [path for path in raw.rglob("I10000*") if path.is_dir()]:
        folder.rename(folder.with_name(f"S{folder.name[-3:]}"))
    (person,) = adni.read_download(raw).people
    assert person.t1.path.parent.name == "S000" and person.t1.image_id == "100000"
    assert person.pet.image_id == "100001"


def test_files_without_the_image_id_are_found_by_their_folder(pair):
    raw = pair.write()
    path = next(raw.rglob("*_I100000.nii"))
    path.rename(path.with_name("T1.nii"))
    assert adni.read_download(raw).people[0].t1.path.name == "T1.nii"


def test_a_folder_of_dicom_files_is_the_image_and_xml_beside_it_is_not(pair):
    raw = pair.write()
    path = next(raw.rglob("*_I100000.nii"))
    for k in range(3):
        path.with_name(f"ADNI_x_{k}_S1_I100000.dcm").write_bytes(b"\0" * 128 + b"DICM")
    path.with_name("ADNI_x_S1_I100000.xml").write_text("<x/>")
    path.unlink()
    assert adni.read_download(raw).people[0].t1.path == path.parent


def test_parts_of_a_download_unpacked_side_by_side_are_one_person(pair):
    raw = pair.write()
    series = next(raw.rglob("*_I100001.nii")).parents[2]
    (raw / "ADNI 2" / PERSON).mkdir(parents=True)
    shutil.move(series, raw / "ADNI 2" / PERSON / series.name)
    (person,) = adni.read_download(raw).people
    assert person.pet.image_id == "100001" and "ADNI 2" in str(person.pet.path)


@pytest.mark.parametrize(("name", "code"), [("x_I100000.v", "ecat"), ("x_I100000.mgz", "unknown_format")])
def test_a_format_that_is_not_read_fails_with_its_reason(pair, name, code):
    raw = pair.write()
    path = next(raw.rglob("*_I100000.nii"))
    path.rename(path.with_name(name))
    intake = adni.read_download(raw)
    assert codes(intake) == {"mri": ("failed", code), "pet": ("excluded", "no_t1")}
    assert name in intake.ledger[0].reason


def test_the_next_best_series_is_taken_where_the_best_was_not_downloaded(pair):
    raw = pair.write()
    next(raw.rglob("*_I100001.nii")).unlink()
    assert adni.read_download(raw).people[0].pet.image_id == "100002"


def test_a_lower_case_list_of_all_images_serves_and_expects_only_who_was_downloaded(pair):
    raw = pair.write()
    (collection,) = raw.glob("*collection*.csv")
    old = pd.read_csv(collection, dtype=str)
    collection.unlink()
    names = {"Image Data ID": "image_id", "Subject": "subject_id", "Visit": "image_visit", "Acq Date": "image_date"}
    names |= {"Modality": "modality", "Description": "image_description"}
    new = old.rename(columns=names)[list(names.values())]
    other = new.iloc[:1].assign(subject_id="002_S_0001", image_id="I9")
    pd.concat([new.assign(image_id=new.image_id.str[1:]), other]).to_csv(raw / "MRI_All_Images_21Nov2026.csv")
    intake = adni.read_download(raw)
    assert [p.participant_id for p in intake.people] == ["sub-ADNI011S4105"]
    assert (intake.people[0].t1.image_id, intake.people[0].pet.image_id) == ("100000", "100001")
    assert intake.ledger == []


def test_adnimerge_gives_the_diagnoses_where_dxsum_is_not_there_or_does_not_hold_a_person(tmp_path):
    rows = {"PTID": [PERSON] * 3, "RID": [4105] * 3, "VISCODE": ["bl", "m12", "m24"], "DX_bl": ["CN"] * 3}
    write(rows | {"DX": ["MCI", "", "MCI to Dementia"]}, tmp_path / "ADNIMERGE_21Nov2026.csv")
    expected = [(0, "MCI"), (24, "AD")]
    assert [(v.month, v.diagnosis) for v in read_histories(tmp_path, {PERSON})[PERSON]] == expected
    write({"PTID": ["001_S_0001"], "VISCODE2": ["bl"], "DIAGNOSIS": [1]}, tmp_path / "DXSUM.csv")
    both = read_histories(tmp_path, {PERSON, "001_S_0001"})
    assert [(v.month, v.diagnosis) for v in both[PERSON]] == expected
    assert both["001_S_0001"][0].diagnosis == "CN"


def test_dxsum_has_the_word_over_adnimerge(tmp_path):
    write({"PTID": [PERSON], "VISCODE2": ["bl"], "DIAGNOSIS": [2]}, tmp_path / "DXSUM.csv")
    write({"PTID": [PERSON], "VISCODE": ["bl"], "DX": ["CN"]}, tmp_path / "ADNIMERGE.csv")
    assert [v.diagnosis for v in read_histories(tmp_path, {PERSON})[PERSON]] == ["MCI"]


def test_a_windows_table_is_read_with_a_warning(pair):
    raw = pair.write()
    (collection,) = raw.glob("*collection*.csv")
    content = collection.read_text().replace("NiFTI", "Zürich")
    collection.write_bytes(content.encode("cp1252"))
    with pytest.warns(UserWarning, match="collection.*not UTF-8; read as Windows-1252"):
        assert len(read_collection(raw)) == 3


def test_a_table_with_a_byte_order_mark_and_semicolons_is_read(pair):
    raw = pair.write()
    (collection,) = raw.glob("*collection*.csv")
    pd.read_csv(collection, dtype=str).to_csv(collection, sep=";", index=False, encoding="utf-8-sig")
    assert len(read_collection(raw)) == 3


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("MRIQUALITY_01Jan2020", {"RID": [4105], "LONIUID": ["I100000"], "QUALITY": [0]}),
        ("MAYOADIRL_MRI_IMAGEQC_12_08_15", {"RID": [4105], "loni_image": ["I100000"], "series_quality": [4]}),
    ],
)
def test_a_t1_that_failed_adnis_quality_control_is_left_out(pair, name, table):
    raw = pair.write()
    write(table, raw / f"{name}.csv")
    intake = adni.read_download(raw)
    assert codes(intake)["mri"] == ("excluded", "failed_qc")
    assert name in intake.ledger[0].reason


def test_another_t1_is_taken_where_the_best_failed_quality_control(pair):
    pair.add_image(PERSON, "MPRAGE")
    raw = pair.write()
    write({"RID": [4105], "loni_image": ["I100000"], "series_quality": [4]}, raw / "MAYOADIRL_MRI_IMAGEQC.csv")
    assert adni.read_download(raw).people[0].t1.image_id == "100003"


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("PETQC", {"RID": [4105], "LONIUID": ["I7"], "EXAMDATE": ["2006-03-20"], "PASS": [0]}),
        ("PETC3", {"RID": [4105], "SCANDATE": ["03/20/2006"], "SCANQLTY": [0]}),
    ],
)
def test_a_pet_day_that_failed_quality_control_is_left_out_whatever_the_id_of_its_series(pair, name, table):
    raw = pair.write()
    write(table, raw / f"{name}_01Jan2020.csv")
    assert codes(adni.read_download(raw)) == {"pet": ("excluded", "failed_qc")}


def test_a_day_on_which_a_repeated_pet_passed_has_not_failed(tmp_path):
    rows = {"RID": [1, 1], "EXAMDATE": ["2006-03-20"] * 2, "PASS": [0, 1]}
    write(rows, tmp_path / "PETQC.csv")
    day = pd.Timestamp("2006-03-20")
    assert read_verdicts(tmp_path).why_failed("001_S_0001", "pet", "5", day) == ""


@pytest.mark.parametrize("when", [{"MONTH": [20]}, {"DATE": ["2007-11-01"]}])
def test_a_death_before_the_horizon_is_read_from_its_table(download, when):
    download.add_image(PERSON, SCALED)
    download.add_diagnoses(PERSON, bl=2, m12=2)
    raw = download.write()
    write({"RID": [4105]} | when, raw / "DEATHS.csv")
    intake = adni.read_download(raw)
    assert intake.people[0].label.reason == "died"
    assert intake.deaths["sub-ADNI011S4105"] == pytest.approx(20, abs=0.1)


def test_a_list_of_images_without_a_modality_does_not_stop_the_intake(pair):
    """MRILIST of older exports names images, too, and has no modality: it is no collection."""
    raw = pair.write()
    write({"SUBJECT": [PERSON], "SEQUENCE": ["MPRAGE"], "IMAGEUID": [100000]}, raw / "MRILIST.csv")
    assert len(read_collection(raw)) == 3


def test_the_chosen_series_are_listed_with_their_distance_from_the_t1(pair):
    table = chosen_scans(adni.read_download(pair.write()).people)
    assert list(table.modality) == ["mri", "pet"]
    assert list(table.series) == [SCALED, FDG_8MM]
    assert list(table.days_from_t1) == [0, 19]
