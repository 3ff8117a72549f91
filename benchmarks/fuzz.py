"""`python -m benchmarks.fuzz [FORMAT...] --each 1000`: broken files by the thousand, given to every reader.

A good file of each format is mutated (bits, numbers at their limits, pieces cut out, doubled, exchanged, text of other
formats) and read. A reader may read it or refuse it in one sentence (ValueError, FileNotFoundError). Anything else is a
finding: another error, a process that dies, a minute without an answer, 4 GiB of memory, a person of a table who
is neither kept nor named. The same seed makes the same files; a finding's file is kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.fuzz_formats import FORMATS, Format

SECONDS = 60
MEMORY_BYTES = 4 * 2**30
ALLOWED = (ValueError, FileNotFoundError)
NUMBERS = [struct.pack(code, value) for code in ("<h", ">h", "<i", ">i", "<f", "<q") for value in (0, -1, 1, 32767)]
NUMBERS += [b"\xff" * 8, b"\x7f" * 4, b"\x80\0\0\0", struct.pack("<f", np.inf), struct.pack("<f", np.nan)]


WORDS = [
    *(b"\0", b"\t", b"\n", b"\r", b'"', b"'", b",", b";", b"{", b"[" * 99, b"]", b":", b"- ", b"&a ", b"*a", b"<<: "),
    *(b"!!binary ", b"\xef\xbb\xbf", b"\xff\xfe", b"1e999", b"-1", b"9" * 40, b"nan", b"NULL", b"../../x", b"=1+1"),
    *(b"#", b"%", b"\xe4"),
]


@dataclass
class Result:
    """Counts of one format. `findings`: number of the mutation -> what happened."""

    read: int = 0
    refused: int = 0
    findings: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four mutations, half of them within the first 400 bytes, where headers are."""
    for _ in range(rng.integers(1, 5)):
        content = _mutate_once(content or b"\0", rng)
    return content


def _mutate_once(content: bytes, rng: np.random.Generator) -> bytes:
    size, length = len(content), int(rng.integers(1, 64))
    at, other = (int(rng.integers(0, min(size, 400) if rng.random() < 0.5 else size)) for _ in range(2))
    kind = int(rng.integers(8))
    if kind == 0:
        return content[:at]
    number, word = NUMBERS[rng.integers(len(NUMBERS))], WORDS[rng.integers(len(WORDS))]
    piece = content[at : at + length]
    put, replaced = {
        1: (bytes([content[at] ^ (1 << int(rng.integers(8)))]), 1),
        2: (rng.bytes(length), length),
        3: (number, len(number)),
        4: (word, int(rng.integers(2)) * len(word)),
        5: (piece * int(rng.integers(2, 20)), length),
        6: (b"", length),
        7: (content[other : other + length], length),
    }[kind]
    return content[:at] + put + content[at + replaced :]


class _Hang(BaseException):
    """A minute without an answer; no reader catches it."""


def _alarm(*_: object) -> None:
    raise _Hang


def _attempt(form: Format, content: bytes, name: str) -> str:
    """read, refused, or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            form.read(path)
        except ALLOWED:
            return "refused"
        except _Hang:
            return f"no answer in {SECONDS} s"
        except BaseException as error:  # noqa: BLE001 (whatever else a reader raises is the finding)
            return f"{type(error).__name__}: {str(error)[:200]}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return "read"


def _content(form: Format, format_name: str, number: int, seed: int) -> tuple[bytes, str]:
    with tempfile.TemporaryDirectory() as folder:
        good = form.make(Path(folder))
        content = good.read_bytes()
    return mutate(content, np.random.default_rng([seed, zlib.crc32(format_name.encode()), number])), good.name


def _work(format_name: str, first: int, last: int, seed: int, answers: object) -> None:
    """In a process of its own: a reader in C may take it down."""
    form = FORMATS[format_name]
    signal.signal(signal.SIGALRM, _alarm)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # GDCM and libpng speak of every broken byte
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _warm_up(form)
        answers.send("ready")
        for number in range(first, last):
            answers.send((number, _attempt(form, *_content(form, format_name, number, seed))))
    answers.close()


def _warm_up(form: Format) -> None:
    """Read a good file first: what is imported then is no reader's slowness, and the good file must be read."""
    with tempfile.TemporaryDirectory() as folder:
        form.read(form.make(Path(folder)))


def fuzz(format_name: str, each: int, seed: int = 0) -> Result:
    """`each` mutations of one format; a process that dies is a finding, and the next one goes on behind it.

    Raises RuntimeError where not even the good file is read.
    """
    result, number, start = Result(), 0, time.perf_counter()
    context = multiprocessing.get_context("fork")
    while number < each:
        receiver, sender = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(format_name, number, each, seed, sender))
        worker.start()
        sender.close()
        if not _is_ready(receiver):
            worker.kill()
            raise RuntimeError(f"{format_name}: the file without any fault is not read")
        try:
            while number < each:
                if not receiver.poll(3 * SECONDS):
                    worker.kill()
                    raise EOFError
                _, answer = receiver.recv()
                _count(result, number, answer)
                number += 1
        except EOFError:
            worker.join()
            _count(result, number, f"the process died ({worker.exitcode})")
            number += 1
        worker.join()
    result.seconds = time.perf_counter() - start
    return result


def _is_ready(answers: Connection) -> bool:
    try:
        return answers.poll(3 * SECONDS) and answers.recv() == "ready"
    except EOFError:
        return False


def _count(result: Result, number: int, answer: str) -> None:
    if answer == "read":
        result.read += 1
    elif answer == "refused":
        result.refused += 1
    else:
        result.findings[number] = answer


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"default: all of {', '.join(FORMATS)}")
    parser.add_argument("--each", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="the tests use 0")
    parser.add_argument("--keep", type=Path, default=Path("out/fuzz"), help="where the files of findings go")
    arguments = parser.parse_args(argv)
    print(f"{'format':12}{'files':>8}{'read':>8}{'refused':>9}{'findings':>10}{'seconds':>9}")
    found = 0
    for name in arguments.formats or FORMATS:
        result = fuzz(name, arguments.each, arguments.seed)
        found += len(result.findings)
        counts = f"{arguments.each:8}{result.read:8}{result.refused:9}{len(result.findings):10}{result.seconds:9.0f}"
        print(f"{name:12}{counts}", flush=True)
        for answer, times in Counter(result.findings.values()).most_common(10):
            number = next(n for n, a in result.findings.items() if a == answer)
            content, file = _content(FORMATS[name], name, number, arguments.seed)
            arguments.keep.mkdir(parents=True, exist_ok=True)
            (arguments.keep / f"{name}-{number}-{file}").write_bytes(content)
            print(f"  {times} x {answer} (first: {number})", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
