"""The tables of an ADNI download, recognized by their columns whatever their files are called, and each read once.

Exports of different years and tools give one table different names (DXSUM_PDXCONV_ADNIALL.csv, DXSUM_01Jan2020.csv,
All_Subjects_DXSUM_07Sep2025.csv). Only GROUPS.csv and DEATHS.csv, which are ours, are known by name.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from preprocessing.intake.columns import (
    csv_files,
    find_column,
    no_column,
    plain,
    read_ids,
    read_numbers,
    read_text_table,
)
from preprocessing.intake.dates import find_order, order_by_known_days, read_dates

PERSON = ("PTID", "RID", "subject_id", "SubjectID")
VISIT_CODES = ("VISCODE2", "VISCODE")
EXAM_DATES = ("EXAMDATE", "exam_date", "VISDATE")
IMAGE_IDS = ("LONIUID", "loni_image", "IMAGEUID", "image_id", "Image Data ID")
SCAN_DATES = ("SCANDATE", "EXAMDATE", "image_date")
FIELD_STRENGTHS = ("field_strength", "FLDSTRENG", "MagneticFieldStrength")
PTID = re.compile(r"\d{3}_S_\d{4,5}")
# Tables of one modality have no column of it; these columns stand in one of them only.
MODALITY_MARKS = dict.fromkeys(("magnetic_field_strength", "acquisition_plane"), "mri") | dict.fromkeys(
    ("radiopharmaceutical", "tracer", "pet_description"), "pet"
)
# What each of our columns of an image list is called; compared without case, spaces and underscores.
IMAGES = {
    "image_id": ("Image Data ID", "image_id", "Image ID"),
    "ptid": ("Subject", "subject_id", "PTID", "SubjectID"),
    "description": ("Description", "image_description", "series_description"),
    "visit": ("Visit", "image_visit", "VISCODE2", "VISCODE"),
    "modality": ("Modality", "image_modality", *MODALITY_MARKS),
    "date": ("Acq Date", "image_date", "acquisition_date", "Scan Date", "Study Date"),
    "sex": ("Sex", "subject_sex", "PTGENDER"),
    "age": ("Age", "subject_age", "image_age"),
    "protocol": ("Imaging Protocol", "image_protocol", "protocol"),
}
OPTIONAL = ("sex", "age", "protocol")
DIAGNOSES = ("DIAGNOSIS", "DXCHANGE", "DXCURREN")
VISIT = (*VISIT_CODES, *EXAM_DATES)
SCORE_COLUMNS = (
    *("PTEDUCAT", "APOE4", "GENOTYPE", "APGEN1", "MMSE", "MMSCORE", "CDRSB", "CDMEMORY"),
    *("ADAS13", "TOTAL13", "TOTALMOD"),
)
# Kind -> the columns it needs, each by any of its spellings; the first ones tell that kind from the others.
KINDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "diagnoses": (DIAGNOSES, PERSON, VISIT),
    "merged": (("DX",), PERSON, VISIT),
    "registry": (("RGSTATUS", "RGCONDCT", "RGRESCRN", "RGSOURCE"), PERSON, VISIT_CODES, ("EXAMDATE",)),
    "image quality": (("series_quality", "SCANQLTY", "PASS", "QUALITY", "MRIQUALITY"), IMAGE_IDS),
    "day quality": (("SCANQLTY", "PASS"), ("RID",), SCAN_DATES),
    "scores": (SCORE_COLUMNS, PERSON),
    "image strengths": (FIELD_STRENGTHS, IMAGE_IDS),
    "person strengths": (FIELD_STRENGTHS, ("PTID",)),
    # MPRAGEMETA and PET_META_LIST, which Clinica needs: known, and not read, since the collection names the images.
    "archive": (("Orig/Proc",), ("Sequence",), ("SubjectID", "Subject")),
}
REQUIRED = ("images", "diagnoses", "merged")
DATE_COLUMNS = {
    "images": (IMAGES["date"],),
    "diagnoses": (EXAM_DATES,),
    "merged": (EXAM_DATES, ("EXAMDATE_bl",)),
    "registry": (EXAM_DATES,),
    "day quality": (SCAN_DATES,),
    "deaths": (("death_date", "DATE"),),
}


@dataclass(frozen=True)
class Tables:
    """What was found under `folder`: kind -> tables with their paths, and why a table is none of a required kind."""

    folder: Path
    found: Mapping[str, list[tuple[Path, pd.DataFrame]]]
    refused: Mapping[str, list[str]]
    order: str | None

    def of(self, kind: str) -> list[tuple[Path, pd.DataFrame]]:
        return self.found.get(kind, [])

    def explain_missing(self, kinds: Iterable[str], sentence: str) -> Exception:
        """The error about a required table that is not there: `sentence`, or what is wrong with the one that may be."""
        reasons = list(dict.fromkeys(reason for kind in kinds for reason in self.refused.get(kind, [])))
        sentence = "; ".join([f"{self.folder}: {sentence}", *reasons])
        return ValueError(sentence) if reasons else FileNotFoundError(sentence)

    def dates(self, path: Path, table: pd.DataFrame, spellings: tuple[str, ...]) -> pd.Series:
        """Dates of the first of these columns that is there, else NaT."""
        column = find_column(table, path, spellings, required=False)
        if column is None:
            return pd.Series(pd.NaT, index=table.index, dtype="datetime64[ns]")
        return read_dates(table[column], f"{path}: column {column!r}", self.order)


def read_tables(
    where: Path | Tables, order: str | None = None, image_days: Mapping[str, pd.Timestamp] | None = None
) -> Tables:
    """All tables under a folder, or `where` itself if they are read already. A table that is unknown, or empty, is
    left out with a warning.

    `order` (dmy or mdy), else the days of images (by id) that their folders tell, say what comes first in columns of
    dates that do not prove it. Raises ValueError for a known table with ragged rows.
    """
    if isinstance(where, Tables):
        return where
    found: dict[str, list[tuple[Path, pd.DataFrame]]] = {}
    refused: dict[str, list[str]] = {}
    for path in csv_files(where):
        try:
            head = read_text_table(path, rows=0)
        except ValueError as error:
            warnings.warn(f"{error}; left out", stacklevel=2)
            for kind in REQUIRED:
                refused.setdefault(kind, []).append(str(error))
            continue
        kinds, why = recognize(head, path)
        for kind, reason in why.items():
            refused.setdefault(kind, []).append(f"{path}: {reason}")
        if kinds:
            table = read_text_table(path)
            for kind in kinds:
                found.setdefault(kind, []).append((path, table))
        else:
            reason = next(iter(why.values()), "its columns are those of no table that is known")
            warnings.warn(f"{path}: {reason}; left out", stacklevel=2)
    return Tables(where, found, refused, order or _find_order(found, image_days or {}))


def recognize(head: pd.DataFrame, path: Path) -> tuple[list[str], dict[str, str]]:
    """The kinds that a table is of, by its columns; and, for a required kind that it nearly is, what is missing."""
    columns = {plain(name) for name in head.columns}

    def missing(needed: Iterable[tuple[str, ...]]) -> tuple[str, ...] | None:
        return next((spellings for spellings in needed if not any(plain(s) in columns for s in spellings)), None)

    kinds = [kind for kind, needed in KINDS.items() if missing(needed) is None]
    needed = [IMAGES[name] for name in IMAGES if name not in OPTIONAL]
    near = {"images": needed} if _may_be_images(columns) else {}
    for kind, name in (("diagnoses", "DXSUM"), ("merged", "ADNIMERGE")):
        if missing(KINDS[kind][:1]) is None or name in path.name.upper():
            near[kind] = KINDS[kind]
    why = {kind: no_column(gap) for kind, needed in near.items() if (gap := missing(needed))}
    kinds += ["images"] if "images" in near and "images" not in why else []
    own = {"GROUPS": "groups", "DEATHS": "deaths"}
    kinds += [kind for name, kind in own.items() if path.name.upper().startswith(name)]
    return kinds, why


def _may_be_images(columns: set[str]) -> bool:
    """A list of images, or one with a column renamed: two of image, series and modality are there."""
    return sum(any(plain(s) in columns for s in IMAGES[name]) for name in ("image_id", "description", "modality")) > 1


def match_people(table: pd.DataFrame, path: Path, ptids: set[str]) -> pd.Series:
    """PTID of each row; where a table knows people by RID only, that of the one among `ptids` who carries it."""
    person = find_column(table, path, PERSON)
    rids = find_column(table, path, ("RID",), required=False) or person
    by_rid = {int(ptid.split("_")[2]): ptid for ptid in ptids if PTID.fullmatch(ptid)}
    own = table[person].str.strip().str.upper()
    return own.where(own.str.fullmatch(PTID.pattern), read_numbers(table[rids]).map(by_rid)).fillna("")


def _find_order(
    found: Mapping[str, list[tuple[Path, pd.DataFrame]]], image_days: Mapping[str, pd.Timestamp]
) -> str | None:
    """What comes first in dates that do not prove it: as the images' folders say, else as every column that does."""
    for path, table in found.get("images", []):
        ids, dates = (table[find_column(table, path, IMAGES[name])] for name in ("image_id", "date"))
        if order := order_by_known_days(dates.set_axis(read_ids(ids)), image_days):
            return order
    orders = set()
    for kind, tables in found.items():
        for path, table in tables:
            for spellings in DATE_COLUMNS.get(kind, ()):
                column = find_column(table, path, spellings, required=False)
                orders |= {find_order(table[column], f"{path}: column {column!r}")} if column else set()
    orders -= {None}
    return orders.pop() if len(orders) == 1 else None
