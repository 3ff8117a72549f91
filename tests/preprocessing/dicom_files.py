"""DICOM files written byte by byte (little endian), as a scanner would: no reader judges its own writer.

Element order, VR and nesting follow DICOM PS3.5 section 7 and the enhanced MR object of PS3.3 A.36.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

CLASSIC = {"MR": "1.2.840.10008.5.1.4.1.1.4", "PT": "1.2.840.10008.5.1.4.1.1.128"}
ENHANCED = {"MR": "1.2.840.10008.5.1.4.1.1.4.1", "PT": "1.2.840.10008.5.1.4.1.1.130"}
STRUCTURED_REPORT, DIRECTORY = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.1.3.10"
PRESENTATION_STATE, RAW_DATA = "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.66"
IMPLICIT, EXPLICIT, RLE, JPEG2000 = (f"1.2.840.10008.1.2{kind}" for kind in ("", ".1", ".5", ".4.90"))
PATIENT = "Doe^Jane"
LONG = ("OB", "OW", "SQ", "UN", "UT")


def element(tag: int, vr: str, value: object, implicit: bool = False) -> bytes:
    """One data element; a list of bytes is a sequence of items, a tuple of bytes are encapsulated pixels."""
    if isinstance(value, tuple) and isinstance(value[0], bytes):
        parts = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part for part in (b"", *value))
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + b"OB\0\0\xff\xff\xff\xff" + parts + end
    if vr == "SQ":
        body = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in value)
    elif vr in ("US", "UL"):
        numbers = value if isinstance(value, tuple) else (value,)
        body = struct.pack("<" + {"US": "H", "UL": "I"}[vr] * len(numbers), *numbers)
    elif isinstance(value, bytes):
        body = value
    else:
        body = str(value).encode()
    body += (b"\0" if vr in ("UI", "OB", "OW") else b" ") * (len(body) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack("<I", len(body)) + body
    head += vr.encode()
    return head + (struct.pack("<HI", 0, len(body)) if vr in LONG else struct.pack("<H", len(body))) + body


def numbers(values: np.ndarray) -> str:
    return "\\".join(f"{value:.10g}" for value in np.ravel(values))


def write_file(path: Path, elements: dict[int, tuple[str, object]], syntax: str = EXPLICIT) -> None:
    uid = elements[0x00080016][1]
    meta = element(0x00020001, "OB", b"\0\1") + element(0x00020002, "UI", uid)
    meta += element(0x00020003, "UI", elements[0x00080018][1]) + element(0x00020010, "UI", syntax)
    meta += element(0x00020012, "UI", "1.2.3.4")
    content = b"".join(element(tag, *elements[tag], syntax == IMPLICIT) for tag in sorted(elements))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * 128 + b"DICM" + element(0x00020000, "UL", len(meta)) + meta + content)


def common(modality: str, sop: str, uid: str, series: str, description: str, shape: tuple) -> dict:
    return {
        0x00080016: ("UI", sop),
        0x00080018: ("UI", uid),
        0x00080060: ("CS", modality),
        0x0008103E: ("LO", description),
        0x00100010: ("PN", PATIENT),
        0x00100020: ("LO", "011_S_4105"),
        0x0020000D: ("UI", "1.2.3.5"),
        0x0020000E: ("UI", series),
        0x00280002: ("US", 1),
        0x00280004: ("CS", "MONOCHROME2"),
        0x00280010: ("US", shape[1]),
        0x00280011: ("US", shape[0]),
        0x00280100: ("US", 16),
        0x00280101: ("US", 16),
        0x00280102: ("US", 15),
        0x00280103: ("US", 1),
    }


def write_without_pixels(path: Path, sop: str = STRUCTURED_REPORT, modality: str = "SR") -> Path:
    """An object that lies beside images and is none: a report, a presentation state, raw data, a directory."""
    elements = common(modality, sop, "1.2.3.300.1", "1.2.3.300", "Evidence", (0, 0))
    write_file(path, {tag: value for tag, value in elements.items() if tag < 0x00280000})
    return path


def run_length(stored: np.ndarray) -> bytes:
    """A slice (rows, columns) of int16 as RLE (PS3.5, annex G): high bytes, low bytes, a literal run a row."""
    parts = []
    for shift in (8, 0):
        runs = [row.tobytes() for row in (stored.astype("<u2") >> shift).astype(np.uint8)]
        part = b"".join(bytes([len(run) - 1]) + run for run in runs)
        parts.append(part + b"\0" * (len(part) % 2))
    offsets = [64, 64 + len(parts[0])]
    return struct.pack("<16I", 2, *offsets, *[0] * 13) + b"".join(parts)


def jpeg2000(stored: np.ndarray) -> bytes:
    """A slice (rows, columns) of non-negative int16, without loss."""
    file = io.BytesIO()
    Image.fromarray(stored.astype("<u2")).save(file, "JPEG2000", no_jp2=True, irreversible=False)
    return file.getvalue() + b"\0" * (file.tell() % 2)


PACKED = {RLE: run_length, JPEG2000: jpeg2000}


def geometry(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """DICOM's (left, posterior, superior) origin, directions (columns) and sizes of a RAS+ voxel-to-world affine."""
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    return lps[:3, 3], lps[:3, :3] / sizes, sizes


def write_classic(
    folder: Path,
    values: np.ndarray,
    affine: np.ndarray,
    modality: str = "MR",
    description: str = "MPRAGE",
    series: str = "1.2.3.100",
    slopes: np.ndarray | None = None,
    name: str = "slice",
    ending: str = ".dcm",
    uid: str = "",
    syntax: str = EXPLICIT,
    change: Callable[[int, dict], dict] = lambda k, elements: {},
) -> Path:
    """One file a slice. `values` (X, Y, Z) int16 as stored; `slopes` (Z,) scale each slice, as PET does.

    `uid`: what the slices' own UIDs begin with, the series' UID by default. `change` gives further elements of slice k.
    File names run against the slice order, which only the headers tell.
    """
    origin, axes, sizes = geometry(affine)
    count = values.shape[2]
    for k in range(count):
        elements = common(modality, CLASSIC[modality], f"{uid or series}.{k + 1}", series, description, values.shape)
        elements |= {
            0x00180050: ("DS", f"{sizes[2]:g}"),
            0x00200013: ("IS", k + 1),
            0x00200032: ("DS", numbers(origin + k * sizes[2] * axes[:, 2])),
            0x00200037: ("DS", numbers(axes[:, :2].T)),
            0x00280030: ("DS", numbers(sizes[[1, 0]])),
            0x7FE00010: ("OW", values[:, :, k].T.astype("<i2").tobytes()),
        }
        if modality == "MR":
            elements[0x00180087] = ("DS", "3.0")
        else:
            tracer = element(0x00180031, "LO", f"Fluorodeoxyglucose for {PATIENT}")
            elements[0x00540016] = ("SQ", [tracer])
        if slopes is not None:
            elements |= {0x00281052: ("DS", "0"), 0x00281053: ("DS", f"{slopes[k]:.10g}")}
        if syntax in PACKED:
            elements[0x7FE00010] = ("OB", (PACKED[syntax](values[:, :, k].T),))
        write_file(folder / f"{name}{count - k:03d}{ending}", elements | change(k, elements), syntax)
    return folder


def write_enhanced(
    path: Path,
    values: np.ndarray,
    affine: np.ndarray,
    description: str = "MPRAGE",
    order: list[int] | None = None,
    modality: str = "MR",
    slopes: np.ndarray | None = None,
    syntax: str = EXPLICIT,
) -> Path:
    """All slices as frames of one enhanced file, with functional groups; `order`: the slice of each frame."""
    order = list(range(values.shape[2])) if order is None else order
    origin, axes, sizes = geometry(affine)

    def make(tag: int, vr: str, value: object) -> bytes:
        return element(tag, vr, value, syntax == IMPLICIT)

    measures = make(0x00180050, "DS", f"{sizes[2]:g}") + make(0x00280030, "DS", numbers(sizes[[1, 0]]))
    orientation = make(0x00200037, "DS", numbers(axes[:, :2].T))
    shared = make(0x00209116, "SQ", [orientation]) + make(0x00289110, "SQ", [measures])
    frames = []
    for k in order:
        content = make(0x00209157, "UL", (1, k + 1))
        position = make(0x00200032, "DS", numbers(origin + k * sizes[2] * axes[:, 2]))
        frame = make(0x00209111, "SQ", [content]) + make(0x00209113, "SQ", [position])
        if slopes is not None:
            scaling = make(0x00281052, "DS", "0") + make(0x00281053, "DS", f"{slopes[k]:.10g}")
            frame += make(0x00289145, "SQ", [scaling])
        frames.append(frame)
    elements = common(modality, ENHANCED[modality], "1.2.3.200.1", "1.2.3.200", description, values.shape)
    elements |= {
        0x00280008: ("IS", len(order)),
        0x52009229: ("SQ", [shared]),
        0x52009230: ("SQ", frames),
        0x7FE00010: ("OW", np.transpose(values[:, :, order], (2, 1, 0)).astype("<i2").tobytes()),
    }
    write_file(path, elements, syntax)
    return path
