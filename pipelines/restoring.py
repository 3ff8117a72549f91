"""A finished run made usable again: its settings, its trained classifiers, the recipe that prepared its scans."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from adni_tcgm.datasets.adni_adjust import Adjustment
from adni_tcgm.methods.pvcc import PVCC
from adni_tcgm.model import TrainedModel, load
from adni_tcgm.storage import ADJUSTMENT, Run, load_run, load_tensors
from pipelines.building import build
from pipelines.config import DATASETS, Settings
from pipelines.own_code import register_own
from preprocessing.intake.labels import LabelRule
from preprocessing.steps.template import SPACE
from preprocessing.subject.plan import RECIPE_VERSION, Recipe

CLASSES = ("stable", "converter")
RECIPE = "recipe.json"
# What `config.yaml` of a run says beside its settings.
RECORDED = ("method", "seed", "metrics_version", "data_fingerprint")


class Refused(ValueError):
    """This run cannot answer what was asked, and why."""

    word = "refused"


def open_run(run_dir: Path, allow_code: Collection[str] = ()) -> Run:
    """A finished run; code of somebody's own that its settings name is imported from modules in `allow_code` alone.

    Raises CodeNotAllowed for another module, and what `load_run` raises.
    """
    run = load_run(run_dir)
    register_own(run.config, DATASETS, allow_code)
    return run


def describe_recipe(recipe: Recipe, rule: LabelRule | None = None) -> dict:
    """`recipe.json` of a prepared folder, copied into every run on it: how its scans and labels came to be."""
    months = (rule or LabelRule()).horizon_months
    about = {"Version": RECIPE_VERSION, "Space": SPACE, "RecipeHash": recipe.hash, "Recipe": asdict(recipe)}
    return about | {"HorizonMonths": months}


def recipe_of(run: Run) -> Recipe:
    """The recipe that the run's people were prepared with.

    From the run's own `recipe.json`; for runs that kept none, from the record beside a map of their prepared folder.
    Raises Refused where neither says, or where this version of the code prepares scans in another way.
    """
    content = run.recipe or _recorded_recipe(run.prepared_path)
    if content is None:
        raise Refused(f"{run.path}: neither {RECIPE} nor a prepared scan says by which recipe its people were prepared")
    space = content.get("Space") or str(content.get("SpatialReference", "")).split(" ")[0]
    if space != SPACE:
        raise Refused(
            f"{run.path}: its people lie in template {space or 'unknown'!r}; new scans would lie in {SPACE!r}"
        )
    try:
        recipe = build(Recipe, content.get("Recipe", {}), f"{run.path}: {RECIPE}")
    except ValueError as error:
        raise Refused(str(error)) from error
    if recipe.hash != content.get("RecipeHash"):
        raise Refused(
            f"{run.path}: its people were prepared by recipe {content.get('RecipeHash')}; the same settings are now "
            f"recipe {recipe.hash}, since a step has changed: prepare and train again"
        )
    return recipe


def _recorded_recipe(prepared: Path | None) -> dict | None:
    record = next(iter(sorted(prepared.glob("sub-*/ses-*/anat/*desc-preproc_T1w.json"))), None) if prepared else None
    return json.loads(record.read_text(encoding="utf-8")) if record else None


def settings_of(run: Run, path: Path) -> Settings:
    """The settings that the run was trained with, to read the prepared folder `path`.

    Raises Refused for a run on other data than brains, or of an older version with settings that are no more.
    """
    values = {key: value for key, value in run.config.items() if key not in RECORDED}
    if values.get("dataset", "adni") != "adni":
        raise Refused(f"{run.path}: trained on {values['dataset']!r}, not on brains")
    try:
        return build(Settings, {**values, "data": {**values["data"], "path": str(path)}}, f"{run.path}: config.yaml")
    except ValueError as error:
        raise Refused(f"{error}; the run is of another version of this code: train again") from error


def restore_adjustment(run: Run) -> Adjustment | None:
    """What was taken out of the regional measurements of the run's people; None where nothing was.

    Raises Refused for a run of an older version, whose adjustment was stored in another way.
    """
    if run.adjustment is None:
        return None
    try:
        return Adjustment.restore(run.adjustment, load_tensors(run.path / ADJUSTMENT))
    except ValueError as error:
        raise Refused(f"{run.path}: {error}") from error


def restore(run: Run) -> TrainedModel:
    """The trained model of a run on brains.

    Raises Refused for closed-form runs on voxels as they are: those have seen the margin around the crop, too, which
    nobody else's scans are read with.
    """
    try:
        model = load(run.path)
    except ValueError as error:
        raise Refused(str(error)) from error
    if isinstance(model.fitted.method, PVCC) and run.metrics["features"] == "voxels":
        name = run.config["method"]
        raise Refused(f"{run.path}: {name} on voxels has seen the margin around the crop; train it on encoders")
    return model
