"""Which of several T1s and FDGs of a person is taken, and what the list of chosen scans says about it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from preprocessing.intake import adni
from preprocessing.intake.people import Person, chosen_scans

PERSON = "011_S_4105"
SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
REPEAT = "MPR-R; GradWarp; B1 Correction; N3; Scaled"
FDG_8MM = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
FDG_AVERAGED = "Co-registered, Averaged"


def chosen(download, **quality: list) -> Person:
    """The person, with Mayo's table if its columns are given."""
    download.add_diagnoses(PERSON, bl=2, m12=2, m24=2, m36=2)
    raw: Path = download.write()
    if quality:
        pd.DataFrame(quality).to_csv(raw / "MAYOADIRL_MRI_IMAGEQC.csv", index=False)
    (person,) = adni.read_download(raw).people
    return person


def image(scan) -> int:
    """How many images were added before it."""
    return int(scan.image_id) - 100000


def test_the_earliest_visit_with_mci_and_an_fdg_comes_before_an_earlier_one_without(download):
    for visit, date in (("bl", "2006-03-01"), ("m12", "2007-03-01"), ("m24", "2008-03-01")):
        download.add_image(PERSON, SCALED, visit=visit, date=date)
    for visit, date in (("m12", "2007-03-20"), ("m24", "2008-03-01")):
        download.add_image(PERSON, FDG_8MM, visit=visit, date=date, modality="PET")
    person = chosen(download)
    assert (person.session_id, person.pet.days_from_t1) == ("ses-M012", 19)


@pytest.mark.parametrize(
    "pet",
    [
        {"description": f"AV45 {FDG_8MM}"},
        {"description": "Co-registered Dynamic"},
        {"file": False},
        {"date": "2007-07-01"},
        {"visit": "m36"},
    ],
    ids=["another tracer", "frames", "no file", "too far", "a month that cannot be right"],
)
def test_a_pet_that_cannot_be_used_makes_no_pair(download, pet):
    download.add_image(PERSON, SCALED)
    download.add_image(PERSON, SCALED, visit="m12", date="2007-03-01")
    options = {"description": FDG_8MM, "visit": "m12", "date": "2007-03-01", "modality": "PET"}
    download.add_image(PERSON, **(options | pet))
    assert chosen(download).session_id == "ses-M000"


def test_a_pair_at_a_visit_without_mci_does_not_come_before_mci_without_a_pair(download):
    download.add_image(PERSON, SCALED, visit="bl")
    download.add_image(PERSON, FDG_8MM, modality="PET")
    download.add_image(PERSON, SCALED, visit="m12", date="2007-03-01")
    download.add_diagnoses(PERSON, bl=1, m12=2)
    assert adni.read_download(download.write()).people[0].session_id == "ses-M012"


@pytest.mark.parametrize("second", [REPEAT, "MP-RAGE REPEAT", "MPRAGE Repeat", "MPR-R"])
def test_an_original_comes_before_a_repeat_whatever_their_ids(download, second):
    first = SCALED if second == REPEAT else "MPRAGE"
    for description in (second, first):
        download.add_image(PERSON, description)
    assert image(chosen(download).t1) == 1


@pytest.mark.parametrize(
    ("visit", "taken"),
    [("ADNI2 Year 1 Visit", 1), ("v11", 1), ("ADNIGO Month 12", 1), ("ADNI3 Year 1 Visit", 0), ("y1", 0), ("4_m12", 0)],
)
def test_the_accelerated_scan_is_second_choice_before_adni3_and_the_protocols_one_from_then_on(download, visit, taken):
    for description in ("Accelerated SAG IR-SPGR", "SAG IR-SPGR"):
        download.add_image(PERSON, description, visit=visit, date="2007-03-01")
    download.add_image(PERSON, SCALED, visit="bl", file=False)  # the date of baseline
    assert image(chosen(download).t1) == taken


def test_mayos_selection_and_then_its_grade_come_before_everything_but_the_processing(download):
    for description in ("MPRAGE", "MPRAGE Repeat", "MPRAGE"):
        download.add_image(PERSON, description)
    ids = ["100000", "I100001", "100002.0"]
    assert image(chosen(download).t1) == 0
    assert image(chosen(download, loni_image=ids, series_quality=[2, 3, 1], series_selected=[0, 1, 0]).t1) == 1
    assert image(chosen(download, loni_image=ids, series_quality=[2, 3, 1], series_selected=[0, 0, 0]).t1) == 2
    assert image(chosen(download, loni_image=ids, series_quality=[-1, 3, -1], series_selected=[0, 0, 0]).t1) == 1


def test_a_selection_of_two_series_of_a_visit_says_nothing(download):
    for description in ("MPRAGE", "MPRAGE Repeat", "MPRAGE"):
        download.add_image(PERSON, description)
    ids, selected = ["100000", "100001", "100002"], [0, 1, 1]
    assert image(chosen(download, loni_image=ids, series_quality=[1, 1, 1], series_selected=selected).t1) == 0


def test_a_scaled_image_comes_before_a_selected_original(download):
    for description in ("MPRAGE", SCALED):
        download.add_image(PERSON, description)
    assert image(chosen(download, loni_image=["100000"], series_quality=[1], series_selected=[1]).t1) == 1


@pytest.mark.parametrize(("date", "tesla"), [("2006-03-01", 1.5), ("2012-03-01", 3)])
def test_the_field_strength_of_the_phase_comes_first_and_is_stated(download, date, tesla):
    for strength in (3, 1.5, 3):
        download.add_image(PERSON, "MPRAGE", date=date)
        download.images[-1]["Imaging Protocol"] = f"Field Strength={strength}"
    person = chosen(download)
    assert person.field_strength_t == tesla
    assert f"{tesla:g} T" in person.t1.why


@pytest.mark.parametrize(
    "description",
    [
        "Sag MPRAGE +Gd",
        "MPRAGE post contrast",
        "T1 GAD",
        "MPRAGE Gadolinium",
        "MPRAGE MIP",
        "Jacobian of MPR; Scaled",
        "FreeSurfer T1",
    ],
)
def test_contrast_medium_and_derived_images_are_never_taken(download, description):
    download.add_image(PERSON, description)
    download.add_diagnoses(PERSON, bl=2)
    assert adni.read_download(download.write()).ledger[0].reason_code == "no_t1"


def test_image_ids_compare_as_numbers(download):
    for number in ("I100000", "I99999"):
        download.add_image(PERSON, "MPRAGE")
        folder = next((download.folder / "ADNI").rglob(f"I{100000 + len(download.images) - 1}"))
        folder.rename(folder.with_name(f"x{number}"))
    for row, number, path in zip(download.images, ("I100000", "I99999"), ("xI100000", "xI99999"), strict=True):
        row["Image Data ID"] = number
        folder = next((download.folder / "ADNI").rglob(path))
        for file in list(folder.iterdir()):
            file.rename(file.with_name("T1.nii"))
        folder.rename(folder.with_name(number))
    assert chosen(download).t1.image_id == "99999"


def test_the_list_says_why_each_scan_was_chosen_and_the_others_not(download):
    for description, options in (
        ("MPRAGE", {}),
        (SCALED, {"file": False}),
        (REPEAT, {}),
        (SCALED, {}),
        (SCALED, {"visit": "m12", "date": "2007-03-01"}),
    ):
        download.add_image(PERSON, description, **options)
    for description, date in ((FDG_AVERAGED, "2006-03-02"), (FDG_8MM, "2006-03-09"), (FDG_8MM, "2006-03-04")):
        download.add_image(PERSON, description, modality="PET", date=date)
    mri, pet = chosen_scans([chosen(download)]).to_dict("records")
    assert (mri["image_id"], mri["why"]) == ("100003", "MCI at its visit, FDG near enough")
    assert mri["rejected"].split("; I") == [
        "I100000 MPRAGE (another processing is preferred)",
        f"100001 {SCALED} (no image file)",
        f"100002 {REPEAT} (a repeated scan)",
        f"100004 {SCALED} (it has no FDG near enough)",
    ]
    assert pet["rejected"].split("; I") == [
        f"I100005 {FDG_AVERAGED} (another processing is preferred)",
        f"100006 {FDG_8MM} (farther from the T1)",
    ]


def test_the_list_names_candidates_that_could_not_be_used_with_the_reason(download):
    download.add_image(PERSON, SCALED)
    download.add_image(PERSON, SCALED, visit="m36")
    download.add_image(PERSON, SCALED, visit="v11", date="")
    download.add_image(PERSON, "MPRAGE")
    for date in ("2006-03-01", "2006-07-01"):
        download.add_image(PERSON, FDG_8MM, visit="", date=date, modality="PET")
    person = chosen(download, loni_image=["100003"], series_quality=[4])
    assert person.t1.rejected.split("; I") == [
        f"I100001 {SCALED} (month 0 by date, 36 by visit code 'm36'; they may be 9 months apart)",
        f"100002 {SCALED} (its month is unknown)",
        "100003 MPRAGE (failed ADNI's quality control (MAYOADIRL_MRI_IMAGEQC.csv))",
    ]
    assert person.pet.rejected == f"I100005 {FDG_8MM} (too far from the T1)"
