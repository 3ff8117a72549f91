"""The simulated cohort's download: scans in LONI's layout, and the tables that come with them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import pandas as pd

from adni_tcgm.files import write_bytes
from preprocessing.simulated import people as model
from preprocessing.simulated import scanner
from preprocessing.simulated.brain import Brain
from preprocessing.simulated.clinica_tables import SERIES_BELOW_IMAGE, clinica_tables
from preprocessing.simulated.clinical import clinical_tables
from preprocessing.simulated.people import Person

T1_SERIES = "MPR; GradWarp; B1 Correction; N3; Scaled"
TRACER = "18F-FDG"
PET_SERIES = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
COLLECTION_COLUMNS = (
    *("Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality", "Description", "Type", "Acq Date"),
    *("Format", "Downloaded", "Imaging Protocol"),
)
DAYS_A_MONTH = 30.44
LATER_IMAGE = 200_000  # what a second visit adds to an image id


def _day(person: Person, month: float) -> date:
    """Of the visit so many months after baseline."""
    return date(2006, 1, 9) + timedelta(days=37 * (person.rid % 60) + round(DAYS_A_MONTH * month))


def _image_id(person: Person, modality: str) -> int:
    return 100_000 + 2 * person.rid + (modality == "PET") + (LATER_IMAGE if person.month else 0)


def write_scans(brain: Brain, raw: Path) -> None:
    person = brain.person
    t1_path = scan_path(raw, person, "MR", T1_SERIES)
    write_bytes(t1_path, scanner.scan_t1(brain).to_bytes())
    if person.truncated:
        content = t1_path.read_bytes()
        write_bytes(t1_path, content[: len(content) * 3 // 5])
    if person.has_pet:
        write_bytes(scan_path(raw, person, "PT", PET_SERIES), scanner.scan_pet(brain).to_bytes())


def scan_path(raw: Path, person: Person, modality: str, description: str) -> Path:
    """LONI's layout: commas stay, spaces and semicolons become underscores."""
    folder = description.replace(";", "_").replace(" ", "_")
    image = _image_id(person, "PET" if modality == "PT" else "MRI")
    day, series = _day(person, person.month), image - SERIES_BELOW_IMAGE
    stamp = f"{day:%Y-%m-%d}_10_00_00.0"
    name = f"ADNI_{person.ptid}_{modality}_{folder}_Br_{day:%Y%m%d}100000000_S{series}_I{image}.nii"
    return raw / "ADNI" / person.ptid / folder / stamp / f"I{image}" / name


def tesla(person: Person) -> float:
    """Every third site has the stronger magnet. It leaves no trace in the scans."""
    return 3.0 if person.site % 3 == 0 else 1.5


def _collection(people: Iterable[Person]) -> pd.DataFrame:
    rows = []
    for person in people:
        for modality, series in (("MRI", T1_SERIES), ("PET", PET_SERIES)):
            if modality == "PET" and not person.has_pet:
                continue
            rows.append(
                {
                    "Image Data ID": f"I{_image_id(person, modality)}",
                    "Subject": person.ptid,
                    "Group": {"normal": "CN", "dementia": "AD"}.get(person.group, "MCI"),
                    "Sex": person.sex,
                    "Age": int(person.age),
                    "Visit": _visit_code(person.month),
                    "Modality": modality,
                    "Description": series,
                    "Type": "Processed",
                    "Acq Date": f"{_day(person, person.month):%m/%d/%Y}",
                    "Format": "NiFTI",
                    "Downloaded": "",
                    "Imaging Protocol": f"Field Strength={tesla(person)}" if modality == "MRI" else TRACER,
                }
            )
    return pd.DataFrame(rows, columns=COLLECTION_COLUMNS)


def _visit_code(month: int) -> str:
    return f"m{month:02d}" if month else "bl"


def _diagnosis_table(people: Iterable[Person]) -> pd.DataFrame:
    rows = []
    for person in people:
        for month, diagnosis in model.diagnoses(person):
            visit, when = _visit_code(month), _day(person, month)
            rows.append(["ADNI1", person.rid, person.ptid, visit, visit, f"{when:%Y-%m-%d}", diagnosis])
    return pd.DataFrame(rows, columns=["PHASE", "RID", "PTID", "VISCODE", "VISCODE2", "EXAMDATE", "DIAGNOSIS"])


def write_download_tables(raw: Path, people: list[Person]) -> None:
    """LONI's tables: images of those who arrive as scans, diagnoses and scores of everybody.

    people: a row of images for each visit among them; Clinica's tables list the first alone.
    """
    baseline = [p for p in people if not p.month]
    collection, diagnoses = _collection(p for p in people if p.raw), _diagnosis_table(baseline)
    first = collection[collection.Visit == _visit_code(0)]
    tables = {"SIMULATED_collection.csv": collection, "SIMULATED_DXSUM_PDXCONV_ADNIALL.csv": diagnoses}
    for name, table in (tables | clinical_tables(baseline) | clinica_tables(baseline, first, diagnoses)).items():
        write_bytes(raw / name, as_csv(table))


def as_csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()
