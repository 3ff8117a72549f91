"""The gain with its class weights profiled out: the prior that fits best, instead of the one that few labels show.

For fixed classifiers, maximizing the lower bound over the class weights has a closed form,
    mean_i log Σ_c π_c ∏_m h^m_ic / μ^m_c,   μ^m_c = mean_i h^m_ic,   π_c = mean_i ζ_ic (one EM step),
without a second term. Means over a small batch would bias it upwards, so μ and π are running means over batches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ProfilePrior(nn.Module):
    """Running π (C,) and μ (M, C), kept with the weights.

    momentum: share of each new batch in the running means. Raises ValueError for two modalities of two classes, where
    scale and prior cannot be told apart.
    """

    pi: Tensor
    mu: Tensor

    def __init__(self, log_prior: Tensor, modalities: int, momentum: float = 0.05) -> None:
        super().__init__()
        if modalities == 2 and len(log_prior) == 2:
            raise ValueError("two modalities of two classes leave the prior open; use prior 'labels'")
        self.momentum = momentum
        self.register_buffer("pi", log_prior.exp())
        self.register_buffer("mu", log_prior.exp().repeat(modalities, 1))

    def gain(self, log_posteriors: Tensor, present: Tensor) -> Tensor:
        """The profiled gain of (M, B, C) log-posteriors, a scalar to be maximized; updates the running means.

        present: (B, M) bool; absent modalities take no part, nor do samples with a single one. The gradient
        goes through the batch's share of μ as if the batch were the whole of it, so that its expectation is that of the
        whole data set.
        """
        there = present.T.unsqueeze(-1)
        log_posteriors = torch.where(there, log_posteriors.float(), 0.0)
        means = (log_posteriors.exp() * there).sum(1) / there.sum(1).clamp(min=1)
        means = torch.where(there.any(1), means, self.mu)
        with torch.no_grad():
            self.mu.lerp_(means, self.momentum)
        # The value of log μ; the slope of the batch's own mean divided by the running one.
        log_means = self.mu.log() + (means - means.detach()) / self.mu
        evidence = torch.where(there, log_posteriors - log_means.unsqueeze(1), 0.0).sum(0)
        joint = (self.pi.log() + evidence)[present.sum(1) > 1]
        if not len(joint):
            return evidence.sum() * 0
        with torch.no_grad():
            self.pi.lerp_(joint.softmax(-1).mean(0), self.momentum)
        return joint.logsumexp(-1).sum() / len(present)
