"""A dynamic PET becomes one image: its late frames, aligned to each other and averaged.

Times come from the BIDS sidecars of the file (FrameTimesStart, FrameDuration and InjectionStart, in seconds); where
they are unknown, the scan is refused rather than guessed at. ADNI's FDG is six frames of 5 min from 30 min on.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from preprocessing import sidecars
from preprocessing.steps import lazy_ants as ants
from preprocessing.steps import orient, register
from preprocessing.steps.orient import ScanError

LATE_MINUTES = (30.0, 60.0)
# Scanners begin a frame some seconds late.
TOLERANCE_MIN = 0.5
MAX_SECONDS = 86400.0


def read_pet(
    path: Path, window_min: tuple[float, float] = LATE_MINUTES, header: str = ""
) -> tuple[nib.Nifti1Image, dict[str, object]]:
    """A PET as a 3-D float32 image in RAS+, and what its sidecar shall say of the frames ({} where it had but one).

    window_min: minutes after injection; frames inside it are averaged. header: as for `orient.read_scan`. Raises
    ScanError: those of `orient.read_scan`, frame_times (unknown), frame_window (no frame inside).
    """
    stored, affine = orient.open_scan(path, header)
    if len(stored.shape) == 3 or stored.shape[3] == 1:
        _check_single_frame(path, window_min)
        return orient.read_scan(path, header), {}
    starts, durations = frame_times(path, stored.shape[3])
    chosen = late_frames(starts, durations, window_min, path)
    values, nan_share = orient.fill_background(orient.read_values(stored, path)[..., chosen], path)
    frames = [nib.as_closest_canonical(nib.Nifti1Image(values[..., i], affine)) for i in range(len(chosen))]
    weights = durations[chosen] / durations[chosen].sum()
    averaged = average(frames, weights)
    mean = orient.finish(np.asarray(averaged.dataobj), averaged.affine, path)
    mean.extra["nan_share"] = nan_share
    minutes = [round(float(starts[chosen[0]]), 2), round(float(starts[chosen[-1]] + durations[chosen[-1]]), 2)]
    return mean, {"FramesAveraged": len(chosen), "FramesMinutes": minutes, "FramesAligned": "rigid, to their mean"}


def _check_single_frame(path: Path, window_min: tuple[float, float]) -> None:
    """Refuse a static PET that ended before the window began: it shows blood flow, and no metabolism.

    Only where the sidecar says when the tracer was injected; else nobody knows, and the scan is read as it is.
    """
    try:
        if "InjectionStart" not in sidecars.read_sidecars(path)[0]:
            return
        starts, durations = frame_times(path, 1)
    except (OSError, ValueError, TypeError):  # ScanError is a ValueError
        return
    if starts[0] + durations[0] <= window_min[0] - TOLERANCE_MIN:
        late_frames(starts, durations, window_min, path)


def frame_times(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Start (after injection) and duration of each frame in minutes. Raises ScanError where they are not known."""
    files = sidecars.sidecars_of(path)
    if not files:
        name = sidecars.sidecar_of(path).name
        raise ScanError("frame_times", f"{count} frames of unknown times: there is no sidecar {name} (file {path})")
    about, problems = sidecars.read_sidecars(path)
    where = ", ".join(file.name for file in files)
    try:
        starts, durations = (np.asarray(about[name], float) for name in ("FrameTimesStart", "FrameDuration"))
        injection = float(about.get("InjectionStart", 0))
    except (ValueError, KeyError, TypeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        what = "; ".join([f"{what} in {where}", *problems])
        raise ScanError("frame_times", f"{count} frames of unknown times: {what}") from error
    known = starts.shape == durations.shape == (count,) and math.isfinite(injection)
    if not known or not np.isfinite([starts, durations]).all() or durations.min() <= 0 or (np.diff(starts) <= 0).any():
        raise ScanError(
            "frame_times",
            f"FrameTimesStart and FrameDuration of {where} must be {count} growing times and {count} positive "
            f"durations; found {about['FrameTimesStart']} and {about['FrameDuration']}",
        )
    if starts[-1] + durations[-1] > MAX_SECONDS:
        found = f"the last of {count} frames ends at {starts[-1] + durations[-1]:g}"
        raise ScanError("frame_times", f"{found}; BIDS counts seconds, and no scan lasts a day: ms? ({where})")
    return (starts - injection) / 60, durations / 60


def late_frames(starts: np.ndarray, durations: np.ndarray, window_min: tuple[float, float], path: Path) -> np.ndarray:
    """Numbers of the frames that lie inside the window. Raises ScanError where there is none."""
    first, last = window_min
    inside = (starts >= first - TOLERANCE_MIN) & (starts + durations <= last + TOLERANCE_MIN)
    if not inside.any():
        there = f"{starts[0]:g} to {starts[-1] + durations[-1]:g} min"
        raise ScanError(
            "frame_window", f"no frame between {first:g} and {last:g} min after injection; there are {there} ({path})"
        )
    return np.flatnonzero(inside)


def average(frames: list[nib.Nifti1Image], weights: np.ndarray) -> nib.Nifti1Image:
    """Weighted mean of frames on one grid, each first brought to their plain mean by a rigid map."""
    affine = frames[0].affine
    stack = np.stack([frame.get_fdata(dtype=np.float32) for frame in frames])
    if len(frames) == 1:
        return frames[0]
    target = register.to_ants(nib.Nifti1Image(stack.mean(0), affine))
    aligned = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, frame in enumerate(frames):
            moving = register.to_ants(frame)
            found = ants.registration(
                target,
                moving,
                type_of_transform="Rigid",
                aff_metric="GC",
                aff_iterations=(100, 50, 20),
                aff_shrink_factors=(4, 2, 1),
                aff_smoothing_sigmas=(2, 1, 0),
                outprefix=f"{scratch}/frame-{number}_",
            )
            aligned.append(ants.apply_transforms(target, moving, found["fwdtransforms"]).numpy())
    return nib.Nifti1Image(np.tensordot(weights, np.stack(aligned), 1).astype(np.float32), affine)
