"""How long does a subject take, and is the registration as good as one that takes its time?

`python -m benchmarks.preprocessing OUT --subjects 6`: simulated raw T1s and FDG-PETs through the whole path at 2 mm,
first with one worker, then with two, into folders that are emptied before; and the same T1s through plain
`ants.registration(type_of_transform="SyN")` onto the same grid. Run it on a machine with nothing else to do: the load
that it found is part of what it prints.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from benchmarks.ground_truth import design_for
from preprocessing.cohort.run import Recipe, preprocess_cohort
from preprocessing.quality.checks import correlation, dice
from preprocessing.simulated.cohort import write_cohort
from preprocessing.steps import brain_mask, orient, register, template
from preprocessing.steps.head import segment_head

WORKERS = (1, 2)
# Wanted of a whole subject on two cores, and of two workers against one.
GOAL_SECONDS, GOAL_EFFICIENCY = 15.0, 0.9


def time_cohort(raw: Path, prepared: Path, workers: int, recipe: Recipe) -> dict:
    """Wall and CPU seconds a subject, the starting of workers included, and the mean wall seconds of each step."""
    if prepared.exists():
        shutil.rmtree(prepared)
    wall, cpu = time.perf_counter(), _cpu_of_workers()
    summary = preprocess_cohort(raw, prepared, jobs=workers, recipe=recipe, progress=False)
    wall, cpu = time.perf_counter() - wall, _cpu_of_workers() - cpu
    if summary.failed or not summary.processed:
        raise RuntimeError(f"{summary.failed} of {summary.processed} subjects failed; see {prepared / 'ledger.tsv'}")
    return {
        "workers": workers,
        "subjects": summary.processed,
        "wall_seconds_per_subject": wall / summary.processed,
        "cpu_seconds_per_subject": cpu / summary.processed,
        "seconds_in_a_worker": sum(summary.seconds.values()),
        "wall_seconds_by_step": summary.seconds,
    }


def _cpu_of_workers() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def likeness(t1: np.ndarray, brain: np.ndarray) -> dict[str, float]:
    """A warped T1 and brain mask, both (91, 109, 91), against the template's."""
    return {
        "brain_dice": dice(brain, brain_mask.template_brain_mask()),
        "t1_correlation": correlation(t1, template.t1(), template.brain_mask()),
    }


def register_both_ways(t1_file: Path, recipe: Recipe) -> dict[str, dict[str, float]]:
    """One scan, segmented as always, through our registration and through ANTs' SyN with its own settings.

    Wall and CPU seconds of the registration alone, and `likeness`, of each; one after the other in this process.
    """
    import ants

    t1 = orient.read_scan(t1_file)
    head = segment_head(t1)
    brain, inside = head.contrast(), nib.Nifti1Image(head.intracranial, head.affine)
    fixed = template.grid_image(brain_mask.template_contrast())
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        prefix = Path(scratch) / "t1_"
        start = time.perf_counter(), time.process_time()
        ours = register.register_to_template(brain, fixed, prefix, recipe.syn_iterations)
        results["ours"] = _since(*start)
        start = time.perf_counter(), time.process_time()
        plain = ants.registration(
            register.to_ants(fixed), register.to_ants(brain), type_of_transform="SyN", outprefix=f"{prefix}plain_"
        )
        results["plain SyN"] = _since(*start)
        warp, affine = (Path(file) for file in plain["fwdtransforms"])
        chains = {"ours": ours, "plain SyN": register.Transforms(affine, warp, Path(plain["invtransforms"][1]))}
        for name, chain in chains.items():
            warped, warped_mask = (register.to_template(image, chain) for image in (t1, inside))
            results[name] |= likeness(warped, warped_mask > 0.5)
    return results


def _since(wall: float, cpu: float) -> dict[str, float]:
    return {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def t1_files(prepared: Path) -> dict[str, Path]:
    """participant -> the raw T1, from the ledger of a prepared folder."""
    ledger = pd.read_csv(prepared / "ledger.tsv", sep="\t")
    rows = ledger[(ledger.modality == "mri") & (ledger.status == "kept")]
    return {row.participant_id: prepared / row.source for row in rows.itertuples()}


def measure(out: Path, subjects: int, recipe: Recipe, plain: int) -> dict:
    """Everything, under `out`. plain: how many subjects go through ANTs' own registration."""
    load = os.getloadavg()[0]
    write_cohort(out, design_for(subjects, seed=0))
    folders = {workers: out / f"timed-{workers}" for workers in WORKERS}
    timed = {workers: time_cohort(out / "raw", folder, workers, recipe) for workers, folder in folders.items()}
    # The same arrangement as in a worker: one thread.
    register.make_repeatable(recipe.seed)
    files = dict(list(t1_files(folders[1]).items())[:plain])
    both = [register_both_ways(file, recipe) for file in files.values()]
    ours, theirs = (pd.DataFrame([ways[name] for ways in both]) for name in ("ours", "plain SyN"))
    inside = {workers: timed[workers]["seconds_in_a_worker"] for workers in WORKERS}
    one, two = (timed[workers]["wall_seconds_per_subject"] for workers in WORKERS)
    return {
        "cores": os.cpu_count(),
        "load_before": load,
        "timed": list(timed.values()),
        "efficiency_of_two_workers": one / (2 * two),
        "efficiency_without_their_start": inside[1] / inside[2],
        "registration": {
            "subjects": len(files),
            "ours": ours.mean().to_dict(),
            "plain SyN": theirs.mean().to_dict(),
            "lowest_dice_difference": float((ours.brain_dice - theirs.brain_dice).min()),
        },
        "goals": {
            f"at most {GOAL_SECONDS:g} s of wall on two cores": two <= GOAL_SECONDS,
            "brain overlap no worse than plain SyN": bool(ours.brain_dice.mean() >= theirs.brain_dice.mean()),
            f"efficiency at least {GOAL_EFFICIENCY:g}": one / (2 * two) >= GOAL_EFFICIENCY,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", type=int, default=6)
    parser.add_argument("--plain", type=int, default=2, help="subjects that also go through plain SyN; default 2")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.out, arguments.subjects, Recipe(), arguments.plain), indent=1))


if __name__ == "__main__":
    main()
