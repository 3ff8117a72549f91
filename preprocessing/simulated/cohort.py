"""Write a simulated cohort: an ADNI download of those who arrive as scans, prepared maps of the others, the truth.

OUT/raw       the download: ADNI/<PTID>/<series>/<date>/<image>/*.nii, a collection CSV, DXSUM, tables of education,
              APOE and cognitive scores, those that Clinica reads, SIMULATED.txt
OUT/prepared  given.tsv, given_regions.tsv and the maps of people who arrive prepared
OUT/truth     factors, true regional volumes and SUVRs, Bayes posteriors: for evaluation only, never for training
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from adni_tcgm.files import remove_leftovers, write_bytes
from adni_tcgm.privacy import cap_age
from adni_tcgm.processes import process_pool
from preprocessing.ledger import compact, write_image, write_json, write_table
from preprocessing.simulated import people as model
from preprocessing.simulated import registration_error, scanner
from preprocessing.simulated.anatomy import Anatomy, TemplateAnatomy, write_cache
from preprocessing.simulated.brain import Brain
from preprocessing.simulated.clinica_tables import SERIES_BELOW_IMAGE, clinica_tables
from preprocessing.simulated.clinical import clinical_tables
from preprocessing.simulated.label_map_anatomy import load_anatomy, prepare_anatomies
from preprocessing.simulated.label_maps import label_map_files
from preprocessing.simulated.people import CohortDesign, Person
from preprocessing.steps import template, tissue
from preprocessing.steps.crop import crop_prepared
from preprocessing.steps.regions import measure_regions
from preprocessing.subject import derivative

SESSION = "ses-M000"
T1_SERIES = "MPR; GradWarp; B1 Correction; N3; Scaled"
TRACER = "18F-FDG"
PET_SERIES = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
COLLECTION_COLUMNS = (
    *("Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality", "Description", "Type", "Acq Date"),
    *("Format", "Downloaded", "Imaging Protocol"),
)
# Raise it when the simulation changes what it writes: an older cohort in the same folder is then refused.
VERSION = 4
TEMPLATE_FILE = "template.npz"


@dataclass(frozen=True)
class _Assignment:
    """What a worker needs to write one person: maps below `prepared`, scans below `raw`, where these are given."""

    person: Person
    out: Path
    anatomies: Path | None
    prepared: Path | None
    raw: Path | None


def write_cohort(
    out: Path,
    design: CohortDesign,
    anatomies: Path | None = None,
    jobs: int = 2,
    progress: bool = True,
) -> None:
    """Write the cohort of `design` under `out`, or nothing if it is already there.

    `anatomies`: a folder of label maps whose people lend their heads; people of one anatomy share a group.
    `jobs`: processes; 0: in this very process. Raises ValueError if `out` holds a cohort of another design.
    """
    stamp = out / "truth" / "design.json"
    signature = {"version": VERSION, **asdict(design), "anatomies": anatomies.name if anatomies else None}
    if stamp.is_file():
        found = json.loads(stamp.read_text(encoding="utf-8"))
        if found != signature:
            changed = sorted(k for k in signature.keys() | found.keys() if found.get(k) != signature.get(k))
            raise ValueError(
                f"{out} holds a simulated cohort of another design ({', '.join(changed)} differ); "
                "choose another folder, or delete this one"
            )
        return
    remove_leftovers(out)
    heads = _prepare_heads(out, anatomies, design.site_effect > 0, jobs, progress)
    people = model.draw_people(design, heads)
    tasks = [
        _Assignment(p, out, anatomies, None, out / "raw")
        if p.raw
        else _Assignment(p, out, anatomies, out / "prepared", None)
        for p in people
    ]
    written = _run(tasks, jobs, progress)
    _write_tables(out, design, people, written, anatomies)
    write_json(signature, stamp)


def _prepare_heads(out: Path, anatomies: Path | None, blurred: bool, jobs: int, progress: bool) -> int:
    """What all people of a head have in common, made once; returns the number of heads."""
    if anatomies:
        prepare_anatomies(anatomies, _cache(out), blurred, jobs, progress)
        return len(label_map_files(anatomies))
    if not (_cache(out) / TEMPLATE_FILE).is_file():
        _cache(out).mkdir(parents=True, exist_ok=True)
        write_cache(TemplateAnatomy(), _cache(out) / TEMPLATE_FILE, blurred)
    return 1


def write_direct(out: Path, design: CohortDesign, folder: Path, anatomies: Path | None = None, jobs: int = 2) -> None:
    """Prepared maps, in `folder`, of the people of `out` who arrive as scans: to compare the two ways."""
    heads = _prepare_heads(out, anatomies, design.site_effect > 0, jobs, progress=False)
    tasks = [_Assignment(p, out, anatomies, folder, None) for p in model.draw_people(design, heads) if p.raw]
    _write_given(folder, _run(tasks, jobs, progress=False))


def _run(tasks: list[_Assignment], jobs: int, progress: bool) -> list[dict[str, pd.DataFrame | dict | None]]:
    with process_pool(jobs) if jobs else nullcontext() as pool:
        results = pool.map(_write_person, tasks, chunksize=1) if pool else map(_write_person, tasks)
        return list(tqdm(results, total=len(tasks), desc="simulating", unit="person", disable=not progress))


def _cache(out: Path) -> Path:
    return out / "truth" / "anatomies"


@lru_cache(maxsize=3)
def _anatomy(folder: Path | None, cache: Path, number: int) -> Anatomy:
    return load_anatomy(folder, cache, number) if folder else TemplateAnatomy(cache / TEMPLATE_FILE)


def _write_person(task: _Assignment) -> dict[str, pd.DataFrame | dict | None]:
    person = task.person
    brain = Brain(person, _anatomy(task.anatomies, _cache(task.out), person.anatomy))
    if task.raw:
        _write_scans(brain, task.raw)
    given = regions = None
    if task.prepared:
        given, regions = _write_prepared(brain, task.prepared)
        given["group_id"] = _group(person) if task.anatomies else person.participant_id
    return {"truth": _named(brain.regions(), person), "given": given, "regions": regions}


def _group(person: Person) -> str:
    return f"anatomy{person.anatomy:02d}"


def _named(table: pd.DataFrame, person: Person) -> pd.DataFrame:
    table = table.round(5)
    table.insert(0, "participant_id", person.participant_id)
    table.insert(1, "session_id", SESSION)
    return table


# ---- raw: the download


def _baseline(person: Person) -> date:
    return date(2006, 1, 9) + timedelta(days=37 * (person.rid % 60))


def _image_id(person: Person, modality: str) -> int:
    return 100_000 + 2 * person.rid + (modality == "PET")


def _write_scans(brain: Brain, raw: Path) -> None:
    person = brain.person
    t1_path = _scan_path(raw, person, "MR", T1_SERIES)
    write_bytes(t1_path, scanner.scan_t1(brain).to_bytes())
    if person.truncated:
        content = t1_path.read_bytes()
        write_bytes(t1_path, content[: len(content) * 3 // 5])
    if person.has_pet:
        write_bytes(_scan_path(raw, person, "PT", PET_SERIES), scanner.scan_pet(brain).to_bytes())


def _scan_path(raw: Path, person: Person, modality: str, description: str) -> Path:
    """LONI's layout: commas stay, spaces and semicolons become underscores."""
    folder = description.replace(";", "_").replace(" ", "_")
    image = _image_id(person, "PET" if modality == "PT" else "MRI")
    stamp, series = f"{_baseline(person):%Y-%m-%d}_10_00_00.0", image - SERIES_BELOW_IMAGE
    name = f"ADNI_{person.ptid}_{modality}_{folder}_Br_{_baseline(person):%Y%m%d}100000000_S{series}_I{image}.nii"
    return raw / "ADNI" / person.ptid / folder / stamp / f"I{image}" / name


def _tesla(person: Person) -> float:
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
                    "Visit": "bl",
                    "Modality": modality,
                    "Description": series,
                    "Type": "Processed",
                    "Acq Date": f"{_baseline(person):%m/%d/%Y}",
                    "Format": "NiFTI",
                    "Downloaded": "",
                    "Imaging Protocol": f"Field Strength={_tesla(person)}" if modality == "MRI" else TRACER,
                }
            )
    return pd.DataFrame(rows, columns=COLLECTION_COLUMNS)


def _diagnosis_table(people: Iterable[Person]) -> pd.DataFrame:
    rows = []
    for person in people:
        for month, diagnosis in model.diagnoses(person):
            visit = "bl" if month == 0 else f"m{month:02d}"
            when = _baseline(person) + timedelta(days=round(30.44 * month))
            rows.append(["ADNI1", person.rid, person.ptid, visit, visit, f"{when:%Y-%m-%d}", diagnosis])
    return pd.DataFrame(rows, columns=["PHASE", "RID", "PTID", "VISCODE", "VISCODE2", "EXAMDATE", "DIAGNOSIS"])


# ---- prepared: maps on the grid, as if registration had been done


def _write_prepared(brain: Brain, prepared: Path) -> tuple[dict[str, object], pd.DataFrame]:
    """The maps and numbers that preprocessing would make of this person's scans, registration error included."""
    person = brain.person
    found = registration_error.as_registered(brain)
    suvr = found.suvr if person.has_pet else None
    stem = f"{person.participant_id}_{SESSION}_space-{template.SPACE}_res-2"
    row = {"participant_id": person.participant_id, "session_id": SESSION, "gm_path": "", "pet_path": ""}
    maps = {
        "gm_path": (
            "anat",
            "label-GM_desc-modulatedCrop80_probseg",
            tissue.modulate(found.tissues["gm"], found.jacobian),
        )
    }
    if person.has_pet:
        maps["pet_path"] = ("pet", "desc-suvrPonsCrop80_pet", found.suvr * template.brain_mask())
    for column, (kind, ending, values) in maps.items():
        path = Path(person.participant_id) / SESSION / kind / f"{stem}_{ending}.nii.gz"
        about = derivative.image_fields(ending)
        about |= {"Description": f"SIMULATED; written on the template grid, not registered. {about['Description']}"}
        write_image(compact(crop_prepared(values)), prepared / path, about)
        row[column] = path.as_posix()
    pet = {"tracer": TRACER, "days_between": 0} if person.has_pet else {"tracer": "", "days_between": None}
    row |= {"field_strength_t": _tesla(person), **pet}
    row |= {"age": cap_age(person.age), "sex": person.sex, "site": f"{person.site:03d}"}
    row |= {"tiv_ml": round(found.tiv_ml, 2)}
    table = measure_regions(found.jacobian, found.tissues, suvr, segmented_ml=found.segmented_ml)
    return row, _named(table, person)


# ---- tables


def _write_tables(
    out: Path, design: CohortDesign, people: list[Person], written: list[dict], anatomies: Path | None
) -> None:
    write_bytes(out / "raw" / "SIMULATED.txt", b"SIMULATED cohort: no scan in this folder was taken of a person.\n")
    write_download_tables(out / "raw", people)
    if anatomies:
        groups = pd.DataFrame({"PTID": [p.ptid for p in people], "GROUP": [_group(p) for p in people]})
        write_bytes(out / "raw" / "GROUPS.csv", _csv(groups))
    _write_given(out / "prepared", written)
    write_table(model.people_table(people), out / "truth" / "people.tsv")
    write_table(pd.concat([w["truth"] for w in written]), out / "truth" / "regions.tsv")
    write_table(model.bayes_posteriors(people, design), out / "truth" / "bayes.tsv")


def write_download_tables(raw: Path, people: list[Person]) -> None:
    """LONI's tables: images of those who arrive as scans, diagnoses and scores of everybody."""
    collection, diagnoses = _collection(p for p in people if p.raw), _diagnosis_table(people)
    tables = {"SIMULATED_collection.csv": collection, "SIMULATED_DXSUM_PDXCONV_ADNIALL.csv": diagnoses}
    for name, table in (tables | clinical_tables(people) | clinica_tables(people, collection, diagnoses)).items():
        write_bytes(raw / name, _csv(table))


def _write_given(folder: Path, written: list[dict]) -> None:
    """given.tsv and given_regions.tsv of everybody who was written prepared."""
    kept = [w for w in written if w["given"]]
    if kept:
        write_table(pd.DataFrame([w["given"] for w in kept]), folder / "given.tsv")
        write_table(pd.concat([w["regions"] for w in kept]), folder / "given_regions.tsv")


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()
