"""Many independent runs, on the cores of this machine or on the workers of a running Dask scheduler."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

# Dask is imported where it runs: a single training, which imports this file for its types, needs none of it. And a
# worker that unpickles a task imports what the task holds, and nothing else.
if TYPE_CHECKING:
    from distributed import Client

    from pipelines.config import Settings


@dataclass(frozen=True)
class Task:
    """One run to be: `runs` is the folder that will hold its run folder, on a file system that all workers share."""

    runs: Path
    settings: Settings
    method: str
    label_rate: float
    seed: int
    overwrite: bool = False

    def __str__(self) -> str:
        began = "" if self.settings.pretraining == "none" else f", {self.settings.pretraining}"
        return f"{self.method}{began} at label rate {self.label_rate:g}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its run folder, or one sentence that says why there is none."""

    task: Task
    run_dir: Path | None
    failure: str | None = None


def train_alone(task: Task) -> Path:
    """Train on one thread: as many runs as cores at once finish sooner than each run on all cores in turn."""
    import torch

    from pipelines.config import DATASETS
    from pipelines.own_code import register_own
    from pipelines.training import train_run

    torch.set_num_threads(1)
    # Whoever made the task has allowed what it names.
    register_own({"method": task.method, **vars(task.settings)}, DATASETS)
    return train_run(task.runs, task.settings, task.method, task.seed, progress=False, overwrite=task.overwrite)


def run_grid(
    tasks: Sequence[Task],
    *,
    jobs: int,
    scheduler: str | None = None,
    title: str = "runs",
    train: Callable[[Task], Path] = train_alone,
) -> list[Outcome]:
    """The outcome of every task, in their order. A task that fails is an outcome like any other and stops nothing.

    jobs: processes on this machine; not read where `scheduler`, the address of a running one, is given. train: must be
    importable on the workers; it should return at once where its run is finished, which is what makes a grid resumable.
    Interrupted, the finished runs stay and the others are cancelled. Raises ValueError where no scheduler answers.
    """
    from distributed import as_completed

    outcomes: list[Outcome | None] = [None] * len(tasks)
    with _client(min(jobs, len(tasks)), scheduler) as client:
        early = first_of_each_seed(tasks)
        futures = {
            client.submit(train, task, pure=False, priority=int(place in early)): place
            for place, task in enumerate(tasks)
        }
        try:
            for future in tqdm(as_completed(futures), total=len(futures), desc=title, unit="run"):
                task = tasks[futures[future]]
                error = future.exception()
                done = Outcome(task, future.result()) if error is None else Outcome(task, None, _sentence(error))
                outcomes[futures[future]] = done
        except BaseException:
            # A scheduler that outlives us would go on with what nobody waits for.
            client.cancel(list(futures), force=True)
            raise
    return outcomes


def first_of_each_seed(tasks: Sequence[Task]) -> set[int]:
    """Places of the tasks to start first: one for each pretraining and seed, which trains the encoders that the others
    load."""
    first: dict[tuple[Path, str, int], int] = {}
    for place, task in enumerate(tasks):
        if getattr(task.settings, "pretraining", "none") != "none":
            first.setdefault((task.runs, task.settings.pretraining, task.seed), place)
    return set(first.values())


@contextmanager
def _client(jobs: int, scheduler: str | None) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout="10s")
        except (OSError, ValueError) as error:
            raise ValueError(f"--scheduler {scheduler}: no Dask scheduler answers there ({error})") from error
        with client:
            yield client
        return
    # No dashboard: two studies on one machine would contend for its port. No memory limit: Dask would pause a worker
    # near an even share of the memory, and a paused run never ends.
    with _deaf_to_interrupts():
        cluster = LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        )
    with cluster, Client(cluster) as client:
        yield client


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started in here ignore Ctrl-C: it reaches the whole group, and this process ends its workers itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _sentence(error: BaseException) -> str:
    """What went wrong, on one line."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return "its process died several times, perhaps for lack of memory"
    text = " ".join(str(error).split())
    # Our own errors speak for themselves; the name of any other says half of what happened.
    expected = isinstance(error, ValueError | FileNotFoundError | FloatingPointError) and text
    return text if expected else f"{type(error).__name__}: {text}"
