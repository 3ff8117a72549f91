"""Tests run beside one another on small machines: one thread each is faster than two that wait for each other."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

# Read when the libraries are loaded, here and in every process that a test starts. Two threads of BLAS on matrices of a
# few numbers spend their time waiting for each other: they doubled the processor time of some tests.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
# glibc would give the memory of every large array back to the system, which then clears the next one's page by page.
for variable in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
    os.environ.setdefault(variable, str(2**32))
# Nothing that an import makes is garbage: the collector rests until all is imported.
gc.disable()

import pytest  # noqa: E402
from filelock import FileLock  # noqa: E402

MadeOnce = Callable[[str, Callable[[Path], object]], Path]


def pytest_collection_finish() -> None:
    """What was imported stays to the end: the garbage collector need not go through it at all."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """`made_once(name, make)`: a folder that `make(folder)` creates, once for all workers. Not to be changed."""

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        shared = tmp_path_factory.getbasetemp()
        if "PYTEST_XDIST_WORKER" in os.environ:
            shared = shared.parent
        with FileLock(shared / f"{name}.lock"):
            if not (shared / name).is_dir():
                make(shared / f"unfinished-{name}")
                (shared / f"unfinished-{name}").rename(shared / name)
        return shared / name

    return folder_of


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forks and import nothing anew. Spawned ones, as of every command: tests/test_command.py."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: context)


@pytest.fixture
def small_disk() -> Callable[[int], AbstractContextManager[None]]:
    """`with small_disk(size)`: no file may grow beyond it, which is what a full disk looks like to whoever writes."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit
