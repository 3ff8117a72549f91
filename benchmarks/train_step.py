"""Our training step beside a plain loop as a MONAI user would write it: samples a second, memory, where the time goes.

`python -m benchmarks.train_step OUT [--device cpu|cuda] [--crop 64] [--batch 12] [--repeats 3]`: the labeled step of
two modalities, the paper's network, random volumes. The other loop: MONAI's DenseNet with the paper's stem (the same
convolutions and parameters), DataLoader, MONAI's transforms (random crop, random flip), float32, Adam. Ours: the
trainer's own steps in float32 and in bfloat16, and the whole step of TCGM. All take turns in one process.

A step's time is the median over repeats; on a CPU it is processor time, so that a busy machine does not show, and one
thread is used. Memory is the most that torch holds beyond what it held before the step. Bytes moved are those of all
tensors that go into an operator or come out of it, each time. The ceilings are measured in the same run: a product of
two matrices in either precision; a copy in memory; and the convolutions of the step alone, in their own shapes, forward
and backward: a step in which everything else cost nothing. Writes OUT/train_step-DEVICE.tsv and OUT/profile-DEVICE.tsv.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

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

Step = Callable[[], object]


def draw_people(count: int, crop: int) -> MultimodalBatch:
    """Volumes with a margin for shifts. What is in them decides nothing about speed."""
    generator, side = Generator().manual_seed(0), crop + 2 * MARGIN
    inputs = {name: torch.randn((count, 1, side, side, side), generator=generator) for name in MODALITIES}
    labels = torch.arange(count) % 2
    return MultimodalBatch(
        [str(i) for i in range(count)], inputs, torch.ones(count, 2, dtype=torch.bool), labels, groups=()
    )


def monai_loop(people: MultimodalBatch, crop: int, batch_size: int, device: str) -> Step:
    """One iteration of a plain training loop."""
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
    workers = 2 if device == "cuda" else 0
    loader = DataLoader(
        Dataset(data, transforms),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=workers > 0,
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

    return min(seconds_of(work, device) for _ in range(2))


def count_gflop(crop: int, batch_size: int) -> float:
    """Of the labeled step of both modalities, forward and backward; nothing is computed for it."""
    with torch.device("meta"):
        net = DenseNet3DConfig.paper().build((1, crop, crop, crop), 2)
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(batch_size, 1, crop, crop, crop)).sum().backward()
    return len(MODALITIES) * counter.get_total_flops() / 1e9


def kinds_of_time(step: Step, device: str) -> pd.DataFrame:
    """Share of the time of a step by kind of operator."""
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


def measure(crop: int, batch_size: int, device: str, repeats: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    people = draw_people(2 * batch_size, crop)
    sizes = (people, crop, batch_size, device)
    steps = {
        "MONAI loop, float32": monai_loop(*sizes),
        "ours, CE, float32": our_step(*sizes, "ce", precision="float32"),
        "ours, CE, bfloat16": our_step(*sizes, "ce", precision="bfloat16"),
        "ours, TCGM, bfloat16": our_step(*sizes, "tcgm", precision="bfloat16"),
    }
    if device == "cuda":
        steps["ours, CE, bfloat16, compiled"] = our_step(*sizes, "ce", precision="bfloat16", compile=True)
        steps["ours, CE, bfloat16, deterministic"] = our_step(*sizes, "ce", precision="bfloat16", deterministic=True)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            with arithmetic(torch.device(device), deterministic="deterministic" in name):
                took = seconds_of(step, device)
            if turn:  # the first of each is a warm-up
                times[name].append(took)
    top, gflop, plain = ceilings(device), count_gflop(crop, batch_size), median(times["MONAI loop, float32"])
    alone = {name: seconds_of_convolutions(crop, batch_size, device, dtype) for name, dtype in PRECISIONS.items()}
    rows = []
    for name, step in steps.items():
        took, precision = median(times[name]), "float32" if "float32" in name else "bfloat16"
        samples = batch_size * (2 if "TCGM" in name else 1)
        rate = gflop * samples / batch_size / took
        # What a compiler fused is no operator any more.
        moved = nan if "compiled" in name else count_gb(step)
        rows.append(
            {
                "step": name,
                "seconds": took,
                "samples_per_s": samples / took,
                "times_monai": (samples / took) / (batch_size / plain),
                "peak_mb": measure_memory(step, device),
                "gflop_per_s": rate,
                "share_of_matmul_ceiling": rate / top[precision],
                "share_of_convolution_ceiling": alone[precision] * samples / batch_size / took,
                "gb_moved": moved,
                "share_of_copy_ceiling": moved / took / top["copy"],
            }
        )
    shares = kinds_of_time(steps["ours, CE, bfloat16"], device)
    limits = pd.DataFrame(
        [{"step": f"ceiling: product in {name}", "gflop_per_s": top[name]} for name in PRECISIONS]
        + [{"step": "ceiling: copy, GB/s read and written", "gflop_per_s": top["copy"]}]
        + [
            {"step": f"ceiling: convolutions in {name}", "seconds": took, "gflop_per_s": gflop / took}
            for name, took in alone.items()
        ]
    )
    return pd.concat([pd.DataFrame(rows), limits], ignore_index=True), shares.sort_values("share", ascending=False)


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
    arguments = parser.parse_args(argv)
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    table, shares = measure(arguments.crop, arguments.batch, arguments.device, arguments.repeats)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, content in (("train_step", table), ("profile", shares)):
        file = arguments.out / f"{name}-{arguments.device}.tsv"
        content.to_csv(file, sep="\t", index=False, lineterminator="\n", float_format="%.4g")
        print(content.to_string(index=False, na_rep="", float_format="{:.3g}".format), end="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
