"""Work on untrusted files in a process of its own, which may hang or crash without harm to ours."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from preprocessing.steps.orient import ScanError

START_SECONDS = 120


class Guard:
    """A helper process, started when it is first needed and anew after it was ended. Close it, or use `with`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` returns there, or the exception that it raises.

        Raises ScanError (unreadable) where there is no answer in time, or the process dies.
        """
        pipe = self._pipe or self._start()
        try:
            pipe.send((function, arguments))
            self._wait_for_start(pipe)
            answered = pipe.poll(self.seconds)
            answer = pipe.recv() if answered else None
        except (EOFError, OSError):
            self.close()
            raise ScanError("unreadable", "the reader crashed on it") from None
        if not answered:
            self.close()
            raise ScanError("unreadable", f"the reader did not answer in {self.seconds:g} s")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        return self._pipe

    def _wait_for_start(self, pipe: Connection) -> None:
        """Until the process has imported what it needs; that is nobody's file's fault."""
        if not pipe.poll(START_SECONDS):
            self.close()
            raise RuntimeError(f"a helper process did not start in {START_SECONDS} s")
        pipe.recv()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = self._pipe = None

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(pipe: Connection) -> None:
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send("started")
        try:
            answer = function(*arguments)
        except Exception as error:  # noqa: BLE001 (it is raised where the work was asked for)
            answer = error
        pipe.send(answer)
