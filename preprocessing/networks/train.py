"""Train the segmentation networks on images drawn from label maps: `python -m preprocessing.networks.train`.

  --label-maps DIR   label maps in FreeSurfer's numbers, one head a file (*.nii.gz), whole heads with what is around
  --network NAME     head, hippocampus or both
  --fold K           leave out the K-th fifth of the heads, to judge the network by them; the file says so in its name
  --out DIR          where NAME.safetensors goes (default: the package, from where the pipeline takes it)

The hippocampal network took 200 s on an H200 GPU, the head network 317 s on an H100, each beside five others. On a CPU
both take hours; --steps and --batch shorten a trial.

Interrupted, the same command goes on from its last checkpoint, at most two minutes back.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from adni_tcgm.command import add_debug, run_command
from adni_tcgm.files import whole_file
from preprocessing.networks import FOLDS, WEIGHTS
from preprocessing.networks.head_drawing import HeadDrawing
from preprocessing.networks.labels import HEAD_CLASSES, HIPPOCAMPUS_CLASSES, LabelMap, read_label_maps
from preprocessing.networks.loss import loss_of, loss_of_rows
from preprocessing.networks.synthesis import Drawing, hippocampal_drawing
from preprocessing.networks.unet import FoldedUNet, UNet, save_network

CHECKPOINT_SECONDS = 120
DRAWN_AHEAD = 2


@dataclass(frozen=True)
class Plan:
    """How one network is trained. `rate`: the highest learning rate of the one cycle; `volume`: weight of the error of
    volumes beside Dice and cross-entropy."""

    classes: dict[str, tuple[int, ...]]
    channels: tuple[int, ...]
    steps: int
    batch: int
    network: type[UNet | FoldedUNet] = UNet
    rate: float = 3e-3
    volume: float = 0.1


PLANS = {
    "head": Plan(HEAD_CLASSES, (32, 64, 96), steps=2944, batch=4, network=FoldedUNet, rate=6e-3),
    "hippocampus": Plan(HIPPOCAMPUS_CLASSES, (12, 24, 48, 64), steps=1097, batch=16),
}
DRAWINGS = {"head": lambda maps, device: HeadDrawing(maps, device=device), "hippocampus": hippocampal_drawing}


def fold_of(maps: list[LabelMap], fold: int, folds: int = FOLDS) -> tuple[list[LabelMap], list[LabelMap]]:
    """Heads that train and heads that are left out: the `fold`-th (from 1) of `folds` blocks in order of names.

    Raises ValueError for a fold that does not exist.
    """
    if not 1 <= fold <= folds:
        raise ValueError(f"--fold {fold}: from 1 to {folds}")
    first, last = ((number * len(maps)) // folds for number in (fold - 1, fold))
    return maps[:first] + maps[last:], maps[first:last]


def train(
    plan: Plan,
    drawing: Drawing | HeadDrawing,
    checkpoint: Path,
    seed: int = 0,
    name: str = "network",
    every: float = CHECKPOINT_SECONDS,
) -> UNet | FoldedUNet:
    """A network trained for `plan.steps` on images that `drawing` makes; from `checkpoint` on where there is one."""
    torch.manual_seed(seed)
    device = drawing.device
    network = plan.network(tuple(plan.classes), plan.channels).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=1e-4, fused=device.type == "cuda")
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.rate, total_steps=plan.steps, pct_start=0.15)
    folded = isinstance(network, FoldedUNet)
    if folded:
        network.expect(drawing.draw(1, seed * 1_000_000 + plan.steps)[1].float().mean((0, 1)))
    parts, first = (network, optimizer, cycle), 0
    if checkpoint.is_file():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        first = saved["step"]
        for part, state in zip(parts, saved["states"], strict=True):
            part.load_state_dict(state)
    bar = tqdm(range(first, plan.steps), desc=name, unit="step", initial=first, total=plan.steps, mininterval=5)
    kept, shown = time.monotonic(), 0.0
    for step, (image, share) in zip(bar, _drawn(plan, drawing, range(first, plan.steps), seed), strict=True):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = network.folded(image) if folded else network(image)
        loss = (loss_of_rows if folded else loss_of)(logits, share, plan.volume)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        cycle.step()
        if step % 20 == 0:
            shown = 0.5 * shown + 0.5 * loss.item() if step > first else loss.item()
            bar.set_postfix(loss=f"{shown:.3f}", refresh=False)
        if time.monotonic() - kept > every:
            _keep(checkpoint, step + 1, parts)
            kept = time.monotonic()
    return network


def _drawn(plan: Plan, drawing: Drawing | HeadDrawing, steps: range, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and targets of each step. What is drawn on the CPU is drawn while the network learns from the last."""
    if drawing.device.type != "cpu":
        yield from (drawing.draw(plan.batch, seed * 1_000_000 + step) for step in steps)
        return
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as thread:
        waiting = deque()
        for step in steps:
            waiting.append(thread.submit(drawing.draw, plan.batch, seed * 1_000_000 + step))
            if len(waiting) > DRAWN_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _keep(checkpoint: Path, step: int, parts: tuple) -> None:
    with whole_file(checkpoint) as partial:
        torch.save({"step": step, "states": [part.state_dict() for part in parts]}, partial)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label-maps", type=Path, required=True, metavar="DIR")
    parser.add_argument("--network", choices=[*PLANS, "both"], default="both")
    parser.add_argument("--fold", type=int, metavar="K")
    parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="DIR")
    parser.add_argument("--steps", type=int, metavar="N", help="other than the plan's, for a trial")
    parser.add_argument("--batch", type=int, metavar="N", help="other than the plan's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add_debug(parser)
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> int:
    maps, ending = read_label_maps(arguments.label_maps), ""
    if arguments.fold:
        maps, ending = fold_of(maps, arguments.fold)[0], f"-fold{arguments.fold}"
    for name in PLANS if arguments.network == "both" else (arguments.network,):
        given = {"steps": arguments.steps, "batch": arguments.batch}
        plan = replace(PLANS[name], **{key: value for key, value in given.items() if value})
        checkpoint = arguments.out / f"{name}{ending}.checkpoint"
        network = train(plan, DRAWINGS[name](maps, arguments.device), checkpoint, arguments.seed, f"{name}{ending}")
        about = {"heads": len(maps), "steps": plan.steps, "batch": plan.batch, "seed": arguments.seed}
        texts = {key: str(value) for key, value in about.items()}
        save_network(network, arguments.out / f"{name}{ending}.safetensors", texts)
        checkpoint.unlink(missing_ok=True)
    return 0


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    return run_command(run, arguments, arguments.out)


if __name__ == "__main__":
    raise SystemExit(main())
