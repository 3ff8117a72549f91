"""Total correlation gain (paper Eq. 6): how much the classifiers agree on a sample beyond what chance would give."""

from __future__ import annotations

from math import factorial, perm

import torch
from torch import Tensor

from adni_tcgm.tcgm.processes import add_up, is_sharing


def total_correlation_gain(log_posteriors: Tensor, log_prior: Tensor, present: Tensor | None = None) -> Tensor:
    """The gain of M classifiers over B samples; a scalar to be maximized, in nats.

        TCg = 1 + 1/B Σ_i log Σ_c ∏_m h^m_ic / p_c^(M-1)  -  (B-M)!/B! Σ_{i1≠…≠iM} Σ_c ∏_m h^m_{i_m,c} / p_c^(M-1)

    log_posteriors: (M, B, C) log h; rows of an absent modality are never read.
    log_prior: (C,) log p.
    present: (B, M) bool, or None when nothing is missing. Samples with the same set of modalities then form a gain of
        their own, the second term included (if what is missing depends on the data, mixing the sets would reward
        telling them apart), weighted by their share of the batch. A set adds nothing if it has one modality only, or
        fewer samples than modalities.

    The second term runs over distinct tuples exactly, at cost linear in B. Computed in float32 (float64 stays
    float64) also under autocast. Where several processes share a batch (`processes.sharing`), this is the gain of the
    whole batch in each of them: only sums over samples are exchanged, as many as there are sets of modalities, times C.
    Raises ValueError where shapes disagree, or if nothing is missing and B < M.

    >>> sure = torch.tensor([[0.99, 0.01], [0.01, 0.99]] * 10).log()
    >>> half = torch.tensor([0.5, 0.5]).log()
    >>> round(total_correlation_gain(torch.stack([sure, sure]), half).item(), 2)  # near log 2 = .69
    0.72
    >>> round(abs(total_correlation_gain(half.expand(2, 20, 2), half).item()), 5)  # classifiers that know nothing
    0.0
    """
    modalities, size, classes = log_posteriors.shape
    if log_prior.shape != (classes,):
        raise ValueError(f"log_prior has shape {tuple(log_prior.shape)}; the posteriors have {classes} classes")
    if present is not None and present.shape != (size, modalities):
        raise ValueError(f"present has shape {tuple(present.shape)}; expected (B, M) = {(size, modalities)}")

    with torch.autocast(log_posteriors.device.type, enabled=False):
        if log_posteriors.dtype != torch.float64:
            log_posteriors = log_posteriors.float()
        log_prior = log_prior.to(log_posteriors.dtype)
        if present is None or (not is_sharing() and bool(present.all())):
            return _complete_gain(log_posteriors, log_prior, size)

        gain = log_posteriors[:0].sum()  # zero, but still part of the graph if no set of modalities qualifies
        counts = _count_patterns(present)
        for pattern, count in counts:
            alike, needed = (present == pattern).all(1), int(pattern.sum())
            if needed >= 2 and count >= needed:
                share = count / sum(count for _, count in counts)
                gain = gain + share * _complete_gain(log_posteriors[pattern][:, alike], log_prior, count)
        return gain


def _count_patterns(present: Tensor) -> list[tuple[Tensor, int]]:
    """The sets of modalities that occur among the (B, M) samples, and how often; over all processes, in one order."""
    if not is_sharing():
        patterns, counts = present.unique(dim=0, return_counts=True)
        return list(zip(patterns, counts.tolist(), strict=True))
    modalities = present.shape[1]
    bits = 2 ** torch.arange(modalities, device=present.device)
    counts = add_up(torch.bincount((present * bits).sum(1), minlength=2**modalities)).tolist()
    return [((torch.tensor(code, device=bits.device) & bits) > 0, count) for code, count in enumerate(counts) if count]


def _complete_gain(log_posteriors: Tensor, log_prior: Tensor, size: int) -> Tensor:
    """Paper Eq. 6 for (M, B, C) log-posteriors without gaps. size: B, or where processes share a batch, that of all."""
    modalities = len(log_posteriors)
    rewards, sums = joint_marginal_log_ratio(log_posteriors, log_prior).sum(), subset_sums(log_posteriors.exp())
    if is_sharing():
        together = add_up(torch.cat([rewards.view(1), sums.flatten()]))
        rewards, sums = together[0], together[1:].view_as(sums)
        size = round(sums[0, 0].item())
    if size < modalities:
        raise ValueError(
            f"a batch of B={size} samples has no tuple of M={modalities} distinct ones; the gain needs B >= M"
        )
    return 1 + rewards / size - mean_over_distinct_tuples(sums, log_prior, size)


def joint_marginal_log_ratio(log_posteriors: Tensor, log_prior: Tensor) -> Tensor:
    """log R_i = log Σ_c ∏_m h^m_ic / p_c^(M-1) of each sample (paper Lemma 2): (M, B, C), (C,) -> (B,).

    >>> half = torch.tensor([0.5, 0.5]).log()
    >>> agree = torch.tensor([[1.0, 1e-9]]).log()
    >>> round(joint_marginal_log_ratio(torch.stack([agree, agree]), half).item(), 3)  # log 2
    0.693
    """
    modalities = len(log_posteriors)
    return (log_posteriors.sum(0) - (modalities - 1) * log_prior).logsumexp(-1)


def subset_sums(posteriors: Tensor) -> Tensor:
    """P_S(c) = Σ_i ∏_{m in S} h^m_ic for every set S of modalities: (M, B, C) -> (2^M, C).

    Row S is a bit mask (bit m set: modality m belongs to S); row 0, the empty product, counts the samples. These sums
    are all that one batch needs to know of another: added over devices they give the penalty of the global batch.

    >>> subset_sums(torch.full((2, 5, 3), 0.5))[:, 0].tolist()  # nothing, first, second, both
    [5.0, 2.5, 2.5, 1.25]
    """
    products = [torch.ones_like(posteriors[0])]
    for posterior in posteriors:
        products += [product * posterior for product in products]
    return torch.stack(products).sum(1)


def mean_over_distinct_tuples(sums: Tensor, log_prior: Tensor, size: int | None = None) -> Tensor:
    """(B-M)!/B! Σ_{i1≠…≠iM} Σ_c ∏_m h^m_{i_m,c} / p_c^(M-1) from the subset sums (2^M, C); a scalar.

    With E(T) the sum over distinct tuples for the modalities of T, E(∅) = 1 and
        E(T) = Σ_{S⊆T, S∋min T} (-1)^(|S|-1) (|S|-1)! P_S E(T∖S),
    the inclusion-exclusion over set partitions: S is the set of modalities that share one sample with the first.
    size: B where the caller knows it, so that no device must be asked.

    >>> half = torch.tensor([0.5, 0.5]).log()
    >>> round(mean_over_distinct_tuples(subset_sums(torch.full((2, 5, 2), 0.5)), half).item(), 5)
    1.0
    """
    everything = len(sums) - 1
    modalities = everything.bit_count()
    size = round(float(sums[0, 0].detach())) if size is None else size
    distinct = [torch.ones_like(sums[0])]
    for chosen in range(1, everything + 1):
        first = chosen & -chosen
        total = torch.zeros_like(sums[0])
        for others in _subsets(chosen ^ first):
            shared = first | others
            count = shared.bit_count() - 1
            total = total + (-1) ** count * factorial(count) * sums[shared] * distinct[chosen ^ shared]
        distinct.append(total)
    weights = (-(modalities - 1) * log_prior).exp()
    return (weights * distinct[everything]).sum() / float(perm(size, modalities))


def _subsets(mask: int) -> list[int]:
    """Every bit mask within `mask`, itself and 0 included."""
    subsets, subset = [mask], mask
    while subset:
        subset = (subset - 1) & mask
        subsets.append(subset)
    return subsets
