"""Verdicts of people over a cohort: obeyed by the next run, reported, taken back; no scan is touched for them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from preprocessing.cohort.run import preprocess_cohort
from preprocessing.intake.prepared_people import PEOPLE_COLUMNS
from preprocessing.ledger import LedgerRow, write_table
from preprocessing.quality.overrides import COLUMNS, FILE
from preprocessing.steps.regions import COLUMNS as REGION_COLUMNS
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import Outcome, read_done, write_done
from preprocessing.subject.plan import SubjectTask

SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
FDG_8MM = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
FIRST, SECOND, THIRD = (f"sub-ADNI001S000{number}" for number in (1, 2, 3))
GIVEN = "sub-ADNI002S0009"
TABLES = ("manifest.tsv", "ledger.tsv", "regions.tsv")


def judged(task: SubjectTask, prepared: Path) -> Outcome:
    """A subject as the steps leave it: the checks fail the first one's T1 and the second one's PET."""
    with (prepared / "visits.txt").open("a") as visits:
        visits.write(f"{task.participant_id}\n")
    folder, ids = task.folder(prepared), (task.participant_id, task.session_id)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name in ("t1", "gm", "pet"):
        (folder / name).write_text("an image")
        paths[f"{name}_path"] = (folder / name).relative_to(prepared).as_posix()
    found = [[*ids, "hippocampus", side, 3.0, 1.2, "segmentation"] for side in ("left", "right")]
    write_table(pd.DataFrame(found, columns=REGION_COLUMNS), SubjectFolder(task, prepared).regions)
    bad = {FIRST: "mri", SECOND: "pet"}.get(task.participant_id)
    fails = ("excluded", "register", "qc_fail", "the deformation folds")
    rows = [LedgerRow(*ids, m, *(fails if m == bad else ("kept", "recipe", "", ""))) for m in ("mri", "pet")]
    outcome = Outcome(*ids, **paths, tiv_ml=1500.0, qc="fail" if bad == "mri" else "pass", ledger=rows)
    write_done(task, prepared, outcome)
    return outcome


@pytest.fixture
def run(download, tmp_path):
    """Three people with T1 and PET, one who comes prepared; call it to run the preprocess stage."""
    for number in (1, 2, 3):
        ptid = f"001_S_000{number}"
        download.add_image(ptid, SCALED)
        download.add_image(ptid, FDG_8MM, modality="PET")
        download.add_diagnoses(ptid, bl=2, m12=2, m24=3, m36=3)
    download.add_diagnoses("002_S_0009", bl=2, m12=2, m36=2)
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    person = [[GIVEN, "ses-M000", "given/gm.nii.gz", "given/pet.nii.gz", 71.5, "M", "002", "anatomy-1", 1480.0]]
    write_table(pd.DataFrame(person, columns=PEOPLE_COLUMNS), prepared / "given.tsv")
    regions = [[GIVEN, "ses-M000", "hippocampus", "left", 3.1, 0.9, "label"]]
    write_table(pd.DataFrame(regions, columns=REGION_COLUMNS), prepared / "given_regions.tsv")
    return partial(preprocess_cohort, download.write(), prepared, jobs=0, progress=False, worker=judged)


@pytest.fixture
def prepared(run) -> Path:
    run()
    folder = run.args[1]
    (folder / "visits.txt").unlink()
    return folder


def say(file: Path, *lines: str) -> None:
    file.write_text("\n".join(["\t".join(COLUMNS), *lines]) + "\n")


def read(prepared: Path, name: str) -> pd.DataFrame:
    table = pd.read_csv(prepared / f"{name}.tsv", sep="\t", keep_default_na=False, dtype=str)
    keys = {"manifest": ["participant_id"], "ledger": ["participant_id", "modality"]}
    return table.set_index(keys.get(name, ["participant_id", "region", "side"]))


def test_without_verdicts_the_checks_decide_and_a_template_lies_ready(prepared):
    manifest, ledger, regions = (read(prepared, name) for name in ("manifest", "ledger", "regions"))
    assert (prepared / FILE).read_text() == "\t".join(COLUMNS) + "\n"
    assert list(manifest.qc) == ["fail", "pass", "pass", "pass"]
    assert list(manifest.qc_automatic) == ["fail", "pass", "pass", ""]
    assert set(manifest.qc_rater) == {""}
    assert (manifest.pet_path[SECOND], regions.suvr[SECOND, "hippocampus", "left"]) == ("", "")
    assert regions.suvr[THIRD, "hippocampus", "left"] == "1.2"
    assert ledger.automatic[SECOND, "pet"] == "fail"


def test_the_next_run_obeys_reports_and_redoes_nobody(prepared, run):
    say(
        prepared / FILE,
        f"{FIRST}\tses-M000\tmri\tpass\tfolds outside the brain\tAB",
        f"{SECOND}\tses-M000\tpet\twarn\tshort but usable\tCD",
        f"{THIRD}\tses-M000\tpet\tfail\tanother tracer\tCD",
    )
    summary = run()
    assert not (prepared / "visits.txt").exists() and summary.reused == 3
    assert "overrides 1 pass, 1 warn, 1 fail (by AB, CD)" in str(summary)
    manifest, ledger, regions = (read(prepared, name) for name in ("manifest", "ledger", "regions"))
    first = manifest.loc[FIRST]
    assert (first.qc, first.qc_automatic, first.qc_rater) == ("pass", "fail", "AB")
    assert manifest.pet_path[SECOND].endswith("/pet") and manifest.pet_path[THIRD] == ""
    suvr = regions.suvr
    assert (suvr[SECOND, "hippocampus", "left"], suvr[THIRD, "hippocampus", "left"]) == ("1.2", "")
    kept, excluded = ledger.loc[(FIRST, "mri")], ledger.loc[(THIRD, "pet")]
    assert (kept.status, kept.reason_code, kept.automatic, kept.rater) == ("kept", "override_pass", "fail", "AB")
    assert "the automatic checks said fail: the deformation folds" in kept.reason
    assert (excluded.status, excluded.reason_code) == ("excluded", "override_fail")
    page = (prepared / "qc.html").read_text(encoding="utf-8")
    assert "folds outside the brain (by AB; the automatic checks said fail" in page


def test_a_line_taken_away_brings_the_automatic_verdict_back(prepared, run):
    before = {name: (prepared / name).read_bytes() for name in (*TABLES, "qc.html")}
    say(prepared / FILE, f"{THIRD}\tses-M000\t\tfail\tmotion\tAB")
    run()
    assert read(prepared, "manifest").qc[THIRD] == "fail"
    say(prepared / FILE)
    run()
    assert before == {name: (prepared / name).read_bytes() for name in before}


def test_who_comes_prepared_can_be_excluded_too(prepared, run):
    say(prepared / FILE, f"{GIVEN}\tses-M000\t\tfail\twithdrew consent\tAB")
    run()
    manifest, ledger = read(prepared, "manifest"), read(prepared, "ledger")
    assert (manifest.qc[GIVEN], manifest.qc_automatic[GIVEN], manifest.pet_path[GIVEN]) == ("fail", "", "")
    assert "no check had looked at it" in ledger.reason[GIVEN, "mri"]


def test_a_file_elsewhere_takes_the_place_of_the_prepared_folders(prepared, run, tmp_path):
    say(prepared / FILE, f"{THIRD}\tses-M000\tmri\tfail\tmotion\tAB")
    say(tmp_path / "mine.csv", f"{SECOND}\tses-M000\tmri\tfail\tmotion\tCD")
    run(overrides=tmp_path / "mine.csv")
    assert list(read(prepared, "manifest").qc_rater) == ["", "CD", "", ""]
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tsv: no such file"):
        run(overrides=tmp_path / "nowhere.tsv")


def test_a_bad_line_is_on_the_page_and_the_others_hold(prepared, run):
    say(
        prepared / FILE,
        f"{THIRD}\tses-M000\tmri\tbad\tmotion\tAB",
        f"{SECOND}\tses-M000\tmri\tfail\tmotion\tCD",
    )
    with pytest.warns(UserWarning, match="line 2: verdict 'bad'"):
        summary = run()
    assert list(read(prepared, "manifest").qc_rater) == ["", "CD", "", ""]
    assert "not obeyed: 1" in summary.overrides
    assert "line 2: verdict &#x27;bad&#x27;" in (prepared / "qc.html").read_text(encoding="utf-8")


def test_a_record_that_does_not_know_where_a_failed_pet_lies_is_done_anew(prepared, tmp_path):
    task = SubjectTask("sub-1", "ses-M000", tmp_path / "t1.nii", tmp_path / "pet.nii")
    row = LedgerRow("sub-1", "ses-M000", "pet", "excluded", "suvr", "qc_fail", "noise")
    write_done(task, prepared, Outcome("sub-1", "ses-M000", ledger=[row]))
    assert read_done(task, prepared) is None
    row = LedgerRow("sub-1", "ses-M000", "pet", "failed", "orient_pet", "truncated", "ends early")
    write_done(task, prepared, Outcome("sub-1", "ses-M000", ledger=[row]))
    assert read_done(task, prepared) is not None
