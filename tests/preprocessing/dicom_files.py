"""DICOM files written byte by byte (explicit VR, little endian), as a scanner would: no reader judges its own writer.

Element order, VR and nesting follow DICOM PS3.5 section 7 and the enhanced MR object of PS3.3 A.36.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

CLASSIC = {"MR": "1.2.840.10008.5.1.4.1.1.4", "PT": "1.2.840.10008.5.1.4.1.1.128"}
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
PATIENT = "Doe^Jane"
LONG = ("OB", "OW", "SQ", "UN", "UT")


def element(tag: int, vr: str, value: object) -> bytes:
    """One data element; a list of bytes is a sequence of items."""
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
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    return head + (struct.pack("<HI", 0, len(body)) if vr in LONG else struct.pack("<H", len(body))) + body


def numbers(values: np.ndarray) -> str:
    return "\\".join(f"{value:.10g}" for value in np.ravel(values))


def write_file(path: Path, elements: dict[int, tuple[str, object]]) -> None:
    uid = elements[0x00080016][1]
    meta = element(0x00020001, "OB", b"\0\1") + element(0x00020002, "UI", uid)
    meta += element(0x00020003, "UI", elements[0x00080018][1]) + element(0x00020010, "UI", LITTLE_ENDIAN)
    meta += element(0x00020012, "UI", "1.2.3.4")
    content = b"".join(element(tag, *elements[tag]) for tag in sorted(elements))
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
) -> Path:
    """One file a slice. `values` (X, Y, Z) int16 as stored; `slopes` (Z,) scale each slice, as PET does.

    File names run against the slice order, which only the headers tell.
    """
    origin, axes, sizes = geometry(affine)
    count = values.shape[2]
    for k in range(count):
        elements = common(modality, CLASSIC[modality], f"{series}.{k + 1}", series, description, values.shape)
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
        write_file(folder / f"{name}{count - k:03d}.dcm", elements)
    return folder


def write_enhanced(
    path: Path, values: np.ndarray, affine: np.ndarray, description: str = "MPRAGE", order: list[int] | None = None
) -> Path:
    """All slices as frames of one enhanced MR file, with functional groups; `order`: the slice of each frame."""
    order = list(range(values.shape[2])) if order is None else order
    origin, axes, sizes = geometry(affine)
    measures = element(0x00180050, "DS", f"{sizes[2]:g}") + element(0x00280030, "DS", numbers(sizes[[1, 0]]))
    orientation = element(0x00200037, "DS", numbers(axes[:, :2].T))
    shared = element(0x00209116, "SQ", [orientation]) + element(0x00289110, "SQ", [measures])
    frames = []
    for k in order:
        content = element(0x00209157, "UL", (1, k + 1))
        position = element(0x00200032, "DS", numbers(origin + k * sizes[2] * axes[:, 2]))
        frames.append(element(0x00209111, "SQ", [content]) + element(0x00209113, "SQ", [position]))
    elements = common("MR", ENHANCED_MR, "1.2.3.200.1", "1.2.3.200", description, values.shape)
    elements |= {
        0x00280008: ("IS", values.shape[2]),
        0x52009229: ("SQ", [shared]),
        0x52009230: ("SQ", frames),
        0x7FE00010: ("OW", np.transpose(values[:, :, order], (2, 1, 0)).astype("<i2").tobytes()),
    }
    write_file(path, elements)
    return path
