"""Whether an alignment failed: what two densities explain of held-out people that one shared density does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

FOLDS, DRAWS = 2, 999
# Planned, so that with the error of the map itself at most 5 in 100 good alignments are flagged.
LEVEL = 0.02
Density = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Remaining:
    """loss: nats for each held-out person of the site and of the reference together, below 0 where one shared density
    explains them better than two; p_value: share of permutations of site and reference with a loss as large."""

    loss: float
    p_value: float

    @property
    def failed(self) -> bool:
        return self.p_value < LEVEL


def likelihood_ratio(a: Tensor, b: Tensor, fit_density: Callable[[Tensor], Density]) -> float:
    """The log-likelihood-ratio distance of two samples (N, D), (M, D), in nats, measured on the samples themselves.

    mean log p_A(a) + mean log p_B(b) - mean log p_S(a) - mean log p_S(b), each density fitted to what it explains, the
    shared p_S to both (Usman et al., NeurIPS 2020, Definition 1). 0 or more where densities are fitted to the end; the
    fewer people, the further above 0 for samples of one distribution, too.
    """
    shared = fit_density(torch.cat([a, b]))
    return float((fit_density(a)(a) - shared(a)).mean() + (fit_density(b)(b) - shared(b)).mean())


def remaining_loss(
    a: Tensor,
    b: Tensor,
    fit_map: Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]],
    fit_density: Callable[[Tensor], Density],
    *,
    seed: int = 0,
) -> Remaining:
    """The distance between T(a) and b of people whom neither T nor the densities have seen, and a permutation test.

    fit_map: (site, reference) -> T. fit_density: (N, D) -> log-density. People are halved; each half judges what the
    other fitted. Were T(a) distributed as b, it would not matter who of the held-out people came from where: their
    places are drawn anew DRAWS times while the densities stay.
    """
    generator = torch.Generator().manual_seed(seed)
    folds = [torch.arange(len(x))[torch.randperm(len(x), generator=generator)] % FOLDS for x in (a, b)]
    parts = []
    for fold in range(FOLDS):
        (a_in, a_out), (b_in, b_out) = ((x[f != fold], x[f == fold]) for x, f in zip((a, b), folds, strict=True))
        mapped = fit_map(a_in, b_in)
        t_in, t_out = mapped(a_in), mapped(a_out)
        shared, of_a, of_b = (fit_density(x) for x in (torch.cat([t_in, b_in]), t_in, b_in))
        held_out = torch.cat([t_out, b_out])
        parts.append((torch.stack([of_a(held_out), of_b(held_out)]) - shared(held_out), len(t_out)))
    observed = _loss(parts, None)
    drawn = torch.tensor([_loss(parts, generator) for _ in range(DRAWS)])
    p_value = (1 + int((drawn >= observed).sum())) / (1 + DRAWS)
    return Remaining(observed, p_value)


def _loss(parts: list[tuple[Tensor, int]], generator: torch.Generator | None) -> float:
    """parts: of each fold, how much better each private density explains everybody (2, N), and how many are a's."""
    total = 0.0
    for ratios, count in parts:
        if generator is not None:
            ratios = ratios[:, torch.randperm(ratios.shape[1], generator=generator)]
        total += float(ratios[0, :count].mean() + ratios[1, count:].mean())
    return total / len(parts)
