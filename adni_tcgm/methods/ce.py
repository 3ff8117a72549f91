"""CE, the baseline: every classifier learns from labeled samples alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adni_tcgm.methods.method import ClassifierPerModality, ModalityClassifiers, labeled_cross_entropy
from adni_tcgm.tcgm.batch import MultimodalBatch


@dataclass(frozen=True)
class CrossEntropy(ClassifierPerModality):
    """Labeled cross-entropy per modality; combined by the same aggregator as TCGM.

    >>> import torch
    >>> from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> from adni_tcgm.tcgm.method import Spec
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> method = CrossEntropy(MLPConfig())
    >>> method.labeled_loss(method.build(spec), batch.select(torch.arange(2))).shape
    torch.Size([])
    >>> method.unlabeled_loss(method.build(spec), batch) is None
    True
    """

    @property
    def shares_batches(self) -> bool:
        return True

    def labeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor:
        return labeled_cross_entropy(model, batch)

    def unlabeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> None:
        return None
