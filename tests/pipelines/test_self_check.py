"""The response check with a stand-in for the pipeline; what it puts in is tested beside `steps.known_change`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipelines import run_adni, self_check
from pipelines.self_check import check_people, check_response, task_of_list
from preprocessing.steps.orient import ScanError
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import StepFailed
from preprocessing.subject.plan import Recipe, SubjectTask
from reports.records import Prepared
from reports.response import describe_response

VOLUME, UPTAKE = 6.0, 1.3


def scaled(image: nib.Nifti1Image, share: float) -> tuple[nib.Nifti1Image, float]:
    return nib.Nifti1Image(image.get_fdata() * (1 - share), image.affine), share


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SubjectTask:
    """A person with a T1, a PET of two frames and its sidecar; changes only scale the scan by what is kept."""
    scan = nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4))
    for name in ("t1", "pet"):
        nib.save(scan, tmp_path / f"{name}.nii.gz")
    (tmp_path / "pet.json").write_text(json.dumps({"FrameTimesStart": [0, 300]}))
    monkeypatch.setattr(self_check, "put_atrophy", lambda t1, transforms, loss: scaled(t1, loss))
    monkeypatch.setattr(self_check, "put_hypometabolism", lambda pet, transforms, rigid, loss: scaled(pet, loss))
    return SubjectTask("sub-new", "ses-M000", tmp_path / "t1.nii.gz", tmp_path / "pet.nii.gz")


def pretend(task: SubjectTask, prepared: Path) -> None:
    """Measures nine tenths of every change."""
    level = {
        name: float(nib.load(path).get_fdata().mean()) for name, path in (("t1", task.t1), ("pet", task.pet)) if path
    }
    rows = [("hippocampus", side, VOLUME / 2 * (1 + 0.9 * (level["t1"] - 1)), np.nan) for side in ("left", "right")]
    rows += [("meta_roi_proxy", "both", np.nan, UPTAKE * (1 + 0.9 * (level["pet"] - 1)) if task.pet else np.nan)]
    file = SubjectFolder(task, prepared).regions
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["region", "side", "volume_ml", "suvr"]).to_csv(file, sep="\t", index=False)


def test_the_task_is_that_of_the_person_in_the_list(task: SubjectTask, tmp_path: Path) -> None:
    scans, recipe = tmp_path / "scans.tsv", Recipe(reference="cerebellum")
    scans.write_text("subject\tt1\tpet\tage\tsex\tsite\nnew\t./t1.nii.gz\t./pet.nii.gz\t70\tF\t011\n")
    found = task_of_list(scans, tmp_path / "prepared", recipe)
    assert (found.name, found.recipe) == ("sub-new_ses-M000", recipe)
    assert [path.resolve() for path in (found.t1, found.pet)] == [task.t1.resolve(), task.pet.resolve()]


def test_each_change_stands_beside_what_came_back(task: SubjectTask, tmp_path: Path) -> None:
    pretend(task, tmp_path / "prepared")
    table = check_response(task, tmp_path / "prepared", tmp_path / "check", prepare=pretend)
    assert table[["measure", "put_in_percent", "found_percent"]].values.tolist() == [
        ["hippocampus", -5.0, -4.5],
        ["meta-ROI proxy", -10.0, -9.0],
        ["hippocampus", -10.0, -9.0],
    ]
    sidecar = json.loads((tmp_path / "check" / "scans" / "5percent_pet.json").read_text())
    assert sidecar["FrameTimesStart"] == [0, 300]


def test_without_a_pet_the_hippocampi_alone_are_checked_and_the_scans_stay_as_they_are(
    task: SubjectTask, tmp_path: Path
) -> None:
    alone = SubjectTask("sub-new", "ses-M000", task.t1)
    before = task.t1.read_bytes()
    pretend(alone, tmp_path / "prepared")
    table = check_response(alone, tmp_path / "prepared", tmp_path / "check", prepare=pretend)
    assert table["measure"].tolist() == ["hippocampus", "hippocampus"]
    assert task.t1.read_bytes() == before


def test_who_was_checked_is_left_as_he_is_and_scans_that_cannot_be_prepared_are_a_warning(
    task: SubjectTask, tmp_path: Path
) -> None:
    other, prepared = replace(task, participant_id="sub-other"), tmp_path / "prepared"
    for person in (task, other):
        pretend(person, prepared)

    def refuse(changed: SubjectTask, folder: Path) -> None:
        raise StepFailed("register", ScanError("empty", "nothing is left of it"))

    with pytest.warns(UserWarning, match="no response check of sub-other_ses-M000: register: nothing is left of it"):
        check_people([other], prepared, tmp_path / "check", prepare=refuse)
    check_people([task, other], prepared, tmp_path / "check", prepare=pretend)
    check_people([task, other], prepared, tmp_path / "check", prepare=refuse)  # has nothing left to do
    assert all(len(pd.read_csv(SubjectFolder(person, prepared).response, sep="\t")) == 3 for person in (task, other))
    assert sorted(folder.name for folder in (tmp_path / "check").iterdir()) == sorted([task.name, other.name])


def test_the_page_says_what_was_put_in_and_found_and_nothing_where_nobody_asked(
    task: SubjectTask, tmp_path: Path
) -> None:
    home = tmp_path / "prepared"
    home.mkdir()
    visits = pd.DataFrame({"participant_id": ["sub-new"], "session_id": ["ses-M000"]}, index=[task.name])
    prepared = Prepared(home, visits, pd.DataFrame(), pd.DataFrame())
    assert describe_response(prepared, task.name) is None
    pretend(task, home)
    check_response(task, home, tmp_path / "check", prepare=pretend)
    first = describe_response(prepared, task.name)["rows"][0]
    assert first == {"measure": "hippocampus", "put_in": "−5.0 %", "found": "−4.5 %"}


def test_of_a_cohort_those_are_checked_who_are_reported_and_came_as_scans_that_passed(
    task: SubjectTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"sub-good": ("raw", "pass"), "sub-bad": ("raw", "fail"), "sub-given": ("prepared", "pass")}
    scans, prepared = tmp_path / "scans.tsv", tmp_path / "out" / "prepared"
    people = [*names, "sub-unreported"]
    scans.write_text("subject\tt1\tpet\n" + "".join(f"{name}\t./{name}.nii.gz\t\n" for name in people))
    for name in people:
        task.t1.with_name(f"{name}.nii.gz").write_bytes(task.t1.read_bytes())
    prepared.mkdir(parents=True)
    rows = [(name, "ses-M000", *names.get(name, ("raw", "pass"))) for name in people]
    manifest = pd.DataFrame(rows, columns=["participant_id", "session_id", "kind", "qc"])
    manifest.to_csv(prepared / "manifest.tsv", sep="\t", index=False)
    monkeypatch.setattr("reports.plan_subjects", lambda *_: (tmp_path, [f"{name}_ses-M000" for name in names]))
    monkeypatch.setattr(run_adni.results, "write", lambda *_: 0)
    monkeypatch.setattr(run_adni.results, "show", lambda *_: None)
    asked = []
    monkeypatch.setattr(run_adni, "check_people", lambda tasks, *folders: asked.append((tasks, *folders)))
    call = ["--list", str(scans), "--out", str(tmp_path / "out"), "--features", "regions", "--stage", "report"]
    assert run_adni.main([*call, "--reference", "cerebellum"]) == 0
    assert asked == []
    assert run_adni.main([*call, "--reference", "cerebellum", "--self-check"]) == 0
    ((tasks, *folders),) = asked
    assert [(task.name, task.recipe.reference) for task in tasks] == [("sub-good_ses-M000", "cerebellum")]
    assert folders == [prepared, tmp_path / "out" / "self_check"]
