"""Killed with SIGKILL at random moments and started again, a run ends with the bytes of an undisturbed one.

`python -m benchmarks.kill OUT --kills 20`: preprocessing of three people, two worker processes, a stand-in for the
steps that writes as they do. `--coarse` takes the real steps, on the template as everybody's scan and with a short
registration. `--whole` is `run_adni` on the smallest simulated cohort: prepare, train, report.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from adni_tcgm.files import SCRATCH_PREFIX
from preprocessing.cohort.run import Recipe, preprocess_cohort
from preprocessing.ledger import LedgerRow, write_image, write_table
from preprocessing.simulated.people import CohortDesign
from preprocessing.steps import template, tissue
from preprocessing.steps.regions import COLUMNS as REGION_COLUMNS
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import Outcome, write_done
from preprocessing.subject.plan import SubjectTask
from preprocessing.subject.run import preprocess_subject

Work = Callable[[Path], None]

PEOPLE = 3
COARSE = Recipe(syn_iterations=(10, 5, 0))
SERIES = {"MRI": ("MR", "MPR; GradWarp; B1 Correction; N3; Scaled"), "PET": ("PT", "Coreg, Avg, Uniform Resolution")}


# Files that hold times of change of others, or the hash of a file that does.
TIMED = ("_done.json", "_stamps.json", "checksums.txt", ".inputs", "environment.json")


@dataclass(frozen=True)
class SmallDesign(CohortDesign):
    """As few people as can be split, one of them raw, and one whose scan is cut short."""

    converters: int = 8
    stable: int = 8
    censored: int = 1
    reverting: int = 0
    normal: int = 1
    dementia: int = 0
    raw: int = 1
    truncated: int = 1


def write_download(folder: Path) -> Path:
    """An ADNI download in which everybody is the template, with an FDG of its tissues."""
    csf, gray, white = tissue.tissue_priors() * template.brain_mask()
    scans = {"MRI": 100 * template.t1(), "PET": 1000 * (0.1 * csf + gray + 0.4 * white)}
    images, visits = [], []
    for number in range(1, PEOPLE + 1):
        ptid = f"001_S_{number:04d}"
        for place, (modality, (kind, description)) in enumerate(SERIES.items()):
            image_id = f"I{100 * number + place}"
            series = description.replace(" ", "_").replace(";", "_")
            path = folder / "ADNI" / ptid / series / "2006-03-01_10_00_00.0" / image_id
            path.mkdir(parents=True)
            image = nib.Nifti1Image(scans[modality].astype(np.float32), template.GRID_AFFINE)
            nib.save(image, path / f"ADNI_{ptid}_{kind}_{series}_Br_20070101_S1_{image_id}.nii")
            row = {"Image Data ID": image_id, "Subject": ptid, "Group": "MCI", "Sex": "F", "Age": "74", "Visit": "bl"}
            row |= {"Modality": modality, "Description": description, "Type": "Processed", "Acq Date": "2006-03-01"}
            images.append(row | {"Format": "NiFTI", "Downloaded": "1/01/2020"})
        visits += [
            {"PTID": ptid, "RID": str(number), "VISCODE2": code, "DIAGNOSIS": "2"} for code in ("bl", "m12", "m36")
        ]
    pd.DataFrame(images).to_csv(folder / "MCI_collection_1_01_2020.csv", index=False)
    pd.DataFrame(visits).to_csv(folder / "DXSUM_01Jan2020.csv", index=False)
    return folder


def pretend(task: SubjectTask, prepared: Path, size: int = 48, pause: float = 0.02) -> Outcome:
    """Write a subject's files as the real steps do, from a scratch folder and atomically, in a second or so."""
    folder = task.folder(prepared)
    folder.mkdir(parents=True, exist_ok=True)
    ids = (task.participant_id, task.session_id)
    with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH_PREFIX) as scratch:
        moved = Path(scratch) / "affine.mat"
        moved.write_text("1 0 0 0")
        time.sleep(pause)
        os.replace(moved, folder / f"{task.name}_xfm.mat")
    generator = np.random.default_rng(int(task.participant_id[-4:]))
    for name in ("t1", "gm", "pet"):
        values = generator.normal(size=(size, size, size)).astype(np.float32)
        write_image(nib.Nifti1Image(values, np.eye(4)), folder / f"{name}.nii.gz", {"of": name})
        time.sleep(pause)
    rows = [[*ids, "hippocampus", side, 3.0, np.nan, "segmentation"] for side in ("left", "right")]
    write_table(pd.DataFrame(rows, columns=REGION_COLUMNS), SubjectFolder(task, prepared).regions)
    paths = {f"{n}_path": (folder / f"{n}.nii.gz").relative_to(prepared).as_posix() for n in ("t1", "gm", "pet")}
    rows = [LedgerRow(*ids, modality, "kept", "recipe") for modality in (("mri", "pet") if task.pet else ("mri",))]
    outcome = Outcome(*ids, **paths, tiv_ml=1500.0, qc="pass", ledger=rows)
    write_done(task, prepared, outcome)
    return outcome


def prepare(raw: Path, prepared: Path, jobs: int, coarse: bool) -> None:
    worker = preprocess_subject if coarse else pretend
    preprocess_cohort(raw, prepared, jobs=jobs, recipe=COARSE, progress=False, worker=worker)


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, hidden ones too, so that a partial file left behind is a difference."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run_whole(jobs: int, out: Path) -> None:
    """`run_adni` on a cohort of SmallDesign, its raw scan prepared by the real steps with a short registration."""
    from pipelines import plan, run_adni
    from pipelines.commands.adni import Maps

    plan.CohortDesign = run_adni.CohortDesign = SmallDesign
    Maps.recipe = lambda _: COARSE
    # What is printed is not what is compared.
    with (out.parent / "terminal.txt").open("a") as terminal:
        os.dup2(terminal.fileno(), 1)
        os.dup2(terminal.fileno(), 2)
        options = ["--features", "regions", "--label-rate", "0.5", "--subject-reports", "2", "--jobs", str(jobs)]
        steps = ["--set", "train.steps=30", "--set", "train.supervised_steps=10"]
        raise SystemExit(run_adni.main(["--out", str(out), *options, *steps]))


def whole_contents(out: Path) -> dict[str, str]:
    """`contents`, less what tells the time: seconds of a history, and stamps by which a run knows its files again."""
    found = {}
    for name, digest in contents(out).items():
        name = re.sub(r"-[0-9a-f]{16}\.npy$", ".npy", name)
        if name.endswith("history.tsv"):
            table = pd.read_csv(out / name, sep="\t", dtype=str).drop(columns="seconds")
            digest = hashlib.sha256(table.to_csv().encode()).hexdigest()
        found[name] = "there" if name.endswith(TIMED) else digest
    return found


def started(folder: Path) -> bool:
    """Whether work on any subject, or the whole command, has begun."""
    return any(folder.glob("sub-*/*/*")) or (folder / ".lock").is_file()


def start(work: Work, folder: Path) -> multiprocessing.Process:
    """A run in a process of its own, which has begun with its first subject."""
    # Forked, so that it need not import everything anew; its worker processes still do.
    run = multiprocessing.get_context("fork").Process(target=work, args=(folder,))
    run.start()
    while not started(folder) and run.is_alive():
        time.sleep(0.002)
    return run


def finish(run: multiprocessing.Process) -> None:
    run.join()
    if run.exitcode:
        raise SystemExit(f"a run ended with exit status {run.exitcode}")


def kill_and_restart(work: Work, folder: Path, delay_s: float) -> bool:
    """Kill a run `delay_s` after its first subject began, then finish it. Returns whether the kill came in time."""
    run = start(work, folder)
    run.join(delay_s)
    run.kill()
    run.join()
    finish(start(work, folder))
    return run.exitcode == -signal.SIGKILL


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2, help="worker processes; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--coarse", action="store_true", help="the real steps instead of a stand-in")
    parser.add_argument("--whole", action="store_true", help="all of run_adni instead of preprocessing alone")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    given = arguments.out / "given"
    given.mkdir()
    if arguments.whole:
        # Here, so that the forked runs find both loaded, and the workers of the stand-in need not load either.
        import pipelines.run_adni  # noqa: F401
        from preprocessing.simulated.cohort import write_cohort

        write_cohort(given, SmallDesign(), jobs=arguments.jobs)
        work, look = partial(run_whole, arguments.jobs), whole_contents
    else:
        raw = write_download(arguments.out / "raw")
        work, look = partial(prepare, raw, jobs=arguments.jobs, coarse=arguments.coarse), contents
    undisturbed = arguments.out / "undisturbed"
    shutil.copytree(given, undisturbed)
    run = start(work, undisturbed)
    begin = time.perf_counter()
    finish(run)
    duration = time.perf_counter() - begin
    expected = look(undisturbed)
    moments = random.Random(arguments.seed)
    same = runs = in_time = 0
    while in_time < arguments.kills and runs < 5 * arguments.kills:
        delay = moments.uniform(0, duration)
        folder = arguments.out / "killed"
        shutil.copytree(given, folder)
        killed = kill_and_restart(work, folder, delay)
        # A run that ended first shows nothing; on a busy machine the first one was perhaps slower than the others.
        duration = duration if killed else 0.8 * duration
        found = look(folder)
        differing = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        runs, in_time, same = runs + 1, in_time + killed, same + (killed and not differing)
        verdict = "same bytes" if not differing else f"differing: {differing[:5]}"
        print(f"{'killed' if killed else 'ended before'} {delay:.2f} s: {verdict}", flush=True)
        shutil.rmtree(folder)
    print(f"{same} of {in_time} runs killed and started again ended with the bytes of an undisturbed one")
    return 0 if same == in_time == arguments.kills else 1


if __name__ == "__main__":
    raise SystemExit(main())
