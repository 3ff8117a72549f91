"""Everything that needs a GPU, in one table: `python -m benchmarks.gpu OUT [--prepared DIR]`, or `make bench-gpu`.

Steps beside MONAI's (`train_step`), the gain (`gain`), whether two trainings in deterministic mode agree to the bit,
whether too large a batch is survived, two processes against one where there are two GPUs, and with `--prepared` the
speed of the paper's study (`study`). Writes OUT/gpu.tsv: what, value, goal. Nothing in it has a default: what could not
be measured is a row without a value and with the reason. Without a GPU it says so and stops with status 3.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from adni_tcgm.methods.tcgm import TCGM
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.densenet3d import DenseNet3DConfig
from adni_tcgm.tcgm.batch import Modality, Splits
from adni_tcgm.tcgm.trainer import Fitted, TrainConfig, fit
from benchmarks import gain as gain_benchmark
from benchmarks import study, train_step

CROP, BATCH = 64, 12
NO_GPU = 3
Row = tuple[str, object, str]


def steps(out: Path, _: argparse.Namespace) -> Iterator[Row]:
    train_step.main([str(out / "train_step"), "--device", "cuda", "--repeats", "10"])
    for limit in pd.read_csv(out / "train_step" / "ceilings-cuda.tsv", sep="\t").itertuples():
        yield f"ceiling: {limit.ceiling}", limit.value, ""
    for row in pd.read_csv(out / "train_step" / "train_step-cuda.tsv", sep="\t").itertuples():
        ours = "bfloat16" in row.step and "ours" in row.step
        yield f"{row.step}: samples/s", row.samples_per_s, ""
        yield f"{row.step}: times the MONAI loop in float32", row.times_monai_float32, ">= 4" if ours else ""
        yield f"{row.step}: times the MONAI loop", row.times_monai_same_precision, ">= 2" if ours else ""
        yield f"{row.step}: peak MB", row.peak_mb, ""
        yield f"{row.step}: share of the binding ceiling", row.share_of_binding, ">= .6" if ours else ""
        yield f"{row.step}: share of the convolutions' ceiling", row.share_of_convolutions, ""


def gains(out: Path, _: argparse.Namespace) -> Iterator[Row]:
    gain_benchmark.main([str(out / "gain"), "--device", "cuda"])
    yield "gain: table", "gain/table.tsv", ""


def determinism(_: Path, __: argparse.Namespace) -> Iterator[Row]:
    first, again = (_train(deterministic=True) for _ in range(2))
    yield "two trainings in deterministic mode agree to the bit", _equal(first, again), "True"
    yield "the same without it", _equal(_train(deterministic=False), _train(deterministic=False)), ""
    rough, exact = first.history[-1]["loss_labeled"], _train(True, precision="float32").history[-1]["loss_labeled"]
    yield "last labeled loss, bfloat16 less float32", rough - exact, "near 0"
    captured = _train(deterministic=True, cuda_graphs=True)
    yield "a training by CUDA graphs agrees with it to the bit", _equal(first, captured), "True"


def memory(_: Path, __: argparse.Namespace) -> Iterator[Row]:
    """Leaves the training 45 % of the memory that it needs, so that it must help itself."""
    whole = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    _train(False)
    needed = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.45 * needed / whole)
    try:
        fitted = _train(False)
        torch.cuda.empty_cache()
        captured = _train(False, cuda_graphs=True)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    yield "micro-batch with 45 % of the memory of a batch of 12", fitted.execution["micro_batch"], "< 12"
    yield "the same where CUDA graphs were asked for", captured.execution["micro_batch"], "< 12, without graphs"


def processes(out: Path, _: argparse.Namespace) -> Iterator[Row]:
    if torch.cuda.device_count() < 2:
        yield "two processes against one", None, "needs two GPUs"
        return
    command = ["-m", "pipelines.run", "gaussian", "--method", "tcgm", "--device", "cuda"]
    subprocess.run([sys.executable, *command, "--out", str(out / "one")], check=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launch, *command, "--out", str(out / "two")], check=True)
    tables = [
        pd.read_csv(next((out / name / "runs").iterdir()) / "predictions.tsv", sep="\t").filter(like="p_").to_numpy()
        for name in ("one", "two")
    ]
    yield "two processes against one, largest difference of a posterior", abs(tables[0] - tables[1]).max(), "< 1e-3"


def figure6(out: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    if arguments.prepared is None:
        yield "study: minutes of a run", None, "needs --prepared"
        return
    study.main([str(arguments.prepared), str(out / "study"), "--device", "cuda", "--measure-only"])
    for row in pd.read_csv(out / "study" / "speed.tsv", sep="\t").itertuples():
        yield f"study: {row.method}, samples/s", row.samples_per_s, ""
        yield f"study: {row.method}, minutes of a run", row.run_minutes, "30 runs in 30 minutes"


PARTS: tuple[Callable[[Path, argparse.Namespace], Iterator[Row]], ...] = (
    steps,
    determinism,
    memory,
    processes,
    figure6,
    gains,
)


def _train(deterministic: bool, precision: str = "bfloat16", steps: int = 6, cuda_graphs: bool = False) -> Fitted:
    people = train_step.draw_people(2 * BATCH, CROP)
    shape = people.inputs["mri"].shape[1:]
    splits = Splits([Modality(name, shape) for name in people.inputs], ("a", "b"), people, people, people)
    config = TrainConfig(steps=steps, supervised_steps=1, validate_every=steps, device="cuda", precision=precision)
    augment = Augment3D((CROP, CROP, CROP), train_step.MARGIN)
    config = replace(config, deterministic=deterministic, cuda_graphs=cuda_graphs)
    return fit(TCGM(DenseNet3DConfig.paper()), splits, config, augment)


def _equal(one: Fitted, other: Fitted) -> bool:
    values = other.model.state_dict()
    return all(torch.equal(value, values[name]) for name, value in one.model.state_dict().items())


def gather(out: Path, arguments: argparse.Namespace) -> pd.DataFrame:
    """All rows; a part that fails is a row that says why, and the others go on."""
    rows: list[Row] = [("device", torch.cuda.get_device_name(), "")]
    for part in PARTS:
        try:
            rows += list(part(out, arguments))
        except (RuntimeError, ValueError, OSError, subprocess.SubprocessError) as error:
            rows.append((part.__name__, None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"))
    return pd.DataFrame(rows, columns=["what", "value", "goal"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--prepared", type=Path, help="a prepared cohort for the study")
    arguments = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("no GPU here; nothing was measured", file=sys.stderr)
        return NO_GPU
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = gather(arguments.out, arguments)
    table.to_csv(arguments.out / "gpu.tsv", sep="\t", index=False, lineterminator="\n")
    print(table.to_string(index=False, na_rep="not measured"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
