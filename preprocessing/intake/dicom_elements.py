"""The data elements of a DICOM file up to its pixels, nested ones included (DICOM PS3.5, section 7).

For what SimpleITK does not show: which kind of object a file is, and the functional groups of each frame (PS3.3,
C.7.6.16). Little endian, explicit or implicit; nothing is looked up in a dictionary.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK, MARK_END = b"DICM", 132
SOP_CLASS, TRANSFER_SYNTAX = 0x00020002, 0x00020010
IMPLICIT = "1.2.840.10008.1.2"
PIXELS = 0x7FE00000  # the group of what holds them
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
SHARED, EACH_FRAME = 0x52009229, 0x52009230
PLACE, PLANE, MEASURES, VALUES = 0x00209113, 0x00209116, 0x00289110, 0x00289145
RADIOPHARMACEUTICAL, START_TIMES = 0x00540016, (0x00181072, 0x00181078)
MAX_DEPTH = 16

Dataset = dict[int, Any]


@dataclass(frozen=True)
class Frame:
    """Where a frame of a multi-frame file lies (mm; left, posterior, superior), and what its numbers mean.

    position: 3; orientation: 6 (along a row, along a column); spacing_mm: 2 (between rows, between columns).
    """

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    slope: float = 1.0
    intercept: float = 0.0


def read_meta(path: Path) -> dict[int, str]:
    """The file's group 2 as text by tag; empty where the file carries no DICOM mark or ends within the group."""
    with path.open("rb") as file:
        start = file.read(4096)
    if start[MARK_END - 4 : MARK_END] != MARK:
        return {}
    try:
        found = _Reader(start, MARK_END, explicit=True).dataset(len(start), stop=0x00030000)
    except ValueError:
        return {}
    return {tag: _text(value) for tag, value in found.items() if isinstance(value, bytes)}


def read_texts(path: Path) -> dict[str, str]:
    """Elements before the pixels that are not nested, as text by SimpleITK's keys ("0020|000e"), also where the pixels
    are cut short; empty where the header is."""
    try:
        found = _read_header(path)
    except ValueError:
        return {}
    values = {tag: value for tag, value in found.items() if isinstance(value, bytes)}
    return {f"{tag >> 16:04x}|{tag & 0xFFFF:04x}": _text(value) for tag, value in values.items()}


def read_frames(path: Path) -> list[Frame]:
    """Every frame's place and scaling, in the order of the file; empty where the header does not say all places."""
    try:
        top = _read_header(path)
        shared = _merged(top.get(SHARED, []))
        return [_frame(shared | item) for item in top.get(EACH_FRAME, [])]
    except (ValueError, LookupError, TypeError, AttributeError):
        return []


def read_injection_time(path: Path) -> str:
    """When the tracer was injected, as the header has it: HHMMSS, or with the date before it; else empty."""
    try:
        injected = _merged(_read_header(path).get(RADIOPHARMACEUTICAL, []))
        return next((_text(injected[tag]) for tag in START_TIMES if tag in injected), "")
    except (ValueError, TypeError, AttributeError):
        return ""


def _read_header(path: Path) -> Dataset:
    explicit = read_meta(path).get(TRANSFER_SYNTAX) != IMPLICIT
    content = path.read_bytes()
    return _Reader(content, MARK_END, explicit).dataset(len(content), stop=PIXELS)


def _merged(items: list[Dataset]) -> Dataset:
    return {tag: value for item in items for tag, value in item.items()}


def _frame(groups: Dataset) -> Frame:
    place, plane, measures = (groups[tag][0] for tag in (PLACE, PLANE, MEASURES))
    scaling = groups[VALUES][0] if VALUES in groups else {}
    frame = Frame(
        position=numbers(_text(place[0x00200032])),
        orientation=numbers(_text(plane[0x00200037])),
        spacing_mm=numbers(_text(measures[0x00280030])),
        slope=numbers(_text(scaling.get(0x00281053, b"1")))[0],
        intercept=numbers(_text(scaling.get(0x00281052, b"0")))[0],
    )
    if [len(frame.position), len(frame.orientation), len(frame.spacing_mm)] != [3, 6, 2]:
        raise ValueError("a frame's place needs 3 + 6 + 2 numbers")
    return frame


def numbers(text: str) -> tuple[float, ...]:
    """The numbers of a decimal string, "1\\\\2.5"; none where one of them is no number."""
    try:
        return tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return ()


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")


class _Reader:
    """Goes through bytes once. Raises ValueError where they are no data elements."""

    def __init__(self, content: bytes, position: int, explicit: bool) -> None:
        self.content, self.position, self.explicit = content, position, explicit

    def dataset(self, end: int, stop: int = UNDEFINED, depth: int = 0) -> Dataset:
        """Elements by tag up to byte `end`, a delimiter or the tag `stop`: bytes, or a list of datasets."""
        if depth > MAX_DEPTH:
            raise ValueError("sequences within sequences without end")
        found: Dataset = {}
        # Group 2 is always explicit, what follows may not be.
        explicit = self.explicit
        while self.position + 8 <= end:
            group, element = self._unpack("<HH")
            tag = group << 16 | element
            if tag in (ITEM_END, SEQUENCE_END):
                self.position += 4
                break
            if tag >= stop:
                break
            self.explicit = explicit or group == 2
            found[tag] = self._value(*self._head(), end, depth)
        self.explicit = explicit
        return found

    def _unpack(self, layout: str) -> tuple[int, ...]:
        size = struct.calcsize(layout)
        part = self.content[self.position : self.position + size]
        if len(part) < size:
            raise ValueError("the file ends within an element")
        self.position += size
        return struct.unpack(layout, part)

    def _head(self) -> tuple[bytes, int]:
        """Value representation (empty where it is implicit) and length."""
        if not self.explicit:
            return b"", self._unpack("<I")[0]
        kind = self.content[self.position : self.position + 2]
        self.position += 2
        return (kind, self._unpack("<HI")[1]) if kind in LONG else (kind, self._unpack("<H")[0])

    def _value(self, kind: bytes, length: int, end: int, depth: int) -> bytes | list[Dataset]:
        last = end if length == UNDEFINED else self.position + length
        if last > end:
            raise ValueError("an element is longer than what holds it")
        first = self.content[self.position : self.position + 4]
        if kind == b"SQ" or length == UNDEFINED or (not kind and first == b"\xfe\xff\x00\xe0"):
            explicit, self.explicit = self.explicit, self.explicit and kind != b"UN"  # what is unknown is implicit
            items = list(self._items(last, depth))
            self.explicit = explicit
            return items
        self.position = last
        return self.content[last - length : last]

    def _items(self, end: int, depth: int) -> Iterator[Dataset]:
        while self.position + 8 <= end:
            group, element, length = self._unpack("<HHI")
            if group << 16 | element != ITEM:
                break
            last = end if length == UNDEFINED else self.position + length
            yield self.dataset(min(last, end), depth=depth + 1)
