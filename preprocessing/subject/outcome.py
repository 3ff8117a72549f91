"""What became of one subject: files, ledger rows and seconds, kept in a last file by which a later run knows it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from adni_tcgm.privacy import without_days
from preprocessing.ledger import LedgerRow, write_json
from preprocessing.quality.checks import Check, explain, worst
from preprocessing.steps.orient import ScanError
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.plan import SubjectTask, pet_files, source_identity


@dataclass
class Outcome:
    """What a subject came to: files relative to the prepared folder, numbers, ledger rows, seconds per step.

    `qc` is the verdict on the T1. A scan that quality control fails has its paths all the same, since a person may keep
    it; a PET that could not be processed has none. The ledger rows say why.
    """

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


@contextmanager
def step(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Time a step into `seconds`, and say its name where it fails."""
    start = time.perf_counter()
    try:
        yield
    except Exception as error:  # the ledger needs the step, whatever the library raised
        raise StepFailed(name, error) from error
    finally:
        seconds[name] = round(time.perf_counter() - start, 2)


def judged_row(task: SubjectTask, prepared: Path, modality: str, checks: list[Check]) -> LedgerRow:
    """The ledger row of a scan that went through: kept, or excluded where quality control failed it."""
    source = os.path.relpath(task.t1 if modality == "mri" else task.pet, prepared)
    status = "excluded" if worst(checks) == "fail" else "kept"
    return LedgerRow(task.participant_id, task.session_id, modality, status, *explain(checks), source)


def failed_row(task: SubjectTask, prepared: Path, modality: str, failure: StepFailed) -> LedgerRow:
    """The ledger row of a failed scan: step, reason code, one sentence."""
    scan = task.t1 if modality == "mri" else task.pet
    source = os.path.relpath(scan, prepared)
    # The source column says where the file is, relative to the prepared folder.
    reason = f"{task.participant_id}/{task.session_id}: {failure.reason.replace(str(scan), scan.name)}"
    ids = (task.participant_id, task.session_id, modality)
    return LedgerRow(*ids, "failed", failure.step, failure.reason_code, " ".join(reason.split()), source)


def write_done(task: SubjectTask, prepared: Path, outcome: Outcome) -> None:
    """The last file of a subject: with it, the subject is not done again while recipe and sources stay the same."""
    # Without the seconds: an interrupted run must end with the same bytes as an undisturbed one.
    kept = asdict(replace(outcome, seconds={}))
    write_json(_identity(task, prepared) | {"outcome": kept}, SubjectFolder(task, prepared).done)


def read_done(task: SubjectTask, prepared: Path) -> Outcome | None:
    """The outcome of an earlier run, or None where recipe, sources or any output differ or are gone."""
    path = SubjectFolder(task, prepared).done
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    # Records of earlier versions have the days.
    found = {"recipe_hash": content.get("recipe_hash"), "sources": [_undated(s) for s in content.get("sources", [])]}
    found |= {"fold": content["fold"]} if "fold" in content else {}
    if found != _identity(task, prepared):
        return None
    fields = content["outcome"]
    outcome = Outcome(**{**fields, "ledger": [LedgerRow(**row) for row in fields["ledger"]]})
    if not outcome.pet_path and any((row.modality, row.reason_code) == ("pet", "qc_fail") for row in outcome.ledger):
        return None  # records of earlier versions do not say where a PET lies that quality control failed
    files = [prepared / name for name in (outcome.t1_path, outcome.gm_path, outcome.pet_path) if name]
    if outcome.t1_path:
        files.append(SubjectFolder(task, prepared).regions)
    return outcome if all(file.is_file() for file in files) else None


def _identity(task: SubjectTask, prepared: Path) -> dict[str, object]:
    sources = [source_identity(path, prepared) for path in (task.t1, *pet_files(task))]
    fold = {"fold": task.fold} if task.fold else {}
    return {"recipe_hash": task.recipe.hash, "sources": [_undated(source) for source in sources], **fold}


def _undated(source: dict[str, Any]) -> dict[str, Any]:
    return source | {"file": without_days(source["file"])}
