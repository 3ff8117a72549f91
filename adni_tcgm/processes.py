"""Worker processes that end with the process that started them, and when it is interrupted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits


@contextmanager
def process_pool(
    jobs: int, initializer: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """`jobs` spawned processes, each begun with `initializer(*arguments)`. Spawned, not forked: the caller may hold
    threads (torch, ITK).

    Where the block is left by an error or by Ctrl-C, what waits is dropped and what runs is ended.
    """
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(initializer, arguments))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    pool.shutdown()


def call_serialized(header: dict[str, Any], frames: list[bytes]) -> Any:
    """What `distributed.protocol.serialize((function, *arguments))` holds, called.

    A scheduler reads the tasks that it hands on, and would load whatever they import: seconds in which it answers
    nobody, and hundreds of megabytes.
    """
    from distributed.protocol import deserialize

    function, *arguments = deserialize(header, frames)
    return function(*arguments)


def _begin(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    # Ctrl-C reaches the whole group; the process that started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A worker of a run that was killed must not go on beside the run that takes its place.
    # One thread a process: where each had as many as there are cores, they would stand in each other's way.
    threadpool_limits(1)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
