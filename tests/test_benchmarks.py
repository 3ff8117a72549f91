"""The known answer, small: four people through the whole registration path, coarsely."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.known_answers import known_answers
from preprocessing.recipe import Recipe
from preprocessing.register import COARSE_ITERATIONS


@pytest.mark.slow
def test_registration_finds_the_volumes_and_uptake_that_were_put_in(tmp_path: Path) -> None:
    result = known_answers(tmp_path, subjects=4, jobs=2, recipe=Recipe(syn_iterations=COARSE_ITERATIONS))
    assert result["subjects"] == 4
    assert result["hippocampal volume"]["r"] > 0.8
    assert result["meta-ROI SUVR"]["r"] > 0.9
    assert abs(result["hippocampal volume"]["bias_percent"]) < 8
    assert abs(result["meta-ROI SUVR"]["bias_percent"]) < 6
    assert math.isfinite(result["kinds_auc"]["gm_path"])
