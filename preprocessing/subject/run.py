"""One subject from scans to BIDS-derivative files: the T1's steps, the PET's, the regions, and the verdict."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from adni_tcgm.command import write_log
from preprocessing.ledger import write_json, write_table
from preprocessing.quality.checks import worst
from preprocessing.steps import regions, tissue
from preprocessing.steps.register import make_repeatable
from preprocessing.subject.outcome import Outcome, StepFailed, done_path, failed_row, judged_row, write_done
from preprocessing.subject.pet import Uptake, measure_uptake
from preprocessing.subject.plan import SubjectTask, regions_path, response_path
from preprocessing.subject.stamps import Stamps
from preprocessing.subject.t1 import Structure, obtain_structure


def preprocess_subject(task: SubjectTask, prepared: Path) -> Outcome:
    """Take one T1, and the PET if there is one, to the template.

    Writes `prepared/sub-X/ses-M000/{anat,pet,figures}/...`, regions, QC and, last, `..._done.json`. A PET that fails
    leaves the T1's results standing. Raises StepFailed where the T1 fails.
    """
    prepared.mkdir(parents=True, exist_ok=True)
    make_repeatable(task.recipe.seed)
    # From here on, outputs may be of two recipes until the last is written.
    done_path(task, prepared).unlink(missing_ok=True)
    response_path(task, prepared).unlink(missing_ok=True)
    outcome = Outcome(task.participant_id, task.session_id)
    stamps = Stamps(task.folder(prepared) / f"{task.name}_stamps.json")
    structure = obtain_structure(task, prepared, outcome, stamps)
    outcome.qc = worst(structure.checks)
    outcome.ledger.append(judged_row(task, prepared, "mri", structure.checks))
    uptake, final = _uptake(task, prepared, outcome, structure, stamps)
    suvr, covered, gray = (uptake.suvr, uptake.covered, uptake.gray) if uptake else (None, None, None)
    tissues = {name: structure.tissues[tissue.TISSUES.index(name)] for name in regions.TISSUE_METHODS}
    table = regions.measure_regions(structure.jacobian, tissues, suvr, covered, structure.segmented_ml, gray)
    table.insert(0, "participant_id", task.participant_id)
    table.insert(1, "session_id", task.session_id)
    write_table(table.round(5), regions_path(task, prepared))
    checks = structure.checks + (uptake.checks if uptake else [])
    write_json({"Checks": [asdict(check) for check in checks]}, task.folder(prepared) / f"{task.name}_qc.json")
    if final:  # otherwise the next run tries again
        write_done(task, prepared, outcome)
    return outcome


def _uptake(
    task: SubjectTask, prepared: Path, outcome: Outcome, structure: Structure, stamps: Stamps
) -> tuple[Uptake | None, bool]:
    """The PET's part and its ledger row, and whether trying again could change it."""
    if task.pet is None:
        return None, True
    try:
        uptake = measure_uptake(task, prepared, outcome, structure, stamps)
    except StepFailed as failure:
        if not failure.expected:
            write_log(task.folder(prepared))
        outcome.pet_path = ""
        outcome.ledger.append(failed_row(task, prepared, "pet", failure))
        return None, failure.expected
    outcome.ledger.append(judged_row(task, prepared, "pet", uptake.checks))
    return uptake, True
