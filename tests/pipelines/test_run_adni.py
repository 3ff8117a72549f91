"""The main command: train and report on a prepared cohort, and do nothing twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from pypdf import PdfReader

from adni_tcgm.storage import load_run
from adni_tcgm.tcgm import trainer
from pipelines import run_adni
from pipelines.run_adni import main
from pipelines.truth import Truth
from reports.writing import Reports
from tests.pipelines.conftest import REGIONS


def arguments(out: Path, *more: str) -> list[str]:
    return ["--out", str(out), *REGIONS, *more]


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(trained_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(trained_cohort, tmp_path_factory.mktemp("trained") / "out")


def test_training_writes_a_run_for_the_method_and_one_for_the_baseline(trained: Path) -> None:
    methods = {load_run(path).metrics["method"] for path in (trained / "runs").glob("regions-*")}
    assert methods == {"tcgm", "ce"}
    metrics = load_run(trained / "runs" / "regions-tcgm-r0.3-s0").metrics
    assert metrics["simulated"] is True
    assert set(metrics["test"]) == {"mri", "pet", "all"}
    assert 0.5 < metrics["bayes"]["all"]["auc"] <= 1


def test_of_the_training_people_only_those_without_an_outcome_are_predicted(trained: Path) -> None:
    run = load_run(trained / "runs" / "regions-tcgm-r0.3-s0")
    train = run.predictions[run.predictions.split == "train"]
    outcome = run.splits.set_index("sample_id").label
    unknown = run.splits[(run.splits.split == "train") & (run.splits.label == "")].sample_id
    assert set(train.sample_id) == set(unknown) and len(unknown) == 3
    assert set(train.label) == {""} and set(outcome[train.sample_id]) == {""}
    assert "train" not in run.metrics
    assert run.metrics["agreement"]["words"]


def test_both_methods_see_the_same_split_and_labels(trained: Path) -> None:
    splits = [load_run(trained / "runs" / f"regions-{name}-r0.3-s0").splits for name in ("tcgm", "ce")]
    pd.testing.assert_frame_equal(*splits)


def test_second_call_trains_nothing_and_another_seed_trains_anew(trained: Path) -> None:
    before = stamps(trained / "runs")
    prepared = stamps(trained / "prepared")
    assert main(arguments(trained, "--stage", "train")) == 0
    assert stamps(trained / "runs") == before
    assert main(arguments(trained, "--stage", "train", "--seed", "1")) == 0
    assert (trained / "runs" / "regions-tcgm-r0.3-s1").is_dir()
    assert stamps(trained / "prepared") == prepared


def test_a_run_of_another_setting_is_replaced_only_where_told_so(trained: Path, capsys, monkeypatch) -> None:
    run = trained / "runs" / "regions-ce-r0.3-s0" / "metrics.json"
    before = run.stat().st_mtime_ns
    call = arguments(trained, "--stage", "train", "--method", "ce", "--set", "train.lr_labeled=0.02")
    assert main(call) == 2
    assert "refused: " in (said := capsys.readouterr().err) and "train.lr_labeled was 0.05 and is 0.02" in said
    assert run.stat().st_mtime_ns == before
    monkeypatch.setattr(run_adni, "preprocess", lambda _: pytest.fail("hours of work before the refusal"))
    assert main([*call, "--stage", "all"]) == 2
    assert main([*call, "--overwrite"]) == 0
    assert run.stat().st_mtime_ns > before


def test_bars_stand_beside_the_runs(trained: Path) -> None:
    baselines = json.loads((trained / "runs" / "baselines-r0.3-s0" / "baselines.json").read_text())
    names = {baseline["baseline"] for baseline in baselines}
    assert {"linear SVM on voxels", "mean of the two deficit z-scores", "logistic, age + sex + TIV"} <= names
    assert {"signature mean", "ridge logistic, signature regions"} <= names
    assert any(name.startswith("Bayes") for name in names)


def test_reports_are_written_once_and_again_when_a_run_changes(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = arguments(trained, "--stage", "report", "--subject-reports", "1")
    assert main(call) == 0
    assert "SIMULATED" in capsys.readouterr().out
    pdfs = sorted(path.name for path in (trained / "reports").glob("*.pdf"))
    pages = sorted(path.stem for path in (trained / "reports").glob("*.html"))
    assert "cohort.pdf" in pdfs and len(pdfs) == 2
    assert [f"{name}.pdf" for name in pages] == [name for name in pdfs if name != "cohort.pdf"]
    explained = list((trained / "runs").glob("*/saliency/*/saliency.json"))
    assert len(explained) == 1 and "-tcgm-" in str(explained[0])
    assert main(call) == 0
    assert "up to date" in capsys.readouterr().out


def test_a_stated_prevalence_and_fewer_formats_make_other_reports(trained: Path, monkeypatch) -> None:
    call = arguments(trained, "--stage", "report", "--subject-reports", "1", "--formats", "pdf")
    asked = []
    monkeypatch.setattr(
        "reports.write_reports", lambda *folders, **options: asked.append(options) or Reports([], {"none": "not asked"})
    )
    main([*call, "--prevalence", "0.17"])
    assert (asked[0]["kinds"], asked[0]["prevalence"]) == (["pdf"], 0.17)
    with pytest.raises(SystemExit):
        main([*call, "--prevalence", "17"])


def test_a_simulated_download_given_as_data_still_says_simulated(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No truth is read then, and so there is no Bayes limit; the mark lies with the data."""
    call = arguments(trained, "--data", str(trained / "raw"), "--seed", "2")
    assert main([*call, "--subject-reports", "none"]) == 0
    metrics = load_run(trained / "runs" / "regions-tcgm-r0.3-s2").metrics
    assert metrics["simulated"] is True and metrics["bayes"] is None
    assert "SIMULATED" in capsys.readouterr().out


def test_dry_run_prints_the_plan_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "new"), "--dry-run"]) == 0
    assert "SIMULATED" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_missing_data_is_one_sentence_and_exit_code_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "nowhere" in message and "Traceback" not in message


def test_weights_of_a_step_before_the_gain_are_those_of_ce_and_the_summary_says_so(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every validation is made worse than the one before, so that the first is chosen."""
    validate = trainer.validate
    monkeypatch.setattr(
        trainer, "validate", lambda fitted, *_: validate(fitted, *_) | {"validation_loss": float(len(fitted.history))}
    )
    steps = {"steps": 12, "supervised_steps": 10, "validate_every": 2}
    more = [text for name, value in steps.items() for text in ("--set", f"train.{name}={value}")]
    call = arguments(trained, "--stage", "train", "--seed", "0", "--set", "protocol=paper", "--overwrite", *more)
    assert main(call) == 0
    runs = {name: load_run(trained / "runs" / f"regions-{name}-r0.3-s0") for name in ("tcgm", "ce")}
    best, begin = (runs["tcgm"].metrics[name] for name in ("best_step", "unlabeled_from"))
    assert best == runs["ce"].metrics["best_step"] == 2 and begin == 11
    assert runs["ce"].metrics["unlabeled_from"] is None
    pd.testing.assert_frame_equal(runs["tcgm"].predictions, runs["ce"].predictions)
    capsys.readouterr()
    assert main([*call, "--stage", "report", "--subject-reports", "none"]) == 0
    sentence = f"validation chose step {best}, before the gain begins at step 11: TCGM and CE are the same classifier"
    assert sentence in capsys.readouterr().out
    pages = PdfReader(trained / "reports" / "cohort.pdf").pages
    assert sentence in " ".join(" ".join(page.extract_text() for page in pages).split())


def test_summary_limit_lies_between_chance_and_the_severities(trained: Path) -> None:
    truth = Truth.read(trained / "truth")
    people = [f"{p}_ses-M000" for p in truth.people.index]
    limit = truth.summary_limit(people)
    assert limit["hippocampal volume"] > 0.5 and limit["meta-ROI SUVR"] > 0.5
