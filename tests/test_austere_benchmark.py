"""The learners of the benchmark of austere runs: which of them see what both scans share, and which labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from adni_tcgm.methods.registry import METHODS
from benchmarks import austere
from benchmarks.austere import CE, LEFT_IN, PEERS, TCGM, judge_seed
from tests.datasets.conftest import write_prepared

LEARNERS = {
    f"{TCGM}{LEFT_IN}": ("tcgm", {"train.steps": 2}, "visible"),
    TCGM: ("tcgm", {"train.steps": 2}, "visible"),
    CE: ("ce", {"train.steps": 2}, "all"),
}


def cohort_and_others(folder: Path) -> tuple[Path, Path]:
    """100 people, 40 of them CN or AD, and 40 others."""
    cohort = write_prepared(folder / "cohort", people=60, pool=40)
    cohort.manifest.loc[60:99, "label"] = ["cn", "ad"] * 20
    cohort.manifest.loc[60:99, "label_reason"] = ""
    cohort.write_manifest()
    return cohort.path, write_prepared(folder / "external", people=40, pool=0, seed=1).path


@pytest.mark.filterwarnings("ignore:sites are not taken out")
def test_only_learners_of_that_name_see_what_both_scans_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, external = cohort_and_others(tmp_path)
    seen = []

    def remember(settings, method, shown, seed):
        seen.append((settings.data.shared_limit, shown.adjustment.shared_limit, (shown.train.labels >= 0).sum().item()))
        return fitter(settings, method, shown, seed)

    fitter = austere.fitter
    monkeypatch.setattr(austere, "fitter", remember)
    monkeypatch.setattr(austere, "LEARNERS", LEARNERS)
    rows = list(judge_seed(cohort, external, 0, 0.3, list(LEARNERS)))
    assert seen == [(0.45, 0.45, 11), (0.45, 0.45, 36), (None, None, 11)]
    by_name = {(row["learner"], row["modality"]): row["scores"] for row in rows}
    damped, left_in = (by_name[name, "all"] for name in (TCGM, f"{TCGM}{LEFT_IN}"))
    assert len(damped) == 40 and (damped != left_in).any()
    # The rules without gradients are asked once, on what the first learners see.
    assert [row["learner"] for row in rows].count("ridge logistic") == 1


@pytest.mark.filterwarnings("ignore:sites are not taken out")
def test_a_method_that_fuses_early_has_an_answer_for_both_scans_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {TCGM, CE} | set(PEERS) <= set(austere.LEARNERS) and {*PEERS, "tcgm", "ce"} == set(METHODS)
    monkeypatch.setattr(austere, "LEARNERS", {"lmf": ("lmf", {"train.steps": 2}, "visible")})
    rows = list(judge_seed(*cohort_and_others(tmp_path), 0, 0.3, ["lmf"]))
    assert [row["modality"] for row in rows if row["learner"] == "lmf"] == ["all"]
