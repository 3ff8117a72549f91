"""The model that `predict --demo-model` uses: how it is built, what must not be in it, and what its reports say."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from adni_tcgm.datasets.adni import load
from adni_tcgm.storage import load_run
from pipelines.build_demo_model import build_demo_model
from pipelines.commands.predict import DEMO_MODEL
from pipelines.predict import explain, main, predict_person
from pipelines.restoring import Refused, describe_recipe, recipe_of, settings_of
from pipelines.run_adni import main as run_adni
from preprocessing.subject.plan import Recipe
from reports.gathering import gather_cohort
from reports.new_person import write_new_person
from reports.records import load_prepared
from reports.records import load_run as load_report_run
from tests.pipelines.conftest import FAST
from tests.pipelines.test_predict import prepare_like

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    for name in ("prepared", "truth"):
        shutil.copytree(cohort / name, out / name)
    (out / "prepared" / "recipe.json").write_text(json.dumps(describe_recipe(Recipe())))
    options = ["--out", str(out), "--features", "regions", "--label-rate", "0.3", "--stage", "train", *FAST]
    assert run_adni(options) == 0
    return out / "runs" / "regions-tcgm-r0.3-s0"


@pytest.fixture(scope="module")
def built(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_demo_model(trained, tmp_path_factory.mktemp("built") / "demo_model")


def test_the_built_model_says_of_the_same_measurements_what_the_run_says(
    trained: Path, built: Path, tmp_path: Path
) -> None:
    run = load_run(trained)
    known = run.predictions[(run.predictions.split == "test") & run.predictions.present]
    sample_id = known[known.modality == "pet"].sample_id.iloc[0]
    prepared = prepare_like(trained, sample_id, tmp_path / "prepared")
    found = predict_person(load_run(built), prepared).set_index("modality").p_calibrated_converter
    assert found.to_dict() == pytest.approx(
        known[known.sample_id == sample_id].set_index("modality").p_calibrated_converter.to_dict(), abs=2e-6
    )


def test_the_built_model_is_explained_against_the_same_training_people(trained: Path, built: Path) -> None:
    splits = []
    for folder in (trained, built):
        run = load_run(folder)
        splits.append(load(settings_of(run, run.prepared_path).data, run.config["seed"]).train)
    before, after = splits
    assert before.labels.tolist() == after.labels.tolist()
    for name, values in before.inputs.items():
        assert values.numpy() == pytest.approx(after.inputs[name].numpy(), abs=1e-6)


def test_no_name_of_the_cohort_no_map_and_no_path_is_in_the_built_model(trained: Path, built: Path) -> None:
    names = set(load_run(trained).splits.sample_id.str.split("_").str[0].str.removeprefix("sub-"))
    assert not list(built.rglob("*.nii*"))
    for file in (file for file in built.rglob("*") if file.is_file()):
        content = file.read_bytes()
        assert not [name for name in names if name.encode() in content], file
        assert str(trained.parents[2]).encode() not in content, file
    assert pd.read_csv(built / "predictions.tsv", sep="\t").split.isin(["cross_fitted"]).all()


def test_the_same_run_gives_the_same_bytes(trained: Path, built: Path, tmp_path: Path) -> None:
    again = build_demo_model(trained, tmp_path / "again")
    for file in (file for file in built.rglob("*") if file.is_file()):
        assert (again / file.relative_to(built)).read_bytes() == file.read_bytes(), file


def test_a_run_on_real_people_never_becomes_the_demo_model(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "runs" / trained.name)
    metrics = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps(metrics | {"simulated": False}))
    (copy / "checksums.txt").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(Refused, match="trained on real people"):
        build_demo_model(copy, tmp_path / "out")
    assert (tmp_path / "out").is_dir()


def test_the_model_that_ships_is_whole_small_and_of_the_present_recipe() -> None:
    run = load_run(DEMO_MODEL)  # checks the checksums
    assert run.metrics["simulated"]
    assert run.prepared_path == DEMO_MODEL / "prepared"
    assert recipe_of(run) == Recipe()
    assert sum(file.stat().st_size for file in DEMO_MODEL.rglob("*")) < 3 * MEBIBYTE


@pytest.mark.parametrize("without_pet", [False, True])
def test_every_page_and_file_of_a_demo_report_says_simulated_model(
    tmp_path: Path, without_pet: bool, recwarn: pytest.WarningsRecorder
) -> None:
    run = load_run(DEMO_MODEL)
    stand_in = tmp_path / "runs" / "any"  # prepare_like looks for the prepared folder two levels up
    shutil.copytree(DEMO_MODEL / "prepared", tmp_path / "prepared")
    person = prepare_like(stand_in, run.splits.sample_id.iloc[0], tmp_path / "person", without_pet)
    rows = pd.read_csv(person / "manifest.tsv", sep="\t", dtype=str, keep_default_na=False)
    rows.assign(site="elsewhere", age="", sex="").to_csv(person / "manifest.tsv", sep="\t", index=False)
    predictions = predict_person(run, person)
    assert predictions.p_calibrated_converter.between(0, 1).all()
    assert any("not harmonized" in str(warning.message) for warning in recwarn)
    explain(run, person, "sub-new_ses-M000", thorough=False)
    record = json.loads((person / "saliency" / "sub-new_ses-M000" / "saliency.json").read_text())
    assert record["model"] == "SIMULATED MODEL"
    pdf, html = write_new_person(DEMO_MODEL, person, predictions, "sub-new_ses-M000", tmp_path)
    assert html.read_text().count("SIMULATED MODEL") >= 2
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", pdf, "-"], capture_output=True, text=True, check=True).stdout
        pages = text.split("\f")[:-1]
        assert len(pages) >= 2
        assert all("SIMULATED MODEL" in page for page in pages)


def test_the_deficit_maps_of_the_model_that_ships_have_their_norms_without_any_map() -> None:
    cohort = gather_cohort([load_report_run(DEMO_MODEL)], load_prepared(DEMO_MODEL / "prepared"))
    assert {name: norm.n for name, norm in cohort.voxel_norms.items()} == {"mri": 60, "pet": 58}


def test_a_run_and_the_demo_model_together_are_refused(capsys: pytest.CaptureFixture) -> None:
    for given in (["some_run", "--demo-model"], []):
        with pytest.raises(SystemExit):
            main([*given, "--t1", "t1.nii.gz"])
        assert "one of RUN_DIR and --demo-model is needed" in capsys.readouterr().err


def test_the_demo_model_refuses_what_is_no_scan_like_any_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--demo-model", "--t1", str(tmp_path / "none.nii.gz"), "--out", str(tmp_path / "out")]) == 2
    assert "none.nii.gz: no such file or folder" in capsys.readouterr().err
