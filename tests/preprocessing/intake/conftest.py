"""One process that converts DICOM for several tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from preprocessing.intake import dicom
from preprocessing.intake.isolation import Guard


@pytest.fixture(scope="module")
def helper_process() -> Iterator[Guard]:
    with Guard(dicom.GDCM_SECONDS) as guard:
        yield guard


@pytest.fixture
def one_helper(helper_process: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions share a process, whose start takes longer than they do. One of its own: test_intake_dicom.py."""
    monkeypatch.setattr(dicom, "Guard", lambda _: nullcontext(helper_process))
