"""FreeMatch: pseudo-labels from what a classifier is sure of, by thresholds that follow how far it has come.

Reference: Wang et al., FreeMatch: Self-adaptive Thresholding for Semi-supervised Learning, ICLR 2023
(arXiv 2205.07246), Eq. 5-11; here for each modality alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adni_tcgm.methods.method import ClassifierPerModality, ModalityClassifiers, Spec, labeled_cross_entropy
from adni_tcgm.tcgm.batch import MultimodalBatch


@dataclass(frozen=True)
class FreeMatch(ClassifierPerModality):
    """Labeled cross-entropy, pseudo-label cross-entropy of a disturbed view, and the fairness term, per modality.

    The weak view is the input as the trainer gives it. The strong view drops entries of it, and adds noise where the
    input has more than one axis: there are no image transforms here.

    pseudo_weight, fairness_weight: w_u and w_f; the paper has 1 and .01 to .05. Both 0 is exactly the baseline CE.
    momentum: of the running means behind the thresholds. The paper has .999 for a million steps; in some hundred steps
        its thresholds would hardly leave 1/C.
    strong_dropout: share of entries that the strong view sets to 0. strong_noise: standard deviation of what it adds,
        as a share of the batch's own.

    >>> import torch
    >>> from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> from adni_tcgm.tcgm.method import Spec
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> method = FreeMatch(MLPConfig())
    >>> method.unlabeled_loss(method.build(spec), batch).shape
    torch.Size([])
    """

    pseudo_weight: float = 1.0
    fairness_weight: float = 0.01
    momentum: float = 0.99
    strong_dropout: float = 0.5
    strong_noise: float = 0.1

    def build(self, spec: Spec) -> ModalityClassifiers:
        model = super().build(spec)
        model.thresholds = nn.ModuleDict({m.name: AdaptiveThreshold(len(spec.classes)) for m in spec.modalities})
        return model

    def labeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor:
        return labeled_cross_entropy(model, batch)

    def unlabeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor | None:
        """Also updates the thresholds, by the posteriors of the weak view."""
        if self.pseudo_weight == 0 and self.fairness_weight == 0:
            return None
        loss = torch.zeros((), device=batch.present.device)
        for name, inputs in batch.inputs.items():
            seen = model.seen(batch, name)
            if seen.any():
                loss = loss + self._modality_loss(model.classifiers[name], model.thresholds[name], inputs[seen])
        return loss

    def _modality_loss(self, net: nn.Module, threshold: AdaptiveThreshold, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            weak = net(inputs).float().softmax(-1)
        threshold.update(weak, self.momentum)
        sure = threshold.passes(weak)
        strong = net(strong_view(inputs, self.strong_dropout, self.strong_noise)).float().log_softmax(-1)
        pseudo = F.nll_loss(strong, weak.argmax(1), reduction="none")
        loss = self.pseudo_weight * torch.where(sure, pseudo, 0.0).mean()
        if sure.any():
            loss = loss + self.fairness_weight * fairness_loss(strong[sure].exp(), threshold)
        return loss


class AdaptiveThreshold(nn.Module):
    """How sure one classifier is: running means over batches, kept with the weights.

    confidence: τ, of the largest posterior. posterior: p̃ (C,), of the posteriors. histogram: h̃ (C,), of the
    pseudo-labels. All start at 1/C.

    >>> threshold = AdaptiveThreshold(2)
    >>> threshold.passes(torch.tensor([[0.9, 0.1], [0.5, 0.5]])).tolist()
    [True, False]
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("confidence", torch.tensor(1 / classes))
        self.register_buffer("posterior", torch.full((classes,), 1 / classes))
        self.register_buffer("histogram", torch.full((classes,), 1 / classes))

    def update(self, posteriors: Tensor, momentum: float) -> None:
        """Eq. 5, 6 and 10, by the posteriors (B, C) of a batch."""
        self.confidence.lerp_(posteriors.amax(1).mean(), 1 - momentum)
        self.posterior.lerp_(posteriors.mean(0), 1 - momentum)
        self.histogram.lerp_(_shares(posteriors.argmax(1), len(self.histogram)), 1 - momentum)

    def passes(self, posteriors: Tensor) -> Tensor:
        """(B,) bool: whether the largest posterior exceeds the threshold of its class, p̃_c / max p̃ · τ (Eq. 7)."""
        by_class = self.posterior / self.posterior.max() * self.confidence
        confidence, label = posteriors.max(1)
        return confidence > by_class[label]


def fairness_loss(strong: Tensor, threshold: AdaptiveThreshold) -> Tensor:
    """-H(SumNorm(p̃ / h̃), SumNorm(p̄ / h̄)) of the posteriors (n, C) of strong views that have a pseudo-label (Eq. 11).

    Negative as published: it rises with the agreement of the two and is minimized all the same.

    >>> fairness_loss(torch.tensor([[0.9, 0.1], [0.1, 0.9]]), AdaptiveThreshold(2)).shape
    torch.Size([])
    """
    shares = _shares(strong.argmax(1), strong.shape[1])
    expected = _normalized(threshold.posterior, threshold.histogram)
    return (expected * (_normalized(strong.mean(0), shares) + 1e-12).log()).sum()


def strong_view(inputs: Tensor, dropout: float, noise: float) -> Tensor:
    """Entries dropped at random, the rest scaled up to keep the mean; noise first where the input has several axes.

    >>> strong_view(torch.ones(2, 3), dropout=0.0, noise=0.1).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    if inputs.ndim > 2:
        inputs = inputs + noise * inputs.std() * torch.randn_like(inputs)
    return F.dropout(inputs, dropout)


def _shares(labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels, minlength=classes) / len(labels)


def _normalized(means: Tensor, shares: Tensor) -> Tensor:
    """SumNorm(means / shares); a class that no sample falls into counts as 0."""
    ratio = torch.where(shares > 0, means / shares.clamp(min=1e-12), 0.0)
    return ratio / ratio.sum()
