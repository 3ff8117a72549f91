"""Every text that a file holds, wherever its format keeps one: headers, metadata, compressed streams, pages within."""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pypdf

from adni_tcgm.limits import check_npz

Text = tuple[str, str]  # where in the file, and what stands there
MOST = 64 * 2**20  # of anything that unfolds
RUN = re.compile(rb"[\x20-\x7e\xa1-\xff]{5,}")
WIDE_RUN = re.compile(rb"(?:[\x20-\x7e]\x00){5,}")
STREAM = re.compile(rb"stream\r?\n(.*?)endstream", re.DOTALL)
DATA = re.compile(r"[A-Za-z0-9+/]{200,}={0,2}")
# A script as long as this is a library's (the viewer); its authors' names are no participant's.
SCRIPT = re.compile(r"<script>.{100000,}?</script>", re.DOTALL)
PNG = b"\x89PNG\r\n\x1a\n"


def read_texts(path: Path) -> Iterator[Text]:
    """(place, text) of a file. What cannot be read as its name says is searched as bytes."""
    ending = "".join(path.suffixes[-2:]).lower()
    reader = READERS.get(ending) or READERS.get(path.suffix.lower(), _bytes)
    try:
        yield from reader(path)
    except Exception as error:  # noqa: BLE001 (a broken file may still hold a name)
        yield "note", f"not readable as {path.suffix}: {type(error).__name__}"
        yield from _bytes(path)


def printable(content: bytes) -> str:
    """Runs of five characters or more, a line each, in one-byte and in two-byte letters."""
    runs = [run.decode("latin-1") for run in RUN.findall(content)]
    return "\n".join(runs + [run.decode("utf-16-le") for run in WIDE_RUN.findall(content)])


def _bytes(path: Path) -> Iterator[Text]:
    with path.open("rb") as file:
        content = file.read(MOST)
    yield from _content(content, "bytes")


def _content(content: bytes, place: str) -> Iterator[Text]:
    """Something without a name, by its first bytes."""
    if content[:2] == b"\x1f\x8b":
        yield place, _gzip_name(content)
        with gzip.open(io.BytesIO(content)) as file:
            content = file.read(MOST)
        yield from _content(content, f"{place}, unfolded")
    elif content.startswith(PNG):
        yield from _png_chunks(content, place)
    elif nib.Nifti1Header.may_contain_header(content[:348]) or nib.Nifti2Header.may_contain_header(content[:540]):
        yield from _nifti_header(content, place)
    else:
        try:
            yield place, content.decode("utf-8")
        except UnicodeDecodeError:
            yield place, printable(content)


def _gzip_name(content: bytes) -> str:
    """The name of the file and the comment that gzip may keep in front (RFC 1952)."""
    return printable(content[10:300]) if content[3] & 0b11100 else ""


def _text(path: Path) -> Iterator[Text]:
    with path.open("rb") as file:
        yield "text", file.read(MOST).decode("utf-8", errors="replace")


def _html(path: Path) -> Iterator[Text]:
    page = SCRIPT.sub("", path.read_text(encoding="utf-8", errors="replace"))
    for number, match in enumerate(DATA.finditer(page)):
        try:
            yield from _content(base64.b64decode(match[0], validate=True), f"embedded {number}")
        except (binascii.Error, EOFError, OSError, zlib.error):
            yield "text", match[0]
    yield "text", DATA.sub("", page)


def _nifti(path: Path) -> Iterator[Text]:
    with path.open("rb") as file:
        start = file.read(4096)
    if start[:2] == b"\x1f\x8b":
        yield "name in the gzip header", _gzip_name(start)
    with gzip.open(path) if start[:2] == b"\x1f\x8b" else path.open("rb") as file:
        yield from _nifti_header(file.read(2**20), "header")


def _nifti_header(content: bytes, place: str) -> Iterator[Text]:
    """The header with its free texts, and the extensions before the voxels."""
    kind = nib.Nifti1Header if nib.Nifti1Header.may_contain_header(content[:348]) else nib.Nifti2Header
    header = kind(content[: kind.sizeof_hdr], check=False)
    free = [
        bytes(header[name].tobytes()) for name in ("descrip", "aux_file", "intent_name", "db_name") if name in header
    ]
    yield place, "\n".join(text.rstrip(b"\0").decode("latin-1") for text in free)
    yield f"{place}, extensions", printable(content[kind.sizeof_hdr : max(int(header["vox_offset"]), 0)])


def _pdf(path: Path) -> Iterator[Text]:
    content = path.read_bytes()
    with pypdf.PdfReader(io.BytesIO(content)) as document:
        yield "metadata", "\n".join(f"{key}: {value}" for key, value in (document.metadata or {}).items())
        for number, page in enumerate(document.pages, start=1):
            yield f"page {number}", page.extract_text()
        for name in document.attachments:
            yield "attachment", name
    yield "bytes", printable(STREAM.sub(b"", content))
    for number, stream in enumerate(STREAM.finditer(content)):
        try:
            unfolded = zlib.decompressobj().decompress(stream[1], MOST)
        except zlib.error:
            unfolded = stream[1]
        if _is_text(unfolded):  # no picture and no font
            yield f"stream {number}", unfolded.decode("latin-1")


def _is_text(content: bytes) -> bool:
    return len(re.findall(rb"[\t\r\n\x20-\x7e]", content)) > 0.9 * len(content)


def _png(path: Path) -> Iterator[Text]:
    yield from _png_chunks(path.read_bytes(), "")


def _png_chunks(content: bytes, place: str) -> Iterator[Text]:
    """Every chunk that is not the picture, and what stands behind its end; compressed texts unfolded."""
    position = len(PNG)
    while position + 8 <= len(content):
        length, name = struct.unpack(">I4s", content[position : position + 8])
        body = content[position + 8 : position + 8 + length]
        if name == b"tIME":
            year, month, day = struct.unpack(">HBB", body[:4])
            yield f"{place} tIME".strip(), f"{year:04d}-{month:02d}-{day:02d}"
        elif name in (b"zTXt", b"iTXt"):
            key, _, packed = body.partition(b"\0")
            start = packed.find(b"\x78")  # where zlib's bytes begin; a plain iTXt has none that unfold
            with contextlib.suppress(zlib.error):
                body = key + b" " + zlib.decompressobj().decompress(packed[start:], MOST)
        if name not in (b"IDAT", b"IHDR", b"PLTE", b"tIME"):
            yield f"{place} {name.decode('latin-1')}".strip(), body.decode("utf-8", errors="replace")
        position += 12 + length
        if name == b"IEND":
            break
    yield f"{place} behind the end".strip(), printable(content[position:])


def _npz(path: Path) -> Iterator[Text]:
    check_npz(path)
    with zipfile.ZipFile(path) as archive:
        notes = [archive.comment, *(member.comment for member in archive.infolist())]
        yield "comments", "\n".join(note.decode("utf-8", errors="replace") for note in notes)
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            yield "name", name
            yield name, _strings(arrays[name])


def _npy(path: Path) -> Iterator[Text]:
    yield "array", _strings(np.load(path, mmap_mode="r", allow_pickle=False))


def _strings(values: np.ndarray) -> str:
    if values.dtype.kind == "S":
        return "\n".join(value.decode("latin-1") for value in values.ravel())
    return "\n".join(map(str, values.ravel())) if values.dtype.kind == "U" else ""


def _safetensors(path: Path) -> Iterator[Text]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        yield "header", file.read(min(length, MOST)).decode("utf-8", errors="replace")


TEXTS = (".json", ".tsv", ".csv", ".txt", ".log", ".md", ".yaml", ".yml", ".svg", ".xml", ".toml")
READERS: dict[str, Callable[[Path], Iterator[Text]]] = dict.fromkeys(TEXTS, _text) | {
    ".html": _html,
    ".nii": _nifti,
    ".nii.gz": _nifti,
    ".pdf": _pdf,
    ".png": _png,
    ".npz": _npz,
    ".npy": _npy,
    ".safetensors": _safetensors,
}
