"""What is to be done for one subject, with which choices, and under which names the files go."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from adni_tcgm.files import inside
from adni_tcgm.privacy import without_days
from preprocessing import choices, sidecars
from preprocessing.ledger import compact, write_image
from preprocessing.steps import crop, frames, register, suvr, template
from preprocessing.subject import derivative

# Raise it when a step changes what it computes: every subject is then done anew.
RECIPE_VERSION = 6
MAX_PET_MM = 20.0


@dataclass(frozen=True)
class Recipe:
    """What may be chosen. Every field goes into the hash that decides whether a subject must be done anew.

    Raises ValueError for a reference region, a correction, a resolution or a header that is not known.
    """

    syn_iterations: tuple[int, int, int] = register.ITERATIONS
    crop_margin_mm: float = 12.0
    pet_resolution_mm: float = choices.PET_RESOLUTION_MM  # FWHM to which finer PETs are smoothed; 0: left as they are
    partial_volume: str = "none"  # of grey matter in the PET: a name of choices.CORRECTIONS
    seed: int = 0
    reference: str = "pons"  # of the SUVR: a name of suvr.REFERENCES
    pet_frames_min: tuple[float, float] = frames.LATE_MINUTES  # after injection; averaged where a PET is dynamic
    # 1: the T1, the modulated grey matter and the SUVR are written on the template's 1 mm grid, too. Registration,
    # measurements and the crops that networks read stay at 2 mm.
    resolution_mm: int = 2
    header: str = ""  # sform or qform: which counts in scans where they contradict each other; "": such a scan fails

    def __post_init__(self) -> None:
        suvr.reference_mask(self.reference)  # refuses an unknown name before any work
        if not 0 <= self.pet_resolution_mm <= MAX_PET_MM:
            wanted = f"mm from 0 (as they are) to {MAX_PET_MM:g}"
            raise ValueError(f"pet_resolution_mm is {self.pet_resolution_mm!r}; {wanted} are needed")
        if self.partial_volume not in choices.CORRECTIONS:
            known = ", ".join(choices.CORRECTIONS)
            raise ValueError(f"partial_volume is {self.partial_volume!r}; known: {known}")
        if self.header not in ("", *choices.HEADERS):
            raise ValueError(f"header is {self.header!r}; known: {', '.join(choices.HEADERS)}")
        if self.resolution_mm not in choices.RESOLUTIONS_MM:
            raise ValueError(f"resolution_mm is {self.resolution_mm!r}; maps are made at 2 mm, or at 2 and 1")

    def stamped(self) -> dict[str, Any]:
        """The fields as stamps hold them: without `header` where it is unset, as in stamps from before it was there."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("header", "")}

    @property
    def hash(self) -> str:
        content = json.dumps({"version": RECIPE_VERSION, **self.stamped()}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SubjectTask:
    """One person's visit to prepare.

    pet_series: description of the PET's series; pet_protocol: what the archive says of how it was taken; fold: of the
    networks that never saw this head, where it is one of those they were trained on.
    """

    participant_id: str
    session_id: str
    t1: Path
    pet: Path | None = None
    pet_series: str = ""
    pet_protocol: str = ""
    recipe: Recipe = field(default_factory=Recipe)
    fold: int | None = None

    @property
    def name(self) -> str:
        return f"{self.participant_id}_{self.session_id}"

    def folder(self, prepared: Path) -> Path:
        return inside(prepared, Path(self.participant_id) / self.session_id)


def source_identity(path: Path, prepared: Path) -> dict[str, object]:
    """Enough of a file to notice that it is another one: relative path, size, time of change."""
    stat = path.stat() if path.is_file() else None
    relative = os.path.relpath(path, prepared)
    return {"file": relative, "bytes": stat.st_size if stat else -1, "mtime_ns": stat.st_mtime_ns if stat else -1}


def pet_files(task: SubjectTask) -> list[Path]:
    """The PET and the sidecars that decide about it: a PET refused for want of frame times is tried again with them."""
    return [task.pet, *sidecars.that_decide(task.pet)] if task.pet else []


def map_path(task: SubjectTask, folder: Path, ending: str, resolution_mm: int = 2) -> Path:
    return folder / f"{task.name}_space-{template.SPACE}_res-{resolution_mm}_{ending}.nii.gz"


def regions_path(task: SubjectTask, prepared: Path) -> Path:
    return task.folder(prepared) / f"{task.name}_regions.tsv"


def response_path(task: SubjectTask, prepared: Path) -> Path:
    """Where the response check of these very results is written, if there is one."""
    return task.folder(prepared) / f"{task.name}_response.tsv"


def figures_stem(task: SubjectTask, prepared: Path) -> Path:
    """How the files of the subject's quality pictures begin."""
    return task.folder(prepared) / "figures" / task.name


def sidecar(task: SubjectTask, prepared: Path, sources: list[Path]) -> dict[str, object]:
    """What every image says about its origin, besides `derivative.image_fields`; no absolute path, so that the folder
    can move, and no day."""
    return {
        "Sources": [without_days(os.path.relpath(source, prepared)) for source in sources],
        "RecipeHash": task.recipe.hash,
        "Recipe": task.recipe.stamped(),
    }


def write_map(task: SubjectTask, folder: Path, ending: str, values: np.ndarray, about: dict[str, object]) -> None:
    """Write a map on the template grid: masks as they are, everything else compact."""
    image = template.grid_image(values)
    image = image if values.dtype == np.uint8 else compact(image)
    write_image(image, map_path(task, folder, ending), derivative.image_fields(ending) | about)


def write_fine_map(task: SubjectTask, folder: Path, ending: str, values: np.ndarray, about: dict[str, object]) -> None:
    """Write a map on the template's 1 mm grid."""
    image = compact(template.fine_grid_image(values))
    write_image(image, map_path(task, folder, ending, 1), derivative.image_fields(ending, 1) | about)


def write_crop(task: SubjectTask, folder: Path, ending: str, values: np.ndarray, about: dict[str, object]) -> None:
    """Write the part of (91, 109, 91) values that networks read."""
    image = compact(crop.crop_prepared(values))
    write_image(image, map_path(task, folder, ending), derivative.image_fields(ending) | about)


def read_map(path: Path) -> np.ndarray:
    return nib.load(path).get_fdata(dtype=np.float32)
