"""The learners of the benchmark of austere runs: which of them see what both scans share, and which labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import austere
from benchmarks.austere import CE, LEFT_IN, TCGM, judge_seed
from tests.datasets.conftest import write_prepared

LEARNERS = {
    f"{TCGM}{LEFT_IN}": ("tcgm", {"train.steps": 2}, "visible"),
    TCGM: ("tcgm", {"train.steps": 2}, "visible"),
    CE: ("ce", {"train.steps": 2}, "all"),
}


@pytest.mark.filterwarnings("ignore:sites are not taken out")
def test_only_learners_of_that_name_see_what_both_scans_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = write_prepared(tmp_path / "cohort", people=60, pool=40)
    cohort.manifest.loc[60:99, "label"] = ["cn", "ad"] * 20
    cohort.manifest.loc[60:99, "label_reason"] = ""
    cohort.write_manifest()
    external = write_prepared(tmp_path / "external", people=40, pool=0, seed=1)
    seen = []

    def remember(settings, method, shown, seed):
        seen.append((settings.data.shared_limit, shown.adjustment.shared_limit, (shown.train.labels >= 0).sum().item()))
        return fitter(settings, method, shown, seed)

    fitter = austere.fitter
    monkeypatch.setattr(austere, "fitter", remember)
    monkeypatch.setattr(austere, "LEARNERS", LEARNERS)
    rows = list(judge_seed(cohort.path, external.path, 0, 0.3, list(LEARNERS)))
    assert seen == [(0.45, 0.45, 11), (0.45, 0.45, 36), (None, None, 11)]
    by_name = {(row["learner"], row["modality"]): row["scores"] for row in rows}
    damped, left_in = (by_name[name, "all"] for name in (TCGM, f"{TCGM}{LEFT_IN}"))
    assert len(damped) == 40 and (damped != left_in).any()
    # The rules without gradients are asked once, on what the first learners see.
    assert [row["learner"] for row in rows].count("ridge logistic") == 1
