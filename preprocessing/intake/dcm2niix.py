"""One DICOM series through dcm2niix (Li et al., Journal of Neuroscience Methods 2016), whose wheel has the program."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from adni_tcgm.limits import read_json

# Below what the process is given in which this runs, so that the program ends before it.
SECONDS = 300.0
# -g i: no defaults of the user; -x i: neither crop nor turn; -m y: one series is one volume; -l o: numbers as stored.
OPTIONS = ("-g", "i", "-z", "n", "-x", "i", "-m", "y", "-l", "o", "-ba", "y", "-f", "out", "-w", "2")


@dataclass(frozen=True)
class Converted:
    """values (X, Y, Z) float32 and affine (to mm, RAS+), or None where the program made no single volume; and what its
    sidecar says."""

    values: np.ndarray | None = None
    affine: np.ndarray | None = None
    sidecar: dict[str, object] = field(default_factory=dict)


def run(files: Sequence[Path], volume: bool) -> Converted:
    """Convert the files of one series; without `volume`, only the sidecar is asked for. Never raises for bad files."""
    from dcm2niix import bin as program

    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "in", Path(scratch) / "out"
        source.mkdir()
        target.mkdir()
        for number, file in enumerate(files):
            (source / f"{number:06d}.dcm").symlink_to(file.resolve())
        command = [program, *OPTIONS, "-b", "y" if volume else "o", "-o", str(target), str(source)]
        try:
            subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return Converted()
        sidecar = _sidecar(sorted(target.glob("*.json")))
        images = sorted(target.glob("*.nii"))
        if len(images) != 1:
            return Converted(sidecar=sidecar)
        try:
            image = nib.load(images[0])
            return Converted(np.asarray(image.dataobj, dtype=np.float32), image.affine, sidecar)
        except (OSError, ValueError, nib.filebasedimages.ImageFileError):
            return Converted(sidecar=sidecar)


def _sidecar(found: Sequence[Path]) -> dict[str, object]:
    """The first sidecar; empty where there is none or it is not JSON, since nothing of it is needed."""
    try:
        content = read_json(found[0]) if found else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
