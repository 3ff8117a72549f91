"""`python -m adni_tcgm.datasets.convert_pickle IN.pkl OUT.npz`: the arrays of a pickle, without running what is in it.

A pickle is a program. This reader follows it only as far as it builds numbers, text, lists, dictionaries and NumPy
arrays; at the first name of anything else it stops, before that is imported or called. Arrays are put together here
from their bytes, so nothing in the file reaches NumPy's own unpickling either. The result is an .npz that needs none.
"""

from __future__ import annotations

import argparse
import pickle
import pickletools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from adni_tcgm.command import add_debug, run_command
from adni_tcgm.files import whole_file

LENGTHS = ".lengths"
NUMBER_OR_TEXT = re.compile(r"[<>|=]?([?bBhHiIlLqQefdg]|[biufSU][0-9]*|b1)")
ARRAY_MAKERS = {"_reconstruct", "_frombuffer", "scalar"}
ARRAY_MODULE = re.compile(r"numpy\._?core\.(multiarray|numeric)")
# How a damaged or hostile file can make the unpickler itself stumble.
STUMBLES = (
    *(pickle.UnpicklingError, EOFError, AttributeError, TypeError, KeyError, IndexError),
    *(OverflowError, RecursionError, MemoryError, NotImplementedError),
)
MAX_VALUES = 20_000_000  # apart from those inside of arrays
RAGGED_DIMENSIONS = 2  # Utterances of different lengths are (T, D) each.


def read_pickle(path: Path) -> Any:
    """What the pickle holds: dictionaries, lists, tuples, text, numbers and arrays. Nothing in it is executed.

    Strings of Python 2 arrive as text of the same bytes (latin-1). Raises FileNotFoundError where there is no file, and
    ValueError naming what the pickle asks for and may not have, or why it cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            _check_memo(file, path.stat().st_size)
            nest = _Unpickler(file, encoding="latin1").load()
        if (size := _unfolded_size(nest, {})) > MAX_VALUES:
            raise ValueError(f"{size:.3g} values, the same ones over and over; at most {MAX_VALUES:.0e} are read")
        return _arrays_of(nest)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: nothing here; expected a pickle") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except STUMBLES as error:
        raise ValueError(f"{path}: not a pickle that can be read: {type(error).__name__}: {error}") from error


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """("train/text", array) for every array inside nested dictionaries; lists of numbers or text are arrays too.

    A list of (T, D) arrays of different lengths becomes one (sum of T, D) array, and NAME.lengths beside it.
    Raises ValueError naming the place of anything else.

    >>> [(name, array.tolist()) for name, array in flatten({"train": {"labels": [0, 1]}})]
    [('train/labels', [0, 1])]
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}/{_text(key)}" if name else _text(key))
        return
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield name, value
        return
    items = list(value.ravel()) if isinstance(value, np.ndarray) else value
    items = items if isinstance(items, list | tuple) else [items]
    if items and all(isinstance(item, np.ndarray) for item in items) and len({item.shape for item in items}) > 1:
        yield from _join(items, name)
        return
    items = [_text(item) if isinstance(item, bytes) else item for item in items]
    try:
        array = np.array([str(i) for i in items] if any(isinstance(i, str) for i in items) else items)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if array.dtype == object:
        kinds = sorted({type(item).__name__ for item in items})
        raise ValueError(f"{name}: holds {', '.join(kinds)}; expected numbers, text or arrays")
    yield name, array.reshape(value.shape) if isinstance(value, np.ndarray) and array.size == value.size else array


def _join(items: list[np.ndarray], name: str) -> Iterator[tuple[str, np.ndarray]]:
    if any(item.ndim != RAGGED_DIMENSIONS or item.shape[1:] != items[0].shape[1:] for item in items):
        shapes = sorted({item.shape for item in items})[:3]
        raise ValueError(f"{name}: arrays of shapes {shapes} …; expected (T, D) with one D")
    yield name, np.concatenate(items)
    yield name + LENGTHS, np.array([len(item) for item in items])


def convert(source: Path, target: Path) -> list[str]:
    """Write the arrays of a pickle to an .npz; their names. Every number keeps its value and type."""
    arrays = dict(flatten(read_pickle(source)))
    if not arrays:
        raise ValueError(f"{source}: holds no array")
    with whole_file(target) as partial:
        np.savez(partial, **arrays)
    return list(arrays)


class _Unpickler(pickle.Unpickler):
    """Knows what arrays, bytes and ordered dictionaries are made by; every other name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if ARRAY_MODULE.fullmatch(module) and name in ARRAY_MAKERS:
            return {"_reconstruct": _Blank, "_frombuffer": _FromBuffer, "scalar": _Scalar}[name]
        if (module, name) == ("numpy", "ndarray"):
            return "ndarray"
        if (module, name) == ("numpy", "dtype"):
            return _Type
        if (module, name) == ("_codecs", "encode"):
            return _Latin1
        if name == "bytes" and module in ("builtins", "__builtin__"):
            return _NoBytes
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        raise ValueError(f"the file asks for {module}.{name}; a feature file needs numbers, text and NumPy arrays only")

    def persistent_load(self, pid: object) -> Any:
        raise ValueError("the file asks for an object kept elsewhere; a feature file needs none")


class _Stub:
    """Stands for a part of an array until all of it is read. No method of it runs anything but the checks below."""

    __slots__ = ("parts", "state")

    def __init__(self, *parts: Any) -> None:
        self.parts, self.state = parts, None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self) -> Any:
        raise NotImplementedError


class _Type(_Stub):
    def value(self) -> np.dtype:
        code = self.parts[0]
        order = self.state[1] if self.state else "="
        plain = not self.state or not any(self.state[2:5])  # No records, no arrays inside of elements.
        if code in ("O", "O8") and plain:
            return np.dtype(object)
        if not (isinstance(code, str) and NUMBER_OR_TEXT.fullmatch(code) and order in ("<", ">", "=", "|") and plain):
            raise ValueError(f"an array of type {code!r}; expected numbers or text")
        kind = np.dtype(code)
        # Only text has a byte order apart from its code here; "|" says that there is none.
        return kind if order == "|" else kind.newbyteorder(order)


class _Latin1(_Stub):
    def value(self) -> bytes:
        text, encoding = self.parts
        if encoding not in ("latin1", "latin-1"):
            raise ValueError(f"bytes written as {encoding!r}; expected latin1")
        return text.encode("latin-1")


class _NoBytes(_Stub):
    """Old protocols write empty bytes as a call of `bytes`."""

    def value(self) -> bytes:
        if self.parts:
            raise ValueError("bytes made of something; a feature file needs empty ones at most")
        return b""


class _Blank(_Stub):
    """An array whose shape, type and bytes follow: NumPy's `_reconstruct`."""

    def value(self) -> np.ndarray:
        _, shape, kind, fortran, content = self.state if len(self.state) == 5 else (1, *self.state)
        kind = kind.value()
        if kind.hasobject:
            array = np.empty(len(content), dtype=object)
            for place, item in enumerate(content):  # At once, NumPy would look inside of the items.
                array[place] = _arrays_of(item)
            return array.reshape(shape, order="F" if fortran else "C")
        return _from_bytes(content, kind, shape, "F" if fortran else "C")


class _FromBuffer(_Stub):
    """An array of pickle protocol 5."""

    def value(self) -> np.ndarray:
        content, kind, shape, order = self.parts
        return _from_bytes(content, kind.value(), shape, "F" if order == "F" else "C")


class _Scalar(_Stub):
    def value(self) -> Any:
        kind, content = self.parts
        return _from_bytes(content, kind.value(), (), "C")[()]


def _from_bytes(content: Any, kind: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    content = content.value() if isinstance(content, _Latin1 | _NoBytes) else content
    content = content.encode("latin-1") if isinstance(content, str) else content
    if kind.hasobject or not kind.itemsize or not isinstance(content, bytes | bytearray):
        raise ValueError(f"an array of type {kind} from bytes; expected numbers or text and their bytes")
    return np.frombuffer(content, kind).reshape(shape, order=order)


def _arrays_of(value: Any) -> Any:
    """The same nest with every stub replaced by what it stands for."""
    if isinstance(value, _Stub):
        return value.value()
    if isinstance(value, dict):
        return {_arrays_of(key): _arrays_of(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_arrays_of(item) for item in value]
    return value


def _check_memo(file: BinaryIO, size: int) -> None:
    """A pickle numbers what it remembers, and the reader makes room up to the highest number."""
    for opcode, argument, _ in pickletools.genops(file):
        if "PUT" in opcode.name and int(argument) > size:
            raise ValueError(f"remembers something as number {argument} in a file of {size} bytes")
    file.seek(0)


def _unfolded_size(value: Any, known: dict[int, int]) -> int:
    """How many values there are when everything that is shared is written out; `known`: id -> size."""
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    else:
        inner = [value.parts, value.state] if isinstance(value, _Stub) else value
    if not isinstance(inner, list | tuple):
        return 1
    if id(value) in known:
        return known[id(value)]
    known[id(value)] = MAX_VALUES + 1  # should it hold itself
    known[id(value)] = 1 + sum(_unfolded_size(item, known) for item in inner)
    return known[id(value)]


def _text(key: Any) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m adni_tcgm.datasets.convert_pickle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="IN.pkl")
    parser.add_argument("target", type=Path, metavar="OUT.npz")
    add_debug(parser)
    arguments = parser.parse_args(argv)
    if arguments.target.suffix != ".npz":
        parser.error(f"{arguments.target}: the result is an .npz file")
    return run_command(_run, arguments, None)


def _run(arguments: argparse.Namespace) -> int:
    names = convert(arguments.source, arguments.target)
    print(f"{arguments.target}: {len(names)} arrays: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
