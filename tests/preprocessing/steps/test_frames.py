"""A dynamic PET: its late frames are found by their times, aligned and averaged; unknown times are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from preprocessing.steps import frames, orient
from preprocessing.steps.orient import ScanError

AFFINE = np.diag([3.0, 3, 3, 1])


def blob(shift: float = 0.0) -> np.ndarray:
    """Three unlike balls of uptake in 36^3 voxels of 3 mm, moved by `shift` voxels along the first axis."""
    x, y, z = np.meshgrid(*(np.arange(36.0),) * 3, indexing="ij")
    balls = ((18, 18, 18, 7, 1.0), (24, 12, 20, 3, 2.0), (11, 22, 14, 4, 1.5))
    return sum(
        height * np.exp(-(((x - a - shift) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * size**2)))
        for a, b, c, size, height in balls
    ).astype(np.float32)


@pytest.fixture
def dynamic(tmp_path):
    def save(values: np.ndarray, **sidecar: object) -> Path:
        path = tmp_path / "sub-1_pet.nii.gz"
        nib.save(nib.Nifti1Image(values.astype(np.float32), AFFINE), path)
        if sidecar:
            (tmp_path / "sub-1_pet.json").write_text(json.dumps(sidecar))
        return path

    return save


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(ScanError) as caught:
        frames.read_pet(path)
    return caught.value.reason_code, str(caught.value)


def test_only_late_frames_count_and_movement_between_them_is_undone(dynamic):
    early = 50 * blob(8)
    path = dynamic(
        np.stack([early, blob(0), blob(2.0)], -1),
        FrameTimesStart=[100, 1900, 2200],
        FrameDuration=[300, 300, 300],
        InjectionStart=100,
    )
    mean, about = frames.read_pet(path)
    assert about["FramesAveraged"] == 2
    assert about["FramesMinutes"] == [30.0, 40.0]
    values = mean.get_fdata()
    inner = (slice(6, 30),) * 3
    still = min(
        np.abs(values - blob(shift))[inner].mean() for shift in (0, 0.5, 1, 1.5, 2)
    )  # their mean may lie anywhere between
    moving = np.abs((blob(0) + blob(2.0)) / 2 - blob(1))[inner].mean()
    assert still < 0.5 * moving


def test_frames_count_by_their_duration(monkeypatch):
    images = [nib.Nifti1Image(np.full((8, 8, 8), value, np.float32), AFFINE) for value in (1.0, 4.0)]
    monkeypatch.setattr(frames.ants, "registration", lambda *a, **k: {"fwdtransforms": []})
    monkeypatch.setattr(frames.ants, "apply_transforms", lambda fixed, moving, chain: moving)
    assert frames.average(images, np.array([0.75, 0.25])).get_fdata()[4, 4, 4] == pytest.approx(1.75)


def test_unknown_frame_times_are_refused_with_what_is_missing(dynamic):
    values = np.stack([blob()] * 2, -1)
    assert refusal(dynamic(values)) == ("frame_times", refusal(dynamic(values))[1])
    assert "there is no sidecar sub-1_pet.json" in refusal(dynamic(values))[1]
    code, reason = refusal(dynamic(values, FrameTimesStart=[1800, 2100]))
    assert (code, "FrameDuration" in reason) == ("frame_times", True)
    code, reason = refusal(dynamic(values, FrameTimesStart=[1800], FrameDuration=[300]))
    assert (code, "must be 2 growing times" in reason) == ("frame_times", True)


def test_a_series_without_late_frames_is_refused_with_its_times(dynamic):
    code, reason = refusal(dynamic(np.stack([blob()] * 2, -1), FrameTimesStart=[0, 300], FrameDuration=[300, 300]))
    assert code == "frame_window"
    assert "there are 0 to 10 min" in reason


def with_header(path: Path, change: Callable[[nib.Nifti1Image], None]) -> Path:
    image = nib.load(path)
    image = nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)
    change(image)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("code", "change"),
    {
        "no_orientation": lambda image: (image.set_qform(None, 0), image.set_sform(None, 0)),
        "units": lambda image: image.header.set_xyzt_units("meter", "sec"),
        "header_contradiction": lambda image: image.set_qform(np.diag([3.3, 3, 3, 1]), 1),
    }.items(),
)
def test_the_header_of_a_dynamic_pet_is_checked_as_that_of_any_scan(code, change, dynamic):
    path = dynamic(np.stack([blob()] * 2, -1), FrameTimesStart=[1800, 2100], FrameDuration=[300, 300])
    assert refusal(with_header(path, change))[0] == code


def test_a_negative_average_of_frames_is_refused(dynamic):
    path = dynamic(-blob()[..., None] - [10.0, 11], FrameTimesStart=[0, 1800], FrameDuration=[300, 300])
    assert refusal(path)[0] == "negative"


def test_frames_without_values_around_the_body_are_averaged_with_zeros_there(dynamic):
    values = np.stack([blob(), blob()], -1)
    values[:3], values[..., 1][:, 35] = np.nan, np.nan
    path = dynamic(values, FrameTimesStart=[1800, 2100], FrameDuration=[300, 300])
    with pytest.warns(UserWarning, match="sub-1_pet.nii.gz: .* around the head"):
        mean, _ = frames.read_pet(path)
    assert mean.extra["nan_share"] == pytest.approx(1 - 33 * 35 / 36**2)
    assert np.isfinite(mean.get_fdata()).all()


def test_frame_times_in_milliseconds_are_refused_as_such(dynamic):
    path = dynamic(np.stack([blob()] * 2, -1), FrameTimesStart=[0, 1.8e6], FrameDuration=[1.8e6, 1.8e6])
    code, reason = refusal(path)
    assert (code, "ends at 3.6e+06; BIDS counts seconds" in reason) == ("frame_times", True)


def test_a_single_early_frame_is_refused_only_where_the_time_of_injection_is_known(dynamic):
    early = {"FrameTimesStart": [0], "FrameDuration": [600]}
    assert refusal(dynamic(blob(), **early, InjectionStart=0))[0] == "frame_window"
    for sidecar in (early, early | {"InjectionStart": -1800}, {"InjectionStart": 0}, {"InjectionStart": "noon"}):
        assert frames.read_pet(dynamic(blob(), **sidecar))[1] == {}


def test_a_single_volume_is_read_as_any_scan_and_a_4d_t1_is_still_refused(dynamic):
    image, about = frames.read_pet(dynamic(blob()[..., None]))
    assert (image.shape, about) == ((36, 36, 36), {})
    with pytest.raises(ScanError, match="3 axes"):
        orient.read_scan(dynamic(np.stack([blob()] * 2, -1)))
