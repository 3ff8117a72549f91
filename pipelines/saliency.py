"""`python -m pipelines.saliency RUN_DIR --subjects sub-X_ses-M000`: what a trained network's answer hangs on.

Of a run on voxels, writes maps below RUN_DIR/saliency in template space and, for people who came as raw scans, on their
own T1; of a run on regional measurements, a table of what each of them adds. With a record of how faithful they are.
The reports show them from then on.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from adni_tcgm.datasets import adni
from adni_tcgm.datasets.adni_maps import CROPS, SPACING_MM
from adni_tcgm.evaluation import saliency
from adni_tcgm.evaluation.calibration import Calibration
from adni_tcgm.evaluation.saliency import LogOdds
from adni_tcgm.files import inside, lock_folder
from adni_tcgm.storage import Run, write_json, write_table
from adni_tcgm.tcgm.batch import MultimodalBatch
from adni_tcgm.tcgm.encoders import EncodedModel
from adni_tcgm.tcgm.trainer import Fitted
from pipelines import command_line
from pipelines.commands.saliency import Options
from pipelines.config import Settings
from pipelines.restoring import CLASSES, Refused, open_run, restore, restore_adjustment, settings_of
from preprocessing.ledger import write_image
from preprocessing.steps import own_view, register, template
from preprocessing.subject.t1 import OWN_T1

STEPS = 32
# Cubes of 16 mm, side by side: a coarse check that takes seconds.
WINDOW, STRIDE = 8, 8
NOISE_SHARE = 0.15  # of the range of the input (Smilkov et al., 2017)
METHODS = {"integratedgradients": "integrated gradients", "smoothgrad": "SmoothGrad", "occlusion": "occlusion"}


def stable_mean(fitted: Fitted, settings: Settings, seed: int) -> tuple[dict[str, torch.Tensor], int]:
    """Modality -> (1, *shape) mean input of the training people who are visibly stable, and their number.

    Hidden labels are UNLABELED in a loaded split, so nobody whose label is hidden enters.
    """
    train = adni.load(settings.data, seed).train
    stable = train.select(train.labels == CLASSES.index("stable"))
    if not len(stable):
        raise Refused("no training person with a visible label is stable: there is no baseline for saliency")
    stable = fitted.augment.center(stable) if fitted.augment else stable
    means = {
        name: values[stable.present[:, column]].mean(0, keepdim=True)
        for column, (name, values) in enumerate(stable.inputs.items())
    }
    return means, len(stable)


def calibrated_scale(calibration: Calibration, modality: str, several: bool) -> float:
    """What a unit of this modality's log-odds adds to the combined, calibrated ones."""
    scale = 1 / calibration.rescalings[modality].temperature
    return scale / calibration.rescalings["all"].temperature if several else scale


def explain(
    answer: saliency.LogOdds, person: torch.Tensor, baseline: torch.Tensor, quick: bool = False
) -> tuple[dict, dict]:
    """Maps by method, each of the input's shape, and the numbers that say how faithful they are.

    quick: integrated gradients alone, in few steps and unchecked.
    """
    first = saliency.integrate_gradients(answer, person, baseline, saliency.QUICK_STEPS if quick else STEPS)
    if quick:
        return {"integratedgradients": first.values}, describe(first, {})
    noise_sd = NOISE_SHARE * float(person.max() - person.min())
    maps = {
        "integratedgradients": first,
        "smoothgrad": saliency.smooth_gradients(answer, person, baseline, noise_sd),
        "occlusion": saliency.occlude(answer, person, baseline, WINDOW, STRIDE),
    }
    rivals = {name: saliency.rank_voxels(found) for name, found in maps.items()}
    rivals |= {"random": np.random.default_rng(0).random(first.values.shape), "edges": saliency.edge_map(person)}
    fidelity = {name: saliency.measure_fidelity(answer, person, baseline, ranking) for name, ranking in rivals.items()}
    return {name: found.values for name, found in maps.items()}, describe(first, fidelity)


def describe(found: saliency.Attribution, fidelity: dict[str, saliency.Fidelity | None]) -> dict:
    """What `saliency.json` says of one modality."""
    return {
        "log_odds": found.answer,
        "baseline_log_odds": found.baseline,
        "completeness_error": found.completeness_error,
        "fidelity": {name: asdict(value) if value else None for name, value in fidelity.items()},
    }


def place(values: np.ndarray, crop: str) -> nib.Nifti1Image:
    """A map of a crop, in its place of template space."""
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = CROPS[crop].origin_mm
    return nib.Nifti1Image(values.astype(np.float32), affine)


def to_person(image: nib.Nifti1Image, prepared: Path, sample_id: str) -> nib.Nifti1Image | None:
    """The map on the person's own T1, at 2 mm; None where the transforms or the T1 to look at are not there."""
    participant, session = sample_id.rsplit("_", 1)
    folder = prepared / participant / session / "anat"
    stem = f"{sample_id}_from-"
    files = register.Transforms(
        folder / f"{stem}T1w_to-{template.SPACE}_mode-image_desc-affine_xfm.mat",
        folder / f"{stem}T1w_to-{template.SPACE}_mode-image_desc-syn_xfm.h5",
        folder / f"{stem}{template.SPACE}_to-T1w_mode-image_desc-syn_xfm.h5",
    )
    view = folder / f"{sample_id}_{OWN_T1}.nii.gz"
    if not (view.is_file() and files.affine.is_file() and files.inverse_warp.is_file()):
        return None
    grid = own_view.coarse_grid(nib.load(view))
    return nib.Nifti1Image(register.to_native(template.to_grid(image), files, grid), grid.affine)


def write_saliency(
    run: Run, prepared: Path, destination: Path, sample_ids: list[str] | None = None, quick: bool = False
) -> list[Path]:
    """Explain people of `prepared` (None: all who passed quality control); a folder each below `destination`.

    quick: without the slow checks, as reports show it of everybody.

    Raises Refused for a run without its prepared folder or a network for each modality, ValueError for a person who is
    not there.
    """
    if run.prepared_path is None:
        raise Refused(f"{run.path}: its prepared folder is gone; the baseline of saliency is the mean of its people")
    settings = settings_of(run, run.prepared_path)
    config = replace(settings.data, margin=0)
    people = adni.load_people(
        config, run.norms, prepared, restore_adjustment(run), undiagnosed=True, sample_ids=sample_ids
    )
    fitted = restore(run).fitted
    if network_of(fitted.model, next(iter(people.inputs))) is None:
        raise Refused(f"{run.path}: {run.config['method']} has no network for each modality")
    baseline, n = stable_mean(fitted, settings, run.config["seed"])
    about = {"run": run.path.name, "baseline": f"mean of the {n} visibly stable training people"}
    about |= {"target": "log-odds of conversion", "normalization": "calibrated, as they enter the combination"}
    about |= {"model": "SIMULATED MODEL"} if run.metrics["simulated"] else {}
    people = fitted.augment.center(people) if fitted.augment else people
    folders = []
    for row in tqdm(range(len(people)), "saliency", unit="person", delay=2):
        person = people.select(torch.tensor([row]))
        if settings.data.features == "regions":
            folders.append(_write_regions(run, fitted, person, baseline, about, destination))
        else:
            folders.append(_write_person(run, fitted, person, baseline, about, prepared, destination, quick))
    return folders


def explain_reported(run: Run, sample_ids: list[str]) -> None:
    """Explain quickly those of `sample_ids` whom the run predicted and nobody has explained yet.

    A run without a network for each modality has nothing to explain.
    """
    predicted = set(run.predictions.sample_id)
    new = [name for name in sample_ids if name in predicted]
    new = [name for name in new if not (run.path / "saliency" / name / "saliency.json").is_file()]
    if not new:
        return
    try:
        with lock_folder(run.path / "saliency"):
            write_saliency(run, run.prepared_path or Path(), run.path / "saliency", new, quick=True)
    except Refused as reason:
        warnings.warn(f"no saliency in the reports: {reason}", stacklevel=2)


def network_of(model: nn.Module, modality: str) -> nn.Module | None:
    """From a modality's input to its class scores, through the encoder where there is one; None where there is none."""
    if isinstance(model, EncodedModel):
        classifier = network_of(model.model, modality)
        return None if classifier is None else nn.Sequential(model.encoders.nets[modality], classifier)
    return model.classifiers[modality] if hasattr(model, "classifiers") else None


def _answers(run: Run, fitted: Fitted, person: MultimodalBatch) -> Iterator[tuple[str, torch.Tensor, LogOdds]]:
    """Each modality that the person has, its input, and the calibrated log-odds of its network."""
    calibration, several = Calibration.from_json(run.calibration), int(person.present.sum()) > 1
    for column, (name, inputs) in enumerate(person.inputs.items()):
        if person.present[0, column]:
            scale = calibrated_scale(calibration, name, several)
            yield name, inputs, saliency.log_odds(network_of(fitted.model, name), scale)


def _write_regions(
    run: Run,
    fitted: Fitted,
    person: MultimodalBatch,
    baseline: dict[str, torch.Tensor],
    about: dict[str, str],
    destination: Path,
) -> Path:
    """`regions.tsv`: modality feature z baseline_z attribution; z in SD of training people, as classifiers see it."""
    folder = inside(destination, person.sample_ids[0])
    folder.mkdir(parents=True, exist_ok=True)
    tables, records = [], {}
    for name, inputs, answer in _answers(run, fitted, person):
        found = saliency.integrate_gradients(answer, inputs, baseline[name], STEPS)
        order = np.random.default_rng(0).random(found.values.shape)
        rankings = {"integratedgradients": saliency.rank_voxels(found), "random": order}
        fidelity = {k: saliency.measure_fidelity(answer, inputs, baseline[name], v) for k, v in rankings.items()}
        records[name] = describe(found, fidelity)
        features = run.norms[run.norms.modality == name].feature.to_numpy()
        values = {"z": inputs[0].numpy(), "baseline_z": baseline[name][0].numpy(), "attribution": found.values}
        tables.append(pd.DataFrame({"modality": name, "feature": features} | values))
    write_table(folder / "regions.tsv", pd.concat(tables).round(6))
    write_json(folder / "saliency.json", about | {"modalities": records})
    return folder


def _write_person(
    run: Run,
    fitted: Fitted,
    person: MultimodalBatch,
    baseline: dict[str, torch.Tensor],
    about: dict[str, str],
    prepared: Path,
    destination: Path,
    quick: bool,
) -> Path:
    sample_id = person.sample_ids[0]
    folder = inside(destination, sample_id)
    folder.mkdir(parents=True, exist_ok=True)
    records = {}
    for name, inputs, answer in _answers(run, fitted, person):
        maps, records[name] = explain(answer, inputs, baseline[name], quick)
        for method, values in maps.items():
            image = place(values[0], run.config["data"]["crop"])
            facts = about | {"method": METHODS[method], "modality": name, "Units": "calibrated log-odds per voxel"}
            ending = f"mod-{name}_desc-{method}_saliency.nii.gz"
            write_image(image, folder / f"{sample_id}_space-{template.SPACE}_res-2_{ending}", facts)
            own = to_person(image, prepared, sample_id)
            if own is not None:
                write_image(own, folder / f"{sample_id}_space-T1w_{ending}", facts)
    write_json(folder / "saliency.json", about | {"modalities": records})
    return folder


def explain_run(options: Options) -> int:
    run = open_run(options.run_dir, options.allow_code)
    chosen = list(options.subjects) or run.splits[run.splits.split == "test"].sample_id.tolist()
    prepared = run.prepared_path or Path()
    with lock_folder(run.path / "saliency"):
        for folder in write_saliency(run, prepared, run.path / "saliency", chosen):
            print(folder)
    return 0


def main(argv: list[str] | None = None) -> int:
    return command_line.main(["saliency", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    raise SystemExit(main())
