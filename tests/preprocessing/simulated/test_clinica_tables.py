"""The tables that Clinica needs beside a simulated download say what the other tables say."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pandas as pd
import pytest

from preprocessing.intake.catalog import read_tables
from preprocessing.intake.clinical import read_scores
from preprocessing.intake.tables import read_histories
from preprocessing.intake.verdicts import read_verdicts
from preprocessing.simulated import download
from preprocessing.simulated import people as model

DESIGN = model.CohortDesign(converters=3, stable=3, reverting=1, normal=1, dementia=1, raw=4, truncated=1, seed=2)
# What `clinica.converters.adni_to_bids` 0.12 takes from each table for T1 and FDG, and stops without.
READ_BY_CLINICA = {
    "ADNIMERGE": "PTID RID VISCODE EXAMDATE EXAMDATE_bl COLPROT ORIGPROT SITE AGE PTGENDER PTEDUCAT PTMARRY PTETHCAT "
    "DX_bl MMSE_bl ADAS11_bl ADAS13_bl ADASQ4_bl APOE4 RAVLT_immediate_bl MOCA_bl TRABSCOR_bl mPACCdigit_bl "
    "mPACCtrailsB_bl DX AV45 PIB ABETA PTAU",
    "APOERES": "APGEN1 APGEN2",
    "DXSUM_PDXCONV_ADNIALL": "PTID VISCODE2 DIAGNOSIS",
    "MPRAGEMETA": "SubjectID Visit Sequence Orig/Proc MagStrength ScanDate StudyID SeriesID ImageUID",
    "MRIQUALITY": "RID LONIUID PASS",
    "MAYOADIRL_MRI_IMAGEQC_05_07_15": "RID series_type loni_image series_selected series_quality",
    "PETQC": "RID PASS VISCODE2 LONIUID EXAMDATE Phase",
    "PETC3": "RID SCANQLTY SCANDATE",
    "PET_META_LIST": "Subject|Visit|Sequence|Orig/Proc|Scan Date|Study ID|Series ID|Image ID",
}


@pytest.fixture(scope="module")
def people() -> list[model.Person]:
    return model.draw_people(DESIGN)


@pytest.fixture(scope="module")
def raw(people: list[model.Person], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A download without its scans."""
    out = tmp_path_factory.mktemp("cohort")
    download.write_download_tables(out / "raw", people)
    return out / "raw"


def as_clinica_reads(raw: Path, name: str) -> pd.DataFrame:
    """The one file that Clinica takes for a table: a name that ends like it, dated or not."""
    (path,) = (p for p in raw.rglob("[!.]*.csv") if re.search(name + r"(_\d{1,2}[A-Za-z]{3}\d{4})?.csv", p.name))
    return pd.read_csv(path)


@pytest.mark.parametrize("name", READ_BY_CLINICA)
def test_clinica_finds_each_table_once_with_every_column_that_it_reads(raw, name):
    columns = READ_BY_CLINICA[name]
    assert set(columns.split("|" if "|" in columns else None)) <= set(as_clinica_reads(raw, name).columns)


def test_adnimerge_has_the_visits_and_diagnoses_of_dxsum(raw):
    merged, visits = as_clinica_reads(raw, "ADNIMERGE"), as_clinica_reads(raw, "DXSUM_PDXCONV_ADNIALL")
    keys = ["PTID", "RID", "VISCODE", "EXAMDATE"]
    assert merged[keys].equals(visits[keys])
    assert [{"CN": 1, "MCI": 2, "Dementia": 3}[name] for name in merged.DX] == visits.DIAGNOSIS.to_list()
    assert {1, 2, 3} == set(visits.DIAGNOSIS)


def test_everybody_has_one_baseline_in_adnimerge_with_the_scores_of_the_other_tables(raw, people):
    merged = as_clinica_reads(raw, "ADNIMERGE").drop_duplicates("PTID").set_index("PTID")
    assert merged.VISCODE.to_list() == ["bl"] * len(people)
    assert (merged.EXAMDATE_bl == merged.EXAMDATE).all()
    for table, theirs, ours in (("MMSE", "MMSCORE", "MMSE"), ("ADASSCORES", "TOTAL13", "ADAS13_bl")):
        assert as_clinica_reads(raw, table).set_index("PTID")[theirs].equals(merged[ours].rename(theirs))


def test_listed_scans_are_those_of_the_collection(raw):
    images = as_clinica_reads(raw, "collection").set_index("Image Data ID")
    days = pd.to_datetime(images["Acq Date"], format="%m/%d/%Y").dt.strftime("%Y-%m-%d")
    pet = as_clinica_reads(raw, "PET_META_LIST")
    made = pet[pet["Orig/Proc"] == "Processed"]
    for listed, ids, names in (
        (as_clinica_reads(raw, "MPRAGEMETA"), "ImageUID", ("SubjectID", "Sequence", "ScanDate")),
        (made, "Image ID", ("Subject", "Sequence", "Scan Date")),
    ):
        found = listed.set_index("I" + listed[ids].astype(str))[list(names)]
        known = images.assign(day=days)[["Subject", "Description", "day"]].loc[found.index]
        assert len(found) > 2 and (found.to_numpy() == known.to_numpy()).all()
    assert len(made) == (images.Modality == "PET").sum()


def test_a_t1_that_is_cut_short_is_in_no_list(raw, people):
    listed = set(as_clinica_reads(raw, "MPRAGEMETA").SubjectID)
    assert listed == {p.ptid for p in people if p.raw and not p.truncated} < {p.ptid for p in people if p.raw}


def test_a_series_is_numbered_in_the_lists_as_in_its_files(raw, people):
    person = next(p for p in people if p.raw and not p.truncated and p.has_pet)
    mri, pet = as_clinica_reads(raw, "MPRAGEMETA"), as_clinica_reads(raw, "PET_META_LIST")
    (series,) = mri[mri.SubjectID == person.ptid].SeriesID
    assert f"_S{series}_I" in download.scan_path(raw, person, "MR", download.T1_SERIES).name
    (series,) = set(pet[pet.Subject == person.ptid]["Series ID"])
    assert f"_S{series}_I" in download.scan_path(raw, person, "PT", download.PET_SERIES).name


def test_the_quality_of_a_pet_is_that_of_an_original_of_its_day_and_series(raw):
    pet, quality = as_clinica_reads(raw, "PET_META_LIST"), as_clinica_reads(raw, "PETQC")
    original = pet[pet["Orig/Proc"] == "Original"]
    checked = quality.set_index(quality.LONIUID.str[1:].astype(int)).EXAMDATE
    assert original.set_index("Image ID")["Scan Date"].to_dict() == checked.to_dict()
    assert (quality.PASS == 1).all() and pet.groupby("Series ID").size().eq(2).all()


def test_our_own_reading_knows_every_table_and_finds_nothing_else_in_them(raw, people):
    ptids = {person.ptid for person in people}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tables = read_tables(raw)
        histories, scores = read_histories(tables, ptids), read_scores(tables, ptids)
    assert {(p.ptid, *visit) for p in people for visit in model.diagnoses(p)} == {
        (ptid, visit.month, {"CN": 1, "MCI": 2, "AD": 3}[visit.diagnosis])
        for ptid, visits in histories.items()
        for visit in visits
    }
    assert scores.groupby(["participant_id", "score", "month"], dropna=False)["value"].nunique().max() == 1
    verdicts = read_verdicts(tables)
    assert not verdicts.by_image and not any(verdicts.by_date.values())


def test_adnimerge_alone_gives_the_same_diagnoses(raw, people, tmp_path):
    ptids = {person.ptid for person in people}
    as_clinica_reads(raw, "ADNIMERGE").to_csv(tmp_path / "ADNIMERGE.csv", index=False)
    assert read_histories(tmp_path, ptids) == read_histories(raw, ptids)
