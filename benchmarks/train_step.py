"""Our training step beside a plain loop as a MONAI user would write it: samples a second, memory, where the time goes.

`python -m benchmarks.train_step OUT [--device cpu|cuda] [--crop 64] [--batch 12] [--repeats 3] [--compile]`: the
labeled step of two modalities, the paper's network, random volumes. The other loop: MONAI's DenseNet with the paper's
stem (the same convolutions and parameters), DataLoader, MONAI's transforms (random crop, random flip), Adam, in float32
and by autocast in bfloat16. Ours: the trainer's own steps in float32 and in bfloat16, as CUDA graphs where there is a
GPU, and the whole step of TCGM. One after the other in one process; the first is measured again at the end, and both
count.

A step's time is the median over repeats; on a CPU it is processor time, so that a busy machine does not show, and one
thread is used. Memory is the most that torch holds beyond what it held before the step. Bytes moved are those of all
tensors that go into an operator or come out of it, each time. The ceilings are measured in the same run: a product of
two matrices in either precision; a copy in memory; and the convolutions of the step alone, in their own shapes, forward
and backward: a step in which everything else cost nothing. The binding one of the first two is the slower.
Writes OUT/train_step-DEVICE.tsv, a row as soon as it is measured, and OUT/profile-DEVICE.tsv.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from math import nan
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import pandas as pd
import torch
from monai.data import DataLoader, Dataset
from monai.networks.nets import DenseNet121
from monai.transforms import Compose, EnsureTyped, RandFlipd, RandSpatialCropd
from torch import Generator, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from adni_tcgm.methods.ce import CrossEntropy
from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch, Splits
from adni_tcgm.tcgm.execution import arithmetic
from adni_tcgm.tcgm.precision import PRECISIONS
from adni_tcgm.tcgm.trainer import TrainConfig, Training
from benchmarks.gain import measure_memory

MODALITIES = ("mri", "pet")
MARGIN = 3
# Operators of torch -> what they are for, by the first word that fits.
KINDS = {
    "convolution": ("conv", "mkldnn", "cudnn"),
    "batch normalization": ("batch_norm", "bn_"),
    "activation": ("threshold", "clamp", "relu"),
    "copies and concatenation": ("copy", "cat", "_to", "contiguous", "memcpy", "narrow", "flip"),
    "pooling": ("pool", "mean"),
    "optimizer": ("adam", "addcdiv", "addcmul", "sqrt", "lerp"),
}

WARM_UP = 3
SEVERAL = 4

Step = Callable[[], object]
Sizes = tuple[MultimodalBatch, int, int, str]
Limits = dict[str, float]
Row = dict[str, Any]


def draw_people(count: int, crop: int) -> MultimodalBatch:
    """Volumes with a margin for shifts. What is in them decides nothing about speed."""
    generator, side = Generator().manual_seed(0), crop + 2 * MARGIN
    inputs = {name: torch.randn((count, 1, side, side, side), generator=generator) for name in MODALITIES}
    labels = torch.arange(count) % 2
    return MultimodalBatch(
        [str(i) for i in range(count)], inputs, torch.ones(count, 2, dtype=torch.bool), labels, groups=()
    )


def monai_loop(people: MultimodalBatch, crop: int, batch_size: int, device: str, precision: str) -> Step:
    """One iteration of a plain training loop."""
    dtype = PRECISIONS[precision]
    data = [
        {**{name: people.inputs[name][i] for name in MODALITIES}, "label": int(people.labels[i])}
        for i in range(len(people))
    ]
    transforms = Compose(
        [
            RandSpatialCropd(MODALITIES, (crop, crop, crop), random_size=False),
            RandFlipd(MODALITIES, prob=0.5, spatial_axis=0),
            EnsureTyped(MODALITIES),
        ]
    )
    workers = 4 if device == "cuda" else 0
    loader = DataLoader(
        Dataset(data, transforms),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=workers > 0,
        persistent_workers=workers > 0,
    )
    nets = nn.ModuleDict({name: with_paper_stem(DenseNet121(3, 1, 2)) for name in MODALITIES}).to(device)
    optimizer, batches = torch.optim.Adam(nets.parameters(), 1e-3), iter(())

    def step() -> float:
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        labels = batch["label"].to(device)
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss = sum(nn.functional.cross_entropy(nets[name](batch[name].to(device)), labels) for name in MODALITIES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def with_paper_stem(net: DenseNet121) -> DenseNet121:
    """Two convolutions of 3³ in front, no first pooling: paper section 6.3."""
    width = net.features.conv0.out_channels
    net.features.conv0 = nn.Sequential(
        nn.Conv3d(1, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
        nn.Conv3d(width, width, 3, padding=1, bias=False),
    )
    net.features.pool0 = nn.Identity()
    return net


def our_step(people: MultimodalBatch, crop: int, batch_size: int, device: str, method: str, **config: object) -> Step:
    """A step of the trainer: the labeled step alone, or that of TCGM with the unlabeled step behind it."""
    net, size = DenseNet3DConfig.paper(), (crop, crop, crop)
    splits = Splits([Modality(n, people.inputs[n].shape[1:]) for n in MODALITIES], ("a", "b"), people, people, people)
    settings = TrainConfig(
        steps=10**6,
        validate_every=10**6,
        supervised_steps=0,
        batch_size_labeled=batch_size,
        batch_size_unlabeled=batch_size,
        device=device,
        **config,
    )
    made = CrossEntropy(net) if method == "ce" else TCGM(net)
    return Training(made, splits, settings, Augment3D(size, MARGIN)).run_step


def seconds_of(step: Step, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        start = perf_counter()
        step()
        torch.cuda.synchronize()
        return perf_counter() - start
    start = process_time()
    step()
    return process_time() - start


def ceilings(device: str) -> dict[str, float]:
    """GFLOP/s of a large product in each precision, and GB/s of a copy (read and written)."""
    found, side = {}, 8192 if device == "cuda" else 1536
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(side, side, device=device).to(dtype)
        a @ a
        found[name] = 2 * side**3 / min(seconds_of(lambda a=a: a @ a, device) for _ in range(5)) / 1e9
    source = torch.ones(2**28 if device == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    copy = min(seconds_of(lambda: target.copy_(source), device) for _ in range(5))
    return found | {"copy": 2 * source.nbytes / copy / 1e9}


class BytesMoved(TorchDispatchMode):
    """Sums the sizes of what goes into each operator and of what comes out of it; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            moved = [value for value in tree_leaves((args, kwargs, result)) if isinstance(value, torch.Tensor)]
            self.total += sum(value.nbytes for value in moved)
        return result


def count_gb(step: Step) -> float:
    with BytesMoved() as counter:
        step()
    return counter.total / 1e9


def seconds_of_convolutions(crop: int, batch_size: int, device: str, precision: torch.dtype) -> float:
    """Of all convolutions of the labeled step of both modalities, each alone, forward and backward."""
    shapes: list[tuple[nn.Conv3d, torch.Size]] = []
    with torch.device("meta"):
        net = DenseNet3DConfig.paper().build((1, crop, crop, crop), 2)
        for module in net.modules():
            if isinstance(module, nn.Conv3d):
                module.register_forward_hook(lambda conv, inputs, _: shapes.append((conv, inputs[0].shape)))
        net(torch.empty(batch_size, 1, crop, crop, crop))
    # The first has no gradient in its input, here as in a training.
    return len(MODALITIES) * sum(
        _seconds_of_convolution(conv, shape, device, precision, differentiate_input=number > 0)
        for number, (conv, shape) in enumerate(shapes)
    )


def _seconds_of_convolution(
    conv: nn.Conv3d, shape: torch.Size, device: str, precision: torch.dtype, differentiate_input: bool
) -> float:
    weight, x = (torch.randn(size, device=device, dtype=precision) for size in (conv.weight.shape, shape))
    if device == "cuda":  # the layout of the training
        weight, x = (values.contiguous(memory_format=torch.channels_last_3d) for values in (weight, x))
    wanted = [weight.requires_grad_(), x.requires_grad_()] if differentiate_input else [weight.requires_grad_()]

    def work() -> object:
        output = nn.functional.conv3d(x, weight, None, conv.stride, conv.padding)
        return torch.autograd.grad(output, wanted, torch.ones_like(output))

    def several() -> None:
        for _ in range(SEVERAL):
            work()

    # Several between two clocks: a small one takes less than a GPU needs to answer.
    work()
    return min(seconds_of(several, device) for _ in range(2)) / SEVERAL


def count_gflop(crop: int, batch_size: int) -> float:
    """Of the labeled step of both modalities, forward and backward; nothing is computed for it."""
    with torch.device("meta"):
        net = DenseNet3DConfig.paper().build((1, crop, crop, crop), 2)
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(batch_size, 1, crop, crop, crop)).sum().backward()
    return len(MODALITIES) * counter.get_total_flops() / 1e9


def kinds_of_time(step: Step, device: str) -> pd.DataFrame:
    """Share of the time of a step by kind of operator."""
    step()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=activities) as recorded:
        step()
    totals: dict[str, float] = {}
    for event in recorded.key_averages():
        time = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "everything else")
        totals[kind] = totals.get(kind, 0.0) + time
    whole = sum(totals.values())
    return pd.DataFrame([{"kind": kind, "share": round(time / whole, 3)} for kind, time in totals.items()])


def steps_of(sizes: Sizes, compiled: bool) -> Iterator[tuple[str, str, Callable[[], Step]]]:
    """Name, precision and how to make it, of each step; made in its turn, so that one at a time takes memory."""
    for precision in PRECISIONS:
        yield f"MONAI loop, {precision}", precision, partial(monai_loop, *sizes, precision)
    graphs, exact = {"cuda_graphs": True}, {"deterministic": True}
    gpu = sizes[-1] == "cuda"
    kinds = {"": {}, ", graphs": graphs, ", deterministic": exact, ", graphs, deterministic": graphs | exact}
    for method, of_method in (("ce", kinds), ("tcgm", {"": {}, ", graphs": graphs})):
        for kind, settings in of_method.items() if gpu else [("", {})]:
            name = f"ours, {method.upper()}, bfloat16{kind}"
            yield name, "bfloat16", partial(our_step, *sizes, method, precision="bfloat16", **settings)
    yield "ours, CE, float32", "float32", partial(our_step, *sizes, "ce", precision="float32")
    if compiled:
        compile_it = partial(our_step, *sizes, "ce", precision="bfloat16", compile=True)
        yield "ours, CE, bfloat16, compiled", "bfloat16", compile_it
    # Once more, so that a machine that changed its speed shows.
    yield "MONAI loop, float32, again", "float32", partial(monai_loop, *sizes, "float32")


def measure(name: str, precision: str, make: Callable[[], Step], sizes: Sizes, repeats: int) -> Row:
    """Its time, memory and what it moves. The other loop chooses its kernels as torch does if nobody asks."""
    _, crop, batch_size, device = sizes
    step = make()
    ours = arithmetic(torch.device(device), deterministic="deterministic" in name)
    with nullcontext() if name.startswith("MONAI") else ours:
        first = seconds_of(step, device)
        for _ in range(WARM_UP):
            step()
        took = median(seconds_of(step, device) for _ in range(repeats))
        peak = measure_memory(step, device)
        # What a compiler fused, or a graph replays, is no operator any more.
        moved = nan if "compiled" in name or "graphs" in name else count_gb(step)
    samples = batch_size * (2 if "TCGM" in name else 1)
    return {
        "step": name,
        "precision": precision,
        "first_s": first,
        "seconds": took,
        "samples": samples,
        "samples_per_s": samples / took,
        "peak_mb": peak,
        "gflop": count_gflop(crop, batch_size) * samples / batch_size,
        "gb_moved": moved,
    }


def compare(rows: Sequence[Row], top: Limits) -> pd.DataFrame:
    """With what is known only side by side: times MONAI's, and the share of the copy's ceiling and the binding one."""
    table = pd.DataFrame(rows)
    table["share_of_products"] = table.gflop / table.precision.map(top) / table.seconds
    alone = (table.precision.radd("convolutions, ")).map(top)
    table["share_of_convolutions"] = alone * table.samples / table.samples.min() / table.seconds
    plain = table[table.step.str.startswith("MONAI loop, float32")].samples_per_s.mean()
    table["times_monai_float32"] = table.samples_per_s / plain
    in_precision = table[table.step.str.startswith("MONAI loop")].groupby("precision").samples_per_s.mean()
    table["times_monai_same_precision"] = table.samples_per_s / table.precision.map(in_precision)
    # A replay moves what its step without graphs moves.
    plain_name = table.step.str.replace(", graphs", "")
    moved = table.gb_moved.fillna(plain_name.map(table.set_index("step").gb_moved))
    table["share_of_copy"] = moved / top["copy"] / table.seconds
    table["share_of_binding"] = table[["share_of_products", "share_of_copy"]].max(axis=1, skipna=False)
    return table


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--crop", type=int, default=64, help="voxels of each axis")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="the compiled network, too: minutes")
    arguments = parser.parse_args(argv)
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    people = draw_people(8 * arguments.batch, arguments.crop)
    sizes = people, arguments.crop, arguments.batch, arguments.device
    arguments.out.mkdir(parents=True, exist_ok=True)
    top = ceilings(arguments.device)
    rows: list[Row] = []
    for name, precision, make in steps_of(sizes, arguments.compile):
        rows.append(measure(name, precision, make, sizes, arguments.repeats))
        gc.collect()
        if arguments.device == "cuda":
            torch.cuda.empty_cache()
        table = compare(rows, top)
        write(table, arguments.out / f"train_step-{arguments.device}.tsv")
        print(
            table.tail(1).to_csv(sep="\t", index=False, header=len(rows) == 1, float_format="%.3g"), end="", flush=True
        )
    with arithmetic(torch.device(arguments.device), deterministic=False):
        for name, dtype in PRECISIONS.items():
            alone = seconds_of_convolutions(arguments.crop, arguments.batch, arguments.device, dtype)
            top[f"convolutions, {name}"] = alone
        shares = kinds_of_time(our_step(*sizes, "ce", precision="bfloat16"), arguments.device)
    limits = pd.DataFrame([{"ceiling": name, "value": value} for name, value in top.items()])
    write(limits, arguments.out / f"ceilings-{arguments.device}.tsv")
    table = compare(rows, top)
    write(table, arguments.out / f"train_step-{arguments.device}.tsv")
    write(shares.sort_values("share", ascending=False), arguments.out / f"profile-{arguments.device}.tsv")
    print(limits.to_string(index=False), shares.to_string(index=False), sep="\n\n")
    return 0


def write(table: pd.DataFrame, file: Path) -> None:
    table.to_csv(file, sep="\t", index=False, lineterminator="\n", float_format="%.4g")


if __name__ == "__main__":
    raise SystemExit(main())
