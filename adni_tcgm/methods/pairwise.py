"""The gain of two modalities, summed over all pairs of them: TCGM without the terms that tie three or more together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

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


@dataclass(frozen=True)
class PairwiseGain(ClassifierPerModality):
    """Labeled cross-entropy, and the M=2 gain (paper Eq. 6) of each pair of modalities on unlabeled samples.

    With two modalities this is TCGM. An early public version of TCGM took one optimizer step for each pair in turn;
    here a step follows the sum over the pairs.

    gain_weight: factor of the sum; 0 is exactly the baseline CE. gain_half: as for TCGM.

    >>> import torch
    >>> from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> from adni_tcgm.tcgm.method import Spec
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> method = PairwiseGain(MLPConfig(), gain_weight=2.0)
    >>> method.unlabeled_loss(method.build(spec), batch).shape
    torch.Size([])
    """

    gain_weight: float = 1.0
    gain_half: float | None = None

    def __post_init__(self) -> None:
        fading_weight(self.gain_weight, self.gain_half, 0)

    def build(self, spec: Spec) -> ModalityClassifiers:
        model = super().build(spec)
        model.gain_weight = fading_weight(self.gain_weight, self.gain_half, spec.labels)
        return model

    def labeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor:
        return labeled_cross_entropy(model, batch)

    def unlabeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor | None:
        if self.gain_weight == 0:
            return None
        log_posteriors = model.log_posteriors(batch)
        loss = log_posteriors[:0].sum()
        for pair in combinations(range(len(log_posteriors)), 2):
            pair = list(pair)
            gain = total_correlation_gain(log_posteriors[pair], model.log_prior, batch.present[:, pair])
            loss = loss - model.gain_weight * gain
        return loss
