"""Write a simulated cohort: an ADNI download of those who arrive as scans, prepared maps of the others, the truth.

OUT/raw       the download: ADNI/<PTID>/<series>/<date>/<image>/*.nii, a collection CSV, DXSUM, tables of education,
              APOE and cognitive scores, those that Clinica reads, SIMULATED.txt; SIMULATED_folds.tsv: which networks
              prepare people whose heads the shipped ones were trained on
OUT/prepared  given.tsv, given_regions.tsv and the maps of people who arrive prepared
OUT/truth     factors, true regional volumes and SUVRs, Bayes posteriors: for evaluation only, never for training;
              later_visits.tsv: the factors at the second visit, where there is one; anatomies/excess.tsv: what was
              taken off everybody who has a head
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from adni_tcgm.files import remove_leftovers, write_bytes
from adni_tcgm.privacy import cap_age
from adni_tcgm.processes import process_pool
from preprocessing.ledger import compact, write_image, write_json, write_table
from preprocessing.simulated import download, registration_error
from preprocessing.simulated import people as model
from preprocessing.simulated.anatomy import Anatomy, TemplateAnatomy, grey_uptake, write_cache
from preprocessing.simulated.brain import Brain
from preprocessing.simulated.folds import MARK, folds_of, write_folds
from preprocessing.simulated.label_map_anatomy import load_anatomy, prepare_anatomies
from preprocessing.simulated.label_maps import label_map_files
from preprocessing.simulated.people import CohortDesign, Person
from preprocessing.steps import template, tissue
from preprocessing.steps.crop import crop_prepared
from preprocessing.steps.regions import measure_regions
from preprocessing.subject import derivative

# Raise it when the simulation changes what it writes: an older cohort in the same folder is then refused.
VERSION = 7
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
    folds = folds_of(label_map_files(anatomies)) if anatomies else [None]
    heads = _prepare_heads(out, anatomies, design.site_effect > 0, jobs, progress)
    people = _visits(design, heads)
    tasks = [
        _Assignment(p, out, anatomies, None, out / "raw")
        if p.raw
        else _Assignment(p, out, anatomies, out / "prepared", None)
        for p in people
    ]
    written = _run(tasks, jobs, progress)
    _write_tables(out, design, people, written, anatomies)
    write_folds(out / "raw", {p.participant_id: folds[p.anatomy] for p in people if p.raw})
    write_json(signature, stamp)


def _visits(design: CohortDesign, heads: int) -> list[Person]:
    """Everybody at baseline, and once more at the second visit where the design has one; a head's people together."""
    people = model.draw_people(design, heads)
    later = [model.later_visit(p) for p in people] if design.visits == 2 else []
    return sorted([*people, *later], key=lambda p: p.anatomy)


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
    tasks = [_Assignment(p, out, anatomies, folder, None) for p in _visits(design, heads) if p.raw]
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
        download.write_scans(brain, task.raw)
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
    table.insert(1, "session_id", person.session_id)
    return table


# ---- prepared: maps on the grid, as if registration had been done


def _write_prepared(brain: Brain, prepared: Path) -> tuple[dict[str, object], pd.DataFrame]:
    """The maps and numbers that preprocessing would make of this person's scans, registration error included."""
    person, names = brain.person, {"participant_id": brain.person.participant_id, "session_id": brain.person.session_id}
    found = registration_error.as_registered(brain)
    stem = f"{person.participant_id}_{person.session_id}_space-{template.SPACE}_res-2"
    row = names | {"gm_path": "", "pet_path": ""}
    modulated = tissue.modulate(found.tissues["gm"], found.jacobian)
    maps = {"gm_path": ("anat", "label-GM_desc-modulatedCrop80_probseg", modulated)}
    if person.has_pet:
        maps["pet_path"] = ("pet", "desc-suvrPonsCrop80_pet", found.suvr * template.brain_mask())
    for column, (kind, ending, values) in maps.items():
        path = Path(person.participant_id) / person.session_id / kind / f"{stem}_{ending}.nii.gz"
        about = derivative.image_fields(ending)
        about |= {"Description": f"SIMULATED; written on the template grid, not registered. {about['Description']}"}
        write_image(compact(crop_prepared(values)), prepared / path, about)
        row[column] = path.as_posix()
    pet = {"tracer": download.TRACER, "days_between": 0} if person.has_pet else {"tracer": "", "days_between": None}
    row |= {"field_strength_t": download.tesla(person), **pet}
    row |= {"age": cap_age(person.age), "sex": person.sex, "site": f"{person.site:03d}"}
    row |= {"tiv_ml": round(found.tiv_ml, 2)}
    suvr = found.suvr if person.has_pet else None
    gray = grey_uptake(found.tissues["gm"], found.tissues["csf"])
    table = measure_regions(found.jacobian, found.tissues, suvr, segmented_ml=found.segmented_ml, gray=gray)
    return row, _named(table, person)


# ---- tables


def _write_tables(
    out: Path, design: CohortDesign, people: list[Person], written: list[dict], anatomies: Path | None
) -> None:
    write_bytes(out / "raw" / MARK, b"SIMULATED cohort: no scan in this folder was taken of a person.\n")
    download.write_download_tables(out / "raw", people)
    if anatomies:
        groups = pd.DataFrame(
            {"PTID": [p.ptid for p in people], "GROUP": [_group(p) for p in people]}
        ).drop_duplicates()
        write_bytes(out / "raw" / "GROUPS.csv", download.as_csv(groups))
    _write_given(out / "prepared", written)
    baseline, later = ([p for p in people if (p.month > 0) == late] for late in (False, True))
    write_table(model.people_table(baseline), out / "truth" / "people.tsv")
    if later:
        write_table(model.people_table(later), out / "truth" / "later_visits.tsv")
    write_table(pd.concat([w["truth"] for w in written]), out / "truth" / "regions.tsv")
    write_table(model.bayes_posteriors(baseline, design), out / "truth" / "bayes.tsv")


def _write_given(folder: Path, written: list[dict]) -> None:
    """given.tsv and given_regions.tsv of everybody who was written prepared."""
    kept = [w for w in written if w["given"]]
    if kept:
        write_table(pd.DataFrame([w["given"] for w in kept]), folder / "given.tsv")
        write_table(pd.concat([w["regions"] for w in kept]), folder / "given_regions.tsv")
