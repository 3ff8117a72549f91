"""Thirty broken files of each format (six of DICOM, on which GDCM is slow): read or refused in one sentence; no
crash, no hang, no lost person. `make fuzz` tries a thousand of each.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fuzz import fuzz, mutate
from benchmarks.fuzz_formats import FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_broken_files_are_read_or_refused(name):
    each = 6 if name == "dicom" else 30
    result = fuzz(name, each)
    assert result.findings == {}
    assert result.read + result.refused == each
    assert result.refused > each / 4  # the mutations do break something


def test_the_same_seed_breaks_a_file_in_the_same_way():
    good = bytes(range(256)) * 4
    assert mutate(good, np.random.default_rng(3)) == mutate(good, np.random.default_rng(3)) != good
