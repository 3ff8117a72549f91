"""TCGM: classifiers that also learn from what the modalities of unlabeled samples agree on (paper section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adni_tcgm.methods.method import (
    ClassifierPerModality,
    ModalityClassifiers,
    Spec,
    fading_weight,
    labeled_cross_entropy,
)
from adni_tcgm.tcgm.batch import MultimodalBatch
from adni_tcgm.tcgm.gain import total_correlation_gain
from adni_tcgm.tcgm.processes import is_sharing


@dataclass(frozen=True)
class TCGM(ClassifierPerModality):
    """Labeled cross-entropy, and the total correlation gain of unlabeled samples.

    gain_weight: factor of the gain; 0 is exactly the baseline CE. In alternating steps Adam undoes most of it, so that
        there the learning rate of the unlabeled step sets how far the gain goes.
    gain_half: how many visible labels halve the factor (`fading_weight`); None: it does not depend on them.
    within_nuisance_groups: agreement is compared with chance within each group of the batch (site, speaker, …), so that
        what a group's samples share is no longer rewarded; needs batches with some twenty samples of a group.
    priors: nuisance group -> its class prior (C numbers), known from elsewhere, for samples of another population than
        the labeled ones. Their posteriors are then the classifiers' moved to that prior, h_c q_c / p_c, as is right
        where the classes look the same in both populations and only their shares differ. Needs within_nuisance_groups.

    >>> from adni_tcgm.tcgm.batch import Modality
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> method = TCGM(MLPConfig(), gain_weight=15, gain_half=36)
    >>> method.unlabeled_loss(method.build(spec), batch).shape
    torch.Size([])
    >>> TCGM(MLPConfig(), gain_weight=0).unlabeled_loss(method.build(spec), batch) is None  # the baseline CE
    True
    """

    gain_weight: float = 1.0
    gain_half: float | None = None
    within_nuisance_groups: bool = False
    priors: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fading_weight(self.gain_weight, self.gain_half, 0)
        if self.priors and not self.within_nuisance_groups:
            raise ValueError(
                f"priors name {', '.join(self.priors)}, but within_nuisance_groups is off: no gain would use them"
            )
        for name, values in self.priors.items():
            if min(values) <= 0:
                raise ValueError(f"the prior of {name!r} is {list(values)}; each class needs more than 0")

    @property
    def shares_batches(self) -> bool:
        return not self.within_nuisance_groups

    def build(self, spec: Spec) -> ModalityClassifiers:
        model = super().build(spec)
        model.gain_weight = fading_weight(self.gain_weight, self.gain_half, spec.labels)
        model.group_log_prior = dict(spec.group_log_prior)
        model.known_log_prior = {}
        for name, values in self.priors.items():
            if len(values) != len(spec.classes):
                raise ValueError(
                    f"the prior of {name!r} has {len(values)} numbers; there are {len(spec.classes)} classes"
                )
            model.known_log_prior[name] = (torch.tensor(values, dtype=torch.float32) / sum(values)).log()
        return model

    def labeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor:
        return labeled_cross_entropy(model, batch)

    def unlabeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor | None:
        if self.gain_weight == 0:
            return None
        log_posteriors = model.log_posteriors(batch)
        if self.within_nuisance_groups:
            gain = _gain_within_groups(model, log_posteriors, batch)
        else:
            # All processes must know of the same gaps: those that share a batch count them.
            nothing_missing = batch.complete and not is_sharing()
            gain = total_correlation_gain(log_posteriors, model.log_prior, None if nothing_missing else batch.present)
        return -model.gain_weight * gain


def move_to_prior(log_posteriors: Tensor, log_prior: Tensor, other_log_prior: Tensor) -> Tensor:
    """log of h_c q_c / p_c, renormalized: posteriors (…, C) under p (C,), moved to a population of class prior q.

    >>> half, rare = torch.tensor([0.5, 0.5]).double().log(), torch.tensor([0.9, 0.1]).double().log()
    >>> move_to_prior(half, half, rare).exp().round(decimals=2).tolist()
    [0.9, 0.1]
    """
    return (log_posteriors + other_log_prior - log_prior).log_softmax(-1)


def _gain_within_groups(model: ModalityClassifiers, log_posteriors: Tensor, batch: MultimodalBatch) -> Tensor:
    """The mean of the groups' gains, each with the class prior of its group, weighted by their share of the batch.

    A lower bound of the total correlation given the group. A group with fewer samples than modalities adds nothing.
    """
    if not batch.nuisance_groups:
        raise ValueError(
            "within_nuisance_groups is set, but the samples have no nuisance groups; name them in data.nuisance_groups"
        )
    gain = log_posteriors[:0].sum()
    for name in dict.fromkeys(batch.nuisance_groups):
        here = torch.tensor([group == name for group in batch.nuisance_groups], device=log_posteriors.device)
        count = int(here.sum())
        if count >= len(log_posteriors):
            seen = log_posteriors[:, here]
            log_prior = model.group_log_prior.get(name, model.log_prior).to(log_posteriors.device)
            if name in model.known_log_prior:
                log_prior = model.known_log_prior[name].to(log_posteriors.device)
                seen = move_to_prior(seen, model.log_prior, log_prior)
            part = total_correlation_gain(seen, log_prior, batch.present[here])
            gain = gain + count / len(batch) * part
    return gain
