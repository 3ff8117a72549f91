"""Virtual adversarial training: posteriors that resist the small change of the input that would move them most.

Reference: Miyato et al., Virtual Adversarial Training: A Regularization Method for Supervised and Semi-Supervised
Learning, IEEE TPAMI 2019 (arXiv 1704.03976), Algorithm 1; here for each modality alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adni_tcgm.methods.method import ClassifierPerModality, ModalityClassifiers, labeled_cross_entropy
from adni_tcgm.tcgm.batch import MultimodalBatch


@dataclass(frozen=True)
class VAT(ClassifierPerModality):
    """Labeled cross-entropy, and the local distributional smoothness of unlabeled samples, summed over modalities.

    epsilon: norm of the perturbation, over all axes of one input; in units of the input, so it belongs to the data: the
        authors' commands have 2.5 and 3.5 for SVHN, 8 and 10 for CIFAR-10; inputs of norm 1 need far less.
    weight: factor of the smoothness, 1 in the paper; 0 is exactly the baseline CE.
    xi: norm of the step that finds the direction. The authors' 1e-6 is lost to rounding in float32 on long inputs.

    >>> import torch
    >>> from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
    >>> from adni_tcgm.nets.mlp import MLPConfig
    >>> from adni_tcgm.tcgm.method import Spec
    >>> spec = Spec([Modality("left", (2,)), Modality("right", (3,))], ("no", "yes"), torch.tensor([0.5, 0.5]).log())
    >>> inputs = {"left": torch.ones(4, 2), "right": torch.ones(4, 3)}
    >>> batch = MultimodalBatch(list("abcd"), inputs, torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 1, -1, -1]))
    >>> method = VAT(MLPConfig(), epsilon=0.5)
    >>> method.unlabeled_loss(method.build(spec), batch).shape
    torch.Size([])
    """

    epsilon: float = 2.5
    weight: float = 1.0
    xi: float = 1e-2

    def labeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor:
        return labeled_cross_entropy(model, batch)

    def unlabeled_loss(self, model: ModalityClassifiers, batch: MultimodalBatch) -> Tensor | None:
        if self.weight == 0:
            return None
        loss = torch.zeros((), device=batch.present.device)
        for name, inputs in batch.inputs.items():
            seen = model.seen(batch, name)
            if seen.any():
                loss = loss + smoothness_loss(model.classifiers[name], inputs[seen], self.xi, self.epsilon)
        return self.weight * loss


def smoothness_loss(net: nn.Module, inputs: Tensor, xi: float, epsilon: float) -> Tensor:
    """Batch mean of KL(p(x) ‖ p(x + r)) with p(x) held constant and r the virtual adversarial perturbation.

    >>> import torch
    >>> net = torch.nn.Linear(3, 2)
    >>> smoothness_loss(net, torch.ones(4, 3), xi=0.01, epsilon=0.0).item() < 1e-6  # no perturbation
    True
    """
    # One seed for all passes: a dropout mask that differed would drown the effect of the perturbation.
    seed = int(torch.randint(2**31, ()))
    start = torch.randn_like(inputs)

    def log_posterior(x: Tensor) -> Tensor:
        with torch.random.fork_rng():
            # On the CPU by its generator alone: torch.manual_seed keeps a stack trace a call for each absent device.
            (torch.default_generator.manual_seed if x.device.type == "cpu" else torch.manual_seed)(seed)
            return net(x).float().log_softmax(-1)

    with torch.no_grad():
        clean = log_posterior(inputs)

    def divergence(perturbation: Tensor) -> Tensor:
        perturbed = log_posterior(inputs + perturbation)
        return F.kl_div(perturbed, clean, log_target=True, reduction="batchmean")

    step = (xi * _unit(start)).requires_grad_()
    # autograd.grad, not backward: the gradients of the weights stay as they are.
    (direction,) = torch.autograd.grad(divergence(step), step)
    return divergence(epsilon * _unit(direction))


def _unit(vectors: Tensor) -> Tensor:
    """Each sample divided by its norm over all axes but the batch."""
    flat = vectors.flatten(1)
    # By the largest entry first, or the square of a tiny gradient would underflow.
    flat = flat / flat.abs().amax(1, keepdim=True).clamp(min=1e-30)
    return F.normalize(flat).view_as(vectors)
