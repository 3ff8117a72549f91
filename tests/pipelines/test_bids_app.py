"""The BIDS-App: who is prepared, who prepares beside whom, and what group level makes of it."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from adni_tcgm import __version__
from adni_tcgm.datasets.adni_regions import SIGNATURE
from adni_tcgm.files import lock
from pipelines import bids_levels
from pipelines.bids_app import add_arguments, main
from pipelines.boilerplate import write_boilerplate
from preprocessing.cohort.engine import Worker, run_tasks
from preprocessing.cohort.run import task_of
from preprocessing.intake import bids
from preprocessing.intake.labels import LabelRule
from preprocessing.ledger import LedgerRow, write_table
from preprocessing.steps.regions import COLUMNS
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import Outcome, write_done
from preprocessing.subject.plan import Recipe, SubjectTask
from reports import box
from reports.norms import META_ROI_PARTS
from tests.preprocessing.stub_workers import pretend


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """Three people with a T1, one of them at two sessions."""
    root = tmp_path / "bids"
    for place in ("sub-01", "sub-02", "sub-03/ses-a", "sub-03/ses-b"):
        stem = place.replace("/", "_")
        (root / place / "anat").mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), root / place / "anat" / f"{stem}_T1w.nii")
    (root / "dataset_description.json").write_text(json.dumps({"Name": "a set", "BIDSVersion": "1.10.0"}))
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t70\nsub-02\t71\nsub-03\t72\n")
    return root


def in_process(
    tasks: list[SubjectTask], prepared: Path, jobs: int, worker: Worker, progress: bool
) -> dict[str, Outcome]:
    return run_tasks(tasks, prepared, 0, worker, progress)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's scans are looked at, and no process is started."""
    monkeypatch.setattr(bids_levels, "preprocess_subject", pretend)
    monkeypatch.setattr(bids_levels, "run_tasks", in_process)


def visits(out: Path) -> list[str]:
    file = out / "prepared" / "visits.txt"
    return sorted(file.read_text().split()) if file.is_file() else []


def tasks_of(root: Path) -> list[SubjectTask]:
    return [task_of(person, Recipe()) for person in bids.read_dataset(root, visits="all").people]


def slowly(task: SubjectTask, prepared: Path) -> object:
    time.sleep(0.05)
    return pretend(task, prepared)


def test_participant_level_prepares_whom_it_is_given_and_resumes(data_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([str(data_set), str(out), "participant", "--participant-label", "sub-02", "--n-procs", "1"]) == 0
    assert visits(out) == ["sub-02"]
    assert main([str(data_set), str(out), "participant", "--participant_label", "01", "02", "--n-procs", "1"]) == 0
    assert visits(out) == ["sub-01", "sub-02"]
    made_by = json.loads((out / "dataset_description.json").read_text())["GeneratedBy"][0]["Name"]
    assert made_by == "adni-tcgm"


def test_every_session_is_prepared_unless_some_are_named(data_set: Path, tmp_path: Path) -> None:
    options = ["participant", "--participant-label", "03", "--n-procs", "1"]
    assert main([str(data_set), str(tmp_path / "one"), *options, "--session-label", "b"]) == 0
    assert visits(tmp_path / "one") == ["sub-03"]
    assert main([str(data_set), str(tmp_path / "both"), *options]) == 0
    assert visits(tmp_path / "both") == ["sub-03", "sub-03"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["participant", "--participant-label", "99"], "no sub-99 among"),
        (["participant", "--session-label", "z"], "--session-label ses-z: no chosen person has a T1 there"),
        (["group", "--participant-label", "01"], "belong to participant level"),
        (["participant", "--n-procs", "0"], "--n-procs is 0"),
        (["participant", "--reference", "thalamus"], "thalamus"),
    ],
)
def test_wrong_options_are_one_sentence(
    data_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], sentence: str
) -> None:
    assert main([str(data_set), str(tmp_path / "out"), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert visits(tmp_path / "out") == []


@pytest.mark.parametrize("content", [None, "{", "{}", '{"Name": "x", "BIDSVersion": "1", "DatasetType": "derivative"}'])
def test_a_folder_that_does_not_say_that_it_is_raw_bids_is_refused_unless_told(
    data_set: Path, tmp_path: Path, content: str | None
) -> None:
    (data_set / "dataset_description.json").unlink()
    if content is not None:
        (data_set / "dataset_description.json").write_text(content)
    options = [str(data_set), str(tmp_path / "out"), "participant", "--participant-label", "01", "--n-procs", "1"]
    assert main(options) == 2
    assert main([*options, "--skip-bids-validation"]) == 0


def test_a_failed_scan_is_exit_status_1_and_costs_nobody_else(
    data_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (data_set / "sub-02").rename(data_set / "sub-S0002")  # whom the stand-in fails
    (data_set / "sub-S0002" / "anat" / "sub-02_T1w.nii").rename(data_set / "sub-S0002" / "anat" / "sub-S0002_T1w.nii")
    (data_set / "participants.tsv").unlink()
    assert main([str(data_set), str(tmp_path / "out"), "participant", "--n-procs", "1"]) == 1
    assert "sub-S0002" in (error := capsys.readouterr().err) and "the file ends early" in error
    assert {"sub-01", "sub-03"} <= set(visits(tmp_path / "out"))


def test_whom_another_process_prepares_is_left_to_it(
    data_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    first = tasks_of(data_set)[0]
    with lock(bids_levels.claim_path(out / "prepared", first), first.name):
        assert main([str(data_set), str(out), "participant", "--n-procs", "1"]) == 0
        assert f"{first.name}: another process is preparing it" in capsys.readouterr().err
        assert main([str(data_set), str(out), "group"]) == 2
        assert "participant level" in capsys.readouterr().err
    assert first.participant_id not in visits(out)
    assert len(visits(out)) == 3


def test_two_at_once_with_the_same_list_prepare_everybody_once(data_set: Path, tmp_path: Path) -> None:
    tasks, prepared = tasks_of(data_set), tmp_path / "out" / "prepared"
    prepared.mkdir(parents=True)
    with ThreadPoolExecutor(2) as both:
        turns = [both.submit(bids_levels.prepare_in_turn, tasks, prepared, 0, slowly) for _ in range(2)]
    done = [turn.result()[0] for turn in turns]
    assert visits(prepared.parent) == ["sub-01", "sub-02", "sub-03", "sub-03"]
    assert set(done[0]) | set(done[1]) == {task.name for task in tasks}


def measured(task: SubjectTask, prepared: Path) -> Outcome:
    """Of a converter (an even number) small regions of low uptake; maps are the same everywhere."""
    number = int(task.participant_id.removeprefix("sub-"))
    rng = np.random.default_rng(number)
    ids, worse = (task.participant_id, task.session_id), number % 2 == 0
    rows = [
        [*ids, region, side, *(rng.normal([3 - worse, 1.5 - worse / 2], 0.1)), "grey_matter"]
        for region in sorted({*SIGNATURE["mri"], *SIGNATURE["pet"], *META_ROI_PARTS})
        for side in ("left", "right")
    ]
    rows.append([*ids, "meta_roi_proxy", "both", 20.0, 1.3 - worse / 5, "grey_matter"])
    write_table(pd.DataFrame(rows, columns=COLUMNS), SubjectFolder(task, prepared).regions)
    names = ("t1_path", "gm_path", "pet_path")
    paths = {name: (task.folder(prepared) / f"{name}.nii.gz").relative_to(prepared).as_posix() for name in names}
    for path in paths.values():
        values = np.full(box.SHAPE, 0.5 + 0.001 * number - 0.1 * worse, np.float32)
        nib.save(nib.Nifti1Image(values, box.AFFINE), prepared / path)
    ledger = [LedgerRow(*ids, modality, "kept", "recipe") for modality in ("mri", "pet")]
    outcome = Outcome(*ids, **paths, tiv_ml=1500.0, qc="pass", ledger=ledger)
    write_done(task, prepared, outcome)
    return outcome


def test_group_level_trains_on_what_participant_level_has_prepared_and_prepares_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = tmp_path / "bids", tmp_path / "out"
    names = [f"{number:02d}" for number in range(1, 26)]
    for name in names:
        for suffix in ("T1w", "trc-FDG_pet"):
            folder = root / f"sub-{name}" / ("anat" if suffix == "T1w" else "pet")
            folder.mkdir(parents=True)
            nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), folder / f"sub-{name}_{suffix}.nii")
    histories = [f"sub-{n}\t70\t{'F' if int(n) % 3 else 'M'}\t0:MCI 36:{'MCI' if int(n) % 2 else 'AD'}" for n in names]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tage\tsex\tdiagnosis_history", *histories]))
    monkeypatch.setattr(bids_levels, "preprocess_subject", measured)
    common = ["--skip-bids-validation", "--n-procs", "1"]
    assert main([str(root), str(out), "participant", *common, "--participant-label", *names[:-1]]) == 0
    log = out / "prepared" / "sub-25" / "ses-M000" / "error.log"
    log.parent.mkdir(parents=True)
    log.write_text("why it failed")

    monkeypatch.setattr(bids_levels, "preprocess_subject", None)
    options = ["--label-rate", "0.5", "--features", "regions", "--set", "train.steps=20", "--subject-reports", "none"]
    assert main([str(root), str(out), "group", *common, *options]) == 1  # sub-25 is not prepared
    assert log.read_text() == "why it failed"
    ledger = pd.read_csv(out / "prepared" / "ledger.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert set(ledger[ledger.reason_code == "not_prepared"].participant_id) == {"sub-25"}
    assert (out / "runs" / "regions-tcgm-r0.5-s0" / "metrics.json").is_file()
    assert (out / "reports" / "cohort.pdf").is_file()
    text = (out / "logs" / "CITATION.md").read_text()
    assert "regions-tcgm-r0.5-s0" in text and "Sun X" in text and "cross-entropy" in text
    assert "MRI and PET correlated within diagnoses beyond 0.45" in text and "Hotelling H" in text


def test_methods_and_references_are_those_of_the_recipe_and_no_others(tmp_path: Path) -> None:
    plain, page = (file.read_text() for file in write_boilerplate(tmp_path, Recipe(), LabelRule()))
    assert "Müller" not in plain and "Sun X" not in plain and "the pons" in plain and Recipe().hash in plain
    numbers = {int(number) for number in re.findall(r"\[(\d+)\]", plain)}
    assert numbers == set(range(1, 1 + len(re.findall(r"^\d+\. ", plain, re.MULTILINE))))
    assert page.count("<li>") == len(numbers)
    other = Recipe(partial_volume="muller-gartner", reference="cerebellum", pet_resolution_mm=0)
    plain = write_boilerplate(tmp_path, other, LabelRule())[0].read_text()
    assert "Müller-Gärtner HW" in plain and "whole cerebellum" in plain and "Joshi" not in plain
    assert not re.search(r"\[[a-z]", plain)


def test_help_and_version_come_without_the_heavy_libraries() -> None:
    code = (
        "import sys\nfrom pipelines.bids_app import main\ntry:\n    main(['--version'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'ants', 'pandas') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, loaded = found.stdout.splitlines()
    assert re.fullmatch(r"adni-tcgm \d+\.\d+.*", version)
    assert loaded == "[]"


def test_the_boutiques_description_builds_a_command_line_that_the_app_reads(tmp_path: Path) -> None:
    about = json.loads((Path(__file__).parents[2] / "boutiques.json").read_text())
    values = {"File": "bids", "Flag": None, "Number": "1", "String": "some"}
    line = about["command-line"]
    for entry in about["inputs"]:
        value = entry.get("value-choices", [values[entry["type"]]])[0]
        line = line.replace(entry["value-key"], " ".join(filter(None, [entry.get("command-line-flag"), value])))
    program, command, *options = line.split()
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parsed = vars(parser.parse_args(options))
    assert (program, command, about["tool-version"]) == ("adni-tcgm", "bids", __version__)
    assert parsed["participant_label"] == ["some"] and parsed["skip_bids_validation"] and parsed["label_rate"] == 1
    assert {entry["id"] for entry in about["inputs"]} <= parsed.keys()
