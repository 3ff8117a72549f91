"""MMatch: pseudo-labels of the joint representation, smoothed over alike samples, that order each modality's own.

Reference: Wang, Fu, Zhang, Wang, Li, MMatch: Semi-Supervised Discriminative Representation Learning for Multi-View
Classification, IEEE TCSVT 2022. This is not the authors' code. After the abstract, and after the comparison in the
public code of STiL (siyi-wind/STiL), which gives the smoothing (.9 own, .1 of the alike), the hard pseudo-labels that
teach the classifiers of single modalities alone, and the alignment of the posteriors. Where both say nothing: samples
are compared within the batch instead of with a memory; posteriors are aligned to the class prior of the visible labels;
visible labels stand among the pseudo-labels; and the regularized structure is read as the graph of CoMatch (Li et al.,
ICCV 2021, arXiv 2011.11183): who shares a pseudo-label is to be alike in each modality. Both thresholds, the
temperature and the weights are ours or CoMatch's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from adni_tcgm.methods.joint import JointClassifiers, joint_cross_entropy, masked_mean, predict_jointly
from adni_tcgm.methods.method import ClassifierConfig, Spec
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch


@dataclass(frozen=True)
class MMatch:
    """Labeled cross-entropy of all classifiers, pseudo-label cross-entropy of each modality's, and the graph term.

    "all" is the classifier of the representations side by side.

    classifier: settings of the network that yields the features, one for all modalities or one for each name.
    dimension: numbers in the representation of a modality.
    pseudo_weight, graph_weight: of the two unlabeled terms; both 0 leave the labeled one.
    own_share: of a sample's own posterior in its smoothed one.
    temperature: of cosines, both in smoothing and in the graph.
    threshold: of the smoothed posterior from which it teaches. graph_threshold: of the inner product of two smoothed
        posteriors from which they are neighbors.

    >>> from adni_tcgm.tcgm.batch import Modality
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> method = MMatch(MLPConfig(hidden=(4,)))
    >>> list(method.predict(method.build(spec), batch))
    ['left', 'right', 'all']
    """

    classifier: ClassifierConfig | Mapping[str, ClassifierConfig]
    dimension: int = 16
    pseudo_weight: float = 1.0
    graph_weight: float = 1.0
    own_share: float = 0.9
    temperature: float = 0.2
    threshold: float = 0.95
    graph_threshold: float = 0.8

    def build(self, spec: Spec) -> JointClassifiers:
        return JointClassifiers(spec, self.classifier, self.dimension)

    def labeled_loss(self, model: JointClassifiers, batch: MultimodalBatch) -> Tensor:
        return joint_cross_entropy(model, batch)

    def unlabeled_loss(self, model: JointClassifiers, batch: MultimodalBatch) -> Tensor | None:
        if self.pseudo_weight == 0 and self.graph_weight == 0:
            return None
        outputs = model(batch)
        with torch.no_grad():
            own = aligned(outputs.log_joint.exp(), model.log_prior.exp())
            own = with_labels(own, batch.labels)
            smoothed = self.own_share * own + (1 - self.own_share) * (
                alike(outputs.joint, self.temperature).exp() @ own
            )
            smoothed = with_labels(smoothed, batch.labels)
            confidence, label = smoothed.max(1)
            sure = confidence >= self.threshold
        unlabeled = batch.labels == UNLABELED
        loss = outputs.joint[:0].sum()  # zero, but still part of the graph
        for row, representation, seen in zip(
            outputs.log_posteriors, outputs.representations, batch.present.T, strict=True
        ):
            taught = torch.where(sure, F.nll_loss(row, label, reduction="none"), 0.0)
            loss = loss + self.pseudo_weight * masked_mean(taught, unlabeled & seen)
            graph = graph_loss(representation[seen], smoothed[seen], self.temperature, self.graph_threshold)
            loss = loss + self.graph_weight * graph
        return loss

    def after_step(self, model: JointClassifiers) -> None:
        """Nothing follows a step."""

    def predict(self, model: JointClassifiers, batch: MultimodalBatch) -> dict[str, Tensor]:
        return predict_jointly(model, batch)


def aligned(posteriors: Tensor, prior: Tensor) -> Tensor:
    """Posteriors (B, C) whose mean over the batch is drawn to the prior (C,) (ReMixMatch, arXiv 1911.09785).

    >>> aligned(torch.tensor([[0.9, 0.1], [0.7, 0.3]]), torch.tensor([0.5, 0.5])).argmax(1).tolist()
    [0, 1]
    """
    ratio = posteriors * prior / posteriors.mean(0).clamp(min=1e-12)
    return ratio / ratio.sum(1, keepdim=True)


def with_labels(posteriors: Tensor, labels: Tensor) -> Tensor:
    """(B, C), with what is known (labels (B,), UNLABELED where nothing is) in place of what is believed."""
    known = F.one_hot(labels.clamp(min=0), posteriors.shape[1]).to(posteriors.dtype)
    return torch.where((labels == UNLABELED).unsqueeze(1), posteriors, known)


def alike(representations: Tensor, temperature: float) -> Tensor:
    """(B, k) -> (B, B): log of shares, by cosine over temperature, that the others have in each sample's likeness.

    >>> alike(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), 0.2).exp()[0]
    tensor([0.0000, 0.9933, 0.0067])
    """
    unit = F.normalize(representations)
    cosines = unit @ unit.T / temperature
    itself = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    # Finite, so that a sample alone is like itself.
    return cosines.masked_fill(itself, torch.finfo(cosines.dtype).min).log_softmax(1)


def graph_loss(representations: Tensor, posteriors: Tensor, temperature: float, threshold: float) -> Tensor:
    """Cross-entropy of `alike` by representations (n, k) to the same by pseudo-labels (n, C), over who has a neighbor.

    >>> apart, label = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]), torch.eye(2)
    >>> wrong, right = (graph_loss(apart, label[rows], 0.2, 0.8).item() for rows in ([0, 0, 1], [0, 1, 0]))
    >>> wrong > right
    True
    """
    shared = posteriors @ posteriors.T
    shared = torch.where(shared >= threshold, shared, 0.0).fill_diagonal_(0)
    degree = shared.sum(1, keepdim=True)
    # Where nobody is a neighbor, 0 times the log of a share; the finite diagonal keeps that 0.
    terms = -(shared / degree.clamp(min=1e-12) * alike(representations, temperature)).sum(1)
    return masked_mean(terms, degree.squeeze(1) > 0)
