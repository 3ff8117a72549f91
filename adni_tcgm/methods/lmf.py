"""Low-rank multimodal fusion: every product of features of different modalities, through a tensor of low rank.

Reference: Liu et al., Efficient Low-rank Multimodal Fusion with Modality-Specific Factors, ACL 2018
(arXiv 1806.00064), Eq. 4-7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adni_tcgm.methods.method import ClassifierConfig, Spec, network_of
from adni_tcgm.tcgm.batch import MultimodalBatch


@dataclass(frozen=True)
class LMF:
    """Cross-entropy of the fused posterior on labeled samples; unlabeled ones are not used. It predicts "all" alone.

    classifier: settings of the network that yields the features, one for all modalities or one for each name.
    dimension: features for each modality, a linear map of the network's; None: the network's own, as the authors have.
    rank: terms of the sum; the authors use 1 to 16.

    >>> import torch
    >>> from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> from adni_tcgm.tcgm.method import Spec
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> method = LMF(MLPConfig(hidden=(4,)), rank=2)
    >>> list(method.predict(method.build(spec), batch))
    ['all']
    """

    classifier: ClassifierConfig | Mapping[str, ClassifierConfig]
    dimension: int | None = 16
    rank: int = 4

    def build(self, spec: Spec) -> LowRankFusion:
        return LowRankFusion(spec, self)

    def labeled_loss(self, model: LowRankFusion, batch: MultimodalBatch) -> Tensor:
        return F.cross_entropy(model(batch), batch.labels)

    def unlabeled_loss(self, model: LowRankFusion, batch: MultimodalBatch) -> None:
        return None

    def after_step(self, model: LowRankFusion) -> None:
        """Nothing follows a step."""

    def predict(self, model: LowRankFusion, batch: MultimodalBatch) -> dict[str, Tensor]:
        return {"all": model(batch).log_softmax(-1)}


class LowRankFusion(nn.Module):
    """Logits Σ_r w_r ∏_m [1; z_m] W_m^(r) + b, the products entry by entry; an absent modality has z_m = 0.

    factors: modality -> W (rank, 1 + features, classes).

    >>> import torch
    >>> from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> from adni_tcgm.tcgm.method import Spec
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> LowRankFusion(spec, LMF(MLPConfig(hidden=(4,))))(batch).shape
    torch.Size([4, 2])
    """

    def __init__(self, spec: Spec, method: LMF) -> None:
        super().__init__()
        self.nets, self.factors = nn.ModuleDict(), nn.ParameterDict()
        classes = len(spec.classes)
        for modality in spec.modalities:
            config = network_of(method.classifier, modality.name)
            # The last layer of the network is the projection onto the features that are fused, or is left out.
            net = config.build(modality.shape, method.dimension or classes)
            width = method.dimension or net.head.in_features
            if method.dimension is None:
                net.head = nn.Identity()
            self.nets[modality.name] = net
            deviation = sqrt(2 / (1 + width + classes))  # Xavier, of each (1 + features, classes) factor
            self.factors[modality.name] = deviation * torch.randn(method.rank, 1 + width, classes)
        self.weights = nn.Parameter(sqrt(2 / (1 + method.rank)) * torch.randn(method.rank))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, batch: MultimodalBatch) -> Tensor:
        product = torch.ones((), device=self.bias.device)
        for column, (name, inputs) in enumerate(batch.inputs.items()):
            factor = self.factors[name]
            index = batch.present[:, column].nonzero().squeeze(1)
            features = factor.new_zeros(len(batch), factor.shape[1] - 1)
            if len(index):
                features = features.index_copy(0, index, self.nets[name](inputs[index]).float())
            product = product * torch.einsum("bk,rkc->brc", F.pad(features, (1, 0), value=1.0), factor)
        return torch.einsum("r,brc->bc", self.weights, product) + self.bias
