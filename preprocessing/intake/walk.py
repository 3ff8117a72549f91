"""Folders as people have them: parts linked from other disks, files that a system keeps beside the data, annexes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from preprocessing.steps.orient import ScanError


def is_hidden(path: Path) -> bool:
    """Files that a system keeps beside the data, as macOS's ._NAME; never an input."""
    return path.name.startswith(".") or "__MACOSX" in path.parts


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder at and below `folder` with the names of its files, in order, hidden ones left out.

    Links are followed; a folder that can be reached in several ways, as one whose link leads back up, comes once, by
    its own name before any link. Names of links that lead nowhere are among the files.
    """
    seen: set[tuple[int, int]] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        here = os.stat(where)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        visible = [name for name in folders if not is_hidden(Path(where, name))]
        folders[:] = sorted(visible, key=lambda name: (os.path.islink(os.path.join(where, name)), name))
        yield Path(where), sorted(name for name in files if not is_hidden(Path(where, name)))


def files_under(folder: Path) -> list[Path]:
    """All files of `walk`, sorted."""
    return sorted(where / name for where, names in walk(folder) for name in names)


def require_content(path: Path) -> None:
    """Raises ScanError (missing_content) for a link to a file that is not here, as annexes leave them."""
    if path.is_symlink() and not path.exists():
        annexed = "annex" in os.readlink(path)
        how = "its content was not fetched (datalad get, git annex get)" if annexed else "the link leads nowhere"
        raise ScanError("missing_content", f"{path.name}: {how}")
