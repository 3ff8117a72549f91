"""A new person's prediction from a finished run; the scans' preparation itself is tested in tests/preprocessing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from adni_tcgm.storage import load_run
from pipelines.command_line import parse
from pipelines.config import load_settings
from pipelines.predict import check_modalities, explain, list_scans, main, predict_person
from pipelines.restoring import Refused, recipe_of, settings_of
from pipelines.training import train_run
from preprocessing.subject.plan import Recipe
from reports.new_person import write_new_person

T1 = Path(__file__).parents[2] / "../shared/data/brains/t1/example_brain_t1.nii.gz"


@pytest.fixture(scope="module")
def run_dir(trained_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = shutil.copytree(trained_cohort, tmp_path_factory.mktemp("predicted") / "out")
    return out / "runs" / "regions-tcgm-r0.3-s0"


def prepare_like(run_dir: Path, sample_id: str, folder: Path, without_pet: bool = False) -> Path:
    """A prepared folder of one undiagnosed person called sub-new, whose measurements are those of `sample_id`."""
    source, name = run_dir.parents[1] / "prepared", sample_id.split("_")[0]
    folder.mkdir()
    for table in ("manifest", "regions"):
        rows = pd.read_csv(source / f"{table}.tsv", sep="\t", dtype=str, keep_default_na=False)
        rows = rows[rows.participant_id == name].assign(participant_id="sub-new")
        if table == "manifest":
            rows = rows.assign(label="", label_reason="no_diagnosis", months_to_conversion="", group_id="sub-new")
            rows = rows.assign(pet_path="") if without_pet else rows
        rows.to_csv(folder / f"{table}.tsv", sep="\t", index=False)
    return folder


def test_the_same_measurements_give_the_same_probability_as_in_the_run(run_dir: Path, tmp_path: Path) -> None:
    run = load_run(run_dir)
    known = run.predictions[(run.predictions.split == "test") & run.predictions.present]
    sample_id = known[known.modality == "pet"].sample_id.iloc[0]
    found = predict_person(run, prepare_like(run_dir, sample_id, tmp_path / "prepared"))
    known = known[known.sample_id == sample_id].set_index("modality").sort_index()
    found = found.set_index("modality").sort_index()
    assert set(found.split) == {"new"} and set(found.label) == {""}
    for column in ("p_converter", "p_calibrated_converter"):
        assert found[column].tolist() == pytest.approx(known[column].tolist(), abs=2e-6)


@pytest.mark.parametrize(("method", "pretraining"), [("ce", "murauer"), ("pvcc", "none"), ("pvcc", "murauer")])
def test_runs_begun_by_murauer_and_closed_form_ones_predict_again_as_they_did(
    run_dir: Path, tmp_path: Path, method: str, pretraining: str
) -> None:
    prepared = run_dir.parents[1] / "prepared"
    murauer = {"source": [str(prepared)], "source_steps": 4, "steps": 4, "latent": 8, "hidden": 8}
    overrides = {"data.path": str(prepared), "data.label_rate": 0.3, "train.steps": 4, "train.device": "cpu"}
    overrides |= {"pretraining": pretraining, "pretrainings.murauer": murauer, "methods.pvcc.iterations": 10}
    settings = load_settings("adni_regions", overrides)
    run = load_run(train_run(tmp_path / "runs", settings, method, 0, progress=False))
    known = run.predictions[(run.predictions.split == "test") & run.predictions.present]
    sample_id = known[known.modality == "pet"].sample_id.iloc[0]
    found = predict_person(run, prepare_like(run_dir, sample_id, tmp_path / "prepared")).set_index("modality")
    known = known[known.sample_id == sample_id].set_index("modality")
    assert found.p_converter.to_dict() == pytest.approx(known.p_converter.to_dict(), abs=2e-6)


def test_without_pet_the_mri_speaks_alone(run_dir: Path, tmp_path: Path) -> None:
    run = load_run(run_dir)
    sample_id = run.splits[run.splits.split == "test"].sample_id.iloc[0]
    found = predict_person(run, prepare_like(run_dir, sample_id, tmp_path / "prepared", without_pet=True))
    values = found.set_index("modality").p_calibrated_converter
    assert values["all"] == pytest.approx(values["mri"])
    assert not found.set_index("modality").present["pet"]


def test_what_carried_the_answer_is_explained_or_its_absence_said(
    run_dir: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    run = load_run(run_dir)
    sample_id = run.splits[run.splits.split == "test"].sample_id.iloc[0]
    prepared = prepare_like(run_dir, sample_id, tmp_path / "prepared")
    explain(run, prepared, "sub-new_ses-M000", thorough=False)
    table = pd.read_csv(prepared / "saliency" / "sub-new_ses-M000" / "regions.tsv", sep="\t")
    assert np.isfinite(table.attribution).all() and len(table) == 16  # signature regions of both scans
    monkeypatch.setattr(type(run), "prepared_path", None)
    explain(run, prepared, "sub-new_ses-M000", thorough=False)
    assert "does not say what carried the answer" in capsys.readouterr().err
    with pytest.raises(Refused, match="its prepared folder is gone"):
        explain(run, prepared, "sub-new_ses-M000", thorough=True)


def test_the_report_says_that_only_the_cohort_was_simulated(run_dir: Path, tmp_path: Path) -> None:
    run = load_run(run_dir)
    sample_id = run.splits[run.splits.split == "test"].sample_id.iloc[0]
    prepared = prepare_like(run_dir, sample_id, tmp_path / "prepared")
    predictions = predict_person(run, prepared)
    pages = write_new_person(run_dir, prepared, predictions, "sub-new_ses-M000", tmp_path, identifiers=True)
    assert pages[0].name == "sub-new_ses-M000.pdf"
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", pages[0], "-"], capture_output=True, text=True, check=True).stdout
        assert "SIMULATED MODEL" in text
        assert "SIMULATED SUBJECT" not in text


def test_somebody_of_the_cohort_keeps_the_name(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a name of this run's cohort"):
        name = load_run(run_dir).splits.sample_id.iloc[0]
        write_new_person(run_dir, run_dir.parents[1] / "prepared", pd.DataFrame(), name, tmp_path)


def spoil(run_dir: Path, destination: Path, file: str, change) -> Path:
    folder = destination / "runs" / run_dir.name
    shutil.copytree(run_dir, folder)
    text = (folder / file).read_text()
    (folder / file).write_text(change(text))
    (folder / "checksums.txt").unlink()
    return folder


def test_a_run_keeps_the_recipe_of_its_people(run_dir: Path) -> None:
    assert recipe_of(load_run(run_dir)) == Recipe()


def test_another_recipe_is_refused(run_dir: Path, tmp_path: Path) -> None:
    folder = spoil(run_dir, tmp_path, "recipe.json", lambda text: text.replace(Recipe().hash, "0123456789abcdef"))
    with pytest.raises(Refused, match="recipe 0123456789abcdef; the same settings are now recipe"):
        recipe_of(load_run(folder))


def test_another_template_is_refused(run_dir: Path, tmp_path: Path) -> None:
    folder = spoil(run_dir, tmp_path, "recipe.json", lambda text: text.replace("NLin2009cSym", "NLin6Asym"))
    with pytest.raises(Refused, match="MNI152NLin6Asym.*new scans would lie in 'MNI152NLin2009cSym'"):
        recipe_of(load_run(folder))


def test_a_run_that_says_no_recipe_is_refused(run_dir: Path, tmp_path: Path) -> None:
    folder = spoil(run_dir, tmp_path, "recipe.json", lambda text: text)
    (folder / "recipe.json").unlink()
    with pytest.raises(Refused, match="by which recipe"):
        recipe_of(load_run(folder))


def test_a_run_on_other_data_is_refused(run_dir: Path, tmp_path: Path) -> None:
    def change(text: str) -> str:
        return yaml.safe_dump(yaml.safe_load(text) | {"dataset": "newsgroup"})

    with pytest.raises(Refused, match="trained on 'newsgroup', not on brains"):
        settings_of(load_run(spoil(run_dir, tmp_path, "config.yaml", change)), tmp_path)


def test_a_scan_that_the_run_never_saw_the_like_of_is_refused(run_dir: Path, tmp_path: Path) -> None:
    def drop_pet(text: str) -> str:
        return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("pet"))

    run = load_run(spoil(run_dir, tmp_path, "norms.tsv", drop_pet))
    for name in ("t1.nii", "pet.nii"):
        (tmp_path / name).touch()
    scans = [str(run.path), "--t1", str(tmp_path / "t1.nii")]
    check_modalities(run, list_scans(parse("predict", scans), tmp_path))
    with pytest.raises(Refused, match="cannot judge a PET"):
        check_modalities(run, list_scans(parse("predict", [*scans, "--pet", str(tmp_path / "pet.nii")]), tmp_path))


def test_a_link_is_not_followed_since_its_sidecar_lies_beside_it(tmp_path: Path) -> None:
    scan, link, out = tmp_path / "key-0123", tmp_path / "subject" / "pet.nii.gz", tmp_path / "out"
    scan.touch()
    link.parent.mkdir()
    link.symlink_to(scan)
    (tmp_path / "disk").mkdir()
    out.symlink_to(tmp_path / "disk")
    arguments = parse("predict", [str(tmp_path), "--t1", str(link), "--pet", str(link)])
    row = pd.read_csv(list_scans(arguments, out), sep="\t").iloc[0]
    for written in (row.t1, row.pet):
        assert Path(written).name == "pet.nii.gz" and (out / written).samefile(scan)


def test_a_missing_file_is_one_sentence(run_dir: Path, tmp_path: Path, capsys) -> None:
    assert main([str(run_dir), "--t1", str(tmp_path / "none.nii.gz"), "--out", str(tmp_path / "out")]) == 2
    assert "none.nii.gz: no such file or folder" in capsys.readouterr().err


def test_a_scan_that_is_none_is_refused_with_the_ledgers_reason(run_dir: Path, tmp_path: Path, forked, capsys) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not an image")
    assert main([str(run_dir), "--t1", str(broken), "--out", str(tmp_path / "out")]) == 2
    assert "refused: the T1 could not be prepared: sub-new/ses-M000: " in capsys.readouterr().err


def test_the_site_that_is_named_is_the_new_persons(tmp_path: Path) -> None:
    scan = tmp_path / "t1.nii.gz"
    scan.touch()
    arguments = parse("predict", ["run", "--t1", str(scan), "--site", "Bonn"])
    assert pd.read_csv(list_scans(arguments, tmp_path), sep="\t").site.tolist() == ["Bonn"]


def test_a_person_of_a_bids_data_set_is_found_with_age_sex_and_site(run_dir: Path, tmp_path: Path) -> None:
    scan = tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.touch()
    table = "participant_id\tage\tsex\tsite\nsub-01\t71\tF\tBonn\n"
    (tmp_path / "bids" / "participants.tsv").write_text(table)
    arguments = parse("predict", [str(run_dir), "--bids", str(tmp_path / "bids"), "--subject", "01"])
    row = pd.read_csv(list_scans(arguments, tmp_path), sep="\t").iloc[0]
    assert (tmp_path / row.t1).resolve() == scan.resolve()
    assert (row.age, row.sex, row.site) == (71, "F", "Bonn")
    with pytest.raises(Refused, match="no T1 of sub-02"):
        list_scans(parse("predict", [str(run_dir), "--bids", str(tmp_path / "bids"), "--subject", "02"]), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not T1.is_file(), reason="shared/data/brains/t1 is not there")
def test_a_real_t1_alone_gives_a_report_that_says_what_is_missing(run_dir: Path, tmp_path: Path) -> None:
    assert (
        main([str(run_dir), "--t1", str(T1), "--age", "71", "--sex", "F", "--identifiers", "--out", str(tmp_path)]) == 0
    )
    text = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "sub-new_ses-M000.pdf", "-"], capture_output=True, text=True, check=True
    ).stdout
    assert "No FDG-PET. The combined probability rests on the other scan alone." in text
    assert "No FDG-PET map for this visit" in text
