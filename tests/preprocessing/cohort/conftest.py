"""Worker processes that start at once."""

from __future__ import annotations

import multiprocessing

import pytest


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forks and import nothing anew. Spawned ones, as of every command: tests/test_command.py."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: context)
