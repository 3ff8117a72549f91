"""The frames of a dynamic PET in DICOM: which slices make up each, and when after the injection it was taken."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from preprocessing.intake.dicom_elements import numbers, read_injection_time
from preprocessing.intake.dicom_series import ACQUISITION_TIME, DURATION, POSITION, Slice
from preprocessing.steps.orient import ScanError

DAY_S = 86400.0


def split_frames(slices: Sequence[Slice]) -> list[tuple[Slice, ...]]:
    """The slices of each frame, the first frame first. One group where no place has two images, and where the headers
    do not say when the slices were taken."""
    groups: dict[float, list[Slice]] = {}
    for one in slices:
        start = seconds_of_day(one.tags.get(ACQUISITION_TIME, ""))
        if start is None:
            return [tuple(slices)]
        groups.setdefault(start, []).append(one)
    images = Counter(one.tags.get(POSITION, "") for one in slices)
    sizes = {len(group) for group in groups.values()}
    # Some scanners give every slice a time of its own.
    if max(images.values()) == 1 or sizes != {len(images)}:
        return [tuple(slices)]
    return [tuple(groups[start]) for start in sorted(groups)]


def frame_times(frames: Sequence[Sequence[Slice]]) -> dict[str, object]:
    """BIDS's times of the frames, in seconds after the injection. Raises ScanError (dynamic) where the headers do not
    say them."""
    first = [group[0] for group in frames]
    durations_s = [numbers(one.tags.get(DURATION, "")) for one in first]
    injection_s = seconds_of_day(read_injection_time(first[0].path))
    if injection_s is None or not all(len(found) == 1 and found[0] > 0 for found in durations_s):
        missing = "the injection" if injection_s is None else "each frame's duration"
        raise ScanError("dynamic", f"{len(frames)} frames of unknown times: no time of {missing} in the DICOM header")
    starts_s = [seconds_of_day(one.tags[ACQUISITION_TIME]) for one in first]
    return {
        "InjectionStart": 0,
        "FrameTimesStart": [round((start - injection_s) % DAY_S, 1) for start in starts_s],
        "FrameDuration": [found[0] / 1000 for found in durations_s],
    }


def seconds_of_day(text: str) -> float | None:
    """Of DICOM's HHMMSS.FFFFFF, or of a date and time that end so; None for anything else.

    >>> seconds_of_day("013000.5"), seconds_of_day("20060301013000.000000+0100"), seconds_of_day("")
    (5400.5, 5400.0, None)
    """
    found = re.fullmatch(r"(?:\d{8})?([01]\d|2[0-3])([0-5]\d)([0-5]\d(?:\.\d*)?)(?:[+-]\d{4})?", text.strip())
    return 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3]) if found else None
