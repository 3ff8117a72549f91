"""People on heads that the shipped networks were trained on are prepared by networks that never saw these."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from preprocessing import networks
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.networks import fold_of_label_map, weights_path
from preprocessing.networks.labels import LabelMap
from preprocessing.networks.train import fold_of
from preprocessing.simulated import cohort, tissue_model
from preprocessing.simulated.folds import FILE, MARK, folds_of, read_folds, write_folds
from preprocessing.simulated.label_map_anatomy import LabelMapAnatomy, PointMap
from preprocessing.simulated.people import CohortDesign
from preprocessing.steps import template
from preprocessing.subject.outcome import Outcome, read_done, write_done
from preprocessing.subject.plan import SubjectTask

LABEL_MAPS = Path(__file__).parents[3] / "../shared/data/brains/label_maps"


def test_the_fold_of_a_head_is_that_whose_training_left_it_out() -> None:
    maps = [LabelMap(f"training_seg_{number:02d}", np.zeros(1)) for number in range(1, 21)]
    for fold in range(1, 6):
        left_out = fold_of(maps, fold)[1]
        assert {fold_of_label_map(Path(f"heads/{one.name}.nii.gz")) for one in left_out} == {fold}


@pytest.mark.parametrize("name", ["head_05.nii.gz", "training_seg_21.nii.gz", "training_seg_00.nii", "training_seg"])
def test_heads_that_no_network_saw_have_no_fold(name: str) -> None:
    assert fold_of_label_map(Path(name)) is None


@pytest.mark.skipif(not LABEL_MAPS.is_dir(), reason="shared/data/brains/label_maps is not there")
def test_every_head_that_networks_were_trained_on_has_its_networks() -> None:
    folds = folds_of(sorted(LABEL_MAPS.glob("training_seg_*.nii.gz")))
    assert folds == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4


def test_a_head_without_its_networks_stops_the_simulation_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    (tmp_path / "training_seg_09.nii.gz").touch()
    design = CohortDesign(converters=1, stable=1, normal=0, dementia=0, censored=0, reverting=0, raw=1, truncated=0)
    with pytest.raises(FileNotFoundError, match="training_seg_09.*head network.*head-fold3.*checkout"):
        cohort.write_cohort(tmp_path / "out", design, tmp_path, jobs=0, progress=False)


def test_a_cohort_on_heads_tells_the_fold_of_those_who_arrive_as_scans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written without rendering anybody: three heads, of folds 1 and 5 and of none."""
    heads = tmp_path / "heads"
    heads.mkdir()
    for name in ("another_head", "training_seg_03", "training_seg_17"):
        (heads / f"{name}.nii.gz").touch()
    nobody = {"truth": pd.DataFrame({"region": ["hippocampus"]}), "given": None, "regions": None}
    monkeypatch.setattr(cohort, "_run", lambda tasks, jobs, progress: [nobody for _ in tasks])
    monkeypatch.setattr(cohort, "_prepare_heads", lambda *_: 3)
    sizes = {"converters": 3, "stable": 3, "normal": 3, "dementia": 0, "censored": 0, "reverting": 0}
    cohort.write_cohort(tmp_path / "out", CohortDesign(**sizes, raw=6, truncated=0), heads, jobs=0, progress=False)
    people = pd.read_csv(tmp_path / "out/truth/people.tsv", sep="\t").set_index("participant_id")
    expected = people.anatomy[people.raw].map({0: None, 1: 1, 2: 5}).dropna().astype(int).to_dict()
    assert read_folds(tmp_path / "out/raw") == expected and set(expected.values()) == {1, 5}


def test_folds_are_obeyed_in_a_simulated_download_and_ignored_in_any_other(download, tmp_path: Path) -> None:
    for ptid in ("001_S_0001", "001_S_0004"):
        download.add_image(ptid, "MPR; GradWarp; B1 Correction; N3; Scaled")
        download.add_diagnoses(ptid, bl=2, m12=2, m36=3)
    raw, seen = download.write(), []

    def worker(task: SubjectTask, prepared: Path) -> Outcome:
        seen.append((task.participant_id, task.fold))
        return Outcome(task.participant_id, task.session_id)

    write_folds(raw, {"sub-ADNI001S0001": 4, "sub-ADNI001S0004": None})
    for marked in (False, True):
        if marked:
            (raw / MARK).touch()
        preprocess_cohort(raw, tmp_path / f"prepared{marked}", jobs=0, progress=False, worker=worker)
    assert sorted(seen[:2]) == [("sub-ADNI001S0001", None), ("sub-ADNI001S0004", None)]
    assert sorted(seen[2:]) == [("sub-ADNI001S0001", 4), ("sub-ADNI001S0004", None)]


def test_a_cohort_without_heads_names_no_fold(written: Path) -> None:
    assert not (written / "raw" / FILE).exists() and read_folds(written / "raw") == {}


def test_what_one_fold_prepared_is_not_taken_for_another(tmp_path: Path) -> None:
    def task(fold: int | None) -> SubjectTask:
        return SubjectTask("sub-1", "ses-M000", tmp_path / "t1.nii", fold=fold)

    for fold in (None, 2):
        write_done(task(fold), tmp_path, Outcome("sub-1", "ses-M000"))
        known = [other for other in (None, 2, 3) if read_done(task(other), tmp_path)]
        assert known == [fold]


def test_what_segmentation_finds_of_a_head_is_found_by_its_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def segment(t1: nib.Nifti1Image, blurred: bool, weights: Path) -> np.ndarray:
        used.append(weights)
        return np.zeros((2, *t1.shape), np.float32)

    monkeypatch.setattr(tissue_model, "segment", segment)
    small = nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), template.t1_1mm().affine)
    monkeypatch.setattr(template, "t1_1mm", lambda: small)  # where the answer is sampled
    still = PointMap(np.zeros((3, *template.GRID_SHAPE), np.float32), template.GRID_AFFINE)
    for name in ("training_seg_12", "another"):
        head = LabelMapAnatomy(Path(f"{name}.nii.gz"), still, still, 0)
        head._map = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
        head._drawn = np.zeros((4, 4, 4), np.float32)
        head.segment(blurred=False)
    assert used == [weights_path("head", 3), weights_path("head")]
