"""A dynamic PET whose times are known: a DICOM series, or NIfTI, one file with all frames or a file for each."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from adni_tcgm.files import write_bytes
from preprocessing import sidecars
from preprocessing.intake.acquisition import read_tracer
from preprocessing.intake.dicom_elements import read_injection_time
from preprocessing.intake.formats import NIFTI, is_dicom, usable_image, visible_files
from preprocessing.ledger import write_json
from preprocessing.steps import orient
from preprocessing.steps.frames import frame_times
from preprocessing.steps.orient import ScanError
from preprocessing.steps.resolution import describe_scanner


def nifti_files(files: Sequence[Path]) -> list[Path]:
    return sorted(path for path in files if path.name.lower().endswith(NIFTI))


def dynamic_image(files: Sequence[Path]) -> Path:
    """The dynamic PET that these files make up: a NIfTI file, or the folder of a DICOM series or of a file a frame.

    Raises ScanError: those of `usable_image`, and dynamic where nothing says the times of the frames.
    """
    found, frames = usable_image(files), nifti_files(files)
    if found not in frames:
        first = next(path for path in sorted(files) if is_dicom(path) or path.suffix.lower() == ".dcm")
        if not read_injection_time(first):
            raise ScanError("dynamic", "frames of unknown times: no time of the injection in the DICOM header")
        return found
    unknown = [path for path in frames if "FrameTimesStart" not in sidecars.read_sidecars(path)[0]]
    if unknown:
        needed = f"a sidecar {sidecars.sidecar_of(unknown[0]).name} with FrameTimesStart and FrameDuration is needed"
        raise ScanError("dynamic", f"{len(frames)} files of frames whose times nobody says; {needed}")
    return found if len(frames) == 1 else found.parent


def join(source: Path, target: Path) -> str:
    """Write the frames in a folder, a file each, as one NIfTI file with a sidecar of their times; returns "".

    A target that stands is left as it is while the source is unchanged. Raises ScanError: those of `orient.open_scan`,
    frame_times, and dynamic for frames on several grids.
    """
    files, about = visible_files(source), sidecars.sidecar_of(target)
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]
    if target.is_file() and about.is_file() and sidecars.read_sidecar(about)[0].get("SourceDigest") == digest:
        return ""
    times = {path: [float(value[0]) for value in frame_times(path, 1)] for path in nifti_files(files)}
    ordered = sorted(times, key=times.__getitem__)
    opened = [orient.open_scan(path) for path in ordered]
    shape, affine = opened[0][0].shape[:3], opened[0][1]
    if any(i.shape not in (shape, (*shape, 1)) or not np.allclose(a, affine, atol=1e-3) for i, a in opened):
        raise ScanError("dynamic", f"{len(ordered)} frames that do not lie in one place ({source.name})")
    values = [orient.read_values(image, path).reshape(shape) for (image, _), path in zip(opened, ordered, strict=True)]
    image = nib.Nifti1Image(np.stack(values, axis=-1), affine)
    image.header.set_xyzt_units("mm", "sec")
    starts_s, durations_s = ([round(60 * times[path][k], 3) for path in ordered] for k in (0, 1))
    said = sidecars.read_sidecars(ordered[0])[0]
    write_bytes(target, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
    words = {"SourceFormat": "NIfTI, a file a frame", "SourceFiles": len(ordered), "SourceDigest": digest}
    words |= {"InjectionStart": 0, "FrameTimesStart": starts_s, "FrameDuration": durations_s}
    tracer = read_tracer(said.get("TracerName", ""))
    write_json(words | ({"TracerName": tracer} if tracer else {}) | describe_scanner(said), about)
    return ""
