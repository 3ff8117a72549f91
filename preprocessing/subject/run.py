"""One subject from scans to BIDS-derivative files: the T1's steps, the PET's, the regions, and the verdict."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from adni_tcgm.command import write_log
from preprocessing.ledger import write_json, write_table
from preprocessing.quality.checks import worst
from preprocessing.steps import regions, tissue
from preprocessing.steps.register import make_repeatable
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import Outcome, StepFailed, failed_row, judged_row, write_done
from preprocessing.subject.pet import Uptake, prepare_pet
from preprocessing.subject.plan import SubjectTask
from preprocessing.subject.t1 import Structure, prepare_t1


def preprocess_subject(task: SubjectTask, prepared: Path) -> Outcome:
    """Take one T1, and the PET if there is one, to the template.

    Writes `prepared/sub-X/ses-M000/{anat,pet,figures}/...`, regions, QC and, last, `..._done.json`. A PET that fails
    leaves the T1's results standing. Raises StepFailed where the T1 fails.
    """
    prepared.mkdir(parents=True, exist_ok=True)
    make_repeatable(task.recipe.seed)
    folder = SubjectFolder(task, prepared)
    # From here on, outputs may be of two recipes until the last is written.
    folder.done.unlink(missing_ok=True)
    folder.response.unlink(missing_ok=True)
    outcome = Outcome(task.participant_id, task.session_id)
    structure = prepare_t1(folder, outcome)
    outcome.qc = worst(structure.checks)
    outcome.ledger.append(judged_row(task, prepared, "mri", structure.checks))
    uptake, final = _uptake(folder, outcome, structure)
    suvr, covered, gray = (uptake.suvr, uptake.covered, uptake.gray) if uptake else (None, None, None)
    tissues = {name: structure.tissues[tissue.TISSUES.index(name)] for name in regions.TISSUE_METHODS}
    table = regions.measure_regions(structure.jacobian, tissues, suvr, covered, structure.segmented_ml, gray)
    table.insert(0, "participant_id", task.participant_id)
    table.insert(1, "session_id", task.session_id)
    write_table(table.round(5), folder.regions)
    checks = structure.checks + (uptake.checks if uptake else [])
    write_json({"Checks": [asdict(check) for check in checks]}, folder.quality)
    if final:  # otherwise the next run tries again
        write_done(task, prepared, outcome)
    return outcome


def _uptake(folder: SubjectFolder, outcome: Outcome, structure: Structure) -> tuple[Uptake | None, bool]:
    """The PET's part and its ledger row, and whether trying again could change it."""
    task, prepared = folder.task, folder.prepared
    if task.pet is None:
        return None, True
    try:
        uptake = prepare_pet(folder, outcome, structure)
    except StepFailed as failure:
        if not failure.expected:
            write_log(folder.root)
        outcome.pet_path = ""
        outcome.ledger.append(failed_row(task, prepared, "pet", failure))
        return None, failure.expected
    outcome.ledger.append(judged_row(task, prepared, "pet", uptake.checks))
    return uptake, True
