"""At which month from a person's baseline a scan and a diagnosis lie: dates decide, codes check."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from preprocessing.intake import adni
from preprocessing.intake.people import Intake, chosen_scans

PERSON = "011_S_4105"
SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
FDG_8MM = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
BASELINE = pd.Timestamp("2012-03-01")
# A newcomer of ADNI2 who goes on in ADNI3: code of the phase, code of the person, months, diagnosis.
COURSE = (
    *(("v03", "bl", 0, 2), ("v11", "m12", 12, 2), ("v21", "m24", 24, 2), ("v41", "m48", 48, 3)),
    *(("init", "m60", 60, 3), ("y2", "m84", 84, 3)),
)


def day(months: float) -> str:
    return f"{BASELINE + pd.Timedelta(days=round(30.44 * months)):%Y-%m-%d}"


def add_course(download, course=COURSE, **changes: str) -> None:
    """Rows of DXSUM with dates; `changes` replace cells of every row."""
    for viscode, viscode2, months, diagnosis in course:
        row = {"PTID": PERSON, "RID": "4105", "VISCODE": viscode, "VISCODE2": viscode2, "EXAMDATE": day(months)}
        download.diagnoses.append(row | {"DIAGNOSIS": str(diagnosis)} | changes)


def write(folder: Path, name: str, **columns: list) -> None:
    pd.DataFrame(columns).to_csv(folder / name, index=False)


def months_of(intake: Intake) -> list[str]:
    return [person.session_id for person in intake.people]


@pytest.mark.parametrize(
    "visit",
    ["ADNI3 Year 2 Visit", "y2", "init", "ADNI3 Initial Visit-Cont Pt", "4_init", "4_m12", "v21", "Month 12", "nv", ""],
)
def test_a_visit_that_counts_from_a_phase_says_nothing_about_the_month(download, visit):
    """Three years after dementia, this scan was taken for month 24, or lost."""
    download.add_image(PERSON, SCALED, visit=visit, date=day(84))
    add_course(download)
    (person,) = adni.read_download(download.write()).people
    assert (person.session_id, person.label.label, person.label.reason) == ("ses-M084", "", "not_mci")


def test_a_screening_scan_up_to_four_months_before_baseline_is_month_zero(download):
    """One download of a person for each visit and month."""
    visits, months = ("v02", "ADNI2 Screening MRI-New Pt", "v01", "v03", "sc"), (-4, -1, 0)
    scans = {f"011_S_{4000 + i}": scan for i, scan in enumerate(itertools.product(visits, months))}
    for ptid, (visit, month) in scans.items():
        download.add_image(ptid, SCALED, visit=visit, date=day(month))
        add_course(download, PTID=ptid, RID=ptid[6:])
    people = {person.participant_id[-4:]: person for person in adni.read_download(download.write()).people}
    read = {scan: (people[ptid[6:]].session_id, people[ptid[6:]].label.reason) for ptid, scan in scans.items()}
    assert len(read) == 15 and read == dict.fromkeys(read, ("ses-M000", "censored"))


def test_a_scan_more_than_four_months_before_baseline_is_left_out(download):
    download.add_image(PERSON, SCALED, visit="v02", date=day(-5))
    add_course(download)
    row = adni.read_download(download.write()).ledger[0]
    assert row.reason_code == "wrong_month"
    assert "5 months before the baseline examination; screening may be 4 months before it" in row.reason


@pytest.mark.parametrize("months", [9, 12, 15])
def test_a_code_of_the_persons_own_may_be_three_months_off(download, months):
    download.add_image(PERSON, SCALED, visit="m12", date=day(months))
    add_course(download)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        intake = adni.read_download(download.write())
    assert months_of(intake) == [f"ses-M{months:03d}"]
    assert list(chosen_scans(intake.people).note) == [""]


@pytest.mark.parametrize("months", [3, 8, 16, 21])
def test_a_code_more_than_three_months_off_is_flagged_and_the_date_counts(download, months):
    download.add_image(PERSON, SCALED, visit="m12", date=day(months))
    add_course(download)
    with pytest.warns(
        UserWarning, match=f"1 images lie more than 3 months .*{PERSON}, I100000: month {months} by date"
    ):
        intake = adni.read_download(download.write())
    assert months_of(intake) == [f"ses-M{months:03d}"]
    assert list(chosen_scans(intake.people).note) == [f"month {months} by date, 12 by visit code 'm12'"]


@pytest.mark.parametrize("months", [2, 22, 84])
def test_a_code_more_than_nine_months_off_excludes_the_scan_with_both_months_and_no_day(download, months):
    download.add_image(PERSON, SCALED, visit="m12", date=day(months))
    download.add_image(PERSON, FDG_8MM, visit="m12", date=day(months), modality="PET")
    add_course(download)
    intake = adni.read_download(download.write())
    assert [row.reason_code for row in intake.ledger] == ["wrong_month", "no_t1"]
    assert f"month {months} by date, 12 by visit code 'm12'; they may be 9 months apart" in intake.ledger[0].reason
    assert day(months)[:4] not in intake.ledger[0].reason


def test_a_pet_whose_date_and_code_contradict_each_other_is_left_out_alone(download):
    download.add_image(PERSON, SCALED, visit="m12", date=day(12))
    download.add_image(PERSON, FDG_8MM, visit="m36", date=day(12), modality="PET")
    add_course(download)
    intake = adni.read_download(download.write())
    assert months_of(intake) == ["ses-M012"]
    assert [(row.modality, row.reason_code) for row in intake.ledger] == [("pet", "wrong_month")]


def registry(folder: Path) -> None:
    codes = ["v03", "v41"]
    dates, person = [day(0), day(48)], ["4105", "4105"]
    write(folder, "REGISTRY.csv", RID=person, VISCODE=codes, VISCODE2=["bl", "m48"], EXAMDATE=dates, RGSTATUS=[1, 1])


def merged_at_baseline(folder: Path) -> None:
    write(folder, "ADNIMERGE.csv", PTID=[PERSON], VISCODE=["m06"], EXAMDATE_bl=[day(0)], DX=["MCI"])


def merged_row(folder: Path) -> None:
    write(folder, "ADNIMERGE.csv", PTID=[PERSON], VISCODE=["bl"], EXAMDATE=[day(0)], DX=["MCI"])


@pytest.mark.parametrize("add_dates", [registry, merged_at_baseline, merged_row])
@pytest.mark.parametrize("changes", [{"EXAMDATE": ""}, {"EXAMDATE": "-4"}])
def test_a_blank_baseline_date_is_that_of_registry_or_adnimerge(download, add_dates: Callable, changes):
    download.add_image(PERSON, SCALED, visit="ADNI3 Year 2 Visit", date=day(84))
    add_course(download, **changes)
    raw = download.write()
    assert [row.reason_code for row in adni.read_download(raw).ledger][0] == "unknown_visit"
    add_dates(raw)
    (person,) = adni.read_download(raw).people
    assert (person.session_id, person.label.reason) == ("ses-M084", "not_mci")


def test_the_diagnostic_table_comes_before_registry_and_registry_before_adnimerge(download):
    download.add_image(PERSON, SCALED, visit="y1", date=day(24))
    add_course(download)
    raw = download.write()
    columns = {"VISCODE2": ["bl"], "RID": ["4105"]}
    write(raw, "REGISTRY.csv", **columns, EXAMDATE=[day(12)], RGSTATUS=[1])
    write(raw, "ADNIMERGE.csv", **columns, EXAMDATE_bl=[day(18)], DX=["MCI"])
    assert months_of(adni.read_download(raw)) == ["ses-M024"]
    (raw / "DXSUM_01Jan2020.csv").unlink()
    assert months_of(adni.read_download(raw)) == ["ses-M012"]
    (raw / "REGISTRY.csv").unlink()
    assert months_of(adni.read_download(raw)) == ["ses-M006"]


def test_without_any_date_of_baseline_the_code_of_the_persons_own_counts(download):
    download.add_image(PERSON, SCALED, visit="m12", date=day(12))
    add_course(download, EXAMDATE="")
    (person,) = adni.read_download(download.write()).people
    assert (person.session_id, person.label.months_to_conversion) == ("ses-M012", 36)


def test_where_nothing_tells_the_visit_is_unknown_and_the_reason_says_what_is_missing(download):
    download.add_image(PERSON, SCALED, visit="ADNI3 Year 2 Visit", date=day(84))
    download.add_image("011_S_4106", SCALED, visit="y1", date="")
    add_course(download, EXAMDATE="")
    reasons = [row.reason for row in adni.read_download(download.write()).ledger if row.reason_code == "unknown_visit"]
    assert (
        "'ADNI3 Year 2 Visit' gives no month from baseline, and there is no date of a baseline examination"
        in reasons[0]
    )
    assert "'y1' gives no month from baseline, and there is no acquisition date" in reasons[1]


def test_a_blank_acquisition_date_is_that_of_the_images_folder(download):
    download.add_image(PERSON, SCALED, visit="y2", date=day(24))
    download.images[0]["Acq Date"] = ""
    add_course(download)
    assert months_of(adni.read_download(download.write())) == ["ses-M024"]


def test_the_label_counts_from_the_scan_and_from_the_dates_of_the_visits(download):
    """The visit coded m36 was held in month 31, the scan taken in month 2."""
    download.add_image(PERSON, SCALED, visit="bl", date=day(2))
    add_course(download, [("v03", "bl", 0, 2), ("v31", "m36", 31, 2)])
    (person,) = adni.read_download(download.write()).people
    assert (person.session_id, person.label.reason) == ("ses-M002", "censored")


def test_months_to_conversion_are_those_between_scan_and_visit(download):
    download.add_image(PERSON, SCALED, visit="bl", date=day(1))
    add_course(download, [("v03", "bl", 0, 2), ("v11", "m12", 14, 3)])
    (person,) = adni.read_download(download.write()).people
    assert (person.label.label, person.label.months_to_conversion) == ("converter", 13)


def test_the_date_of_a_visit_that_the_diagnostic_table_leaves_blank_is_registrys(download):
    download.add_image(PERSON, SCALED, visit="bl", date=day(0))
    add_course(download, [("v03", "bl", 0, 2)])
    add_course(download, [("v31", "m36", 36, 2)], EXAMDATE="")
    raw = download.write()
    assert adni.read_download(raw).people[0].label.reason == "stable"
    columns = {"RID": ["4105"], "VISCODE": ["v31"], "VISCODE2": ["m36"]}
    write(raw, "REGISTRY.csv", **columns, EXAMDATE=[day(29)], RGSTATUS=[1])
    assert adni.read_download(raw).people[0].label.reason == "censored"


def test_a_diagnosis_whose_date_and_code_contradict_each_other_is_left_out_with_its_line(download):
    download.add_image(PERSON, SCALED, visit="bl", date=day(0))
    add_course(download, [("v03", "bl", 0, 2), ("v11", "m12", 120, 3), ("v31", "m36", 36, 2)])
    with pytest.warns(
        UserWarning, match=f"DXSUM.*1 visits are left out, the first {PERSON} in line 3: month 120 by date"
    ):
        (person,) = adni.read_download(download.write()).people
    assert person.label.reason == "stable"


def test_one_person_whose_months_contradict_each_other_costs_nobody_else(download):
    download.add_image(PERSON, SCALED, visit="m12", date=day(60))
    download.add_image("011_S_0001", SCALED, visit="bl", date=day(0))
    add_course(download)
    download.diagnoses += [{"PTID": "011_S_0001", "VISCODE2": "bl", "EXAMDATE": day(0), "DIAGNOSIS": "2"}]
    intake = adni.read_download(download.write())
    assert [person.participant_id for person in intake.people] == ["sub-ADNI011S0001"]


def test_scores_lie_at_the_month_of_their_date(download):
    download.add_image(PERSON, SCALED, visit="y2", date=day(84))
    add_course(download)
    raw = download.write()
    write(raw, "MMSE.csv", PTID=[PERSON], VISCODE=["y2"], VISDATE=[day(85)], MMSCORE=[21])
    scores = adni.read_download(raw).scores
    assert scores[["score", "month", "value"]].to_numpy().tolist() == [["mmse", 85, 21]]


def test_a_download_of_tables_only_gives_the_histories_of_people_who_arrive_prepared(download):
    add_course(download)
    raw = download.write()
    (raw / "MCI_collection_1_01_2020.csv").unlink()
    intake = adni.read_download(raw, given=frozenset({"sub-ADNI011S4105"}))
    assert (intake.people, intake.ledger) == ([], [])
    assert [visit.month for visit in intake.histories["sub-ADNI011S4105"]] == [0, 12, 24, 48, 60, 84]
