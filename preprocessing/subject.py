"""The ordered steps for one subject, scans in, BIDS-derivative files out."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from preprocessing import (
    bias,
    brain_mask,
    crop,
    measures,
    orient,
    quality,
    regions,
    register,
    suvr,
    template,
    thumbnails,
    tissue,
)
from preprocessing.ledger import LedgerRow, compact, write_image, write_json, write_table
from preprocessing.orient import ScanError

# Raise it when a step changes what it computes: every subject is then done anew.
RECIPE_VERSION = 1
STRUCTURE = f"space-{template.SPACE}_res-2"


@dataclass(frozen=True)
class Recipe:
    """What may be chosen. Every field goes into the hash that decides whether a subject must be done anew."""

    syn_iterations: tuple[int, int, int] = register.ITERATIONS
    crop_margin_mm: float = 12.0
    pet_smooth_mm: float = 0.0  # full width at half maximum; never applied to series of uniform resolution
    seed: int = 0

    @property
    def hash(self) -> str:
        content = json.dumps({"version": RECIPE_VERSION, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SubjectTask:
    """One person's visit to prepare. `pet_uniform`: the series already has one resolution and is never smoothed."""

    participant_id: str
    session_id: str
    t1: Path
    pet: Path | None = None
    pet_uniform: bool = True
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def name(self) -> str:
        return f"{self.participant_id}_{self.session_id}"

    def folder(self, prepared: Path) -> Path:
        return prepared / self.participant_id / self.session_id


@dataclass
class Outcome:
    """What a subject came to: files relative to the prepared folder, numbers, ledger rows, seconds per step."""

    participant_id: str
    session_id: str
    t1_path: str = ""
    gm_path: str = ""
    pet_path: str = ""
    tiv_ml: float | None = None
    qc: str = ""
    ledger: list[LedgerRow] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class StepFailed(Exception):
    """An error with the step in which it happened. `expected`: the scan is at fault, so trying again is of no use."""

    def __init__(self, step: str, error: Exception) -> None:
        self.step = step
        self.expected = isinstance(error, ScanError)
        self.reason_code = error.reason_code if isinstance(error, ScanError) else "error"
        lines = str(error).strip().splitlines()
        self.reason = str(error) if self.expected else f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        super().__init__(f"{step}: {self.reason}")


def source_identity(path: Path, prepared: Path) -> dict[str, object]:
    """Enough of a file to notice that it is another one: relative path, size, time of change."""
    stat = path.stat() if path.is_file() else None
    relative = os.path.relpath(path, prepared)
    return {"file": relative, "bytes": stat.st_size if stat else -1, "mtime_ns": stat.st_mtime_ns if stat else -1}


def preprocess_subject(task: SubjectTask, prepared: Path) -> Outcome:
    """Take one T1, and the PET if there is one, to the template.

    Writes `prepared/sub-X/ses-M000/{anat,pet}/...`, regions, QC and, last, `..._done.json`. A PET that fails leaves the
    T1's results standing. Raises StepFailed where the T1 fails.
    """
    prepared.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(task.participant_id, task.session_id)
    structure = _Structure.prepare(task, prepared, outcome)
    outcome.ledger.append(_kept_row(task, prepared, "mri", structure.checks))
    checks = structure.checks
    suvr_map = covered = None
    final = True
    if task.pet:
        try:
            suvr_map, covered, pet_checks = _prepare_pet(task, prepared, outcome, structure)
            checks = checks + pet_checks
            outcome.ledger.append(_kept_row(task, prepared, "pet", pet_checks))
        except StepFailed as failure:
            outcome.ledger.append(failed_row(task, prepared, "pet", failure))
            final = failure.expected
    table = regions.measure_regions(structure.jacobian, suvr_map, covered)
    table.insert(0, "participant_id", task.participant_id)
    table.insert(1, "session_id", task.session_id)
    write_table(table.round(5), regions_path(task, prepared))
    write_json([asdict(c) for c in checks], task.folder(prepared) / f"{task.name}_qc.json")
    outcome.qc = quality.worst(checks)
    if final:  # otherwise the next run tries again
        write_done(task, prepared, outcome)
    return outcome


@contextmanager
def _step(name: str, outcome: Outcome) -> Iterator[None]:
    """Time a step, and say its name where it fails."""
    start = time.perf_counter()
    try:
        yield
    except Exception as error:  # the ledger needs the step, whatever the library raised
        raise StepFailed(name, error) from error
    finally:
        outcome.seconds[name] = round(time.perf_counter() - start, 2)


@dataclass(frozen=True)
class _Structure:
    """What the T1 steps hand to the PET steps. Maps on the template grid, `t1_brain` native."""

    t1_brain: nib.Nifti1Image
    transforms: register.Transforms
    jacobian: np.ndarray
    tissues: np.ndarray
    checks: list[quality.Check]

    @classmethod
    def prepare(cls, task: SubjectTask, prepared: Path, outcome: Outcome) -> _Structure:
        folder = task.folder(prepared) / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        with _step("orient", outcome):
            t1 = orient.read_scan(task.t1)
        with _step("brain_mask", outcome):
            mask, method = brain_mask.mask_brain(t1)
            ghosts = measures.ghost_share(t1.get_fdata(dtype=np.float32), mask, t1.header.get_zooms()[:3])
            box = orient.crop_to(t1, mask, task.recipe.crop_margin_mm)
            t1, mask = t1.slicer[box], mask[box]
            outcome.tiv_ml = round(brain_mask.volume_ml(mask, t1), 2)
        with _step("bias", outcome):
            t1 = bias.correct_bias(t1, mask)
            brain = nib.Nifti1Image(t1.get_fdata(dtype=np.float32) * mask, t1.affine)
        with _step("register", outcome):
            transforms = _register(task, folder, brain)
            jacobian = register.jacobian(transforms)
        with _step("tissue", outcome):
            # The three sum to 1, so that the third needs no interpolation.
            fluid, gray = (register.to_native(prior, transforms, t1) for prior in tissue.tissue_priors()[:2])
            priors = np.stack([fluid, gray, np.clip(1 - fluid - gray, 0, 1)])
            native = tissue.segment(t1.get_fdata(dtype=np.float32), mask, priors)
            tissue_ml = native.sum((1, 2, 3)) * abs(np.linalg.det(t1.affine[:3, :3])) / 1000
        with _step("warp", outcome):
            images = [nib.Nifti1Image(values, t1.affine) for values in native]
            tissues = np.stack([register.to_template(image, transforms) for image in images])
            warped = register.to_template(t1, transforms)
            mask_image = nib.Nifti1Image(mask.astype(np.float32), t1.affine)
            warped_mask = register.to_template(mask_image, transforms) > 0.5
        with _step("write", outcome):
            about = _sidecar(task, prepared, [task.t1])
            about |= {"BrainMaskMethod": method, "TIV_mL": outcome.tiv_ml, "TIVDefinition": "brain mask volume"}
            named = zip(tissue.TISSUES, tissue_ml, strict=True)
            about |= {f"{name.upper()}_mL": round(float(ml), 2) for name, ml in named}
            maps = {"desc-preproc_T1w": warped, "desc-brain_mask": warped_mask.astype(np.uint8)}
            _write_structure(task, prepared, outcome, maps | {"desc-jacobian_map": jacobian}, tissues, about)
        with _step("quality", outcome):
            on_template = (warped, warped_mask, jacobian)
            checks = _judge_t1(task, prepared, t1, mask, on_template, transforms, tissue_ml, ghosts)
        return cls(brain, transforms, jacobian, tissues, checks)


def _judge_t1(
    task: SubjectTask,
    prepared: Path,
    t1: nib.Nifti1Image,
    mask: np.ndarray,
    warped: tuple[np.ndarray, np.ndarray, np.ndarray],
    transforms: register.Transforms,
    tissue_ml: np.ndarray,
    ghosts: float,
) -> list[quality.Check]:
    """Pictures and checks of the T1. `t1` and `mask` native; `warped`: T1, mask and Jacobian on the template grid."""
    target = brain_mask.template_brain_mask()
    view = nib.Nifti1Image(np.ones(t1.shape, np.float32), t1.affine)
    covered = register.to_template(view, transforms) > 0.5
    head = quality.place_loosely(t1, mask, target)
    thumbnails.write_t1(warped[0], t1, mask, task.folder(prepared) / "figures" / task.name)
    affine = register.affine_matrix(transforms.affine)
    maps = quality.T1Maps(warped[0], warped[1], target, warped[2], covered, mask, head, affine, ghosts)
    return quality.check_t1(maps, tissue_ml, brain_mask.volume_ml(mask, t1))


def _write_structure(
    task: SubjectTask,
    prepared: Path,
    outcome: Outcome,
    maps: dict[str, np.ndarray],
    tissues: np.ndarray,
    about: dict[str, object],
) -> None:
    """Write the T1's maps on the whole grid, and the cropped modulated grey matter that training reads."""
    folder = task.folder(prepared) / "anat"
    modulated = tissue.modulate(tissues[tissue.TISSUES.index("gm")], maps["desc-jacobian_map"])
    maps = maps | {
        f"label-{name.upper()}_probseg": values for name, values in zip(tissue.TISSUES, tissues, strict=True)
    }
    maps["label-GM_desc-modulated_probseg"] = modulated
    paths = {ending: _write_map(task, folder, ending, values, about) for ending, values in maps.items()}
    gm_path = folder / f"{task.name}_{STRUCTURE}_label-GM_desc-modulatedCrop80_probseg.nii.gz"
    units = {"Units": "person's mL of grey matter per mL of template"}
    write_image(compact(crop.crop_prepared(modulated)), gm_path, about | units)
    outcome.t1_path = paths["desc-preproc_T1w"].relative_to(prepared).as_posix()
    outcome.gm_path = gm_path.relative_to(prepared).as_posix()


def _register(task: SubjectTask, folder: Path, brain: nib.Nifti1Image) -> register.Transforms:
    """Register, and keep the transforms under BIDS names."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fixed = template.grid_image(template.t1() * brain_mask.template_brain_mask())
        found = register.register_to_template(brain, fixed, Path(scratch) / "t1_", task.recipe.syn_iterations)
        there = f"{task.name}_from-T1w_to-{template.SPACE}_mode-image"
        back = f"{task.name}_from-{template.SPACE}_to-T1w_mode-image"
        kept = register.Transforms(
            affine=folder / f"{there}_desc-affine_xfm.mat",
            warp=folder / f"{there}_desc-syn_xfm.nii.gz",
            inverse_warp=folder / f"{back}_desc-syn_xfm.nii.gz",
        )
        os.replace(found.affine, kept.affine)
        os.replace(found.warp, kept.warp)
        os.replace(found.inverse_warp, kept.inverse_warp)
    note = "T1w to template: SyN field, then affine, on points; back: inverse of the affine, then the inverse field"
    write_json({"Order": note, "Type": "ITK"}, folder / f"{there}_xfm.json")
    return kept


def _prepare_pet(
    task: SubjectTask, prepared: Path, outcome: Outcome, structure: _Structure
) -> tuple[np.ndarray, np.ndarray, list[quality.Check]]:
    """SUVR on the template grid, where the PET covers it (bool), and the PET's checks."""
    folder = task.folder(prepared) / "pet"
    with _step("orient_pet", outcome):
        pet = orient.read_scan(task.pet)
        folder.mkdir(parents=True, exist_ok=True)
    with _step("register_pet", outcome):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            found = register.align_pet(pet, structure.t1_brain, Path(scratch) / "pet_")
            rigid = folder / f"{task.name}_from-pet_to-T1w_mode-image_xfm.mat"
            os.replace(found, rigid)
        activity = register.to_template(pet, structure.transforms, rigid)
        view = nib.Nifti1Image(np.ones(pet.shape, np.float32), pet.affine)
        covered = register.to_template(view, structure.transforms, rigid) > 0.5
    with _step("suvr", outcome):
        fwhm_mm = 0.0 if task.pet_uniform else task.recipe.pet_smooth_mm
        activity = suvr.smooth(activity, fwhm_mm) if fwhm_mm else activity
        ratio, reference = suvr.compute_suvr(activity, covered)
    with _step("write_pet", outcome):
        about = _sidecar(task, prepared, [task.pet, task.t1])
        about |= {"Units": "SUVR", "ReferenceRegion": template.PONS_NAME, "ReferenceMean": reference}
        about |= {"SmoothingFWHM_mm": fwhm_mm, "UniformResolutionSeries": task.pet_uniform}
        _write_map(task, folder, "desc-suvrPons_pet", ratio, about)
        cropped = crop.crop_prepared(ratio * template.brain_mask())
        path = folder / f"{task.name}_{STRUCTURE}_desc-suvrPonsCrop80_pet.nii.gz"
        write_image(compact(cropped), path, about | {"Masked": "brain mask of the template"})
        outcome.pet_path = path.relative_to(prepared).as_posix()
    with _step("quality_pet", outcome):
        thumbnails.write_pet(ratio, structure.tissues, task.folder(prepared) / "figures" / task.name)
        sides = register.mirror_pair(pet, structure.transforms, rigid)
        checks = quality.check_pet(ratio, covered, structure.tissues[1], structure.tissues[2], sides)
    return ratio, covered, checks


def _write_map(task: SubjectTask, folder: Path, ending: str, values: np.ndarray, about: dict[str, object]) -> Path:
    path = folder / f"{task.name}_{STRUCTURE}_{ending}.nii.gz"
    image = template.grid_image(values)
    write_image(image if values.dtype == np.uint8 else compact(image), path, about)
    return path


def _sidecar(task: SubjectTask, prepared: Path, sources: list[Path]) -> dict[str, object]:
    """What every image says about its origin; no absolute path, so that the folder can move."""
    return {
        "Sources": [os.path.relpath(source, prepared) for source in sources],
        "SpatialReference": f"{template.SPACE} (ICBM 152 2009c symmetric), 2 mm",
        "RecipeHash": task.recipe.hash,
        "Recipe": asdict(task.recipe),
    }


def _kept_row(task: SubjectTask, prepared: Path, modality: str, checks: list[quality.Check]) -> LedgerRow:
    """The ledger row of a scan that went through, with what quality control has to say of it."""
    source = os.path.relpath(task.t1 if modality == "mri" else task.pet, prepared)
    ids = (task.participant_id, task.session_id, modality)
    return LedgerRow(*ids, "kept", *quality.explain(checks), source)


def failed_row(task: SubjectTask, prepared: Path, modality: str, failure: StepFailed) -> LedgerRow:
    """The ledger row of a failed scan: step, reason code, one sentence."""
    scan = task.t1 if modality == "mri" else task.pet
    source = os.path.relpath(scan, prepared)
    # The source column says where the file is, relative to the prepared folder.
    reason = f"{task.participant_id}/{task.session_id}: {failure.reason.replace(str(scan), scan.name)}"
    ids = (task.participant_id, task.session_id, modality)
    return LedgerRow(*ids, "failed", failure.step, failure.reason_code, " ".join(reason.split()), source)


def regions_path(task: SubjectTask, prepared: Path) -> Path:
    return task.folder(prepared) / f"{task.name}_regions.tsv"


def _done_path(task: SubjectTask, prepared: Path) -> Path:
    return task.folder(prepared) / f"{task.name}_done.json"


def _identity(task: SubjectTask, prepared: Path) -> dict[str, object]:
    sources = [source_identity(path, prepared) for path in (task.t1, task.pet) if path]
    return {"recipe_hash": task.recipe.hash, "sources": sources}


def write_done(task: SubjectTask, prepared: Path, outcome: Outcome) -> None:
    """The last file of a subject: with it, the subject is not done again while recipe and sources stay the same."""
    write_json(_identity(task, prepared) | {"outcome": asdict(outcome)}, _done_path(task, prepared))


def read_done(task: SubjectTask, prepared: Path) -> Outcome | None:
    """The outcome of an earlier run, or None where recipe, sources or any output differ or are gone."""
    path = _done_path(task, prepared)
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if {key: content.get(key) for key in ("recipe_hash", "sources")} != _identity(task, prepared):
        return None
    fields = content["outcome"]
    outcome = Outcome(**{**fields, "ledger": [LedgerRow(**row) for row in fields["ledger"]]})
    files = [prepared / name for name in (outcome.t1_path, outcome.gm_path, outcome.pet_path) if name]
    if outcome.t1_path:
        files.append(regions_path(task, prepared))
    return outcome if all(file.is_file() for file in files) else None
