"""What a simulated cohort leaves on disk."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from adni_tcgm.datasets.adni_people import read_people
from pipelines.truth import Truth
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.intake.prepared_people import PEOPLE_COLUMNS
from preprocessing.intake.tables import read_histories
from preprocessing.simulated.cohort import write_cohort
from preprocessing.simulated.people import CohortDesign

KEYS = ["participant_id", "session_id", "region", "side"]


def read(path: Path, *index: str) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t").set_index(list(index))


def test_prepared_people_are_listed_with_maps_on_the_grid(written: Path) -> None:
    given = pd.read_csv(written / "prepared" / "given.tsv", sep="\t")
    assert set(PEOPLE_COLUMNS) <= set(given.columns)
    assert len(given) == 10 and given.pet_path.isna().sum() == 2
    image = nib.load(written / "prepared" / given.gm_path[0])
    assert image.shape == (80, 80, 80)
    np.testing.assert_allclose(image.affine[:3, 3], [-80, -102, -92])


def test_regions_of_prepared_people_say_how_they_were_measured_and_are_near_the_truth(written: Path) -> None:
    truth, given = (read(written / path, *KEYS) for path in ("truth/regions.tsv", "prepared/given_regions.tsv"))
    assert list(given.columns) == ["volume_ml", "suvr", "method"]
    methods = given.groupby("region").method.unique().map(list)
    assert methods["hippocampus"] == methods["amygdala"] == ["segmentation"]
    assert methods["precuneus"] == ["grey_matter"] and methods["brainstem"] == ["parenchyma"]
    ratio = given.volume_ml / truth.volume_ml
    for region in ("thalamus", "brainstem", "precuneus"):
        assert ratio.xs(region, level="region").between(0.7, 1.45).all(), region
    assert truth.xs("hippocampus", level="region").method.unique() == ["label"]


def test_second_visit_is_of_the_same_brain_grown_older(written: Path) -> None:
    truth = read(written / "truth" / "regions.tsv", *KEYS).xs("hippocampus", level="region").volume_ml
    change = np.log(truth.xs("ses-M024", level="session_id") / truth.xs("ses-M000", level="session_id"))
    mean = change.groupby("participant_id").mean()
    assert change.between(-0.3, 0.01).all() and (mean < 0).all() and mean.nunique() == 5
    ages = read(written / "prepared" / "given.tsv", "participant_id", "session_id").age.unstack()
    np.testing.assert_allclose(ages["ses-M024"] - ages["ses-M000"], 2)
    baseline, later = (read(written / "truth" / f"{n}.tsv", "participant_id") for n in ("people", "later_visits"))
    assert (later.severity_mri > baseline.severity_mri).all()
    assert Truth.read(written / "truth").summaries().hippocampus_ml.between(2, 12).all()


def test_second_visits_train_with_no_label_of_their_own(written: Path, tmp_path: Path) -> None:
    """Preprocessing takes both visits over, and the loader reads one a person."""
    shutil.copytree(written, tmp_path / "out")
    preprocess_cohort(tmp_path / "out/raw", tmp_path / "out/prepared", jobs=0, progress=False)
    manifest = pd.read_csv(tmp_path / "out/prepared/manifest.tsv", sep="\t")
    assert len(manifest) == 10 and set(manifest.session_id) == {"ses-M000", "ses-M024"}
    _, status = read_people(tmp_path / "out/prepared")
    assert status is not None


def test_tables_of_the_download_name_everybody(written: Path) -> None:
    assert (written / "raw" / "SIMULATED.txt").is_file()
    people = pd.read_csv(written / "truth" / "people.tsv", sep="\t")
    histories = read_histories(written / "raw", set(people.ptid))
    assert {ptid: len(visits) > 2 for ptid, visits in histories.items()} == dict.fromkeys(people.ptid, True)


def test_second_call_writes_nothing_and_another_design_is_refused(written: Path, design: CohortDesign) -> None:
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*") if path.is_file()}
    write_cohort(written, design, jobs=0, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in written.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="another design .seed differ"):
        write_cohort(written, replace(design, seed=1), progress=False)


def test_truth_stands_apart_from_what_training_reads(written: Path) -> None:
    people = pd.read_csv(written / "truth" / "people.tsv", sep="\t")
    assert "severity_mri" in people
    seen = [p for folder in ("raw", "prepared") for p in (written / folder).rglob("*.tsv")]
    assert seen and not any("severity" in path.read_text() for path in seen)
    assert json.loads((written / "truth" / "design.json").read_text())["converters"] == 1
