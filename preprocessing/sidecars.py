"""JSON sidecars of an image, inherited as BIDS says: from the data set's root down, the nearer and more specific last.

Nothing in a sidecar is essential: one that cannot be read says nothing, and a sentence tells why.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from pathlib import Path

from adni_tcgm.limits import MAX_TEXT_BYTES, require_size

RESOLUTION_KEYS = frozenset(("ManufacturersModelName", "ReconFilterType", "ReconFilterSize", "ConvolutionKernel"))
TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')


def stem(path: Path) -> str:
    """The name without .nii, .nii.gz or any other ending."""
    return re.sub(r"(?i)\.nii(\.gz)?$|\.[^.]*$", "", path.name)


def sidecar_of(image: Path) -> Path:
    """The sidecar that stands beside a scan and bears its name, there or not."""
    return image.with_name(re.sub(r"(?i)(\.nii)?(\.gz)?$", "", image.name) + ".json")


def sidecars_of(image: Path) -> list[Path]:
    """The sidecars that apply to an image, the most general first.

    They lie in the folders from the data set's root, which holds the image's `sub-*` folder, down to its own; they
    have its suffix, and no entity that it has not. Without a `sub-*` folder only its own folder is looked at.
    """
    entities = stem(image).split("_")
    subject = next((folder for folder in image.parents if folder.name.startswith("sub-")), image.parent)
    folders = [folder for folder in image.parents if folder == subject or subject in folder.parents]
    folders += [subject.parent] if subject.name.startswith("sub-") else []
    found: list[Path] = []
    for folder in reversed(folders):
        names = [name for name in _names(folder) if name.lower().endswith(f"{entities[-1]}.json".lower())]
        parts = {name: name[: -len(".json")].split("_") for name in names}
        applying = [name for name in names if set(parts[name]) <= set(entities)]
        found += [folder / name for name in sorted(applying, key=lambda n: (len(parts[n]), n))]
    return found


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def read_sidecar(path: Path) -> tuple[dict[str, object], str]:
    """What a sidecar says, and a sentence on what is wrong with it: empty for JSON in UTF-8."""
    try:
        require_size(path, MAX_TEXT_BYTES)
        text, wrong = _decode(path.read_bytes())
        content, comma = _parse(text)
    except OSError as error:
        gone = path.is_symlink() and not path.exists()
        return {}, "a link to a file that is not here" if gone else f"it cannot be read ({error.strerror})"
    except RecursionError:
        return {}, "it is nested too deeply"
    except ValueError as error:
        return {}, str(error).removeprefix(f"{path}: ")
    if not isinstance(content, dict):
        return {}, f"it holds a {type(content).__name__} where names and values are needed"
    return content, wrong or comma


def _decode(content: bytes) -> tuple[str, str]:
    if not content.strip(b"\0 \t\r\n"):
        raise ValueError("it is empty")
    encoding = json.detect_encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), "it is not UTF-8; read as Windows-1252"
    wrong = {"utf-8": "", "utf-8-sig": "it begins with a byte order mark; read all the same"}
    return text, wrong.get(encoding, f"it is {encoding.upper()} and not UTF-8; read all the same")


def _parse(text: str) -> tuple[object, str]:
    try:
        return json.loads(text), ""
    except ValueError as error:
        try:
            return json.loads(TRAILING_COMMA.sub(r"\1", text)), "it has a trailing comma; read all the same"
        except ValueError:
            raise ValueError(f"it is no JSON ({error})") from None


def read_sidecars(image: Path) -> tuple[dict[str, object], list[str]]:
    """What all sidecars of an image say together, and what is wrong with some, by name."""
    about: dict[str, object] = {}
    problems = []
    for file in sidecars_of(image):
        content, wrong = read_sidecar(file)
        about |= content
        problems += [f"{file.name}: {wrong}"] if wrong else []
    return about, problems


def that_decide(image: Path) -> list[Path]:
    """The sidecars that decide what becomes of a PET: the one beside it, and those above that time several frames or
    tell the scanner and its filter."""
    own = sidecar_of(image)
    others = {file: read_sidecar(file)[0] for file in sidecars_of(image) if file != own}
    return [*([own] if own.is_file() else []), *(file for file, about in others.items() if _decides(about))]


def _decides(about: dict[str, object]) -> bool:
    times = about.get("FrameTimesStart")
    return (isinstance(times, list) and len(times) > 1) or not RESOLUTION_KEYS.isdisjoint(about)


class Sidecars:
    """The sidecars of a data set: each is read once and, where something is wrong with it, warned of once."""

    def __init__(self) -> None:
        self._read: dict[Path, dict[str, object]] = {}

    def of(self, image: Path) -> dict[str, object]:
        """What all sidecars of an image say together."""
        about: dict[str, object] = {}
        for file in sidecars_of(image):
            if file not in self._read:
                self._read[file], wrong = read_sidecar(file)
                if wrong:
                    warnings.warn(f"{file}: {wrong}", stacklevel=2)
            about |= self._read[file]
        return about
