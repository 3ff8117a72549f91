"""The paper's Figure 6 on a prepared cohort: CE, Soft-HGR and TCGM at 10 % and 50 % of the labels, five seeds.

`python -m benchmarks.study PREPARED OUT [--settings paper|recipe] [--minutes 8] [--packed 4] [--measure-only]
[--set KEY=VALUE]`: the network of the paper on 64³ crops (`adni_voxels_gpu`), 30 runs. `paper`: from scratch, by the
paper's protocol. `recipe`: the network learns regional measurements from everybody's scans first; the labels then meet
what it says, by the recipe of `adni_voxels_gpu`, and no label is read but the visible ones.

First a few steps of each method are timed and the time of the whole study that they imply is printed. Then runs start,
`--packed` at a time on the one device, and after `--minutes` those that are not done are ended. Each goes on from its
last state when the same command is given again; the status is 75 until all are done. Writes OUT/speed.tsv, OUT/runs/…
and OUT/figure6.tsv: accuracy of "all" on the test people, mean and SD over the seeds finished so far. Beside it stand
the paper's figures, on other people: theirs were ADNI's, these may be simulated.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import pandas as pd
import torch

from adni_tcgm.pretraining.pretext import pretrain
from adni_tcgm.storage import is_complete, load_run
from adni_tcgm.tcgm.batch import Splits
from adni_tcgm.tcgm.execution import arithmetic, choose_device
from adni_tcgm.tcgm.trainer import Training
from pipelines.command_line import parse
from pipelines.config import NO_PRETRAINING, Settings
from pipelines.fitting import place_of
from pipelines.identity import run_name
from pipelines.run import settings_of

METHODS, LABEL_RATES, SEEDS = ("ce", "soft_hgr", "tcgm"), (0.1, 0.5), range(5)
# Paper Figure 6, accuracy in % on about 58 test people of ADNI: the paper's own, never ours.
PAPER = {("ce", 0.1): 62.07, ("soft_hgr", 0.1): 60.34, ("tcgm", 0.1): 65.17}
PAPER |= {("ce", 0.5): 65.52, ("soft_hgr", 0.5): 66.22, ("tcgm", 0.5): 67.24}
SETTINGS = {"paper": ("pretraining=none", "protocol=paper"), "recipe": ("net=paper",)}
NOT_DONE = 75
TIMED_STEPS = 5

Run = tuple[str, float, int]


def list_runs() -> list[Run]:
    """Seed by seed, so that what is there early is whole seeds."""
    return [(method, rate, seed) for seed in SEEDS for rate in LABEL_RATES for method in METHODS]


def options_of(arguments: argparse.Namespace, run: Run) -> list[str]:
    """Of `adni-tcgm train`."""
    method, rate, seed = run
    options = [arguments.config, "--method", method, "--label-rate", str(rate), "--seed", str(seed)]
    options += ["--data", str(arguments.prepared), "--out", str(arguments.out), "--device", arguments.device]
    return options + [f"--set={pair}" for pair in (*SETTINGS[arguments.settings], *arguments.set)]


def settings_for(arguments: argparse.Namespace, run: Run) -> Settings:
    return settings_of(parse("train", options_of(arguments, run)))


def folder_of(arguments: argparse.Namespace, run: Run) -> Path:
    method, _, seed = run
    return arguments.out / "runs" / run_name(settings_for(arguments, run), method, seed)


def measure_speed(arguments: argparse.Namespace) -> pd.DataFrame:
    """Seconds of a full step of each method, warmed up, and those of a run of them; validation is not counted.

    Of the recipe: steps of the pretraining, the same for every method; what comes after it takes seconds.
    """
    device = choose_device(arguments.device)
    settings = settings_for(arguments, (METHODS[0], LABEL_RATES[-1], 0))
    splits = settings.load(0)
    if settings.pretraining != NO_PRETRAINING:
        speed = _pretraining_speed(settings, splits)
        return pd.DataFrame([{"method": method, **speed} for method in METHODS])
    rows = []
    for method in METHODS:
        settings = settings_for(arguments, (method, LABEL_RATES[-1], 0))
        config = settings.train_for(method)
        with torch.random.fork_rng(), arithmetic(device, config.deterministic):
            training = Training(settings.method(method), splits, config, settings.augmentation())
            # Past the supervised steps, and before a validation.
            training.step = config.supervised_steps
            each = [_seconds_of_step(training, device) for _ in range(TIMED_STEPS + 1)][1:]
        step_s, updates = median(each), 1 if method == "ce" else 2
        samples = config.batch_size_labeled + (updates - 1) * config.batch_size_unlabeled
        row = {"method": method, "step_s": step_s, "samples_per_s": samples / step_s}
        rows.append(row | {"run_minutes": config.steps * step_s / 60})
    return pd.DataFrame(rows)


def _pretraining_speed(settings: Settings, splits: Splits) -> dict[str, float]:
    """By the difference between a longer and a shorter one, which both build, warm up and encode."""
    chosen, place = settings.chosen_pretraining(), place_of(settings.train_for(METHODS[0]))
    seconds = []
    for steps in (1, TIMED_STEPS, 3 * TIMED_STEPS):
        start = time.perf_counter()
        pretrain(
            replace(chosen, steps=steps),
            settings.encoder(),
            splits.modalities,
            splits.train,
            place=place,
            augment=settings.augmentation(),
        )
        seconds.append(time.perf_counter() - start)
    _, short, long = seconds  # the first woke the device
    step_s = (long - short) / (2 * TIMED_STEPS)
    return {
        "step_s": step_s,
        "samples_per_s": chosen.batch_size / step_s,
        "run_minutes": (short + (chosen.steps - TIMED_STEPS) * step_s) / 60,
    }


def _seconds_of_step(training: Training, device: torch.device) -> float:
    start = time.perf_counter()
    training.run_step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def print_plan(speed: pd.DataFrame, arguments: argparse.Namespace) -> None:
    print(speed.to_string(index=False, float_format="{:.3g}".format))
    minutes = speed.run_minutes.sum() * len(LABEL_RATES) * len(SEEDS)
    done = sum(is_complete(folder_of(arguments, run)) for run in list_runs())
    print(f"the whole study: {len(list_runs())} runs, {minutes:.0f} minutes one after the other; {done} are done")


def train_for(arguments: argparse.Namespace, seconds: float) -> int:
    """Keep `packed` runs going until the time is over; how many are not done, failed ones included."""
    waiting = [run for run in list_runs() if not is_complete(folder_of(arguments, run))]
    going: list[subprocess.Popen] = []
    deadline = time.monotonic() + seconds
    try:
        while (waiting or going) and time.monotonic() < deadline:
            while waiting and len(going) < arguments.packed:
                going.append(start_run(arguments, waiting.pop(0)))
            time.sleep(0.5)
            going = [child for child in going if child.poll() is None]
    finally:
        for child in going:
            child.terminate()
        for child in going:
            child.wait()
    return sum(not is_complete(folder_of(arguments, run)) for run in list_runs())


def start_run(arguments: argparse.Namespace, run: Run) -> subprocess.Popen:
    """A process of its own: several share the device, and one that is ended goes on from its last state."""
    method, rate, seed = run
    log = (arguments.out / f"{method}-r{rate:g}-s{seed}.log").open("ab")
    with log:
        command = [sys.executable, "-m", "pipelines.run", *options_of(arguments, run)]
        return subprocess.Popen(command, stdout=log, stderr=log)


def tabulate(arguments: argparse.Namespace) -> pd.DataFrame:
    rows = []
    for rate in LABEL_RATES:
        for method in METHODS:
            folders = [folder_of(arguments, (method, rate, seed)) for seed in SEEDS]
            metrics = [load_run(folder).metrics for folder in folders if is_complete(folder)]
            found = pd.Series([100 * m["test"]["all"]["accuracy"] for m in metrics], dtype=float)
            auc = pd.Series([m["test"]["all"]["auc"] for m in metrics], dtype=float)
            row = {
                "method": method,
                "label_rate": rate,
                "seeds": len(found),
                "accuracy": found.mean(),
                "sd": found.std(),
                "auc": auc.mean(),
                "auc_sd": auc.std(),
            }
            simulated = any(m["simulated"] for m in metrics)
            rows.append(row | {"people": "SIMULATED" if simulated else "", "paper_on_adni": PAPER[method, rate]})
    return pd.DataFrame(rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path, help="a prepared cohort: the folder with manifest.tsv")
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", default="adni_voxels_gpu")
    parser.add_argument("--settings", choices=tuple(SETTINGS), default="paper")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training in this call")
    parser.add_argument("--packed", type=int, default=1, help="runs at a time on the device")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in pipelines.run")
    parser.add_argument("--measure-only", action="store_true")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    speed_file = arguments.out / "speed.tsv"
    if not speed_file.is_file():
        measure_speed(arguments).to_csv(speed_file, sep="\t", index=False, lineterminator="\n", float_format="%.4g")
    print_plan(pd.read_csv(speed_file, sep="\t"), arguments)
    if arguments.measure_only:
        return 0
    left = train_for(arguments, 60 * arguments.minutes)
    table = tabulate(arguments)
    table.to_csv(arguments.out / "figure6.tsv", sep="\t", index=False, lineterminator="\n", float_format="%.4g")
    print(table.to_string(index=False, na_rep="", float_format="{:.2f}".format))
    if left:
        print(f"{left} runs are not done; the same command goes on (a run that fails says why in its log)")
    return NOT_DONE if left else 0


if __name__ == "__main__":
    raise SystemExit(main())
