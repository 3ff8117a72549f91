"""Files that are whole or not there, folders with one writer, names that stay inside, sums that prove a file.

A full disk or a kill leaves the old file or the new one, never half of one. Standard library and filelock only.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

# What a killed run may leave behind; both are hidden.
PARTIAL_SUFFIX = ".partial"
SCRATCH_PREFIX = ".scratch-"
CHECKSUMS = "checksums.txt"


class FolderRefused(ValueError):
    """Nothing may be written there.

    >>> issubclass(FolderInUse, FolderRefused)
    True
    """


class FolderInUse(FolderRefused):
    """Another process is writing there."""


class DamagedFile(ValueError):
    """A file is gone, or holds other bytes than were written.

    >>> issubclass(DamagedFile, ValueError)
    True
    """


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary neighbor to write to; it takes the place of `path` at the end, or is removed where that fails.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder) / "table.tsv") as partial:
    ...         _ = partial.write_text("whole")
    ...     (Path(folder) / "table.tsv").read_text()
    'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays last: np.savez and matplotlib read the format from it.
    # Two containers that write into one folder may both be process 1.
    writer = f"{os.getpid()}-{secrets.token_hex(4)}"
    partial = path.with_name(f".{path.stem}.{writer}{PARTIAL_SUFFIX}{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing. A link at `path` is replaced, not followed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_bytes(Path(folder) / "new" / "file", b"whole")
    ...     (Path(folder) / "new" / "file").read_bytes()
    b'whole'
    """
    with whole_file(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """The same of text, in UTF-8.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(Path(folder) / "note.txt", "whole")
    ...     (Path(folder) / "note.txt").read_text()
    'whole'
    """
    write_bytes(path, content.encode())


def remove_leftovers(folder: Path, deep: bool = True) -> None:
    """Take away what a killed run left half done: partial files and scratch folders, in `folder` and, `deep`, below.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / ".table.1.partial.tsv").write_text("half")
    ...     remove_leftovers(Path(folder))
    ...     list(Path(folder).iterdir())
    []
    """
    for path in list(folder.rglob(".*") if deep else folder.glob(".*")):
        if path.name.startswith(SCRATCH_PREFIX):
            shutil.rmtree(path, ignore_errors=True)
        elif PARTIAL_SUFFIX in path.suffixes:
            path.unlink(missing_ok=True)


@contextmanager
def lock(path: Path, what: str | Path) -> Iterator[None]:
    """Hold the lock file `path` while `what` is written; the system frees it when its process ends, however it ends.

    Raises FolderInUse naming the process that holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(blocking=False)
    except Timeout:
        rule = "wait until it has ended, or choose another folder"
        raise FolderInUse(f"{what} is being written by process {_holder(path)}; {rule}") from None
    try:
        path.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        # Gone before it is free: whoever opened it meanwhile sees that it has no name, and starts over.
        path.unlink(missing_ok=True)
        held.release()


def _holder(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8").strip() or "?"
    return "?"


def lock_folder(folder: Path) -> AbstractContextManager[None]:
    """One command at a time writes below `folder`. Raises FolderInUse.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, lock_folder(Path(folder)):
    ...     (Path(folder) / ".lock").exists()
    True
    """
    return lock(folder / ".lock", folder)


def inside(folder: Path, name: str | Path) -> Path:
    """folder / name. Raises ValueError where that lies elsewhere, by `..`, as an absolute path, or through a link.

    >>> inside(Path("out"), "runs/a").as_posix()
    'out/runs/a'
    >>> inside(Path("out"), "../other")
    Traceback (most recent call last):
        ...
    ValueError: '../other' leads out of out; whatever is written there must lie inside
    """
    path = Path(folder) / name
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{str(name)!r} leads out of {folder}; whatever is written there must lie inside")
    return path


def check_apart(out: Path, source: Path) -> None:
    """Raises FolderRefused where `out` lies in the input folder `source`, into which nothing is ever written.

    A BIDS data set keeps a place for results: `derivatives`.

    >>> check_apart(Path("out"), Path("data"))
    >>> check_apart(Path("data/out"), Path("data"))
    Traceback (most recent call last):
        ...
    adni_tcgm.files.FolderRefused: out: results must not lie in the folder of the input, data; choose another
    """
    out, source = Path(out).resolve(), Path(source).resolve()
    if out.is_relative_to(source) and not out.is_relative_to(source / "derivatives"):
        raise FolderRefused(
            f"{out.name}: results must not lie in the folder of the input, {source.name}; choose another"
        )


def sha256(file: Path) -> str:
    """The hash of a file, in hexadecimal digits.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "empty").write_bytes(b"")
    ...     sha256(Path(folder) / "empty")[:8]
    'e3b0c442'
    """
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_checksums(folder: Path) -> None:
    """`checksums.txt` of every file below `folder`, as `sha256sum --check checksums.txt` reads it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(Path(folder) / "a", "1")
    ...     write_checksums(Path(folder))
    ...     (Path(folder) / CHECKSUMS).read_text().split()[1]
    'a'
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    lines = [f"{sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    write_text(folder / CHECKSUMS, "".join(lines))


def verify_checksums(folder: Path) -> None:
    """Raises DamagedFile for the first file that `checksums.txt` lists and that is gone or has changed.

    A folder without checksums, of an older version, is taken as it is; files added later are not looked at.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(Path(folder) / "a", "1")
    ...     write_checksums(Path(folder))
    ...     verify_checksums(Path(folder))  # nothing has changed
    """
    listed = folder / CHECKSUMS
    if not listed.is_file():
        return
    for line in listed.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        file = inside(folder, name)
        if not file.is_file():
            raise DamagedFile(f"{file} is gone; {listed.name} says that the run had it: train again")
        if sha256(file) != expected:
            raise DamagedFile(f"{file} has changed since the run was finished ({listed.name}): train again")
