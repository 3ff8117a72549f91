"""What the exact gain costs beside the other ways to compute it: all pairs, all tuples, sampled tuples.

`python -m benchmarks.gain OUT [--device cpu|cuda]`: time and memory of forward and backward for batches of 32 to
65,536 samples and 2 to 6 modalities, one thread. Writes OUT/table.tsv and OUT/slopes.tsv and prints both.

Time is the median of repeats, on a CPU processor time, so that a busy machine does not show. Memory is the most that
torch holds at a time beyond the inputs: on a CPU summed over the allocations and releases that torch's profiler
records, on a GPU from `max_memory_allocated`. Errors are relative to the exact gain of the same run: `penalty_error` of
the second term (root mean square over draws), `gradient_error` of the whole gradient (norm of the difference).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor
from torch.profiler import ProfilerActivity, profile

from adni_tcgm.tcgm.gain import joint_marginal_log_ratio, total_correlation_gain

CLASSES = 5
MODALITIES = (2, 3, 4, 5, 6)
SIZES = tuple(2**k for k in range(5, 17))
MOST_PAIRS, MOST_TUPLES = 8192, 10**7
# Tuples that are sampled for each sample of the batch.
SAMPLED = (1, 10)
DRAWS = 10
# Below this size a call costs the same whatever the batch: the slope is fitted from here on.
SLOPE_FROM = 4096

Gain = Callable[[Tensor, Tensor], Tensor]


def gain_by_pairs(log_posteriors: Tensor, log_prior: Tensor) -> Tensor:
    """M=2: the B×B matrix of all pairs, without its diagonal."""
    first, second = log_posteriors.exp()
    ratios = (first / log_prior.exp()) @ second.T
    size = len(first)
    penalty = (ratios.sum() - ratios.diagonal().sum()) / (size * (size - 1))
    return 1 + joint_marginal_log_ratio(log_posteriors, log_prior).mean() - penalty


def gain_by_enumeration(log_posteriors: Tensor, log_prior: Tensor) -> Tensor:
    """Every one of the B^M tuples, those that name a sample twice masked."""
    modalities, size, _ = log_posteriors.shape
    axes = "abdefg"[:modalities]
    weights = (-(modalities - 1) * log_prior).exp()
    terms = [log_posteriors[0].exp() * weights, *log_posteriors[1:].exp()]
    ratios = torch.einsum(",".join(f"{axis}c" for axis in axes) + f"->{axes}", *terms)
    index = torch.arange(size, device=ratios.device)
    distinct = torch.ones_like(ratios, dtype=torch.bool)
    for m in range(modalities):
        for other in range(m):
            first, second = (index.view([-1 if axis == k else 1 for axis in range(modalities)]) for k in (m, other))
            distinct &= first != second
    penalty = ratios.masked_fill(~distinct, 0.0).sum() / distinct.sum()
    return 1 + joint_marginal_log_ratio(log_posteriors, log_prior).mean() - penalty


def gain_by_sampling(log_posteriors: Tensor, log_prior: Tensor, tuples: int, generator: Generator) -> Tensor:
    """The mean over at most `tuples` random tuples (paper section 4.3); those that name a sample twice are dropped."""
    modalities, size, _ = log_posteriors.shape
    index = torch.randint(size, (modalities, tuples), generator=generator, device=log_posteriors.device)
    ordered = index.sort(0).values
    index = index[:, (ordered[1:] != ordered[:-1]).all(0)]
    chosen = torch.stack([log_posteriors[m, index[m]] for m in range(modalities)])
    penalty = joint_marginal_log_ratio(chosen, log_prior).exp().mean()
    return 1 + joint_marginal_log_ratio(log_posteriors, log_prior).mean() - penalty


def draw_posteriors(modalities: int, size: int, device: str) -> tuple[Tensor, Tensor]:
    """(M, B, C) log-posteriors of classifiers that are right about two times in three, and a uniform (C,) prior."""
    generator = Generator().manual_seed(0)
    truth = torch.nn.functional.one_hot(torch.randint(CLASSES, (size,), generator=generator), CLASSES)
    logits = 2.0 * truth + torch.randn((modalities, size, CLASSES), generator=generator)
    log_prior = torch.full((CLASSES,), 1 / CLASSES).log()
    return logits.log_softmax(-1).to(device), log_prior.to(device)


def ways(modalities: int, size: int, device: str) -> dict[tuple[str, int], Gain]:
    """(name, number of tuples) -> gain: the ways that are feasible for this batch."""
    generator = Generator(device).manual_seed(0)

    def sampled(tuples: int) -> Gain:
        return lambda log_posteriors, log_prior: gain_by_sampling(log_posteriors, log_prior, tuples, generator)

    chosen: dict[tuple[str, int], Gain] = {("exact", 0): total_correlation_gain}
    if modalities == 2 and size <= MOST_PAIRS:
        chosen["pairs", size**2] = gain_by_pairs
    if size**modalities <= MOST_TUPLES:
        chosen["enumeration", size**modalities] = gain_by_enumeration
    for times in SAMPLED:
        chosen[f"sampled, {times} B", times * size] = sampled(times * size)
    return chosen


def gradient(gain: Gain, log_posteriors: Tensor, log_prior: Tensor) -> Tensor:
    """One forward and one backward pass."""
    variable = log_posteriors.detach().requires_grad_()
    gain(variable, log_prior).backward()
    return variable.grad


def measure_time(step: Callable[[], object], device: str, seconds: float) -> float:
    """Milliseconds: the median of as many repeats as fit into `seconds`, 5 at least, after a first one."""
    step()
    times: list[float] = []
    start = perf_counter()
    while len(times) < 5 or perf_counter() - start < seconds:
        if device == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            step()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            begin_s = process_time()
            step()
            times.append(1000 * (process_time() - begin_s))
    return median(times)


def measure_memory(step: Callable[[], object], device: str) -> float:
    """MB (10^6 bytes) that torch holds at most at a time, beyond what it held before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    return float(np.cumsum([0] + [size for _, size in changes]).max()) / 1e6


def errors(gain: Gain, log_posteriors: Tensor, log_prior: Tensor, draws: int) -> dict[str, float]:
    """How far the second term and the gradient are from the exact ones, relative to them, over `draws` draws."""
    with torch.no_grad():
        reward = 1 + joint_marginal_log_ratio(log_posteriors, log_prior).mean()
        exact = reward - total_correlation_gain(log_posteriors, log_prior)
        penalties = torch.stack([reward - gain(log_posteriors, log_prior) for _ in range(draws)])
    wanted = gradient(total_correlation_gain, log_posteriors, log_prior)
    found = gradient(gain, log_posteriors, log_prior)
    return {
        "penalty_error": ((penalties - exact).square().mean().sqrt() / exact).item(),
        "gradient_error": ((found - wanted).norm() / wanted.norm()).item(),
    }


def measure(device: str, sizes: Sequence[int], modalities: Sequence[int], seconds: float = 0.15) -> pd.DataFrame:
    """One row per way, number of modalities and batch size; ratios are to the exact gain of the same batch."""
    rows = []
    for count in modalities:
        for size in sizes:
            log_posteriors, log_prior = draw_posteriors(count, size, device)
            for (way, tuples), gain in ways(count, size, device).items():

                def step(gain: Gain = gain, inputs: tuple[Tensor, Tensor] = (log_posteriors, log_prior)) -> None:
                    gradient(gain, *inputs)

                row = {"way": way, "modalities": count, "size": size, "tuples": tuples}
                row |= {"time_ms": measure_time(step, device, seconds), "memory_mb": measure_memory(step, device)}
                if way == "exact":
                    exact = row
                row |= {f"{kind}_ratio": row[kind] / exact[kind] for kind in ("time_ms", "memory_mb")}
                draws = DRAWS if way.startswith("sampled") else 1
                rows.append(row | errors(gain, log_posteriors, log_prior, draws))
    return pd.DataFrame(rows).rename(columns={"time_ms_ratio": "time_ratio", "memory_mb_ratio": "memory_ratio"})


def fit_slopes(table: pd.DataFrame, smallest: int = SLOPE_FROM) -> pd.DataFrame:
    """Exponents k in time ∝ B^k and memory ∝ B^k, over batches of `smallest` samples and more; 1 is linear growth."""
    rows = []
    for (way, modalities), part in table[table["size"] >= smallest].groupby(["way", "modalities"], sort=False):
        if len(part) > 1:
            size = np.log(part["size"])
            exponents = {kind: np.polyfit(size, np.log(part[kind]), 1)[0] for kind in ("time_ms", "memory_mb")}
            slopes = {"time_slope": exponents["time_ms"], "memory_slope": exponents["memory_mb"]}
            rows.append({"way": way, "modalities": modalities, "from_size": smallest, **slopes})
    return pd.DataFrame(rows)


def write_tables(out: Path, table: pd.DataFrame) -> None:
    out.mkdir(parents=True, exist_ok=True)
    slopes = fit_slopes(table)
    table.to_csv(out / "table.tsv", sep="\t", index=False)
    slopes.to_csv(out / "slopes.tsv", sep="\t", index=False)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    print(slopes.to_string(index=False, float_format=lambda value: f"{value:.2f}"))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    write_tables(arguments.out, measure(arguments.device, SIZES, MODALITIES))


if __name__ == "__main__":
    main()
