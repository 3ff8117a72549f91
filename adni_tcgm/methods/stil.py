"""STiL: representations split into what modalities share and what each has alone, and pseudo-labels by consensus.

Reference: Du, Luo, O'Regan, Qin, STiL: Semi-supervised Tabular-Image Learning for Comprehensive Task-Relevant
Information Exploration in Multimodal Classification, CVPR 2025 (arXiv 2503.06277). This is not the authors' code. After
the abstract and the definitions in their public code (siyi-wind/STiL): contrastive loss of what is shared, the CLUB
bound on the information between the two parts, who teaches whom by consensus, prototypes that smooth pseudo-labels and
attract samples. Where these do not carry over: a linear joint classifier of the mean shared part and the parts alone
stands for their attention; for more than two modalities contrast is summed over pairs, and consensus counts all; no
projections before the contrast, no averaged teacher; prototypes are running means instead of means of an epoch, and
pseudo-labels begin after steps instead of epochs; CLUB's estimator is fitted by its own error alone. Their weights and
thresholds are set in files that we have not seen: all numbers here are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from adni_tcgm.methods.joint import JointClassifiers, Outputs, joint_cross_entropy, masked_mean, predict_jointly
from adni_tcgm.methods.method import ClassifierConfig, Spec
from adni_tcgm.tcgm.batch import UNLABELED, MultimodalBatch


@dataclass(frozen=True)
class STiL:
    """Labeled cross-entropy of all classifiers, and five terms without labels, named by their weights.

    "all" is the joint classifier.

    classifier: settings of the network that yields the features, one for all modalities or one for each name.
    dimension: numbers in each of the two parts of a modality's representation.
    contrastive_weight: shared parts of one sample are alike. independence_weight: the parts of a modality tell nothing
        of each other. pseudo_weight: classifiers learn pseudo-labels. prototype_weight: samples lie by the prototype of
        their class. All four 0 leave the labeled term.
    temperature: of cosines, in the contrast and to prototypes.
    threshold: of the posterior from which a pseudo-label counts.
    consensus_share: of the classifiers' consensus in a pseudo-label; the rest is from prototypes.
    momentum: of the prototypes. start_steps: unlabeled steps before pseudo-labels count.

    >>> from adni_tcgm.tcgm.batch import Modality
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> method = STiL(MLPConfig(hidden=(4,)))
    >>> list(method.predict(method.build(spec), batch))
    ['left', 'right', 'all']
    """

    classifier: ClassifierConfig | Mapping[str, ClassifierConfig]
    dimension: int = 8
    contrastive_weight: float = 1.0
    independence_weight: float = 0.1
    pseudo_weight: float = 1.0
    prototype_weight: float = 0.1
    temperature: float = 0.1
    threshold: float = 0.9
    consensus_share: float = 0.9
    momentum: float = 0.9
    start_steps: int = 20

    def build(self, spec: Spec) -> SplitClassifiers:
        return SplitClassifiers(spec, self.classifier, 2 * self.dimension)

    def labeled_loss(self, model: SplitClassifiers, batch: MultimodalBatch) -> Tensor:
        return joint_cross_entropy(model, batch)

    def unlabeled_loss(self, model: SplitClassifiers, batch: MultimodalBatch) -> Tensor | None:
        """Also counts the step and moves the prototypes."""
        if not any((self.contrastive_weight, self.independence_weight, self.pseudo_weight, self.prototype_weight)):
            return None
        outputs = model(batch)
        return self._disentanglement(model, outputs, batch) + self._pseudo_labeling(model, outputs, batch)

    def _disentanglement(self, model: SplitClassifiers, outputs: Outputs, batch: MultimodalBatch) -> Tensor:
        shared, alone = outputs.representations.chunk(2, -1)
        loss = shared[:0].sum()  # zero, but still part of the graph
        for a, b in combinations(range(len(shared)), 2):
            both = batch.present[:, a] & batch.present[:, b]
            if both.any():
                contrast = contrastive_loss(shared[a][both], shared[b][both], self.temperature)
                loss = loss + self.contrastive_weight * contrast
        for column, name in enumerate(batch.inputs):
            seen = batch.present[:, column]
            if seen.any():
                bound = independence_loss(model.estimators[name], shared[column][seen], alone[column][seen])
                loss = loss + self.independence_weight * bound
        return loss

    def _pseudo_labeling(self, model: SplitClassifiers, outputs: Outputs, batch: MultimodalBatch) -> Tensor:
        started = bool(model.unlabeled_steps >= self.start_steps)
        model.unlabeled_steps += 1
        unlabeled, embedded = batch.labels == UNLABELED, F.normalize(outputs.joint)
        by_prototype = (embedded @ model.prototypes.clone().T / self.temperature).log_softmax(1)
        with torch.no_grad():
            agreed, taught = consensus(outputs.log_posteriors, outputs.log_joint, batch.present)
            pseudo = by_prototype.exp().lerp(agreed, self.consensus_share)
            confidence, label = by_prototype.exp().lerp(outputs.log_joint.exp(), self.consensus_share).max(1)
            sure = unlabeled & (confidence >= self.threshold) & started
            label = torch.where(unlabeled, label, batch.labels)
        loss = outputs.joint[:0].sum()
        for row, learns in zip([*outputs.log_posteriors, outputs.log_joint], taught, strict=True):
            terms = torch.where(sure & learns, -(pseudo * row).sum(1), 0.0)
            loss = loss + self.pseudo_weight * masked_mean(terms, unlabeled)
        certain = sure | ~unlabeled
        if started:
            away = torch.where(certain, F.nll_loss(by_prototype, label, reduction="none"), 0.0)
            loss = loss + self.prototype_weight * away.mean()
        model.move_prototypes(embedded.detach()[certain], label[certain], self.momentum)
        return loss

    def after_step(self, model: SplitClassifiers) -> None:
        """Nothing follows a step."""

    def predict(self, model: SplitClassifiers, batch: MultimodalBatch) -> dict[str, Tensor]:
        return predict_jointly(model, batch)


class SplitClassifiers(JointClassifiers):
    """Representations (shared, alone) of each modality; the joint one is the mean shared part and each part alone.

    prototypes: (C, J), running mean direction of each class, zeros before its first sample. All that moves is kept with
    the weights.
    """

    def __init__(
        self, spec: Spec, classifier: ClassifierConfig | Mapping[str, ClassifierConfig], dimension: int
    ) -> None:
        super().__init__(spec, classifier, dimension)
        half = dimension // 2
        self.estimators = nn.ModuleDict(
            {m.name: nn.Sequential(nn.Linear(half, half), nn.ReLU(), nn.Linear(half, half)) for m in spec.modalities}
        )
        self.register_buffer("prototypes", torch.zeros(len(spec.classes), self.joint_head.in_features))
        self.register_buffer("unlabeled_steps", torch.tensor(0))

    @staticmethod
    def joint_size(modalities: int, dimension: int) -> int:
        return (modalities + 1) * dimension // 2

    def join(self, representations: Tensor, present: Tensor) -> Tensor:
        shared, alone = representations.chunk(2, -1)
        mean = shared.sum(0) / present.sum(1, keepdim=True)  # absent ones are zeros
        return torch.cat([mean, alone.transpose(0, 1).flatten(1)], 1)

    def move_prototypes(self, embedded: Tensor, labels: Tensor, momentum: float) -> None:
        """To the means of `embedded` (n, J) by label (n,); a class without a sample here stays where it is."""
        members = F.one_hot(labels, len(self.prototypes)).to(embedded.dtype)
        means = members.T @ embedded / members.sum(0).clamp(min=1).unsqueeze(1)
        moved = torch.where(self.prototypes.any(1, keepdim=True), self.prototypes.lerp(means, 1 - momentum), means)
        self.prototypes.copy_(torch.where(members.any(0).unsqueeze(1), moved, self.prototypes))


def contrastive_loss(f: Tensor, g: Tensor, temperature: float) -> Tensor:
    """Each of f (n, k) is to find its own among g (n, k) by cosine, and the other way around (CLIP's loss).

    >>> contrastive_loss(torch.eye(2), torch.eye(2), 0.1) < contrastive_loss(torch.eye(2), torch.eye(2).flip(0), 0.1)
    tensor(True)
    """
    similarity = F.normalize(f) @ F.normalize(g).T / temperature
    own = torch.arange(len(f), device=f.device)
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


def independence_loss(estimator: nn.Module, shared: Tensor, alone: Tensor) -> Tensor:
    """CLUB's bound on the information between shared and alone (n, k), and the error of the mean that it estimates.

    For a normal distribution with unit variance around the estimator's mean the bound (Cheng et al., ICML 2020, arXiv
    2006.12013) is the trace of the covariance between that mean and `alone`; both parts are standardized here, so that
    scale is no way out, and less than no information counts as none. The error moves the estimator and nothing else,
    the bound the representations and nothing else.
    """
    shared, alone = _standardized(shared), _standardized(alone)
    fixed = {name: weight.detach() for name, weight in estimator.named_parameters()}
    mean = functional_call(estimator, fixed, shared)
    bound = ((mean - mean.mean(0)) * alone).sum(1).mean().clamp(min=0)
    error = (estimator(shared.detach()) - alone.detach()).square().sum(1).mean()
    return bound + error


def _standardized(values: Tensor) -> Tensor:
    centered = values - values.mean(0)
    return centered / (centered.square().mean(0) + 1e-6).sqrt()


def consensus(log_posteriors: Tensor, log_joint: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """(M, B, C), (B, C), (B, M) bool -> pseudo-labels (B, C), and (M + 1, B) bool: which classifiers they teach.

    The pseudo-label is the normalized geometric mean of the joint posterior and those with the same class. Where all
    present agree it teaches them all, the joint one last. Where some do, it teaches the others; where none does, one
    present modality at random.

    >>> posteriors = torch.tensor([[[0.9, 0.1]], [[0.4, 0.6]]]).log()
    >>> pseudo, taught = consensus(posteriors, torch.tensor([[0.9, 0.1]]).log(), torch.ones(1, 2, dtype=torch.bool))
    >>> pseudo, taught.squeeze(1).tolist()
    (tensor([[0.9000, 0.1000]]), [False, True, False])
    """
    present = present.T
    agree = present & (log_posteriors.argmax(-1) == log_joint.argmax(-1))
    total = log_joint + torch.where(agree.unsqueeze(-1), log_posteriors, 0.0).sum(0)
    pseudo = (total / (1 + agree.sum(0)).unsqueeze(-1)).softmax(-1)
    everybody, nobody = (agree == present).all(0), ~agree.any(0)
    draw = torch.rand(present.shape, device=present.device).masked_fill(~present, -1)
    drawn = F.one_hot(draw.argmax(0), len(present)).T.bool()
    taught = present & (everybody | torch.where(nobody, drawn, ~agree))
    return pseudo, torch.cat([taught, everybody.unsqueeze(0)])
