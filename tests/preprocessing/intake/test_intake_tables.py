"""Tables as people have them: any file name, whatever a spreadsheet did to them, and whatever lies beside them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from preprocessing.intake import adni
from preprocessing.intake.clinical import read_scores
from preprocessing.intake.columns import read_number, read_text_table
from preprocessing.intake.dates import read_dates
from preprocessing.intake.labels import read_diagnosis
from preprocessing.intake.people import Intake

PERSON = "011_S_4105"
SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
FDG_8MM = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
DATES = ["2006-03-01", "2007-03-01", "2008-03-01"]


@pytest.fixture
def pair(download):
    """One person with a T1 (I100000) and an FDG (I100001) at baseline, demented in month 24; all dates are there."""
    download.add_image(PERSON, SCALED)
    download.add_image(PERSON, FDG_8MM, modality="PET", date="2006-03-12")
    for visit, day, diagnosis in zip(("bl", "m12", "m24"), DATES, "223", strict=True):
        row = {"PTID": PERSON, "RID": "4105", "VISCODE2": visit, "EXAMDATE": day, "DIAGNOSIS": diagnosis}
        download.diagnoses.append(row)
    return download


def found(intake: Intake) -> list[tuple]:
    """What became of everybody, in a form that can be compared."""
    people = [
        (p.participant_id, p.session_id, p.label.label, p.t1.image_id, p.pet and p.pet.image_id) for p in intake.people
    ]
    return people + [(row.participant_id, row.modality, row.reason_code) for row in intake.ledger]


GOOD = [("sub-ADNI011S4105", "ses-M000", "converter", "100000", "100001")]


def quietly(raw: Path, **options) -> Intake:
    """Nothing in the download is worth a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return adni.read_download(raw, **options)


def with_warning(raw: Path, words: str, **options) -> Intake:
    """One warning, and it says `words`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        intake = adni.read_download(raw, **options)
    assert [words in str(warning.message) for warning in caught] == [True], [str(w.message) for w in caught]
    return intake


def edit(raw: Path, name: str, change: Callable[[str], str]) -> None:
    (path,) = raw.glob(name)
    path.write_text(change(path.read_text()))


COLLECTION, DXSUM = "*collection*.csv", "DXSUM*.csv"

# ---- by their columns


@pytest.mark.parametrize("name", ["All_Subjects_DXSUM_07Sep2025.csv", "my diagnoses.CSV", "2025/export (1).csv"])
def test_a_diagnostic_table_may_be_called_anything(pair, name):
    raw = pair.write()
    (raw / name).parent.mkdir(exist_ok=True)
    (raw / "DXSUM_01Jan2020.csv").rename(raw / name)
    assert found(quietly(raw)) == GOOD


@pytest.mark.parametrize("name", ["All_Subjects_ADNIMERGE_07Sep2025.csv", "x.csv"])
def test_adnimerge_may_be_called_anything(pair, name):
    raw = pair.write()
    table = pd.read_csv(raw / "DXSUM_01Jan2020.csv", dtype=str)
    words = table.rename(columns={"VISCODE2": "VISCODE"}).assign(DX=["MCI", "MCI", "Dementia"], MMSE=29, FLDSTRENG=3)
    words.drop(columns="DIAGNOSIS").to_csv(raw / name, index=False)
    (raw / "DXSUM_01Jan2020.csv").unlink()
    intake = quietly(raw)
    assert found(intake) == GOOD
    assert set(intake.scores["score"]) == {"mmse"} and intake.people[0].field_strength_t == 3


@pytest.mark.parametrize("prefix", ["", "All_Subjects_", "Copy of "])
@pytest.mark.parametrize(
    ("name", "columns", "lost"),
    [
        ("MRIQUALITY", {"LONIUID": "I100000", "series_quality": "4"}, "mri"),
        ("MRIQUALITY", {"LONIUID": "100000.0", "QUALITY": "0.0"}, "mri"),
        ("MAYOADIRL_MRI_IMAGEQC", {"loni_image": "100000", "series_quality": "4"}, "mri"),
        ("PETQC", {"LONIUID": "I100001", "SCANDATE": "2006-03-12", "PASS": "0"}, "pet"),
        ("PETQC", {"LONIUID": "I9", "SCANDATE": "12Mar2006", "PASS": "0"}, "pet"),
        ("PETC3", {"SCANDATE": "2006-03-12", "SCANQLTY": "0"}, "pet"),
    ],
)
def test_a_quality_table_counts_under_any_name(pair, prefix, name, columns, lost):
    raw = pair.write()
    pd.DataFrame([{"RID": "4105.0"} | columns]).to_csv(raw / f"{prefix}{name}_07Sep2025.csv", index=False)
    assert (lost, "failed_qc") in {(row.modality, row.reason_code) for row in quietly(raw).ledger}


def test_a_failed_mri_says_nothing_of_a_pet_on_the_same_day(pair):
    raw = pair.write()
    row = {"RID": "4105", "LONIUID": "I9", "EXAMDATE": "2006-03-12", "PASS": "0"}
    pd.DataFrame([row]).to_csv(raw / "MRIQUALITY.csv", index=False)
    assert found(quietly(raw)) == GOOD


def test_scores_whose_dates_cannot_be_read_stop_nobody(pair):
    raw = pair.write()
    rows = {"PTID": [PERSON] * 2, "VISCODE2": ["bl"] * 2, "EXAMDATE": ["03/20/2006", "20/03/2006"], "MMSCORE": [27, 28]}
    pd.DataFrame(rows | {"PTEDUCAT": [16, 16]}).to_csv(raw / "MMSE.csv", index=False)
    intake = with_warning(raw, "scores that change with time are left out")
    assert set(intake.scores.score) == {"education"}
    assert found(intake) == GOOD


def test_scores_are_found_under_any_name(tmp_path):
    pd.DataFrame({"PTID": [PERSON], "VISCODE2": ["bl"], "MMSCORE": ["27"]}).to_csv(tmp_path / "All_Subjects_MMSE.csv")
    pd.DataFrame({"RID": ["4105.0"], "GENOTYPE": ["3/4"]}).to_csv(tmp_path / "x.csv")
    assert set(read_scores(tmp_path, {PERSON}).score) == {"mmse", "apoe4"}


STRANGERS = {
    "empty": ("notes.csv", ""),
    "blank": ("notes.csv", "\n\n,,,\n"),
    "unknown": ("VITALS.csv", "RID,VSWEIGHT\n1,70\n"),
    "a dictionary": ("DATADIC.csv", "PHASE,TBLNAME,FLDNAME,TYPE\nADNI1,DXSUM,DXCURREN,N\n"),
    "a page": ("login.csv", "<!DOCTYPE html>\n<html><body>Please log in, again</body></html>\n"),
    "no text": ("photo.csv", "\0\1\2\3\n\0"),
    "a collection without its people": ("old_collection.csv", "Image Data ID,Modality,Description\nI7,MRI,MPRAGE\n"),
    "a quality table with a column renamed": ("PETQC.csv", "RID,EXAMDATE,OK\n4105,2006-03-12,0\n"),
    "a list from idaSearch": (
        "idaSearch_2_06_2024.csv",
        "Subject ID,Phase,Sex,Research Group,Visit,Study Date,Age,Modality,Description,Imaging Protocol,Image ID\n"
        f"{PERSON},ADNI 1,F,MCI,ADNI Baseline,3/01/2006,74,MRI,{SCALED},Field Strength=1.5,100000\n",
    ),
    "a Key_MRI table": (
        "All_Subjects_Key_MRI_07Sep2025.csv",
        "subject_id,image_id,image_visit,image_date,series_type,study_phase,series_description,acquisition_plane\n"
        f"{PERSON},100000,bl,2006-03-01,T1,ADNI1,{SCALED},SAGITTAL\n",
    ),
}


@pytest.mark.parametrize(("name", "content"), STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_beside_the_tables_is_one_warning_that_names_it(pair, name, content):
    raw = pair.write()
    (raw / name).write_text(content)
    assert found(with_warning(raw, name)) == GOOD


@pytest.mark.parametrize("name", ["a list from idaSearch", "a Key_MRI table"])
def test_a_list_of_the_archive_serves_where_there_is_no_collection(pair, name):
    raw = pair.write()
    next(raw.glob(COLLECTION)).unlink()
    name, content = STRANGERS[name]
    other = content.splitlines()[1].replace(PERSON, "011_S_9999").replace("100000", "7")  # never downloaded
    (raw / name).write_text(content + other + "\n")
    assert found(quietly(raw)) == [GOOD[0][:4] + (None,), ("sub-ADNI011S4105", "pet", "no_pet")]


def test_the_error_about_a_missing_table_names_the_one_that_may_be_it(pair):
    raw = pair.write()
    edit(raw, COLLECTION, lambda text: text.replace("Subject", "Who", 1))
    (raw / "notes.csv").write_text("")
    with pytest.raises(ValueError, match=r"no collection CSV.*collection.*no column 'Subject'; known spellings"):
        adni.read_download(raw)


@pytest.mark.parametrize("name", ["._DXSUM_01Jan2020.csv", ".hidden.csv", "__MACOSX/DXSUM_01Jan2020.csv"])
def test_hidden_tables_are_no_tables(pair, name):
    raw = pair.write()
    (raw / name).parent.mkdir(exist_ok=True)
    (raw / name).write_bytes(b"\0\5\x16\7\0\2Mac OS X")
    assert found(quietly(raw)) == GOOD


def test_hidden_files_are_no_images(pair):
    raw = pair.write()
    for path in sorted(raw.rglob("*.nii")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2Mac OS X")
    assert [person.t1.path.name[:2] for person in quietly(raw).people] == ["AD"]


# ---- dates


def day_first(text: str) -> str:
    return pd.Series([text]).str.replace(r"(\d{4})-(\d\d)-(\d\d)", r"\3/\2/\1", regex=True)[0]


def month_first(text: str) -> str:
    return pd.Series([text]).str.replace(r"(\d{4})-(\d\d)-(\d\d)", r"\2/\3/\1", regex=True)[0]


def without_days_in_paths(raw: Path) -> None:
    for path in sorted(raw.rglob("*_10_00_00.0")):
        path.rename(path.with_name(f"scan{path.name[5:7]}"))


@pytest.mark.parametrize("write", [day_first, month_first])
def test_a_day_above_twelve_proves_the_order_for_its_whole_column(pair, write):
    """The PET of March 9 is eight days from the T1 in one order and six months in the other."""
    pair.add_image("011_S_0007", SCALED, date="2006-03-20")
    pair.images[1]["Acq Date"] = "2006-03-09"
    raw = pair.write()
    edit(raw, COLLECTION, write)
    without_days_in_paths(raw)
    days = {person.participant_id: person.pet and person.pet.days_from_t1 for person in quietly(raw).people}
    assert days["sub-ADNI011S4105"] == 8


def test_a_pet_half_a_year_away_is_not_paired_by_reading_its_date_in_another_order(pair):
    pair.add_image("011_S_0007", SCALED, date="2006-03-20")
    pair.images[1]["Acq Date"] = "2006-09-03"
    raw = pair.write()
    edit(raw, COLLECTION, day_first)
    without_days_in_paths(raw)
    reasons = [row.reason for row in adni.read_download(raw).ledger if row.reason_code == "pet_too_far"]
    assert reasons == ["nearest FDG is 186 days from the T1; at most 90 allowed"]


@pytest.mark.parametrize("write", [day_first, month_first])
def test_days_in_the_paths_of_images_decide_where_no_cell_does(pair, write):
    pair.images[1]["Acq Date"] = "2006-03-09"
    raw = pair.write()
    path = next(raw.rglob("2006-03-12_10_00_00.0"))
    path.rename(path.with_name("2006-03-09_10_00_00.0"))
    for name in (COLLECTION, DXSUM):
        edit(raw, name, write)
    (person,) = quietly(raw).people
    assert (person.pet.days_from_t1, person.label.months_to_conversion) == (8, 24)


def test_where_nothing_decides_the_error_names_the_column_and_the_option(pair):
    pair.images[1]["Acq Date"] = "2006-03-09"
    raw = pair.write()
    edit(raw, COLLECTION, month_first)
    without_days_in_paths(raw)
    with pytest.raises(
        ValueError, match=r"collection.*column 'Acq Date': 2 dates in which .*--dates dmy or --dates mdy"
    ):
        adni.read_download(raw)
    assert quietly(raw, dates="mdy").people[0].pet.days_from_t1 == 8


@pytest.mark.parametrize("dates", [None, "mdy"])
def test_a_column_that_proves_its_order_needs_no_other_columns_and_no_option(pair, dates):
    pair.diagnoses[1]["EXAMDATE"] = "2007-03-13"
    raw = pair.write()
    edit(raw, DXSUM, day_first)
    assert found(quietly(raw, dates=dates)) == GOOD


def test_a_column_with_both_orders_is_an_error_with_both_cells():
    with pytest.raises(ValueError, match="EXAMDATE: '20/03/2006' has the day first and '03/20/2006' the month"):
        read_dates(pd.Series(["20/03/2006", "03/20/2006"]), "EXAMDATE")


@pytest.mark.parametrize(
    "text",
    ["2006-03-09", "2006/3/9", "20060309", "2006-03-09T10:00:00", "2006-03-09 10:00:00.0", "9-Mar-2006", "09Mar2006"]
    + ["March 9, 2006", "9 mar 06", "09.03.2006", "9.3.06"],
)
def test_a_date_that_can_be_read_in_one_way_only_needs_no_proof(text):
    assert read_dates(pd.Series([text]), "x")[0] == pd.Timestamp(2006, 3, 9)


def test_dates_that_are_the_same_in_both_orders_need_no_proof():
    assert read_dates(pd.Series(["03/03/2006", ""]), "x")[0] == pd.Timestamp(2006, 3, 3)


@pytest.mark.parametrize("text", ["38777", "30/02/2006", "13/13/2006", "soon", "0000-00-00"])
def test_a_cell_that_is_no_date_is_counted_and_named(text):
    with pytest.warns(UserWarning, match="EXAMDATE: 1 cells are no date and count as empty, the first in line 3"):
        dates = read_dates(pd.Series(["2006-03-09", text, "NA"], index=[2, 3, 4]), "EXAMDATE", "dmy")
    assert dates.isna().tolist() == [False, True, True]


# ---- rows and cells


@pytest.mark.parametrize("rows", [",,,,,,,,,,,\n,,,,,,,,,,,\n", "\n\n", " , ,,\t,,,,,,,,\n", '"","",,,,,,,,,,\n'])
def test_blank_rows_are_nothing(pair, rows):
    raw = pair.write()
    edit(raw, COLLECTION, lambda text: text + rows)
    edit(raw, DXSUM, lambda text: text + ",,,,\n")
    assert found(quietly(raw)) == GOOD


@pytest.mark.parametrize("subject", ["", "MCI", "Total", "11_S_4105"])
def test_a_row_whose_subject_is_nobody_is_counted_and_makes_no_person(pair, subject):
    pair.add_image(subject, "MPRAGE", file=False)
    intake = with_warning(pair.write(), "collection_1_01_2020.csv: 1 rows are left out, the first in line 4: subject")
    assert found(intake) == GOOD


@pytest.mark.parametrize("name", [COLLECTION, DXSUM])
@pytest.mark.parametrize("end", [",", ",,", ", "])
def test_empty_cells_beyond_the_header_are_dropped(pair, name, end):
    raw = pair.write()
    edit(raw, name, lambda text: text.replace("\n", f"{end}\n").replace(f"{end}\n", "\n", 1))
    assert found(quietly(raw)) == GOOD


@pytest.mark.parametrize(("end", "cells"), [(",x", 6), ("", 4)])
def test_any_other_ragged_row_is_an_error_with_file_and_line(pair, end, cells):
    raw = pair.write()
    row = f"{PERSON},4105,m36,2009-03-01"
    edit(raw, DXSUM, lambda text: text + row + (",3" if end else "") + end + "\n")
    with pytest.raises(ValueError, match=f"DXSUM.*line 5 has {cells} cells where the header has 5"):
        adni.read_download(raw)


def test_tabs_stripped_from_the_end_of_a_line_are_empty_cells(tmp_path):
    (tmp_path / "a.tsv").write_text("a\tb\tc\n1\n2\t3\n")
    table = read_text_table(tmp_path / "a.tsv")
    assert table.to_numpy().tolist() == [["1", "", ""], ["2", "3", ""]]
    assert list(table.index) == [2, 3]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_table_is_read_as_spreadsheets_save_it(tmp_path, encoding, line_end):
    (tmp_path / "a.csv").write_bytes(line_end.join(["a;b", "Zürich;71,5", ""]).encode(encoding))
    assert read_text_table(tmp_path / "a.csv").to_numpy().tolist() == [["Zürich", "71,5"]]


@pytest.mark.parametrize("second", ["DIAGNOSIS", "diagnosis", " Diagnosis_"])
def test_the_first_of_two_columns_of_one_name_counts(pair, second):
    raw = pair.write()
    edit(raw, DXSUM, lambda text: text.replace("\n", ",1\n").replace("DIAGNOSIS,1", f"DIAGNOSIS,{second}"))
    assert found(quietly(raw)) == GOOD


@pytest.mark.parametrize("spelling", ["{}.0", "{}", "I{}", "i{}", " {} ", "{}.00"])
def test_image_ids_are_the_same_after_a_spreadsheet(pair, spelling):
    for row in pair.images:
        row["Image Data ID"] = spelling.format(row["Image Data ID"].removeprefix("I"))
    assert found(quietly(pair.write())) == GOOD


@pytest.mark.parametrize("rid", ["4105.0", "4105", " 4105 "])
def test_a_table_that_knows_people_by_number_only_may_have_been_in_a_spreadsheet(pair, rid):
    for row in pair.diagnoses:
        row["RID"] = rid
        del row["PTID"]
    assert found(quietly(pair.write())) == GOOD


@pytest.mark.parametrize(
    ("text", "number"),
    [("71,5", 71.5), ("71.5", 71.5), ("89+", 89), ("> 89", 89), (" 74 ", 74), ("-4", -4), ("4.0", 4)],
)
def test_numbers_are_read_as_people_write_them(text, number):
    assert read_number(text) == number


@pytest.mark.parametrize("text", ["", "NA", "N/A", "unknown", "1.234,5", "12a", "inf"])
def test_what_is_no_number_is_missing(text):
    assert read_number(text) != read_number(text)


@pytest.mark.parametrize(("age", "years"), [("71,5", 71.5), ("89+", 89), ("N/A", None)])
def test_ages_are_read_as_people_write_them(pair, age, years):
    pair.images[0]["Age"] = age
    (person,) = quietly(pair.write()).people
    assert person.age == years or (years is None and person.age != person.age)


# ---- diagnoses


MCI_WORDS = ("MCI", "MCI due to AD", "LMCI", "Stable: MCI", "NL to MCI")
DEMENTIA_WORDS = ("DEM", "Dementia", "AD", "AD dementia", "Dementia due to AD", "MCI to Dementia", "3.0")


def test_a_diagnosis_in_words_is_what_the_word_means(download):
    """One download of a person for each pair of words, which is in nobody else's course."""
    pairs = {f"011_S_{4000 + i}": words for i, words in enumerate(itertools.product(MCI_WORDS, DEMENTIA_WORDS))}
    for ptid, (mci, dementia) in pairs.items():
        download.add_image(ptid, SCALED)
        for visit, date, word in zip(("bl", "m12", "m24"), DATES, (mci, mci, dementia), strict=True):
            row = {"PTID": ptid, "RID": ptid[6:], "VISCODE2": visit, "EXAMDATE": date, "DIAGNOSIS": word}
            download.diagnoses.append(row)
    people = {person.participant_id[-4:]: person.label for person in quietly(download.write()).people}
    labels = {words: people[ptid[6:]].label for ptid, words in pairs.items()}
    assert len(labels) == 35 and labels == dict.fromkeys(labels, "converter")


@pytest.mark.parametrize("word", ["probable AD", "not AD", "no dementia", "FTD", "LBD", "7", "MCI?AD", "MCI or AD"])
def test_a_word_that_is_not_known_is_counted_with_its_place_and_never_guessed(pair, word):
    pair.diagnoses[2]["DIAGNOSIS"] = word
    words = f"column 'DIAGNOSIS': 1 cells say {word!r}, the first in line 4; not a diagnosis that is known"
    assert found(with_warning(pair.write(), words)) == [GOOD[0][:2] + ("",) + GOOD[0][3:]]


@pytest.mark.parametrize("word", ["", "-4", "-1", "NA", "N/A", "nan", "unknown"])
def test_a_diagnosis_that_is_missing_is_no_unknown_word(pair, word):
    pair.diagnoses[1]["DIAGNOSIS"] = word
    assert found(quietly(pair.write())) == GOOD


@pytest.mark.parametrize(
    ("text", "diagnosis"),
    [("Conversion: MCI to Dementia", "AD"), ("Reversion: MCI to NL", "CN"), ("Stable: NL", "CN"), ("to", "")]
    + [("AD to something", ""), ("something to AD", ""), ("Stable", ""), ("MCI due to AD", "MCI")],
)
def test_a_change_counts_as_what_it_led_to_where_both_ends_are_known(text, diagnosis):
    assert read_diagnosis(text) == diagnosis
