"""Every subject in a process of its own, here or on the workers of a Dask scheduler; what fails there is a ledger row.

One thread a process: processes x threads = cores is then a matter of `jobs` alone, it is the fast arrangement for many
subjects, and the only repeatable one.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from adni_tcgm.command import LOG, write_log
from adni_tcgm.files import PARTIAL_SUFFIX, remove_leftovers
from adni_tcgm.processes import call_serialized, process_pool
from preprocessing.choices import SUBJECT_MEMORY_GIB, SUBJECT_MINUTES
from preprocessing.ledger import LedgerRow
from preprocessing.steps.orient import ScanError
from preprocessing.steps.register import make_repeatable
from preprocessing.subject.outcome import Outcome, StepFailed, failed_row, read_done, write_done
from preprocessing.subject.plan import SubjectTask

Worker = Callable[[SubjectTask, Path], Outcome]
Keep = Callable[[SubjectTask, Outcome], None]

# The libraries read these when they are imported, so a process must find them in its environment when it starts.
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
)
DIED = "the worker process died (out of memory?)"


@dataclass(frozen=True)
class Limits:
    """What one subject may take before it is given up.

    Raises ValueError where one is not positive.
    """

    minutes: float = SUBJECT_MINUTES
    # Of the process; not read on other systems than Linux, nor on a scheduler's workers.
    memory_gib: float = SUBJECT_MEMORY_GIB

    def __post_init__(self) -> None:
        for name in ("minutes", "memory_gib"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of a subject is {getattr(self, name)}; it must be > 0")


def run_tasks(
    tasks: list[SubjectTask],
    prepared: Path,
    jobs: int,
    worker: Worker,
    progress: bool = True,
    scheduler: str | None = None,
    limits: Limits | None = None,
) -> dict[str, Outcome]:
    """Outcomes by the tasks' names (participant and session); who fails has an outcome with ledger rows that say why.

    jobs: processes on this machine (0: in this very process); not read where `scheduler` is given, the address of a
    running Dask scheduler whose workers see the same folders under the same names. Raises ValueError where there is
    none. limits: of every subject that has a process of its own.
    """
    limits = limits or Limits()
    outcomes: dict[str, Outcome] = {}
    with tqdm(total=len(tasks), desc="preprocessing", unit="subject", disable=not progress or not tasks) as bar:

        def keep(task: SubjectTask, outcome: Outcome) -> None:
            outcomes[task.name] = outcome
            bar.update()

        if not tasks:
            return outcomes
        if jobs == 0 and not scheduler:
            for task in tasks:
                keep(task, run_one(task, prepared, worker))
            return outcomes
        with _engine(prepared, jobs, worker, keep, limits, scheduler) as attempt:
            # A process that dies takes down its pool, and Dask gives up on all that lay with workers that died: whoever
            # was left is tried again alone, so that only who kills a process alone is called its killer.
            for task in attempt(tasks):
                if _is_overtime(task, prepared) or attempt([task]):
                    keep(task, died_outcome(task, prepared))
    return outcomes


@contextmanager
def _engine(
    prepared: Path, jobs: int, worker: Worker, keep: Keep, limits: Limits, scheduler: str | None
) -> Iterator[Callable[[list[SubjectTask]], list[SubjectTask]]]:
    """What runs tasks, keeps their outcomes, and returns those left over where processes died: pools of this machine,
    or the workers of a running scheduler."""
    if not scheduler:
        yield lambda tasks: _run_pool(tasks, prepared, jobs, worker, keep, limits)
        return
    from distributed import Client

    try:
        client = Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        raise ValueError(f"--scheduler {scheduler}: no Dask scheduler answers there ({error})") from error
    with client:
        yield lambda tasks: _submit(client, tasks, prepared, worker, keep, limits)


def run_one(task: SubjectTask, prepared: Path, worker: Worker) -> Outcome:
    """A worker's job: the outcome, or ledger rows that say why there is none, and a log of what is no scan's fault."""
    folder = task.folder(prepared)
    remove_leftovers(folder)
    (folder / LOG).unlink(missing_ok=True)
    try:
        return worker(task, prepared)
    except StepFailed as failure:
        if not failure.expected:
            write_log(folder)
        outcome = failed_outcome(task, prepared, failure)
        if failure.expected:  # the same scan fails again: remember it until the file changes
            write_done(task, prepared, outcome)
        return outcome
    except Exception as error:  # noqa: BLE001 (isolation: whatever happens to one person is that person's ledger row)
        write_log(folder)
        return failed_outcome(task, prepared, StepFailed("recipe", error))


def failed_outcome(task: SubjectTask, prepared: Path, failure: StepFailed) -> Outcome:
    """An outcome without files: the T1 failed, and the PET, if there is one, is left out for that reason."""
    rows = [failed_row(task, prepared, "mri", failure)]
    if task.pet:
        ids = (task.participant_id, task.session_id, "pet")
        reason = f"the T1 failed at step {failure.step}; without it a PET cannot be brought to the template"
        rows.append(LedgerRow(*ids, "excluded", failure.step, "no_t1", reason, os.path.relpath(task.pet, prepared)))
    return Outcome(task.participant_id, task.session_id, ledger=rows)


def died_outcome(task: SubjectTask, prepared: Path) -> Outcome:
    """Of a subject whose process has ended: by the limit of time, or for a reason that nobody knows."""
    error = RuntimeError(DIED)
    if _is_overtime(task, prepared):
        limit = _overtime_note(task, prepared).read_text(encoding="utf-8").partition("\n")[0]
        error = ScanError("timeout", f"the subject took longer than {limit} and was given up")
    return failed_outcome(task, prepared, StepFailed("recipe", error))


def _run_limited(task: SubjectTask, prepared: Path, worker: Worker, minutes: float) -> Outcome:
    """`run_one`; after so many minutes this process ends, whatever library it is in, and leaves a note."""
    note = _overtime_note(task, prepared)
    with note.open("w", encoding="utf-8") as file:
        file.write(f"{minutes:g} minutes\n")
        file.flush()
        # A thread of its own in C, which no library can block; it adds to the note where the time was spent.
        faulthandler.dump_traceback_later(60 * minutes, exit=True, file=file)
        try:
            outcome = run_one(task, prepared, worker)
        finally:
            faulthandler.cancel_dump_traceback_later()
    note.unlink()
    return outcome


def _overtime_note(task: SubjectTask, prepared: Path) -> Path:
    return prepared / f".overtime-{task.name}{PARTIAL_SUFFIX}"


def _is_overtime(task: SubjectTask, prepared: Path) -> bool:
    note = _overtime_note(task, prepared)
    return note.is_file() and "Timeout" in note.read_text(encoding="utf-8", errors="replace")


def _start_worker(seed: int, limits: Limits) -> None:
    _limit_memory(limits.memory_gib)
    make_repeatable(seed)


def _limit_memory(gib: float) -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (int(gib * 2**30), resource.getrlimit(resource.RLIMIT_DATA)[1]))


@contextmanager
def _thread_budget() -> Iterator[None]:
    """Processes started in here find one thread for every numerical library in their environment."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run_pool(
    tasks: list[SubjectTask], prepared: Path, jobs: int, worker: Worker, keep: Keep, limits: Limits
) -> list[SubjectTask]:
    """Run tasks in worker processes; returns those left over when a worker died."""
    left = []
    with process_pool(max(1, min(jobs, len(tasks))), _start_worker, tasks[0].recipe.seed, limits) as pool:
        with _thread_budget():
            futures = {pool.submit(_run_limited, task, prepared, worker, limits.minutes): task for task in tasks}
        running = set(futures)
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                try:
                    keep(futures[future], future.result())
                except BrokenProcessPool:
                    left.append(futures[future])
    return left


def _submit(
    client: object, tasks: list[SubjectTask], prepared: Path, worker: Worker, keep: Keep, limits: Limits
) -> list[SubjectTask]:
    """Run tasks on Dask's workers; returns those whose workers died. Interrupted, the scheduler keeps nothing."""
    from distributed import as_completed
    from distributed.protocol import serialize
    from distributed.scheduler import KilledWorker

    common = (prepared.absolute(), worker, limits.minutes)
    calls = {task.name: serialize((_run_remotely, _absolute(task), *common)) for task in tasks}
    futures = {client.submit(call_serialized, *calls[task.name], pure=False): task for task in tasks}
    left = []
    try:
        for future in as_completed(futures):
            task = futures[future]
            try:
                outcome = future.result()
            except KilledWorker:
                left.append(task)
                continue
            except Exception as error:  # noqa: BLE001 (it could not even begin, say for want of this package there)
                outcome = failed_outcome(task, prepared, StepFailed("recipe", error))
            keep(task, outcome)
    except BaseException:
        client.cancel(list(futures), force=True)
        raise
    return left


def _run_remotely(task: SubjectTask, prepared: Path, worker: Worker, minutes: float) -> Outcome:
    # Dask asks again for what a worker had finished and not yet handed over when it died, or died of.
    if _is_overtime(task, prepared):
        return died_outcome(task, prepared)
    return read_done(task, prepared) or _run_limited(task, prepared, worker, minutes)


def _absolute(task: SubjectTask) -> SubjectTask:
    """A worker elsewhere need not start in the same folder."""
    return replace(task, t1=task.t1.absolute(), pet=task.pet.absolute() if task.pet else None)
