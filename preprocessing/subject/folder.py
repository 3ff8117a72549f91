"""The files of one subject: their names, how they are written and read, and which of the work in them is finished.

Nothing else in `subject` makes a file name; the steps know arrays alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np

from adni_tcgm.files import SCRATCH_PREFIX
from adni_tcgm.privacy import without_days
from preprocessing.ledger import compact, write_image, write_json
from preprocessing.steps import crop, register, template
from preprocessing.subject import derivative
from preprocessing.subject.plan import SubjectTask
from preprocessing.subject.stamps import Stage, Stamps, inputs_of

FINE_MM = 1


@dataclass(frozen=True)
class SubjectFolder:
    """`prepared/sub-X/ses-M000/{anat,pet,figures}`, names as in BIDS derivatives.

    An image's `ending` is what its name says after the space and the resolution, such as "label-GM_probseg"; what ends
    in "_pet" lies in `pet`, all else in `anat`.
    """

    task: SubjectTask
    prepared: Path

    @property
    def root(self) -> Path:
        return self.task.folder(self.prepared)

    def _beside(self, ending: str) -> Path:
        return self.root / f"{self.task.name}_{ending}"

    def map(self, ending: str, resolution_mm: int = 2) -> Path:
        """An image on the template's grid."""
        return self.own(f"space-{template.SPACE}_res-{resolution_mm}_{ending}")

    def own(self, ending: str) -> Path:
        """An image on a grid of the person's own; `ending` says which."""
        part = self.root / ("pet" if ending.endswith("_pet") else "anat")
        return part / f"{self.task.name}_{ending}.nii.gz"

    @property
    def regions(self) -> Path:
        return self._beside("regions.tsv")

    @property
    def response(self) -> Path:
        """The response check of these very results, if there is one."""
        return self._beside("response.tsv")

    @property
    def quality(self) -> Path:
        return self._beside("qc.json")

    @property
    def done(self) -> Path:
        return self._beside("done.json")

    @property
    def figures(self) -> Path:
        """How the files of the quality pictures begin."""
        return self.root / "figures" / self.task.name

    @property
    def transforms(self) -> register.Transforms:
        """Between the T1 and the template."""
        there = f"from-T1w_to-{template.SPACE}_mode-image"
        back = f"from-{template.SPACE}_to-T1w_mode-image"
        names = (f"{there}_desc-affine_xfm.mat", f"{there}_desc-syn_xfm.h5", f"{back}_desc-syn_xfm.h5")
        return register.Transforms(*(self.root / "anat" / f"{self.task.name}_{name}" for name in names))

    @property
    def rigid(self) -> Path:
        """The rigid map from PET to T1."""
        return self.root / "pet" / f"{self.task.name}_from-pet_to-T1w_mode-image_xfm.mat"

    def relative(self, path: Path) -> str:
        return path.relative_to(self.prepared).as_posix()

    @contextmanager
    def scratch(self, part: str) -> Iterator[Path]:
        """A folder beside the files of a part, "anat" or "pet", for what is moved there once it is whole."""
        (self.root / part).mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.root / part, prefix=SCRATCH_PREFIX) as folder:
            yield Path(folder)

    def about(self, *sources: Path) -> dict[str, object]:
        """What every image says about its origin, besides `derivative.image_fields`; no absolute path, so that the
        folder can move, and no day."""
        return {
            "Sources": [without_days(os.path.relpath(source, self.prepared)) for source in sources],
            "RecipeHash": self.task.recipe.hash,
            "Recipe": self.task.recipe.stamped(),
        }

    def write_map(self, ending: str, values: np.ndarray, about: dict[str, object]) -> None:
        """Write a map on the template grid: masks as they are, everything else compact."""
        image = template.grid_image(values)
        image = image if values.dtype == np.uint8 else compact(image)
        write_image(image, self.map(ending), derivative.image_fields(ending) | about)

    def write_fine_map(self, ending: str, values: np.ndarray, about: dict[str, object]) -> None:
        """Write a map on the template's 1 mm grid."""
        image = compact(template.fine_grid_image(values))
        write_image(image, self.map(ending, FINE_MM), derivative.image_fields(ending, FINE_MM) | about)

    def write_crop(self, ending: str, values: np.ndarray, about: dict[str, object]) -> None:
        """Write the part of (91, 109, 91) values that networks read."""
        write_image(compact(crop.crop_prepared(values)), self.map(ending), derivative.image_fields(ending) | about)

    def write_own(self, ending: str, image: nib.Nifti1Image, resolution_mm: int, about: dict[str, object]) -> None:
        """Write an image on a grid of the person's own."""
        write_image(image, self.own(ending), derivative.image_fields(ending, resolution_mm) | about)

    def keep_transforms(self, found: register.Transforms) -> None:
        """Move the files of a registration to their BIDS names, and say beside them how they are put together."""
        for name, path in vars(self.transforms).items():
            os.replace(getattr(found, name), path)
        note = "T1w to template: SyN field, then affine, on points; back: inverse of the affine, then the inverse field"
        name = f"{self.task.name}_from-T1w_to-{template.SPACE}_mode-image_xfm.json"
        write_json({"Order": note, "Type": "ITK"}, self.root / "anat" / name)

    def read_map(self, ending: str) -> np.ndarray:
        return nib.load(self.map(ending)).get_fdata(dtype=np.float32)

    def read_sidecar(self, ending: str) -> dict[str, Any]:
        """What the map says of itself."""
        return json.loads(self.map(ending).with_suffix("").with_suffix(".json").read_text(encoding="utf-8"))

    @cached_property
    def _stamps(self) -> Stamps:
        return Stamps(self._beside("stamps.json"))

    def once(self, stage: Stage, files: list[Path], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `compute` notes of a stage's outputs: from the call that made them, where all `files` are there under
        the stamp of this recipe and these scans, and else from a call now."""
        stamp = stage.stamp(self.task.recipe, inputs_of(self.task, self.prepared))
        notes = self._stamps.found(stage, stamp, files)
        if notes is None:
            self._stamps.forget(stage)
            notes = compute()
            self._stamps.keep(stage, stamp, notes)
        return notes
