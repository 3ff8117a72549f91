"""One run: load, fit, calibrate, evaluate, save."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from adni_tcgm.audit import audit_fits, audit_splits, check_manifest, seal_test, split_manifest
from adni_tcgm.checkpoint_file import CheckpointFile
from adni_tcgm.datasets import adni
from adni_tcgm.datasets.adni_baselines import CLINICAL_FILE, compute_baselines
from adni_tcgm.evaluation import agreement
from adni_tcgm.evaluation.calibration import CROSS_FITTED, Calibration, fit_calibration
from adni_tcgm.evaluation.cross_fitting import HeldOut, calibrate_held_out, cross_predict
from adni_tcgm.evaluation.metrics import evaluate_modalities
from adni_tcgm.files import DamagedFile, inside, lock
from adni_tcgm.methods.method import Method
from adni_tcgm.model import TrainedModel
from adni_tcgm.pretraining.murauer import Murauer, pretrain_murauer
from adni_tcgm.pretraining.pretext import encoder_signs, pretrain
from adni_tcgm.storage import is_complete, load_run, prediction_table, save_run, write_json
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch, Splits
from adni_tcgm.tcgm.encoders import Encoders, fit_encoded
from adni_tcgm.tcgm.processes import rank
from adni_tcgm.tcgm.trainer import Augmentation, Fitted, TrainConfig, fit, predict
from pipelines.config import AUSTERE, NO_PRETRAINING, Settings
from pipelines.training_cost import describe_volumes, estimate, free_bytes
from pipelines.truth import Truth

# Raised when metrics.json of the same settings says something else: an older run is then trained again.
METRICS_VERSION = 3
# Raised when there are other baselines.
BASELINES_VERSION = 3


def run_name(settings: Settings, method: str, seed: int) -> str:
    """`<features>-<method>-r<rate>-s<seed>` for brains, `<name>-…` for everything else: the run's folder."""
    # A method of one's own is called module:Name.
    return f"{settings.variant}-{method.replace(':', '.')}-r{settings.data.label_rate:g}-s{seed}"


def train_run(
    runs: Path,
    settings: Settings,
    method: str,
    seed: int,
    *,
    truth: Truth | None = None,
    external: Path | None = None,
    progress: bool = True,
    tensorboard: Path | None = None,
) -> Path:
    """Train once and write the run folder; a finished run of the same settings and data is left as it is.

    A training that was killed goes on from its last state. Of several processes that train together (`torchrun`), the
    first one evaluates and writes.

    truth: of a simulated cohort, for the Bayes limits. external: another prepared folder, an external test set.
    tensorboard: the folder of TensorBoard's logs, one below it for each run.
    """
    run_dir = inside(runs, run_name(settings, method, seed))
    config = configuration(settings, method, seed)
    if _is_current(run_dir, config, needs_prepared=settings.dataset == "adni"):
        return run_dir
    with lock(run_dir.with_name(f".{run_dir.name}.lock"), run_dir) if rank() == 0 else nullcontext():
        return _train(run_dir, config, settings, method, seed, truth, external, progress, tensorboard)


def _train(
    run_dir: Path,
    config: dict,
    settings: Settings,
    method: str,
    seed: int,
    truth: Truth | None,
    external: Path | None,
    progress: bool,
    tensorboard: Path | None,
) -> Path:
    if settings.dataset == "adni" and progress and (needed := adni.volume_bytes(settings.data)):
        print(describe_volumes(needed, free_bytes(torch.device("cpu"))))
    splits = settings.load(seed)
    manifest = split_manifest(splits.rows, _drawn_from(settings, config))
    check_manifest(manifest, run_dir.parent)
    external_test = _read_external(settings, splits, external)
    audit = audit_splits(splits, strict=settings.dataset == "adni", **external_test)
    title = f"training {settings.variant}, {method}" if progress else None
    # Beside the run folder, until that is there.
    unfinished = run_dir.with_name(f".{run_dir.name}.unfinished")
    shown = shown_to_training(settings, splits)
    train = fitter(settings, method, shown, seed, title)
    fitted = train(shown, title, checkpoint_of(unfinished, config, tensorboard))
    found = calibrate(settings, fitted, splits, shown, train)
    if rank() > 0:
        return run_dir
    fitted_on = {**splits.fitted_on, "weights": splits.train.sample_ids, **found.fitted_on}
    audit["fitted_on"] = audit_fits(fitted_on, splits)
    parts = {"validation": splits.validation, "test": splits.test} | external_test
    if settings.dataset == "adni":
        parts["train"] = censored_people(splits)
    scores, predictions = _judge(fitted, found, parts)
    metrics = _about(settings, method, seed, splits, truth) | scores | _about_fit(settings, fitted)
    metrics |= {"protocol": settings.protocol, "calibration": found.about}
    metrics |= _agreement(fitted, splits, found.held_out)
    adjustment = getattr(splits, "adjustment", None)
    save_run(
        run_dir,
        TrainedModel(fitted, found.calibration, splits.transforms, tuple(splits.classes)),
        splits,
        config=config,
        metrics=metrics,
        predictions=predictions,
        norms=getattr(splits, "norms", None),
        adjustment=adjustment.to_json() if adjustment else None,
        adjustment_tensors=adjustment.tensors() if adjustment else None,
        calibration=found.calibration.to_json(),
        split=manifest,
        audit=audit,
        prepared=settings.data.path if settings.dataset == "adni" else None,
    )
    shutil.rmtree(unfinished, ignore_errors=True)
    return run_dir


def _read_external(settings: Settings, splits: Splits, external: Path | None) -> dict[str, MultimodalBatch]:
    """ "external" -> the people of that folder, treated as those of `splits`; nothing where there is no folder."""
    if external is None:
        return {}
    # Nobody in the external test set trains, so no margin for shifts is read.
    config = replace(settings.data, margin=0)
    return {"external": adni.load_people(config, splits.norms, external, splits.adjustment)}


def _about_fit(settings: Settings, fitted: Fitted) -> dict:
    """How the training began, which step was kept, how it was computed: what there is to say of each."""
    about: dict = {}
    if settings.pretraining != NO_PRETRAINING:
        about["pretraining"] = settings.describe_pretraining()
    if fitted.history:
        about |= {"best_step": fitted.best_step, "unlabeled_from": fitted.unlabeled_from}
    if fitted.execution:
        about["execution"] = fitted.execution
    return about


@dataclass(frozen=True)
class Calibrated:
    """A calibration, the samples that it was fitted on (for the audit), and what metrics.json says of it.

    held_out: by the austere protocol, what models trained without them say of the visible labels.
    """

    calibration: Calibration
    fitted_on: dict[str, Sequence[str]]
    about: dict[str, object]
    held_out: HeldOut | None = None


def _judge(fitted: Fitted, found: Calibrated, parts: Mapping[str, MultimodalBatch]) -> tuple[dict, pd.DataFrame]:
    """Scores of each part, calibrated as people see them and uncalibrated, and the predictions of all.

    "train" has no outcome to score. Held-out predictions of visible labels stand in the table as `CROSS_FITTED`.
    """
    scores, tables = {}, []
    said = {name: _numpy(predict(fitted, batch)) for name, batch in parts.items()}
    if found.held_out is not None:
        parts, said = (
            {**parts, CROSS_FITTED: found.held_out.samples},
            {**said, CROSS_FITTED: found.held_out.log_posteriors},
        )
    for name, batch in parts.items():
        calibrated = found.calibration.apply(said[name], batch.present.numpy())
        tables.append(prediction_table(name, batch, said[name], calibrated, fitted.classes))
        if name not in ("train", CROSS_FITTED):
            labels, present = batch.labels.numpy(), batch.present.numpy()
            scores[name] = evaluate_modalities(calibrated, labels, present)
            scores[f"{name}_uncalibrated"] = evaluate_modalities(said[name], labels, present)
    return scores, pd.concat(tables, ignore_index=True)


def _agreement(fitted: Fitted, splits: Splits, held_out: HeldOut | None) -> dict:
    """Whether what the modalities agree on follows a recorded nuisance; nothing where none is recorded."""
    said = _numpy(predict(fitted, splits.train))
    if not splits.nuisances or len(said) < 3:
        return {}
    labeled = np.zeros(0), np.zeros(0, int)
    if held_out is not None:
        by_person = agreement.agreement_of(held_out.log_posteriors, held_out.samples.present.numpy())
        labeled = by_person, held_out.samples.labels.numpy()
    shared = agreement.agreement_of(said, splits.train.present.numpy())
    rows = agreement.explain_agreement(shared, splits.nuisances, *labeled)
    return {"agreement": {"explained": agreement.to_json(rows), "words": agreement.describe(rows)}}


def _numpy(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in tensors.items()}


def checkpoint_of(folder: Path, config: dict, tensorboard: Path | None = None) -> CheckpointFile:
    """Where the training is kept, for these settings and data alone."""
    key = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    name = folder.name.removeprefix(".").removesuffix(".unfinished")
    logs = tensorboard / name if tensorboard else None
    return CheckpointFile(folder, key, writes=rank() == 0, tensorboard=logs)


def censored_people(splits: Splits) -> MultimodalBatch:
    """The training people whose outcome nobody knows: survival curves follow them for as long as they were seen."""
    unknown = {row.sample_id for row in splits.rows if row.split == "train" and not row.label}
    rows = [row for row, name in enumerate(splits.train.sample_ids) if name in unknown]
    return splits.train.select(torch.tensor(rows, dtype=torch.long))


def configuration(settings: Settings, method: str, seed: int) -> dict:
    """Everything that decides the run's result, as plain values: `config.yaml`."""
    config = {"method": method, "seed": seed, "metrics_version": METRICS_VERSION, **asdict(settings)}
    # Where the data lie is no setting of the run: they may move, but not change.
    config["data"].pop("path", None)
    # What other methods are set to is none of this run's business, nor is what a plot shows.
    config.pop("panels")
    config["methods"] = {method: settings.methods.get(method, {})}
    config["pretrainings"] = {
        name: value for name, value in settings.pretrainings.items() if name == settings.pretraining
    }
    return config | {"data_fingerprint": settings.fingerprint()}


def _drawn_from(settings: Settings, config: Mapping) -> dict:
    """What decides who is in which split; of brains, voxels and regions share it."""
    about = {key: config[key] for key in ("dataset", "data_fingerprint", "seed")}
    if settings.dataset == "adni":
        return about | {"label_rate": settings.data.label_rate}
    return about | {"data": config["data"]}


def fitter(
    settings: Settings,
    name: str,
    splits: Splits,
    seed: int,
    progress: str | None = None,
) -> Callable[..., Fitted]:
    """How to train that method on these splits, or on a part of them: (splits, progress, checkpoint) -> Fitted.

    Encoders are pretrained here and now, once, on all of `splits.train`, of which they read no label. They
    are not kept in a checkpoint: after a kill they are trained anew, by the same seed, to the same weights.
    """
    method, config = settings.method(name), replace(settings.train_for(name), seed=seed)
    augment = settings.augmentation()
    if settings.pretraining != NO_PRETRAINING:
        encoders, seconds = _encoders(settings, splits, config, progress)

        def fit_on_encoders(part: Splits, title: str | None, kept: CheckpointFile | None) -> Fitted:
            fitted = fit_encoded(method, encoders, part, config, augment, title, kept)
            for row in fitted.history:  # what a run took counts its pretraining
                row["seconds"] += seconds
            return fitted

        return fit_on_encoders
    if settings.volumes and progress is not None and not hasattr(method, "fit"):
        config = _look_ahead(method, splits, config, augment)
    return lambda part, title, kept: fit(method, part, config, augment, title, kept)


def _encoders(settings: Settings, splits: Splits, config: TrainConfig, progress: str | None) -> tuple[Encoders, float]:
    """The pretrained encoders, and the seconds that they took."""
    pretraining, augment = settings.chosen_pretraining(), settings.augmentation()
    title = f"{progress}: pretraining" if progress else None
    place = {"seed": config.seed, "device": config.device, "augment": augment, "progress": title}
    start = perf_counter()
    if isinstance(pretraining, Murauer):
        source = settings.load_source(pretraining.source)
        encoders = pretrain_murauer(pretraining, settings.encoder(), splits.modalities, source, splits.train, **place)
    else:
        encoders = pretrain(pretraining, settings.encoder(), splits.modalities, splits.train, **place)
        encoders.signs = encoder_signs(pretraining.tasks, [m.name for m in splits.modalities], splits.target_signs)
    return encoders, perf_counter() - start


def _look_ahead(method: Method, splits: Splits, config: TrainConfig, augment: Augmentation | None) -> TrainConfig:
    """Print what the training will take; on a GPU, begin with micro-batches that fit.

    On a CPU free memory is no property of the machine, and what a run finds must not depend on it.
    """
    expected = estimate(method, splits, config, augment)
    print(expected)
    return replace(config, micro_batch=expected.fitting_micro_batch) if expected.device == "GPU" else config


def _about(settings: Settings, method: str, seed: int, splits: Splits, truth: Truth | None) -> dict:
    """The part of metrics.json that says what was run on whom."""
    return {
        "dataset": settings.name,
        "simulated": settings.simulated,
        "method": method,
        "features": settings.data.features if settings.dataset == "adni" else None,
        "label_rate": settings.data.label_rate,
        "seed": seed,
        "n": {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)},
        "labels": {
            "train_visible": sum(row.label_visible for row in splits.rows if row.split == "train"),
            "validation": 0
            if settings.protocol == AUSTERE
            else sum(row.label_visible for row in splits.rows if row.split == "validation"),
        },
        "bayes": truth.bayes_metrics(splits.test.sample_ids) if truth else None,
    }


def shown_to_training(settings: Settings, splits: Splits) -> Splits:
    """No test split; and by the austere protocol no label but the visible ones: no step is chosen on validation."""
    sealed = seal_test(splits)
    if settings.protocol != AUSTERE:
        return sealed
    validation = replace(splits.validation, labels=torch.full_like(splits.validation.labels, UNLABELED))
    rows = [replace(row, label="", label_visible=False) if row.split == "validation" else row for row in sealed.rows]
    return replace(sealed, validation=validation, rows=rows)


def calibrate(
    settings: Settings, fitted: Fitted, splits: Splits, shown: Splits, train: Callable[..., Fitted]
) -> Calibrated:
    """By the austere protocol from cross-fitting the visible labels, otherwise from validation."""
    prior = fitted.prior.numpy()
    if settings.protocol == AUSTERE:
        held_out = cross_predict(lambda part: train(part, None, None), shown, seed=fitted.config.seed)
        names = [name for name in predict(fitted, shown.train.select(torch.arange(1))) if name != "all"]
        calibration, about = calibrate_held_out(held_out, names, prior)
        fitted_on = {"cross_fitted_calibration": held_out.samples.sample_ids if held_out else []}
        return Calibrated(calibration, fitted_on, about, held_out)
    validation = splits.validation
    found = _numpy(predict(fitted, validation))
    calibration = fit_calibration(found, validation.labels.numpy(), validation.present.numpy(), prior)
    about = {"samples": int((validation.labels != UNLABELED).sum()), "applied": True}
    return Calibrated(calibration, {"calibration": validation.sample_ids}, about)


def say_budget(metrics: Mapping) -> str:
    """Which labels beside the visible ones a run has looked at."""
    if metrics.get("protocol") == AUSTERE:
        return "no other label was looked at; calibrated by cross-fitting these"
    return f"{metrics['labels']['validation']} validation labels used for selection and calibration"


def _is_current(run_dir: Path, config: dict, needs_prepared: bool) -> bool:
    """Whether the folder holds a finished run of this configuration on the data as they are now."""
    if not is_complete(run_dir):
        return False
    try:
        run = load_run(run_dir)
    except DamagedFile:
        return False
    return run.config == json.loads(json.dumps(config)) and (run.prepared_path is not None or not needs_prepared)


def baselines_dir(runs: Path, settings: Settings, seed: int) -> Path:
    return runs / f"baselines-r{settings.data.label_rate:g}-s{seed}"


def write_baselines(
    runs: Path, settings: list[Settings], seed: int, *, truth: Truth | None = None, external: Path | None = None
) -> Path:
    """What simple predictors reach on the same split with the same labels: `baselines.json` in a folder of its own."""
    voxels = next((s for s in settings if s.data.features == "voxels"), settings[0])
    folder = baselines_dir(runs, voxels, seed)
    tables = [Path(voxels.data.path) / name for name in ("manifest.tsv", CLINICAL_FILE)]
    content = b"".join(table.read_bytes() for table in tables if table.is_file())
    regions = next((s.data for s in settings if s.data.features == "regions"), None)
    about = {"harmonize": regions.harmonize, "adjust": regions.adjust} if regions else {}
    inputs = {
        "seed": seed,
        "baselines_version": BASELINES_VERSION,
        **asdict(voxels.data),
        **about,
        "tables": hashlib.sha256(content).hexdigest(),
    }
    # Baselines look at voxels and at summaries whatever the classifiers see and the encoders learn.
    for key in ("path", "features", "targets"):
        inputs.pop(key)
    inputs = json.loads(json.dumps(inputs))  # tuples become lists, as they will be read
    stamp = folder / "inputs.json"
    if stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == inputs:
        return folder
    # The split is the same for either kind of features; baselines see regions as classifiers of regions do.
    splits = adni.load(regions or replace(voxels.data, features="regions"), seed)
    bayes = None
    if truth is not None:
        limits = truth.bayes_metrics(splits.test.sample_ids) or {}
        severities = {f"severity, {name}": values["auc"] for name, values in limits.items()}
        bayes = {**severities, **truth.summary_limit(splits.test.sample_ids)}
    rows = compute_baselines(voxels.data, splits, voxels.data.path, external, bayes)
    write_json(folder / "baselines.json", rows)
    write_json(stamp, inputs)
    return folder
