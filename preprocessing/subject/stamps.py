"""Which part of a subject must be done anew: each stage has a stamp of all that it depends on, kept in a file.

Change one choice of the recipe, and only the stages that use it, and those after them, are redone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocessing.ledger import write_json
from preprocessing.subject.plan import Recipe, SubjectTask, pet_files, source_identity


@dataclass(frozen=True)
class Stage:
    """A part of the work with outputs on disk. Raise `version` when it computes something else."""

    name: str
    version: int
    fields: tuple[str, ...] = ()  # of the Recipe
    depends_on: Stage | None = None

    def stamp(self, recipe: Recipe, inputs: dict[str, Any]) -> str:
        """Hash of this stage and all before it. `inputs`: the identities of each stage's sources, by stage name."""
        content = {
            "stage": self.name,
            "version": self.version,
            "recipe": {name: value for name, value in recipe.stamped().items() if name in self.fields},
            "inputs": inputs.get(self.name),
            "before": self.depends_on.stamp(recipe, inputs) if self.depends_on else None,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


STRUCTURE = Stage("structure", 4, ("syn_iterations", "crop_margin_mm", "seed", "resolution_mm", "header"))
ALIGNMENT = Stage("pet_alignment", 3, ("pet_frames_min",), STRUCTURE)


def _before(name: str) -> list[Stage]:
    """The stage of that name and all that it depends on."""
    stage = next((stage for stage in (STRUCTURE, ALIGNMENT) if stage.name == name), None)
    chain = []
    while stage:
        chain.append(stage)
        stage = stage.depends_on
    return chain


def inputs_of(task: SubjectTask, prepared: Path) -> dict[str, Any]:
    """The identities of the scans, by the stage that reads them."""
    scans = {STRUCTURE.name: [task.t1], ALIGNMENT.name: pet_files(task)}
    inputs = {stage: [source_identity(path, prepared) for path in paths] for stage, paths in scans.items()}
    if task.fold:
        inputs[STRUCTURE.name].append({"fold": task.fold})
    return inputs


class Stamps:
    """The stages of one subject that are finished, in a file that is written after their outputs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.records: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.records = {}

    def found(self, stage: Stage, stamp: str, files: list[Path]) -> dict[str, Any] | None:
        """What `keep` noted of a stage, or None where its stamp is another or one of its `files` is not there."""
        record = self.records.get(stage.name, {})
        return record["notes"] if record.get("stamp") == stamp and all(file.is_file() for file in files) else None

    def forget(self, stage: Stage) -> None:
        """Call it before a stage overwrites its outputs: half of them new, they belong to no stamp, nor does what was
        made of them."""
        kept = {name: record for name, record in self.records.items() if stage not in _before(name)}
        if len(kept) < len(self.records):
            self.records = kept
            write_json(self.records, self.path)

    def keep(self, stage: Stage, stamp: str, notes: dict[str, Any]) -> None:
        self.records[stage.name] = {"stamp": stamp, "notes": notes}
        write_json(self.records, self.path)
