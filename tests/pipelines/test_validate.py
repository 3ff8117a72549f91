"""A finished run on another cohort: nothing of the run changes, and no label of the others reaches a probability."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from adni_tcgm.files import sha256
from adni_tcgm.storage import load_run
from pipelines.restoring import Refused, describe_recipe
from pipelines.validate import check_recipe, list_known, main
from preprocessing.intake.labels import LabelRule
from preprocessing.subject.plan import Recipe


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
