"""CE, the baseline: every classifier learns from labeled samples alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adni_tcgm.methods.method import ClassifierPerModality, ModalityClassifiers, labeled_cross_entropy
from adni_tcgm.tcgm.batch import MultimodalBatch


@dataclass(frozen=True)
class CrossEntropy(ClassifierPerModality):
    """Labeled cross-entropy per modality; combined by the same aggregator as TCGM."""

    @property
    def shares_batches(self) -> bool:
        return True

    def labeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor:
        return labeled_cross_entropy(model, batch)

    def unlabeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> None:
        return None
