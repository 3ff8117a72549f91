"""A finished run on another cohort: nothing of the run changes, and no label of the others reaches a probability."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from adni_tcgm.files import sha256
from adni_tcgm.storage import load_run
from pipelines import validate
from pipelines.predict import predict_people
from pipelines.restoring import Refused, describe_recipe
from pipelines.validate import check_recipe, list_known, main
from preprocessing.cohort.run import preprocess_cohort
from preprocessing.intake.labels import LabelRule
from preprocessing.ledger import LedgerRow
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import Outcome
from preprocessing.subject.plan import Recipe, SubjectTask


@pytest.fixture(scope="module")
def run_dir(trained_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = shutil.copytree(trained_cohort, tmp_path_factory.mktemp("validated") / "out")
    return out / "runs" / "regions-tcgm-r0.3-s0"


def others_like(run_dir: Path, folder: Path, change=None) -> Path:
    """A prepared folder of other people who measure the same as those of the run, and are a year older."""
    shutil.copytree(run_dir.parents[1] / "prepared", folder)
    manifest = pd.read_csv(folder / "manifest.tsv", sep="\t", dtype=str, keep_default_na=False)
    manifest["age"] = (manifest["age"].astype(float) + 1).astype(str)
    if change:
        change(manifest)
    manifest.to_csv(folder / "manifest.tsv", sep="\t", index=False)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def test_nothing_of_the_run_changes_and_everybody_is_judged(run_dir: Path, tmp_path: Path) -> None:
    other, before = others_like(run_dir, tmp_path / "other"), hashes(run_dir)
    kept = hashes(other)
    assert main([str(run_dir), "--data", str(other), "--out", str(tmp_path / "out")]) == 0
    assert hashes(run_dir) == before and hashes(other) == kept
    predictions = pd.read_csv(tmp_path / "out" / "predictions.tsv", sep="\t")
    assert set(predictions["split"]) == {"other"}
    record = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert record["auc"][-1]["other"]["n"] == 20
    assert (tmp_path / "out" / "validation.pdf").is_file()


def test_no_label_of_the_others_reaches_a_probability(run_dir: Path, tmp_path: Path) -> None:
    def exchange(manifest: pd.DataFrame) -> None:
        for column in ("label", "label_reason"):
            manifest[column] = manifest[column].replace({"stable": "converter", "converter": "stable"})

    tables = []
    for name, change in (("as-they-are", None), ("exchanged", exchange)):
        other = others_like(run_dir, tmp_path / name, change)
        assert main([str(run_dir), "--data", str(other), "--out", str(tmp_path / f"out-{name}")]) == 0
        tables.append(pd.read_csv(tmp_path / f"out-{name}" / "predictions.tsv", sep="\t"))
    first, second = (table.set_index(["sample_id", "modality"]).sort_index() for table in tables)
    assert (first["label"].fillna("") != second["label"].fillna("")).any()
    assert first["log_p_calibrated_converter"].equals(second["log_p_calibrated_converter"])


def write_scans(people: pd.DataFrame, layout: str, folder: Path) -> Path:
    """Empty scans of `people` as a list or a BIDS data set, with age, sex, site and the course of the diagnosis."""
    table = people[["subject", "age", "sex", "site"]].assign(history="0:MCI 12:MCI 24:MCI 36:MCI")
    table.loc[people["label"] == "converter", "history"] = "0:MCI 12:MCI 24:AD"
    names = {"t1": "anat/{}_T1w.nii", "pet": "pet/{}_trc-FDG_pet.nii"}
    for column, name in names.items():
        table[column] = [f"{subject}/{name.format(subject)}" for subject in table["subject"]]
        for file in table[column]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), folder / file)
    if layout == "list":
        table.to_csv(folder / "people.csv", index=False)
        return folder / "people.csv"
    table = table.rename(columns={"subject": "participant_id", "history": "diagnosis_history"})
    table.drop(columns=list(names)).to_csv(folder / "participants.tsv", sep="\t", index=False)
    return folder


@pytest.mark.parametrize("layout", ["list", "bids"])
def test_a_list_and_a_bids_data_set_are_prepared_labeled_and_predicted_as_the_same_people_are_elsewhere(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """The pipeline is a stand-in: whoever comes as scans measures what one of the run's own people does."""
    own = run_dir.parents[1] / "prepared"
    people = pd.read_csv(own / "manifest.tsv", sep="\t", dtype=str, keep_default_na=False)
    people = people[people["label"].isin(["stable", "converter"]) & (people["pet_path"] != "")].head(12)
    people["subject"] = "sub-other" + people["participant_id"].str[-4:]
    lent = people.set_index("subject")
    regions = pd.read_csv(own / "regions.tsv", sep="\t")

    def lend(task: SubjectTask, prepared: Path) -> Outcome:
        ids, person = (task.participant_id, task.session_id), lent.loc[task.participant_id]
        paths = {"gm_path": f"{ids[0]}/gm.nii.gz", "pet_path": f"{ids[0]}/pet.nii.gz"}
        for name, path in paths.items():
            (prepared / path).parent.mkdir(exist_ok=True)
            shutil.copy(own / person[name], prepared / path)
        measured = regions[regions["participant_id"] == person["participant_id"]]
        file = SubjectFolder(task, prepared).regions
        file.parent.mkdir(parents=True, exist_ok=True)
        measured.assign(participant_id=ids[0], session_id=ids[1]).to_csv(file, sep="\t", index=False)
        rows = [LedgerRow(*ids, modality, "kept", "recipe") for modality in ("mri", "pet")]
        return Outcome(*ids, **paths, tiv_ml=float(person["tiv_ml"]), qc="pass", ledger=rows)

    prepare = partial(preprocess_cohort, worker=lend, progress=False)
    monkeypatch.setattr(validate, "preprocess_cohort", lambda *scans, jobs, **how: prepare(*scans, jobs=0, **how))
    scans = write_scans(people, layout, tmp_path / "in")
    assert main([str(run_dir), f"--{layout}", str(scans), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "validation.pdf").is_file()
    found = pd.read_csv(tmp_path / "out" / "predictions.tsv", sep="\t")
    names = (people["participant_id"] + "_ses-M000").tolist()
    expected = predict_people(load_run(run_dir), own, "other", sample_ids=names)
    assert len(found) == len(expected) == 3 * len(people)
    subjects = dict(zip(names, people["subject"] + "_ses-M000", strict=True))
    expected["sample_id"] = expected["sample_id"].map(subjects)
    tables = [table.set_index(["sample_id", "modality"]).sort_index() for table in (found, expected)]
    assert tables[0]["label"].equals(tables[1]["label"])
    for column in ("log_p_converter", "log_p_calibrated_converter"):
        np.testing.assert_allclose(tables[0][column], tables[1][column], atol=1e-5)


def test_the_runs_own_people_judge_nothing(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = run_dir.parents[1] / "prepared"
    assert main([str(run_dir), "--data", str(own), "--out", str(tmp_path / "out")]) == 2
    assert "of its own cohort" in capsys.readouterr().err


def test_an_id_is_the_same_person_unless_people_are_simulated_and_measure_otherwise(
    run_dir: Path, tmp_path: Path
) -> None:
    people = pd.read_csv(run_dir.parents[1] / "prepared" / "manifest.tsv", sep="\t", dtype=str, keep_default_na=False)
    people["sample_id"] = people.participant_id + "_" + people.session_id
    older = people.assign(age=people.age.astype(float) + 1).astype(str)
    assert len(list_known(run_dir, people)) == 24 and not list_known(run_dir, older)
    real = tmp_path / "runs" / run_dir.name
    shutil.copytree(run_dir, real)
    (real / "metrics.json").write_text(
        (real / "metrics.json").read_text().replace('"simulated": true', '"simulated": false')
    )
    (real / "checksums.txt").unlink()
    assert len(list_known(real, older)) == 23
    # With its manifest beside it: one more, who is in no split. As CN, or in the norm, the run has seen that person.
    shutil.copytree(run_dir.parents[1] / "prepared", tmp_path / "prepared")
    assert len(list_known(real, older)) == 24


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (describe_recipe(Recipe(reference="cerebellum")), "recipe .*; the run's people were prepared by"),
        (describe_recipe(Recipe(), LabelRule(horizon_months=24)), "labels count 24 months; those of the run 36"),
        (None, "no such file"),
    ],
)
def test_people_who_were_prepared_or_labeled_in_another_way_are_refused(
    run_dir: Path, tmp_path: Path, content: dict | None, message: str
) -> None:
    if content:
        (tmp_path / "recipe.json").write_text(json.dumps(content))
    with pytest.raises(Refused, match=message):
        check_recipe(tmp_path, load_run(run_dir))
