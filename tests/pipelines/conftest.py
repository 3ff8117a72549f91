"""A small prepared cohort, simulated once for all tests of the commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.restoring import describe_recipe
from pipelines.run_adni import main as run_adni
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.people import CohortDesign
from preprocessing.subject.plan import Recipe
from tests.conftest import MadeOnce
from tests.preprocessing.simulated.conftest import quick_segmentation
from tests.reports.conftest import few_draws  # noqa: F401 (no test of a command is about the width of an interval)

# Few steps: what a run of these people is worth is no test's matter.
FAST = ["--set", "train.steps=24", "--set", "train.supervised_steps=6", "--jobs", "1"]
REGIONS = ["--features", "regions", "--label-rate", "0.3", *FAST]


@pytest.fixture(scope="session")
def cohort(made_once: MadeOnce, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of a run whose preprocessing stage is done: 24 prepared people, nobody raw."""
    return shutil.copytree(made_once("cohort", simulate), tmp_path_factory.mktemp("adni") / "out")


@pytest.fixture(scope="session")
def trained_cohort(cohort: Path, made_once: MadeOnce) -> Path:
    """OUT with runs of TCGM and CE on regions, and the recipe of its people; not to be changed, but copied."""

    def train(out: Path) -> None:
        for name in ("raw", "prepared", "truth"):
            shutil.copytree(cohort / name, out / name)
        (out / "prepared" / "recipe.json").write_text(json.dumps(describe_recipe(Recipe())))
        assert run_adni(["--out", str(out), "--stage", "train", *REGIONS]) == 0

    return made_once("trained", train)


def simulate(out: Path) -> None:
    design = CohortDesign(converters=10, stable=10, censored=2, reverting=1, normal=1, dementia=0, raw=0, truncated=0)
    with quick_segmentation():
        write_cohort(out, design, jobs=0, progress=False)
    preprocess_cohort(out / "raw", out / "prepared", jobs=0, progress=False)
