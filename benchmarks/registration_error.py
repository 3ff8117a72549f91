"""Learn what preprocessing does to a brain whose truth is known, and write it to the files that the simulation reads.

`python -m benchmarks.registration_error OUT --subjects 12`: simulates people of a seed used for nothing else, sends
them through the whole path and keeps what comes out against what went in: `registration_error.npz`, and the rows of
the template's anatomy in `volume_error.tsv`. To be repeated whenever `RECIPE_VERSION` or the default recipe changes; a
test compares the two.
"""

from __future__ import annotations

import argparse
import os
from datetime import date
from importlib.resources import files
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pandas as pd

from benchmarks.ground_truth import design_for, find_transforms
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.simulated import deformation, registration_error, scanner, volume_error
from preprocessing.simulated import people as model
from preprocessing.simulated.anatomy import LABELED, TemplateAnatomy
from preprocessing.simulated.brain import Brain
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.registration_error import kept, smooth, spread
from preprocessing.steps import register, template
from preprocessing.subject.plan import Recipe

SEED = 100


def found_maps(prepared: Path, person: model.Person) -> tuple[dict[str, np.ndarray], register.Transforms]:
    """What preprocessing wrote, (91, 109, 91) each, and the transforms of the T1."""
    stem = f"{person.participant_id}_{person.session_id}_space-{template.SPACE}_res-2"
    folder = prepared / person.participant_id / person.session_id
    names = {
        "gray": folder / "anat" / f"{stem}_label-GM_probseg.nii.gz",
        "suvr": folder / "pet" / f"{stem}_desc-suvrPons_pet.nii.gz",
    }
    maps = {name: nib.load(file).get_fdata(dtype=np.float32) for name, file in names.items()}
    transforms = find_transforms(names["gray"])
    return maps | {"jacobian": register.jacobian(transforms)}, transforms


def displacement_error(brain: Brain, transforms: register.Transforms) -> np.ndarray:
    """Where on the template the tissue belongs that registration takes to a kept voxel, less that voxel: (3, n) mm."""
    voxels = np.argwhere(kept()) * deformation.SPACING_MM
    points = voxels + deformation.ORIGIN_MM
    table = pd.DataFrame(points * [-1, -1, 1], columns=["x", "y", "z"])  # ITK counts towards left and back
    chain = [str(transforms.warp), str(transforms.affine)]
    in_scanner = ants.apply_transforms_to_points(3, table, chain)[["x", "y", "z"]].to_numpy() * [-1, -1, 1]
    pose = scanner.t1_pose(brain.person)
    in_head = np.linalg.inv(pose[:3, :3]) @ (in_scanner - pose[:3, 3]).T
    on_template, _ = brain.from_person(in_head)
    return (on_template - points.T).astype(np.float32)


def fit_smoothing(errors: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The width and gain with the least squared error of gain * (smooth(true) - true); (N, 3, n) and (N, 3, ...)."""
    best = {"error": np.inf}
    for sigma in (0.5, 1.0, 1.5, 2.5, 4.0):
        lost = (smooth(true, sigma) - true)[..., kept()]
        gain = float((lost * errors).sum() / (lost**2).sum())
        error = float(((errors - gain * lost) ** 2).mean())
        if error < best["error"]:
            best = {"error": error, "sigma_voxels": sigma, "gain": gain}
    del best["error"]
    return best


def measure(brains: list[Brain], prepared: Path, tiv_ml: np.ndarray) -> registration_error.Error:
    """The error of these people. tiv_ml: their intracranial volumes as found."""
    inside, places = template.brain_mask(), registration_error.fine_places()
    displacements, grays, rests, log_suvrs, sizes = [], [], [], [], []
    for brain in brains:
        maps, transforms = found_maps(prepared, brain.person)
        moved = displacement_error(brain, transforms)
        full = spread(moved)
        expected = registration_error.displaced_tissues(brain, full)[0]
        difference = maps["gray"] - expected
        coarse = deformation.coarsen(difference)
        rest = difference - deformation.refine(coarse)
        rests += [rest.ravel()[places], rest[::-1].ravel()[places]]  # the template is symmetric
        grays.append(coarse[kept()])
        ratio = np.log(np.clip(maps["suvr"], 0.05, 5)) - np.log(np.clip(brain.suvr, 0.05, 5))
        log_suvrs.append(deformation.coarsen(ratio)[kept()])
        jacobian = deformation.refine(brain.volume_change(full + deformation.sampled(brain.displacement, full)))
        sizes.append(float(np.log(maps["jacobian"][inside]).mean() - np.log(jacobian[inside]).mean()))
        displacements.append(moved)
    errors, true = np.stack(displacements), np.stack([brain.displacement for brain in brains])
    best = fit_smoothing(errors - errors.mean(0), true - true.mean(0))
    residual = errors - best["gain"] * (smooth(true, best["sigma_voxels"]) - true)[..., kept()]
    ratios = tiv_ml / np.array([brain.brain_ml for brain in brains])
    print(
        "displacement error, mm:",
        np.sqrt((errors**2).sum(1)).mean(),
        "beyond smoothing",
        np.sqrt((residual**2).sum(1)).mean(),
    )
    return registration_error.Error(
        residual,
        np.stack(log_suvrs),
        np.stack(grays),
        **best,
        gray_mean=np.mean(rests, 0),
        gray_sd=np.std(rests, 0),
        size_bias=float(np.mean(sizes)),
        size_sd=float(np.std(sizes)),
        tiv_ratio=float(ratios.mean()),
        tiv_ratio_sd=float(ratios.std()),
    )


def volume_rows(out: Path, people: list[str]) -> pd.DataFrame:
    """Rows of `volume_error.tsv` for the template's anatomy."""
    rows = []
    for region in LABELED:
        tables = []
        for path in ("truth/regions.tsv", "prepared/regions.tsv"):
            table = pd.read_csv(out / path, sep="\t").query("region == @region")
            tables.append(table.pivot(index="participant_id", columns="side", values="volume_ml").loc[people])
        source = f"raw simulated people of the template's anatomy; benchmarks.registration_error, {date.today()}"
        rows.append({"anatomy": "template", "region": region, **volume_error.fit(*tables), "source": source})
    return pd.DataFrame(rows).round(4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    design = design_for(arguments.subjects, SEED)
    write_cohort(arguments.out, design, jobs=arguments.jobs)
    preprocess_cohort(arguments.out / "raw", arguments.out / "prepared", jobs=arguments.jobs)
    manifest = pd.read_csv(arguments.out / "prepared" / "manifest.tsv", sep="\t").set_index("participant_id")
    people = [p for p in model.draw_people(design) if p.participant_id in manifest.index]
    names, anatomy = [person.participant_id for person in people], TemplateAnatomy()
    brains = [Brain(person, anatomy) for person in people]
    error = measure(brains, arguments.out / "prepared", manifest.tiv_ml.loc[names].to_numpy())
    print(len(people), "people", {name: round(getattr(error, name), 4) for name in registration_error.NUMBERS})
    registration_error.save(error, registration_error.stamp_of(Recipe()))
    table = volume_rows(arguments.out, names)
    print(table.to_string())
    path = Path(str(files("preprocessing.simulated").joinpath(volume_error.FILE)))
    others = pd.read_csv(path, sep="\t").query("anatomy != 'template'")
    pd.concat([others, table]).to_csv(path, sep="\t", index=False)


if __name__ == "__main__":
    main()
