"""Work in a process that may be ended."""

from __future__ import annotations

import os
import time

import pytest

from preprocessing.intake.isolation import Guard
from preprocessing.steps.orient import ScanError


def refuse() -> None:
    raise ScanError("dicom_gap", "one is missing")


def test_answers_and_refusals_come_back_and_a_hang_or_a_crash_is_one_scan_s_fault():
    with Guard(seconds=300) as guard:
        assert guard.run(abs, -3) == 3
        with pytest.raises(ScanError, match="one is missing") as caught:
            guard.run(refuse)
        assert caught.value.reason_code == "dicom_gap"
        with pytest.raises(ScanError, match="the reader crashed"):
            guard.run(os._exit, 9)
        guard.seconds = 0.5
        with pytest.raises(ScanError, match="did not answer in 0.5 s"):
            guard.run(time.sleep, 60)
        guard.seconds = 300
        assert guard.run(abs, -4) == 4


def test_nothing_starts_before_there_is_work():
    with Guard(seconds=1) as guard:
        assert guard._process is None
