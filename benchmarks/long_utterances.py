"""How much memory and time 20,000 utterances take: `python -m benchmarks.long_utterances OUT`.

Writes OUT/utterances.h5 (SIMULATED noise with a little signal: text of 50 steps, voice and face of 200), then trains
TCGM on it in a process of its own, whose peak memory it prints. Long sequences: `--utterances 2000 --text-steps 500`.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import h5py
import numpy as np

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
SIZES = {"text": 300, "audio": 74, "vision": 35}
BLOCK = 500
SPEAKERS = 50  # In each split.


def write_utterances(file: Path, utterances: int, steps: dict[str, int], seed: int = 0) -> None:
    """Blocks of rows, so that writing needs little memory. Lengths vary from a tenth of `steps` to all of them."""
    rng = np.random.default_rng(seed)
    with h5py.File(file, "w") as out:
        for split, share in SHARES.items():
            size = round(share * utterances)
            labels = rng.integers(2, size=size)
            speakers = np.sort(rng.integers(SPEAKERS, size=size))
            out[f"{split}/labels"] = labels
            out[f"{split}/id"] = np.array([f"{split}{s}$_${i}" for i, s in enumerate(speakers)], dtype="S")
            for name, features in SIZES.items():
                shape = (size, steps[name], features)
                data = out.create_dataset(f"{split}/{name}", shape, "f4", chunks=(min(50, size), *shape[1:]))
                for start in range(0, size, BLOCK):
                    rows = slice(start, min(start + BLOCK, size))
                    block = rng.standard_normal((rows.stop - start, *shape[1:]), dtype=np.float32)
                    block[:, :, 0] += labels[rows, None] - 0.5
                    lengths = rng.integers(max(shape[1] // 10, 1), shape[1] + 1, size=len(block))
                    block[np.arange(shape[1]) >= lengths[:, None]] = 0
                    data[rows] = block


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--utterances", type=int, default=20_000)
    parser.add_argument("--text-steps", type=int, default=50)
    parser.add_argument("--other-steps", type=int, default=200)
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "utterances.h5"
    steps = {"text": arguments.text_steps, "audio": arguments.other_steps, "vision": arguments.other_steps}
    write_utterances(file, arguments.utterances, steps)
    print(f"{file}: {file.stat().st_size / 2**30:.2f} GiB", flush=True)
    start = perf_counter()
    command = [sys.executable, "-m", "pipelines.run", "mosi", "--method", "tcgm", "--data", str(file)]
    command += [
        "--out",
        str(arguments.out),
        "--set",
        f"train.steps={arguments.steps}",
        "--set",
        "train.validate_every=250",
    ]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{perf_counter() - start:.0f} s in all; peak memory of the process {peak:.2f} GiB")


if __name__ == "__main__":
    main()
