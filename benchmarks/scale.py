"""What training costs with more subjects, more modalities and larger batches, and what memory 5,000 people take.

`python -m benchmarks.scale OUT [--people 300,1000,5000] [--prepared DIR DIR] [--crop hippocampi|paper64] [--seconds 2]
[--kept-in memory|disk]`
trains TCGM with the small network for registered volumes (`nets.grid3d`), one thread. Each number of people has a
process of its own, whose peak memory is that of the training: processor seconds of a step, of a whole pass over all
people (steps of a pass times that), and of a prediction for all of them. The people are random volumes kept in float16
or, with `--prepared`, those who train in prepared cohorts, read and checked for leaks as in every training, their
volumes `--kept-in` memory or on disk; `anonymous_gb` is the most memory of no file, which nothing but swapping gives
back, and so 0 where the system does not tell it. Modalities
and batch sizes take turns in one process. Writes OUT/scale.tsv, OUT/scale_slopes.tsv and OUT/scale.png. A slope of 1 on
log-log axes is linear; a fixed cost of each step bends it below 1.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import process_time

import matplotlib
import numpy as np
import pandas as pd
import torch
from torch import Generator

from adni_tcgm.audit import audit_splits
from adni_tcgm.datasets.adni import AdniConfig, load
from adni_tcgm.datasets.adni_maps import CROPS
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.grid3d import Grid3DConfig
from adni_tcgm.tcgm.batch import UNLABELED, Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.trainer import TrainConfig, Training
from adni_tcgm.tcgm.validation import predict

BATCH, MODALITIES = 60, 2
BATCHES, COUNTS = (32, 64, 128, 256), (2, 3, 4, 5, 6)
LABELED = 0.1


def draw_people(count: int, modalities: int, crop: str) -> Splits:
    """Volumes with the crop's margin, in float16; one person at a time, since no copy in float32 would fit beside."""
    generator, shape = Generator().manual_seed(0), tuple(size + 2 * CROPS[crop].margin for size in CROPS[crop].shape)
    inputs = {}
    for modality in range(modalities):
        values = torch.empty((count, 1, *shape), dtype=torch.float16)
        pattern = torch.randn((1, *shape), generator=generator)
        for person in range(count):
            # A pattern at a strength of one's own: what is in a volume decides nothing about speed.
            values[person] = pattern * (1 + person % 7)
        inputs[f"view{modality}"] = values
    labels = torch.where(torch.arange(count) < LABELED * count, torch.arange(count) % 2, UNLABELED)
    present = torch.ones(count, modalities, dtype=torch.bool)
    train = MultimodalBatch([str(i) for i in range(count)], inputs, present, labels)
    few = train.select(torch.arange(min(count, 20)))
    return Splits([Modality(name, (1, *shape)) for name in inputs], ("a", "b"), train, few, few)


def training_of(splits: Splits, crop: str, batch_size: int) -> Training:
    config = TrainConfig(
        steps=10**6,
        validate_every=10**6,
        supervised_steps=0,
        batch_size_labeled=batch_size // 4,
        batch_size_unlabeled=batch_size,
        device="cpu",
    )
    return Training(TCGM(Grid3DConfig()), splits, config, Augment3D(CROPS[crop].shape, CROPS[crop].margin))


def processor_seconds(work: Callable[[], object], seconds: float) -> float:
    """Median over as many repeats as fit into `seconds`, 3 at least, after a first one."""
    work()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = process_time()
        work()
        times.append(process_time() - start)
    return median(times)


def read_people(prepared: str, crop: str, kept_in: str) -> Splits:
    splits = load(AdniConfig(prepared, crop=crop, label_rate=LABELED, kept_in=kept_in), seed=0)
    audit_splits(splits, strict=True)
    return splits


@contextmanager
def watched_memory() -> Iterator[list[int]]:
    """A list of one number: the most bytes so far that this process holds and no file backs (Linux; elsewhere 0)."""
    most, ended, status = [0], Event(), Path("/proc/self/status")

    def watch() -> None:
        while status.is_file() and not ended.wait(0.05):
            kib = int(status.read_text(encoding="ascii").split("RssAnon:")[1].split()[0])
            most[0] = max(most[0], 1024 * kib)

    thread = Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def measure_people(read: Callable[[], Splits], crop: str, seconds: float) -> dict[str, float]:
    """In a process of its own: a step, a pass, a prediction for everybody, and the peak memory of it all."""
    with watched_memory() as most:
        found = _measure_people(read(), crop, seconds)
    return found | {"anonymous_gb": most[0] / 1e9}


def _measure_people(splits: Splits, crop: str, seconds: float) -> dict[str, float]:
    training = training_of(splits, crop, BATCH)
    each = processor_seconds(training.run_step, seconds)
    people = training.unlabeled_sampler.samples
    start = process_time()
    predict(training.fitted, people)
    predicting = process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    times = {"step_s": each, "pass_s": each * len(people) / BATCH, "prediction_s": predicting}
    return {"what": "people", "size": len(people), **times, "peak_gb": peak}


def measure(people: Sequence[str], crop: str, seconds: float, kept_in: str) -> pd.DataFrame:
    """people: how many to draw, or where a prepared cohort lies."""
    rows = []
    for source in people:
        command = [sys.executable, "-m", "benchmarks.scale", "-", "--one", source, "--crop", crop]
        options = ["--seconds", str(seconds), "--kept-in", kept_in]
        done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    for count in COUNTS:
        training = training_of(draw_people(2 * BATCH, count, crop), crop, BATCH)
        each = processor_seconds(training.run_step, seconds)
        rows.append({"what": "modalities", "size": count, "step_s": each})
    splits = draw_people(max(BATCHES), MODALITIES, crop)
    for size in BATCHES:
        each = processor_seconds(training_of(splits, crop, size).run_step, seconds)
        rows.append({"what": "batch", "size": size, "step_s": each})
    return pd.DataFrame(rows)


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Of log cost on log size: a pass and a prediction over people, a step over modalities and batch sizes."""
    rows = []
    for what, column in (
        ("people", "pass_s"),
        ("people", "prediction_s"),
        ("modalities", "step_s"),
        ("batch", "step_s"),
    ):
        part = table[table.what == what]
        slope = np.polyfit(np.log(part["size"]), np.log(part[column]), 1)[0]
        rows.append({"what": what, "cost": column, "slope": slope})
    return pd.DataFrame(rows)


def throughput_kept(table: pd.DataFrame) -> float:
    """Samples a processor second with the most people, relative to that with the fewest."""
    steps = table[table.what == "people"].sort_values("size").step_s
    return steps.iloc[0] / steps.iloc[-1]


def draw_plot(table: pd.DataFrame, file: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator

    figure, axes = pyplot.subplots(1, 3, figsize=(9, 3), constrained_layout=True)
    panels = (
        ("people", "pass_s", "a pass over all people"),
        ("modalities", "step_s", "a step"),
        ("batch", "step_s", "a step"),
    )
    for axis, (what, column, title) in zip(axes, panels, strict=True):
        part = table[table.what == what]
        axis.loglog(part["size"], part[column], "o-", color="tab:blue")
        axis.loglog(part["size"], part[column].iloc[0] * part["size"] / part["size"].iloc[0], ":", color="gray")
        axis.set(xlabel=what, ylabel="processor seconds", title=f"{title} (dotted: linear)")
        axis.set_xticks(part["size"], [str(size) for size in part["size"]])
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_yticks([], minor=True)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--people", default="300,1000,5000", metavar="N,N,...")
    parser.add_argument("--prepared", nargs="+", metavar="DIR", help="people of prepared cohorts instead")
    parser.add_argument("--crop", choices=tuple(CROPS), default="hippocampi")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--kept-in", choices=("memory", "disk"), default="memory", help="volumes of prepared cohorts")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    if arguments.one:
        one, crop = arguments.one, arguments.crop
        read = partial(read_people, one, crop, arguments.kept_in)
        if one.isdecimal():
            read = partial(draw_people, int(one), MODALITIES, crop)
        print(json.dumps(measure_people(read, crop, arguments.seconds)))
        return 0
    sources = arguments.prepared or arguments.people.split(",")
    table = measure(sources, arguments.crop, arguments.seconds, arguments.kept_in)
    fitted = slopes(table)
    arguments.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.out / "scale.tsv", sep="\t", index=False, lineterminator="\n", float_format="%.4g")
    fitted.to_csv(arguments.out / "scale_slopes.tsv", sep="\t", index=False, lineterminator="\n", float_format="%.3f")
    draw_plot(table, arguments.out / "scale.png")
    print(table.to_string(index=False, na_rep="", float_format="{:.3g}".format))
    print(fitted.to_string(index=False, float_format="{:.2f}".format))
    print(f"throughput with the most people, relative to the fewest: {throughput_kept(table):.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
