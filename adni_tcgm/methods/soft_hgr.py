"""Soft-HGR: features of the modalities that correlate as far as possible, and one classifier on top of all of them.

Reference: Wang et al., An Efficient Approach to Informative Feature Extraction from Multimodal Data, AAAI 2019
(arXiv 1811.08979), with its extensions to several modalities, missing modalities and few labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor
from torch.nn import functional as F

from adni_tcgm.methods.joint import projected, representations
from adni_tcgm.methods.method import ClassifierConfig, ModalityClassifiers, Spec
from adni_tcgm.tcgm.batch import MultimodalBatch


@dataclass(frozen=True)
class SoftHGR:
    """Cross-entropy of a linear classifier on the concatenated features, and the Soft-HGR objective without labels.

    It predicts "all" alone.

    classifier: settings of the network that yields the features, one for all modalities or one for each name.
    dimension: features for each modality; no more than C - 1 of them can tell C classes that views share.
    weight: factor of the objective; 0 is supervised training of the joint classifier.

    >>> import torch
    >>> from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> from adni_tcgm.tcgm.method import Spec
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> method = SoftHGR(MLPConfig(hidden=(4,)))
    >>> list(method.predict(method.build(spec), batch))
    ['all']
    """

    classifier: ClassifierConfig | Mapping[str, ClassifierConfig]
    dimension: int = 8
    weight: float = 1.0

    def build(self, spec: Spec) -> ModalityClassifiers:
        # A sum of linear heads, one for each modality, is one linear head on the concatenation.
        return ModalityClassifiers(spec, projected(self.classifier, self.dimension))

    def labeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor:
        return F.cross_entropy(_logits(model, batch), batch.labels)

    def unlabeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor | None:
        if self.weight == 0:
            return None
        features = representations(model, batch)
        objective = features[:0].sum()  # zero, but still part of the graph if no two modalities meet
        for a, b in combinations(range(len(features)), 2):
            f, g = features[a], features[b]
            if not batch.complete:  # to look that up where it is known would wait for a GPU
                both = batch.present[:, a] & batch.present[:, b]
                f, g = f[both], g[both]
            if len(f) >= 2:
                objective = objective + soft_hgr(f, g)
        return -self.weight * objective

    def after_step(self, model: ModalityClassifiers) -> None:
        """Nothing follows a step."""

    def predict(self, model: ModalityClassifiers, batch: MultimodalBatch) -> dict[str, Tensor]:
        return {"all": _logits(model, batch).log_softmax(-1)}


def soft_hgr(f: Tensor, g: Tensor) -> Tensor:
    """E[f̃ᵀg̃] - ½ tr(cov f · cov g) with f̃, g̃ centered over the batch: (B, k), (B, k) -> scalar, to be maximized.

    >>> import torch
    >>> f = torch.tensor([[-1.0], [1.0]]) / 2**0.5
    >>> round(soft_hgr(f, f).item(), 3), round(soft_hgr(f, -f).item(), 3)  # the same, and the opposite
    (0.5, -1.5)
    """
    f, g = f - f.mean(0), g - g.mean(0)
    pairs = len(f) - 1
    return (f * g).sum() / pairs - ((f.T @ f) * (g.T @ g)).sum() / (2 * pairs**2)


def _logits(model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor:
    heads = [model.classifiers[name].head for name in batch.inputs]
    return sum(head(row) for head, row in zip(heads, representations(model, batch), strict=True))
