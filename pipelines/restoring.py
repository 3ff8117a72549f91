"""A finished run made usable again: its settings, its trained classifiers, the recipe that prepared its scans."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from adni_tcgm.datasets.adni_adjust import Adjustment
from adni_tcgm.methods.pvcc import PVCC, LinearViews
from adni_tcgm.pretraining.murauer import Mapped
from adni_tcgm.pretraining.pretext import Encoder, Pretraining, build_encoders
from adni_tcgm.storage import ADJUSTMENT, Run, load_tensors, load_weights, weight_shapes
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
from adni_tcgm.tcgm.encoders import Encoded, EncodedModel, Encoders
from adni_tcgm.tcgm.trainer import Fitted, Spec
from pipelines.config import NO_PRETRAINING, Settings, build
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


def restore(run: Run, settings: Settings, batch: MultimodalBatch) -> Fitted:
    """The classifiers, and encoders where pretraining made them, with their weights.

    batch: gives each input's shape. Raises Refused for closed-form runs on voxels as they are: those have seen the
    margin around the crop, too, which nobody else's scans are read with.
    """
    name = run.config["method"]
    method = settings.method(name)
    prior = torch.tensor(run.calibration["log_prior"])
    modalities = [Modality(key, tuple(values.shape[1:])) for key, values in batch.inputs.items()]
    closed_form, encoders = isinstance(method, PVCC), None
    if settings.pretraining != NO_PRETRAINING:
        encoders = _blank_encoders(run, settings, modalities)
    elif closed_form and settings.data.features == "voxels":
        raise Refused(f"{run.path}: {name} on voxels has seen the margin around the crop; train it on encoders")
    seen = encoders.modalities if encoders else modalities
    model = LinearViews(seen, prior) if closed_form else method.build(Spec(seen, CLASSES, prior))
    if encoders:
        method, model = Encoded(method), EncodedModel(encoders, model)
    load_weights(run.path, model)
    train = settings.train_for(name)
    return Fitted(method, model.eval(), CLASSES, modalities, prior, [], train, 0, settings.augmentation())


def _blank_encoders(run: Run, settings: Settings, modalities: list[Modality]) -> Encoders:
    """Encoders as wide as those of the run; what they are wide for is known to the data it was trained on."""
    pretraining, shapes = settings.chosen_pretraining(), weight_shapes(run.path)
    widths = {modality.name: shapes[f"encoders.nets.{modality.name}.mean"][0] for modality in modalities}
    if isinstance(pretraining, Pretraining):
        return build_encoders(settings.encoder(), modalities, widths)
    nets = {}
    for modality in modalities:
        # MURAUER: what a sample says is its class scores and its other views (p and g).
        classes, views = (shapes[f"encoders.nets.{modality.name}.net.{part}.weight"][0] for part in "pg")
        f = settings.encoder().build(modality.shape, pretraining.latent)
        nets[modality.name] = Encoder(Mapped(f, pretraining, classes, views), widths[modality.name])
    return Encoders(nets, widths)
