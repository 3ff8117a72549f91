"""The aggregator ζ (paper section 4.2): one posterior from the classifiers of all modalities that are present."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def aggregate(log_posteriors: Tensor, log_prior: Tensor, present: Tensor | None = None) -> Tensor:
    """log ζ with ζ_c ∝ p_c ∏_{m in O} h^m_c / p_c over the present modalities O; the paper's ∏_m h^m_c / p_c^(M-1).

    log_posteriors (M, B, C), log_prior (C,), present (B, M) bool or None when nothing is missing -> (B, C).
    Rows of an absent modality are never read.

    >>> half = torch.tensor([0.5, 0.5]).double().log()
    >>> mri = pet = torch.tensor([[0.8, 0.2]]).double().log()
    >>> aggregate(torch.stack([mri, pet]), half).exp().round(decimals=2).tolist()  # .64 against .04
    [[0.94, 0.06]]
    """
    evidence = log_posteriors - log_prior
    if present is not None:
        evidence = torch.where(present.T.unsqueeze(-1), evidence, 0.0)
    return (log_prior + evidence.sum(0)).log_softmax(-1)


def label_prior(labels: Tensor, classes: int, smoothing: float = 1.0) -> Tensor:
    """Class prior p (C,) from the visible ones among `labels` (B,); `smoothing` is added to the count of each class.

    Negative labels are unlabeled samples. Smoothing keeps an unseen class possible; without any label p is uniform.

    >>> label_prior(torch.tensor([0, 0, 0, 0, 0, 1, -1]), classes=2).tolist()  # one is added to each class
    [0.75, 0.25]
    """
    if smoothing <= 0:
        raise ValueError(f"smoothing is {smoothing}; it must be > 0, or the prior of an unseen class would be 0")
    counts = torch.bincount(labels[labels >= 0], minlength=classes)
    if len(counts) > classes:
        raise ValueError(f"found label {len(counts) - 1}; {classes} classes allow 0 to {classes - 1}")
    smoothed = counts.float() + smoothing
    return smoothed / smoothed.sum()


def nuisance_group_priors(
    labels: Tensor, nuisance_groups: Sequence[str], prior: Tensor, strength: float = 20.0
) -> dict[str, Tensor]:
    """Class prior (C,) of each nuisance group, shrunk to `prior` as if `strength` more samples had shown that.

    labels: (B,), negative where unlabeled; nuisance_groups: B names, or none at all. A group without a label has the
    global.

    >>> found = nuisance_group_priors(torch.tensor([1, -1]), ["011", "027"], torch.tensor([0.5, 0.5]))
    >>> found["027"].tolist(), round(found["011"][1].item(), 3)
    ([0.5, 0.5], 0.524)
    """
    found = {}
    for name in dict.fromkeys(nuisance_groups):
        here = labels[torch.tensor([group == name for group in nuisance_groups])]
        counts = torch.bincount(here[here >= 0], minlength=len(prior)).float()
        found[name] = (counts + strength * prior) / (counts.sum() + strength)
    return found
