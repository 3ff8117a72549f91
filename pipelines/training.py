"""One run: load, fit, calibrate, evaluate, save."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from adni_tcgm.audit import audit_fits, audit_splits, check_manifest, split_manifest
from adni_tcgm.checkpoint_file import CheckpointFile
from adni_tcgm.datasets import adni
from adni_tcgm.encoder_store import EncoderStore
from adni_tcgm.files import inside, lock
from adni_tcgm.model import TrainedModel
from adni_tcgm.storage import save_run
from adni_tcgm.tcgm.batch import MultimodalBatch, Splits
from adni_tcgm.tcgm.processes import rank
from pipelines.config import Settings
from pipelines.fitting import calibrate, fitter, shown_to_training
from pipelines.identity import configuration, drawn_from, is_current, refuse_other, run_name
from pipelines.scoring import censored_people, describe_agreement, describe_fit, describe_run, score_parts
from pipelines.training_cost import describe_volumes, free_bytes
from pipelines.truth import Truth


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
    overwrite: bool = False,
) -> Path:
    """Train once and write the run folder; a finished run of the same settings and data is left as it is.

    A training that was killed goes on from its last state. Of several processes that train together (`torchrun`), the
    first one evaluates and writes.

    truth: of a simulated cohort, for the Bayes limits. external: another prepared folder, an external test set.
    tensorboard: the folder of TensorBoard's logs, one below it for each run. overwrite: replace a finished run of other
    settings; else it is refused (`identity.OtherRun`).
    """
    run_dir = inside(runs, run_name(settings, method, seed))
    config = configuration(settings, method, seed)
    if is_current(run_dir, config, needs_prepared=settings.dataset == "adni"):
        return run_dir
    if not overwrite:
        refuse_other(runs, settings, method, seed)
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
    manifest = split_manifest(splits.rows, drawn_from(settings, config))
    check_manifest(manifest, run_dir.parent)
    external_test = _read_external(settings, splits, external)
    audit = audit_splits(splits, strict=settings.dataset == "adni", **external_test)
    title = f"training {settings.variant}, {method}" if progress else None
    # Beside the run folder, until that is there.
    unfinished = run_dir.with_name(f".{run_dir.name}.unfinished")
    shown = shown_to_training(settings, splits)
    train = fitter(settings, method, shown, seed, title, EncoderStore(run_dir.parent / ".encoders"))
    fitted = train(shown, title, checkpoint_of(unfinished, config, tensorboard))
    found = calibrate(settings, fitted, splits, shown, train)
    if rank() > 0:
        return run_dir
    fitted_on = {**splits.fitted_on, "weights": splits.train.sample_ids, **found.fitted_on}
    audit["fitted_on"] = audit_fits(fitted_on, splits)
    parts = {"validation": splits.validation, "test": splits.test} | external_test
    if settings.dataset == "adni":
        parts["train"] = censored_people(splits)
    scores, predictions = score_parts(fitted, found, parts)
    metrics = describe_run(settings, method, seed, splits, truth) | scores | describe_fit(settings, fitted)
    metrics |= {"protocol": settings.protocol, "calibration": found.about}
    metrics |= describe_agreement(fitted, splits, found.held_out)
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


def checkpoint_of(folder: Path, config: dict, tensorboard: Path | None = None) -> CheckpointFile:
    """Where the training is kept, for these settings and data alone."""
    key = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    name = folder.name.removeprefix(".").removesuffix(".unfinished")
    logs = tensorboard / name if tensorboard else None
    return CheckpointFile(folder, key, writes=rank() == 0, tensorboard=logs)
