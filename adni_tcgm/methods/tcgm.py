"""TCGM: classifiers that also learn from what the modalities of unlabeled samples agree on (paper section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adni_tcgm.methods.method import ClassifierPerModality, ModalityClassifiers, labeled_cross_entropy
from adni_tcgm.tcgm.batch import MultimodalBatch
from adni_tcgm.tcgm.gain import total_correlation_gain


@dataclass(frozen=True)
class TCGM(ClassifierPerModality):
    """Labeled cross-entropy, and the total correlation gain of unlabeled samples.

    gain_weight: factor of the gain; 0 is exactly the baseline CE. Adam undoes most of a constant factor, so the
        learning rate of the unlabeled step, not this, sets how far it goes.
    """

    gain_weight: float = 1.0

    def labeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor:
        return labeled_cross_entropy(model, batch)

    def unlabeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor | None:
        if self.gain_weight == 0:
            return None
        return -self.gain_weight * total_correlation_gain(model.log_posteriors(batch), model.log_prior, batch.present)
