"""Cohorts of measurements without maps are read like any other, and hold the people of the full simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adni_tcgm.datasets.adni import AdniConfig, load, load_source
from adni_tcgm.datasets.adni_people import read_people
from adni_tcgm.datasets.adni_regions import META_ROI, SIGNATURE, summaries
from benchmarks.regional_cohorts import TIV, Response, drawn, write_regional
from preprocessing.simulated.people import CohortDesign, draw_people

SIZES = {"converters": 20, "stable": 20, "censored": 4, "reverting": 2, "normal": 6, "dementia": 6}
DESIGN = CohortDesign(**SIZES, raw=0, truncated=0, seed=3)
VOLUMES = [(region, side, "volume_ml") for region in SIGNATURE["mri"] for side in ("left", "right")]
UPTAKE = [(region, side, "suvr") for region in SIGNATURE["pet"] for side in ("left", "right")]
NAMES = [*VOLUMES, *UPTAKE, (*META_ROI, "suvr"), (*META_ROI, "volume_ml"), TIV]


@pytest.fixture(scope="module")
def response() -> Response:
    """Every measurement follows the last number drawn, the size of the head, and has some noise."""
    inputs = drawn(draw_people(DESIGN))
    slopes = np.zeros((inputs.shape[1], len(NAMES)))
    slopes[-1] = 1
    return Response(NAMES, np.full(len(NAMES), 1.0), np.zeros(inputs.shape[1]), slopes, 0.01 * np.eye(len(NAMES)))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, response) -> Path:
    return write_regional(tmp_path_factory.mktemp("regional") / "cohort", DESIGN, response)


def test_measurements_are_what_the_response_says_of_each_person(response: Response):
    people = draw_people(DESIGN)
    logs = np.log(response.measure(people)[TIV].to_numpy())
    assert logs == pytest.approx(1 + np.array([p.log_head_volume for p in people]), abs=0.05)


def test_the_learner_reads_such_a_cohort_like_any_other(cohort: Path):
    splits = load(AdniConfig(str(cohort), features="regions"), 0)
    assert sum(len(part) for part in (splits.train, splits.validation, splits.test)) == 46
    assert {m.name: m.shape[0] for m in splits.modalities} == {"mri": 9, "pet": 7}
    assert summaries(cohort, splits.test.sample_ids).notna().any().all()


def test_people_of_a_seed_are_those_of_the_full_simulation(cohort: Path):
    people, _ = read_people(cohort)
    known = {p.participant_id: p for p in draw_people(DESIGN)}
    groups = {"converter": "converter", "stable": "stable", "censored": "censored", "reverter": "reverting"}
    assert all(known[row.participant_id].group == groups[row.status] for row in people.itertuples())
    without_pet = {row.participant_id for row in people.itertuples() if not row.pet_path}
    assert without_pet == {name for name in people.participant_id if not known[name].has_pet}


def test_cn_and_ad_people_are_source_labels_and_no_training_people(cohort: Path):
    config = AdniConfig(str(cohort), features="regions", source_labels="cn_ad")
    splits = load(config, 0)
    assert splits.source.labels.tolist().count(0) == 6 and splits.source.labels.tolist().count(1) == 6
    everybody = {name for part in (splits.train, splits.validation, splits.test) for name in part.sample_ids}
    assert not everybody & set(splits.source.sample_ids)
    assert splits.source.sample_ids == load_source(config, splits).sample_ids
