"""How a method is trained on splits, and calibrated: what a run and its cross-fitting share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import torch

from adni_tcgm.audit import seal_test
from adni_tcgm.checkpoint_file import CheckpointFile
from adni_tcgm.encoder_store import EncoderStore, encoder_key
from adni_tcgm.evaluation.calibration import Calibration, fit_calibration
from adni_tcgm.evaluation.cross_fitting import HeldOut, calibrate_held_out, cross_predict
from adni_tcgm.methods.method import Method
from adni_tcgm.pretraining.loop import Place
from adni_tcgm.pretraining.murauer import Murauer, pretrain_murauer
from adni_tcgm.pretraining.pretext import blank_encoders, encoder_signs, pretrain
from adni_tcgm.pretraining.shared_private import SharedPrivate, blank_shared, pretrain_shared
from adni_tcgm.tcgm.batch import UNLABELED, Splits
from adni_tcgm.tcgm.encoders import Encoders, fit_encoded, represent
from adni_tcgm.tcgm.trainer import Augmentation, Fitted, TrainConfig, choose_device, fit, predict
from pipelines.config import AUSTERE, NO_PRETRAINING, Settings
from pipelines.training_cost import estimate


def shown_to_training(settings: Settings, splits: Splits) -> Splits:
    """No test split; and by the austere protocol no label but the visible ones: no step is chosen on validation."""
    sealed = seal_test(splits)
    if settings.protocol != AUSTERE:
        return sealed
    validation = replace(splits.validation, labels=torch.full_like(splits.validation.labels, UNLABELED))
    rows = [replace(row, label="", label_visible=False) if row.split == "validation" else row for row in sealed.rows]
    return replace(sealed, validation=validation, rows=rows)


def fitter(
    settings: Settings,
    name: str,
    splits: Splits,
    seed: int,
    progress: str | None = None,
    store: EncoderStore | None = None,
) -> Callable[..., Fitted]:
    """How to train that method on these splits, or on a part of them: (splits, progress, checkpoint) -> Fitted.

    Encoders are pretrained here and now, once, on all of `splits.train`, of which they read no label, and asked once.
    store: where they are kept for other runs of the same samples, and for this one after a kill.
    """
    method, config = settings.method(name), replace(settings.train_for(name), seed=seed)
    augment = settings.augmentation()
    if settings.pretraining != NO_PRETRAINING:
        encoders, seconds = _encoders(settings, splits, config, progress, store)
        represented = represent(encoders, splits, augment)
        rows = {sample: row for row, sample in enumerate(splits.train.sample_ids)}

        def fit_on_encoders(part: Splits, title: str | None, kept: CheckpointFile | None) -> Fitted:
            # Cross-fitting takes samples away and changes none, so the encoders are not asked again.
            chosen = torch.tensor([rows[sample] for sample in part.train.sample_ids])
            said = replace(represented, train=represented.train.select(chosen))
            fitted = fit_encoded(method, encoders, said, splits.modalities, config, augment, title, kept)
            for row in fitted.history:  # what a run took counts its pretraining
                row["seconds"] += seconds
            return fitted

        return fit_on_encoders
    if settings.volumes and progress is not None and not hasattr(method, "fit"):
        config = _look_ahead(method, splits, config, augment)
    return lambda part, title, kept: fit(method, part, config, augment, title, kept)


def place_of(config: TrainConfig) -> Place:
    """Encoders are trained where and how the classifiers are."""
    return Place(config.device, config.precision, config.deterministic, config.cuda_graphs)


def _encoders(
    settings: Settings, splits: Splits, config: TrainConfig, progress: str | None, store: EncoderStore | None
) -> tuple[Encoders, float]:
    """The pretrained encoders, and the seconds that they took."""
    pretraining, augment, network = settings.chosen_pretraining(), settings.augmentation(), settings.encoder()
    title = f"{progress}: pretraining" if progress else None
    common = {"seed": config.seed, "place": place_of(config), "augment": augment, "progress": title}
    start = perf_counter()
    if isinstance(pretraining, Murauer):  # it reads labels, so that every run has its own
        source = settings.load_source(pretraining.source)
        encoders = pretrain_murauer(pretraining, network, splits.modalities, source, splits.train, **common)
        return encoders, perf_counter() - start
    learn, blank = (
        (pretrain_shared, blank_shared) if isinstance(pretraining, SharedPrivate) else (pretrain, blank_encoders)
    )
    train = partial(learn, pretraining, network, splits.modalities, splits.train, **common)
    # A folder may be shared by machines, and "auto" is a GPU on one of them.
    device = choose_device(config.device).type
    decisive = (pretraining, network, augment or "none", config.seed, place_of(config), device)
    key = encoder_key(decisive, splits.modalities, splits.train) if store else None
    if store is None or key is None:
        encoders = train()
    else:
        build = partial(blank, pretraining, network, splits.modalities, splits.train, augment, config.device)
        encoders = store.get(key, build, train)
    if not isinstance(pretraining, SharedPrivate):
        encoders.signs = encoder_signs(pretraining.tasks, [m.name for m in splits.modalities], splits.target_signs)
    return encoders, perf_counter() - start


def _look_ahead(method: Method, splits: Splits, config: TrainConfig, augment: Augmentation | None) -> TrainConfig:
    """Print what the training will take; on a GPU, begin with micro-batches that fit.

    On a CPU free memory is no property of the machine, and what a run finds must not depend on it.
    """
    expected = estimate(method, splits, config, augment)
    print(expected)
    return replace(config, micro_batch=expected.fitting_micro_batch) if expected.device == "GPU" else config


@dataclass(frozen=True)
class Calibrated:
    """A calibration, the samples that it was fitted on (for the audit), and what metrics.json says of it.

    held_out: by the austere protocol, what models trained without them say of the visible labels.
    """

    calibration: Calibration
    fitted_on: dict[str, Sequence[str]]
    about: dict[str, object]
    held_out: HeldOut | None = None


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
    found = {name: values.numpy() for name, values in predict(fitted, validation).items()}
    calibration = fit_calibration(found, validation.labels.numpy(), validation.present.numpy(), prior)
    about = {"samples": int((validation.labels != UNLABELED).sum()), "applied": True}
    return Calibrated(calibration, {"calibration": validation.sample_ids}, about)
