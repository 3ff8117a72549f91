"""Tests run beside one another on small machines: one thread each is faster than two that wait for each other."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

torch.set_num_threads(1)


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
