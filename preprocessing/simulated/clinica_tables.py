"""The further tables by which Clinica's adni-to-bids finds the simulated scans, made from those written anyway.

Clinica 0.12 asks for ADNIMERGE, MPRAGEMETA, MRIQUALITY, Mayo's table of MRIs, PETQC, PETC3 and PET_META_LIST. They have
the columns that it reads and no others; those that it only insists on are empty. Everybody is of ADNI1, as in DXSUM.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from preprocessing.simulated.clinical import draw_scores
from preprocessing.simulated.people import CN, DEMENTIA, MCI, Person

PHASE = "ADNI1"
# What the lists of images call the visit "bl": Clinica counts as baseline the T1 of screening.
T1_VISIT, PET_VISIT = "ADNI Screening", "ADNI Baseline"
ORIGINAL_PET = "ADNI Brain PET: Raw FDG"
# The original upload of a PET has an image id of its own, and shares the series of what was made of it.
SERIES_BELOW_IMAGE, ORIGINAL_ABOVE_IMAGE = 50_000, 500_000
# What ADNIMERGE calls the diagnoses of DXSUM; DX_bl, that of screening, has words of its own.
DX = {CN: "CN", MCI: "MCI", DEMENTIA: "Dementia"}
SCREENING_DX = {CN: "CN", MCI: "LMCI", DEMENTIA: "AD"}

COLUMNS = {
    "ADNIMERGE": (
        *("RID", "PTID", "VISCODE", "SITE", "COLPROT", "ORIGPROT", "EXAMDATE", "DX_bl", "AGE", "PTGENDER", "PTEDUCAT"),
        *("APOE4", "CDRSB", "ADAS13", "MMSE", "DX", "EXAMDATE_bl", "MMSE_bl", "ADAS13_bl"),
        # Clinica stops without these, and nothing simulated fills them.
        *("PTMARRY", "PTETHCAT", "ADAS11_bl", "ADASQ4_bl", "RAVLT_immediate_bl", "MOCA_bl", "TRABSCOR_bl"),
        *("mPACCdigit_bl", "mPACCtrailsB_bl", "AV45", "PIB", "ABETA", "PTAU"),
    ),
    "MPRAGEMETA": (
        *("Orig/Proc", "SubjectID", "Visit", "MagStrength", "Sequence", "ScanDate"),
        *("StudyID", "SeriesID", "ImageUID"),
    ),
    "MRIQUALITY": ("RID", "LONIUID", "PASS"),
    # Mayo rates originals, and PETC3 is of ADNI3: no simulated scan is either, and these two have no rows.
    "MAYOADIRL_MRI_IMAGEQC_05_07_15": ("RID", "loni_image", "series_type", "series_quality", "series_selected"),
    "PETC3": ("Phase", "RID", "VISCODE2", "SCANDATE", "LONIUID", "SCANQLTY"),
    "PETQC": ("Phase", "RID", "VISCODE2", "EXAMDATE", "LONIUID", "PASS"),
    "PET_META_LIST": (
        *("Orig/Proc", "Subject", "Visit", "Sequence", "Scan Date"),
        *("Study ID", "Series ID", "Image ID"),
    ),
}


def clinica_tables(
    people: Iterable[Person], collection: pd.DataFrame, diagnoses: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """File name -> table. `collection`: the list of images, of baseline; `diagnoses`: DXSUM.

    A T1 that is cut short is not listed: Clinica stops altogether at a file that it cannot read.
    """
    by_ptid = {person.ptid: person for person in people}
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in COLUMNS}
    for ptid, visits in diagnoses.groupby("PTID", sort=False):
        rows["ADNIMERGE"] += _merged_rows(by_ptid[ptid], visits)
    for image in collection.to_dict("records"):
        person = by_ptid[image["Subject"]]
        if image["Modality"] == "PET":
            _add_pet(rows, person, image)
        elif not person.truncated:
            _add_t1(rows, person, image)
    return {f"SIMULATED_{name}.csv": pd.DataFrame(rows[name], columns=list(COLUMNS[name])) for name in COLUMNS}


def _merged_rows(person: Person, visits: pd.DataFrame) -> list[dict[str, object]]:
    """A row a visit of DXSUM; scores only at baseline, where they are drawn."""
    scores, first = draw_scores(person), visits.iloc[0]
    constant = {
        "RID": person.rid,
        "PTID": person.ptid,
        "SITE": person.site,
        "COLPROT": PHASE,
        "ORIGPROT": PHASE,
        "DX_bl": SCREENING_DX[first.DIAGNOSIS],
        "AGE": person.age,
        "PTGENDER": {"F": "Female", "M": "Male"}[person.sex],
        "PTEDUCAT": int(scores["education"]),
        "APOE4": int(scores["apoe4"]),
        "EXAMDATE_bl": first.EXAMDATE,
        "MMSE_bl": scores["mmse"],
        "ADAS13_bl": scores["adas13"],
    }
    rows = [
        constant | {"VISCODE": visit.VISCODE2, "EXAMDATE": visit.EXAMDATE, "DX": DX[visit.DIAGNOSIS]}
        for visit in visits.itertuples()
    ]
    rows[0] |= {"MMSE": scores["mmse"], "CDRSB": scores["cdrsb"], "ADAS13": scores["adas13"]}
    return rows


def _number_and_day(image: dict[str, object]) -> tuple[int, str]:
    number = int(str(image["Image Data ID"]).removeprefix("I"))
    return number, f"{pd.to_datetime(image['Acq Date'], format='%m/%d/%Y'):%Y-%m-%d}"


def _add_t1(rows: dict[str, list[dict[str, object]]], person: Person, image: dict[str, object]) -> None:
    number, day = _number_and_day(image)
    rows["MPRAGEMETA"].append(
        {
            "Orig/Proc": image["Type"],
            "SubjectID": person.ptid,
            "Visit": T1_VISIT,
            "MagStrength": image["Imaging Protocol"].removeprefix("Field Strength="),
            "Sequence": image["Description"],
            "ScanDate": day,
            "StudyID": person.rid,
            "SeriesID": number - SERIES_BELOW_IMAGE,
            "ImageUID": number,
        }
    )
    rows["MRIQUALITY"].append({"RID": person.rid, "LONIUID": f"S{number - SERIES_BELOW_IMAGE}", "PASS": 1})


def _add_pet(rows: dict[str, list[dict[str, object]]], person: Person, image: dict[str, object]) -> None:
    """The original, which has the quality control, and the processed image, which is the one of the download."""
    number, day = _number_and_day(image)
    original = number + ORIGINAL_ABOVE_IMAGE
    pair = (("Original", ORIGINAL_PET, original), (image["Type"], image["Description"], number))
    for kind, sequence, image_id in pair:
        rows["PET_META_LIST"].append(
            {
                "Orig/Proc": kind,
                "Subject": person.ptid,
                "Visit": PET_VISIT,
                "Sequence": sequence,
                "Scan Date": day,
                "Study ID": person.rid,
                "Series ID": number - SERIES_BELOW_IMAGE,
                "Image ID": image_id,
            }
        )
    checked = {"Phase": PHASE, "RID": person.rid, "VISCODE2": image["Visit"], "EXAMDATE": day}
    rows["PETQC"].append(checked | {"LONIUID": f"I{original}", "PASS": 1})
