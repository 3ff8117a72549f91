"""What a trained model says of samples, and how good that is on labeled ones that did not train it."""

from __future__ import annotations

from collections.abc import Iterator
from math import nan
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adni_tcgm.tcgm.batch import MultimodalBatch
from adni_tcgm.tcgm.gain import total_correlation_gain

if TYPE_CHECKING:
    from adni_tcgm.tcgm.method import Fitted


def predict(fitted: Fitted, batch: MultimodalBatch, chunk: int = 32) -> dict[str, Tensor]:
    """{modality: (B, C) log-posterior, "all": …} in evaluation mode, on the CPU, `chunk` samples at a time.

    Nothing is calibrated here. Calibration comes behind: it maps the entry of each modality, combines them by
    `aggregate(…, fitted.prior, batch.present)`, and maps the result once more.
    """
    model, device = fitted.model, next(fitted.model.parameters()).device
    model.eval()
    chunks: list[dict[str, Tensor]] = []
    left = torch.arange(len(batch))
    with torch.no_grad():
        while len(left) or not chunks:
            part = batch.select(left[:chunk])
            part = fitted.augment.center(part) if fitted.augment else part
            try:
                chunks.append(fitted.method.predict(model, part.to(device).in_float32()))
                left = left[chunk:]
            except torch.OutOfMemoryError:
                if chunk == 1:
                    raise
                chunk = (chunk + 1) // 2
    return {name: torch.cat([part[name].cpu() for part in chunks]) for name in chunks[0]}


def validate(fitted: Fitted, validation: MultimodalBatch) -> dict[str, float]:
    """Log-loss and accuracy of "all", and the gain of the classifiers, which needs no label, for any method."""
    result = {"gain": nan, "validation_loss": nan, "validation_accuracy": nan}
    if len(validation) == 0:
        return result
    log_posteriors = predict(fitted, validation)
    combined = log_posteriors["all"]
    losses = [
        tempered_log_loss(values[seen], validation.labels[seen])
        for values, seen in _judged(log_posteriors, validation)
        if seen.any()
    ]
    result["validation_loss"] = sum(losses) / len(losses)
    result["validation_accuracy"] = (combined.argmax(1) == validation.labels).float().mean().item()
    names = list(validation.inputs)
    if len(validation) >= len(names) and all(name in log_posteriors for name in names):
        stacked = torch.stack([log_posteriors[name] for name in names])
        result["gain"] = total_correlation_gain(stacked, fitted.prior, validation.present).item()
    return result


def _judged(log_posteriors: dict[str, Tensor], batch: MultimodalBatch) -> Iterator[tuple[Tensor, Tensor]]:
    """Each posterior with the samples ((B,) bool) that have its modality; "all" with everybody."""
    for name, values in log_posteriors.items():
        everybody = torch.ones(len(batch), dtype=torch.bool)
        yield values, everybody if name == "all" else batch.present[:, list(batch.inputs).index(name)]


def tempered_log_loss(log_posterior: Tensor, labels: Tensor) -> float:
    """Log-loss of (B, C) log-posteriors divided by the best of a few temperatures, renormalized.

    Modalities that share more than the label make the combined posterior too sure of itself, the more so the longer the
    gain is maximized. Calibration mends that afterwards, so it must not decide which weights are kept.

    >>> sure = torch.tensor([[0.999, 0.001], [0.999, 0.001], [0.001, 0.999]]).log()
    >>> round(tempered_log_loss(sure, torch.tensor([0, 1, 1])), 2)  # less than the 2.3 of these answers as they are
    0.64
    """
    temperatures = torch.logspace(-0.5, 1.5, 21, dtype=log_posterior.dtype).view(-1, 1, 1)
    tempered = (log_posterior.clamp(min=-1e4) / temperatures).log_softmax(-1)
    return -tempered[:, torch.arange(len(labels)), labels].mean(1).max().item()
