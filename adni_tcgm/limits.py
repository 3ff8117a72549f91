"""What a file from elsewhere may ask for, judged by its header and its size before memory is given to it.

A few kilobytes can claim an array of terabytes, unfold to gigabytes, or nest so deeply that the reader falls over. Such
a file is refused with one sentence (ValueError), like any other that cannot be used.
"""

from __future__ import annotations

import json
import os
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.lib import format as npy

MAX_TEXT_BYTES = 16 * 2**20  # settings and sidecars
MAX_TABLE_BYTES = 2**30
MAX_COLUMNS = 20_000
MAX_DEPTH = 50  # of nested YAML
# Deflate, of .gz and .zip, shrinks at most 1,032 times.
MAX_SHRINK = 1040
# Where the system does not say how much memory there is.
MEMORY_BYTES = 64 * 2**30


def memory_bytes() -> int:
    """The memory of this machine.

    >>> memory_bytes() > 2**28
    True
    """
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return MEMORY_BYTES


def require_memory(wanted: float, what: str) -> None:
    """Raises ValueError where `wanted` bytes are more than this machine has.

    >>> require_memory(1000, "a small array")
    """
    if wanted > memory_bytes():
        raise ValueError(f"{what} asks for {wanted / 2**30:.3g} GiB; this machine has {memory_bytes() / 2**30:.3g} GiB")


def require_size(path: Path, most: int) -> None:
    """Raises ValueError where a file is larger than `most` bytes.

    >>> require_size(Path(__file__), most=MAX_TEXT_BYTES)
    """
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path}: {size / 2**20:.0f} MiB; at most {most / 2**20:.0f} MiB are read")


def read_text(path: Path, most: int = MAX_TEXT_BYTES) -> str:
    """The text of a file in UTF-8. Raises ValueError where it is larger than `most` bytes.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "note").write_text("ß", encoding="utf-8")
    ...     read_text(Path(folder) / "note")
    'ß'
    """
    require_size(path, most)
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> Any:
    """Plain JSON. Raises ValueError naming the file for what is too large, too deep or no JSON.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.json").write_text('{"EchoTime": 0.003}')
    ...     read_json(Path(folder) / "a.json")
    {'EchoTime': 0.003}
    """
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply") from None
    except ValueError as error:
        raise error if str(error).startswith(str(path)) else ValueError(f"{path}: no JSON: {error}") from error


def load_yaml(text: str) -> Any:
    """Plain YAML: no tags that make objects, no aliases (a few lines of them unfold to gigabytes), no deep nesting.

    Raises ValueError with the line.

    >>> load_yaml("train: {steps: 200}")
    {'train': {'steps': 200}}
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 (a SafeLoader, and stricter)
    except yaml.YAMLError as error:
        raise ValueError(f"no plain YAML: {' '.join(str(error).split())}") from error


class _PlainLoader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases are not read", self.peek_event().start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, f"more than {MAX_DEPTH} levels", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def check_npz(path: Path) -> None:
    """Raises ValueError where an .npz, or an array in it, claims more than it holds or than there is memory for.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "a.npz", x=np.zeros(3))
    ...     check_npz(Path(folder) / "a.npz")
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = 0
            for member in archive.infolist():
                if member.file_size > MAX_SHRINK * member.compress_size + 1024:
                    raise ValueError(f"{path}: {member.filename} claims more than its bytes can unfold to")
                total += member.file_size
                require_memory(total, f"{path}: {member.filename}")
                with archive.open(member) as file:
                    _check_npy(file, member.file_size, f"{path}: {member.filename}")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(f"{path}: no .npz file: {error}") from error


def _check_npy(file: Any, size: int, what: str) -> None:
    major, _ = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    shape, _, kind = read_header(file)
    if not kind.hasobject and prod(shape) * kind.itemsize > size:  # objects are refused by the reader itself
        raise ValueError(f"{what}: an array of shape {shape}, {kind}, in {size} bytes")


def load_npy(path: Path) -> np.ndarray:
    """One array, without pickle. Raises ValueError naming the file.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "a.npy", np.arange(3))
    ...     load_npy(Path(folder) / "a.npy").tolist()
    [0, 1, 2]
    """
    try:
        # Mapped first: what the header claims must be there.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError, OverflowError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error


def check_hdf5(item: Any) -> None:
    """Raises ValueError for an h5py.Dataset whose values lie in other files, or are more than there is memory for."""
    if item.is_virtual or item.external:
        raise ValueError(f"{item.name}: its values lie in another file; those are not followed")
    require_memory(item.nbytes, item.name)
