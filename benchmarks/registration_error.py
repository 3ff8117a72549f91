"""Learn what preprocessing does to a brain whose truth is known, and write it to the file that the simulation reads.

`python -m benchmarks.registration_error OUT --subjects 16`: simulates people of a seed used for nothing else, sends
them through the whole registration path and keeps the mean of what comes out against what went in. To be repeated
whenever `RECIPE_VERSION` or the default recipe changes; a test compares the two.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from benchmarks.known_answers import design_for, find_transforms
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.simulated import people as model
from preprocessing.simulated import registration_error
from preprocessing.simulated.anatomy import TemplateAnatomy
from preprocessing.simulated.brain import Brain
from preprocessing.simulated.cohort import SESSION, write_cohort
from preprocessing.steps import register, template
from preprocessing.subject.plan import Recipe

SEED = 100


def found_maps(prepared: Path, participant: str) -> dict[str, np.ndarray]:
    """What preprocessing wrote: Jacobian, grey matter before modulation, SUVR, all (91, 109, 91)."""
    stem = f"{participant}_{SESSION}_space-{template.SPACE}_res-2"
    folder = prepared / participant / SESSION
    files = {
        "grey": folder / "anat" / f"{stem}_label-GM_probseg.nii.gz",
        "suvr": folder / "pet" / f"{stem}_desc-suvrPons_pet.nii.gz",
    }
    found = {name: nib.load(file).get_fdata(dtype=np.float32) for name, file in files.items()}
    return found | {"jacobian": register.jacobian(find_transforms(files["grey"]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    design = design_for(arguments.subjects, SEED)
    write_cohort(arguments.out, design, jobs=arguments.jobs)
    preprocess_cohort(arguments.out / "raw", arguments.out / "prepared", jobs=arguments.jobs)
    manifest = pd.read_csv(arguments.out / "prepared" / "manifest.tsv", sep="\t")
    people = [p for p in model.draw_people(design) if p.participant_id in set(manifest.participant_id)]
    brain = template.brain_mask()
    log_jacobians, greys, log_suvrs, truths = [], [], [], []
    for person in people:
        truth, found = Brain(person, TemplateAnatomy()), found_maps(arguments.out / "prepared", person.participant_id)
        log_jacobians.append(np.log(np.clip(found["jacobian"], 0.1, 10)))
        truths.append(np.log(truth.jacobian))
        greys.append(found["grey"])
        log_suvrs.append(np.log(np.clip(found["suvr"], 0.05, 5)) - np.log(np.clip(truth.suvr, 0.05, 5)))
    log_jacobians, truths, log_suvrs = (np.stack(values) for values in (log_jacobians, truths, log_suvrs))
    # The head's size is found almost exactly; of the shape that is left, registration finds a smoothed part.
    size_found, size_true = (values[:, brain].mean(1)[:, None, None, None] for values in (log_jacobians, truths))
    shape_found, shape_true = log_jacobians - size_found, truths - size_true
    best = fit_smoothing(shape_found - shape_found.mean(0), shape_true - shape_true.mean(0), brain)
    residual = shape_found - best["gain"] * registration_error.smooth(shape_true, best["sigma_voxels"])
    head = size_found - size_true
    tiv = manifest.set_index("participant_id").tiv_ml.loc[[p.participant_id for p in people]].to_numpy()
    brain_ml = np.array([np.exp(t)[brain].sum() * template.VOXEL_ML for t in truths])
    numbers = {
        **best,
        "size_bias": float(head.mean()),
        "size_sd": float(head.std()),
        "tiv_ratio": float((tiv / brain_ml).mean()),
        "tiv_ratio_sd": float((tiv / brain_ml).std()),
    }
    print(len(people), "people", {name: round(value, 4) for name, value in numbers.items()})
    error = registration_error.Error(np.stack(greys), residual, log_suvrs, **numbers)
    registration_error.save(error, registration_error.stamp_of(Recipe()))


def fit_smoothing(found: np.ndarray, true: np.ndarray, brain: np.ndarray) -> dict[str, float]:
    """The Gaussian width and gain that turn the true log-Jacobian into the found one with the least squared error."""
    best = {"error": np.inf}
    for sigma in (0.0, 0.75, 1.5, 2.5, 3.5):
        smooth = registration_error.smooth(true, sigma)[:, brain]
        gain = float((smooth * found[:, brain]).sum() / (smooth**2).sum())
        error = float(((found[:, brain] - gain * smooth) ** 2).mean())
        if error < best["error"]:
            best = {"error": error, "sigma_voxels": sigma, "gain": gain}
    del best["error"]
    return best


if __name__ == "__main__":
    main()
