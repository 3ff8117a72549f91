"""The cohort run with stand-in workers: tables, isolation, resume; and one real subject, the template itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from benchmarks.kill import contents
from preprocessing.cohort.run import MANIFEST_COLUMNS, preprocess_cohort
from preprocessing.intake.prepared_people import PEOPLE_COLUMNS
from preprocessing.ledger import LEDGER_COLUMNS
from preprocessing.quality import pictures
from preprocessing.simulated.anatomy import LABELED
from preprocessing.steps import bias, refinement, register, template
from preprocessing.steps.regions import COLUMNS as REGION_COLUMNS
from preprocessing.subject import outcome, pet, t1
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import read_done
from preprocessing.subject.plan import Recipe, SubjectTask
from preprocessing.subject.run import preprocess_subject

SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
FDG_8MM = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"


@pytest.fixture
def workers(monkeypatch):
    """The stand-in workers, from a module that worker processes can import, too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    import stub_workers

    return stub_workers


@pytest.fixture
def prepared(tmp_path) -> Path:
    (tmp_path / "prepared").mkdir()
    return tmp_path / "prepared"


@pytest.fixture
def cohort(download):
    """001_S_0001 is fine, 0002 has a broken scan, 0003 meets a bug, 0004 has no PET."""
    for number in (1, 2, 3, 4):
        ptid = f"001_S_000{number}"
        download.add_image(ptid, SCALED)
        if number != 4:
            download.add_image(ptid, FDG_8MM, modality="PET")
        download.add_diagnoses(ptid, bl=2, m12=2, m24=3, m36=3)
    return download


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", keep_default_na=False, dtype=str)


def visits(prepared: Path) -> list[str]:
    return sorted(line[-1] for line in (prepared / "visits.txt").read_text().split())


def test_tables_have_the_agreed_columns_and_every_scan_has_one_ledger_row(cohort, prepared, workers):
    summary = preprocess_cohort(cohort.write(), prepared, jobs=0, progress=False, worker=workers.pretend)
    manifest, ledger, regions = (read(prepared / f"{name}.tsv") for name in ("manifest", "ledger", "regions"))
    assert tuple(manifest.columns) == MANIFEST_COLUMNS
    assert tuple(ledger.columns) == LEDGER_COLUMNS
    assert tuple(regions.columns) == REGION_COLUMNS
    assert list(manifest.participant_id) == ["sub-ADNI001S0001", "sub-ADNI001S0004"]
    assert list(manifest.label) == ["converter"] * 2
    found = {(row.participant_id[-1], row.modality): (row.status, row.reason_code) for row in ledger.itertuples()}
    assert len(found) == len(ledger)
    assert found == {
        ("1", "mri"): ("kept", ""),
        ("1", "pet"): ("kept", ""),
        ("2", "mri"): ("failed", "truncated"),
        ("2", "pet"): ("excluded", "no_t1"),
        ("3", "mri"): ("failed", "error"),
        ("3", "pet"): ("excluded", "no_t1"),
        ("4", "mri"): ("kept", ""),
        ("4", "pet"): ("excluded", "no_pet"),
    }
    assert (summary.processed, summary.failed) == (4, 2)
    assert json.loads((prepared / "dataset_description.json").read_text())["DatasetType"] == "derivative"


def test_a_second_run_redoes_only_what_may_end_differently(cohort, prepared, workers):
    raw = cohort.write()
    run = partial(preprocess_cohort, raw, prepared, jobs=0, progress=False, worker=workers.pretend)
    run()
    before = {name: (prepared / name).read_bytes() for name in ("manifest.tsv", "ledger.tsv", "regions.tsv")}
    summary = run()
    assert visits(prepared) == ["1", "2", "3", "3", "4"]  # the bug is tried again, the broken scan is not
    assert (summary.reused, summary.processed) == (3, 1)
    assert before == {name: (prepared / name).read_bytes() for name in before}


def test_another_recipe_another_scan_or_a_lost_output_is_done_anew(cohort, prepared, workers):
    raw = cohort.write()
    run = partial(preprocess_cohort, raw, prepared, jobs=0, progress=False, worker=workers.pretend)
    run()
    scan = next(raw.rglob("ADNI_001_S_0001_MR_*.nii"))
    scan.write_bytes(scan.read_bytes() + b"more")
    (prepared / "sub-ADNI001S0004/ses-M000/gm").unlink()
    (prepared / "visits.txt").unlink()
    assert run().reused == 1
    assert visits(prepared) == ["1", "3", "4"]
    (prepared / "visits.txt").unlink()
    run(recipe=Recipe(seed=1))
    assert visits(prepared) == ["1", "2", "3", "4"]


def test_a_dying_worker_process_ends_only_its_own_subject(cohort, prepared, workers, forked):
    summary = preprocess_cohort(cohort.write(), prepared, jobs=2, progress=False, worker=workers.die)
    ledger = read(prepared / "ledger.tsv")
    failed = ledger[ledger.status == "failed"]
    assert list(failed.participant_id) == ["sub-ADNI001S0002", "sub-ADNI001S0003"]
    assert "worker process died" in failed.reason.iloc[0]
    assert summary.raw == 2


def test_given_people_are_labeled_by_the_same_tables_and_kept_in_the_ledger(cohort, prepared, workers):
    cohort.add_diagnoses("002_S_0009", bl=2, m12=2, m36=2)
    rows = [["sub-ADNI002S0009", "ses-M000", "given/gm.nii.gz", "", 71.5, "M", "002", "anatomy-1", 1480.0]]
    pd.DataFrame(rows, columns=PEOPLE_COLUMNS).to_csv(prepared / "given.tsv", sep="\t", index=False)
    regions = [["sub-ADNI002S0009", "ses-M000", "hippocampus", "left", 3.1, 0.9]]
    pd.DataFrame(regions, columns=REGION_COLUMNS[:-1]).to_csv(prepared / "given_regions.tsv", sep="\t", index=False)
    summary = preprocess_cohort(cohort.write(), prepared, jobs=0, progress=False, worker=workers.pretend)
    manifest = read(prepared / "manifest.tsv").set_index("participant_id")
    person = manifest.loc["sub-ADNI002S0009"]
    assert (person.kind, person.label, person.group_id, person.site) == ("prepared", "stable", "anatomy-1", "002")
    ledger = read(prepared / "ledger.tsv").set_index(["participant_id", "modality"])
    assert ledger.source["sub-ADNI002S0009", "mri"] == "given.tsv"
    assert ledger.reason_code["sub-ADNI002S0009", "pet"] == "no_pet"
    assert "sub-ADNI002S0009" in set(read(prepared / "regions.tsv").participant_id)
    assert (summary.given, summary.raw) == (1, 2)


def test_the_template_passes_its_own_quality_control(template_subject):
    task, prepared = template_subject
    checks = json.loads((task.folder(prepared) / f"{task.name}_qc.json").read_text())["Checks"]
    assert {c["name"] for c in checks} >= {"brain_dice", "folded_share", "t1_correlation", "pet_correlation"}
    assert {c["verdict"] for c in checks} == {"pass"}, checks
    values = {c["name"]: c["value"] for c in checks}
    assert values["brain_dice"] > 0.95
    assert values["pet_correlation"] > 0.9


def test_the_template_has_its_own_volumes_and_its_gray_matter_is_conserved(template_subject):
    task, prepared = template_subject
    table = pd.read_csv(task.folder(prepared) / f"{task.name}_regions.tsv", sep="\t").set_index(["region", "side"])
    own = template.region_mask("thalamus", side="left").sum() * template.VOXEL_ML
    # The coarse setting of these tests leaves some percent.
    assert table.volume_ml["thalamus", "left"] == pytest.approx(own, rel=0.08)
    anat = task.folder(prepared) / "anat"
    modulated = next(anat.glob("*label-GM_desc-modulated_probseg.nii.gz"))
    native_ml = json.loads(modulated.with_name(modulated.name.replace(".nii.gz", ".json")).read_text())["GM_mL"]
    assert nib.load(modulated).get_fdata().sum() * template.VOXEL_ML == pytest.approx(native_ml, rel=0.01)


def test_the_hippocampi_of_the_template_are_segmented_on_both_sides_alike(template_subject):
    task, prepared = template_subject
    table = pd.read_csv(task.folder(prepared) / f"{task.name}_regions.tsv", sep="\t").set_index(["region", "side"])
    left, right = (table.volume_ml["hippocampus", side] for side in ("left", "right"))
    # CerebrA's own, by another protocol of drawing; the template is symmetric.
    own = template.region_mask("hippocampus", side="left").sum() * template.VOXEL_ML
    assert left == pytest.approx(own, rel=0.3)
    assert right == pytest.approx(left, rel=0.05)
    segmented = table.index[table.method == "segmentation"]
    assert set(segmented) == {(region, side) for region in LABELED for side in ("left", "right")}


def test_the_rigid_shift_of_a_pet_is_undone(template_subject):
    task, prepared = template_subject
    ratio = nib.load(next((task.folder(prepared) / "pet").glob("*desc-suvrPons_pet.nii.gz"))).get_fdata()
    original = nib.load(task.pet)
    truth = original.get_fdata() / original.get_fdata()[template.pons_mask()].mean()
    brain = template.brain_mask()
    assert np.abs(ratio - truth)[brain].mean() < 0.1
    assert ratio[template.meta_roi_mask()].mean() == pytest.approx(truth[template.meta_roi_mask()].mean(), rel=0.05)


def test_prepared_crops_are_named_by_the_outcome_and_hold_80_voxels_a_side(template_subject):
    task, prepared = template_subject
    result = read_done(task, prepared)
    for name in (result.gm_path, result.pet_path):
        assert nib.load(prepared / name).shape == (80, 80, 80)
    assert "space-MNI152NLin2009cSym_res-2" in result.gm_path
    assert nib.load(prepared / result.t1_path).shape == template.GRID_SHAPE


def fail(*arguments, **named):
    raise AssertionError("redone, although nothing that it depends on has changed")


def test_another_reference_region_redoes_no_registration(template_subject, monkeypatch):
    task, prepared = template_subject
    before = contents(prepared)
    copy = prepared.with_name("another_reference")
    shutil.copytree(prepared, copy)
    monkeypatch.setattr(register, "register_to_template", fail)
    monkeypatch.setattr(register, "align_pet", fail)
    other = replace(task, recipe=replace(task.recipe, reference="cerebellum"))
    assert read_done(other, copy) is None
    result = preprocess_subject(other, copy)
    assert "suvrCerebellumCrop80" in result.pet_path
    changed = {
        Path(name).name.split("_", 2)[2] for name, digest in contents(copy).items() if before.get(name) != digest
    }
    assert {name for name in changed if "suvr" not in name} <= {
        "regions.tsv",
        "qc.json",
        "done.json",
        "desc-pet_qc.png",
    }
    sidecar = json.loads(next((copy / task.participant_id).rglob("*suvrCerebellum_pet.json")).read_text())
    assert sidecar["ReferenceRegion"].startswith("whole cerebellum")
    monkeypatch.undo()
    monkeypatch.setattr(register, "register_to_template", fail)
    monkeypatch.setattr(refinement, "refine", lambda head, _: head)
    finer = replace(task, recipe=replace(task.recipe, syn_iterations=(10, 6, 0)))
    with pytest.raises(outcome.StepFailed, match="register: AssertionError"):
        preprocess_subject(finer, copy)
    assert read_done(task, copy) is None  # what is half redone is nobody's result


def test_going_on_from_the_files_of_the_t1_gives_the_same_bytes(template_subject, monkeypatch):
    task, prepared = template_subject
    copy = prepared.with_name("interrupted")
    shutil.copytree(prepared, copy)
    shutil.rmtree(task.folder(copy) / "pet")
    (task.folder(copy) / f"{task.name}_done.json").unlink()
    monkeypatch.setattr(register, "register_to_template", fail)
    preprocess_subject(task, copy)
    assert contents(copy) == contents(prepared)


def test_a_broken_pet_is_a_failed_row_of_its_own(template_subject, tmp_path):
    task, prepared = template_subject
    broken = tmp_path / "pet.nii.gz"
    broken.write_bytes(task.pet.read_bytes()[:5000])
    result = outcome.Outcome(task.participant_id, task.session_id)
    broken_task = SubjectTask(task.participant_id, task.session_id, task.t1, broken, recipe=task.recipe)
    with pytest.raises(outcome.StepFailed, match="orient_pet") as caught:
        pet.prepare_pet(SubjectFolder(broken_task, prepared), result, None)
    row = outcome.failed_row(broken_task, prepared, "pet", caught.value)
    assert (row.status, row.step, row.reason_code) == ("failed", "orient_pet", "truncated")


def test_a_pet_that_quality_control_fails_costs_the_pet_only_and_is_measured(template_subject, monkeypatch):
    task, prepared = template_subject
    copy = prepared.with_name("bad_pet")
    shutil.copytree(prepared, copy)
    judge = pet.check_pet

    def fail_one(*arguments):
        first, *others = judge(*arguments)
        return [replace(first, verdict="fail"), *others]

    monkeypatch.setattr(pet, "check_pet", fail_one)
    result = preprocess_subject(task, copy)
    assert (result.qc, (copy / result.pet_path).is_file()) == ("pass", True)  # a person may keep it
    rows = {row.modality: (row.status, row.reason_code) for row in result.ledger}
    assert rows == {"mri": ("kept", ""), "pet": ("excluded", "qc_fail")}
    table = pd.read_csv(task.folder(copy) / f"{task.name}_regions.tsv", sep="\t")
    assert table.suvr.notna().all() and (table.volume_ml > 0).all()


def copied_to(folder: Path, subject: SubjectFolder) -> register.Transforms:
    """The transforms of a subject once more, to be moved."""
    return register.Transforms(*(Path(shutil.copy(path, folder)) for path in vars(subject.transforms).values()))


def test_maps_at_1_mm_come_on_request_and_agree_with_those_at_2(template_subject, monkeypatch, tmp_path):
    task, prepared = template_subject
    copy = prepared.with_name("fine")
    # The registrations of the 2 mm run, which another resolution does not change.
    shutil.copytree(task.folder(prepared) / "anat", task.folder(copy) / "anat")
    monkeypatch.setattr(register, "register_to_template", lambda *_: copied_to(tmp_path, SubjectFolder(task, prepared)))
    rigid = next(prepared.rglob("*_from-pet_to-T1w_mode-image_xfm.mat"))
    monkeypatch.setattr(register, "align_pet", lambda *_: shutil.copy(rigid, tmp_path / "rigid.mat"))
    # What is compared are two resamplings of the same images: no shading is taken away, nothing refined, smoothed or
    # drawn.
    monkeypatch.setattr(bias, "correct_bias", lambda scan, _: scan)
    monkeypatch.setattr(refinement, "refine", lambda head, _: head)
    for draw in ("write_native", "write_t1", "write_pet"):
        monkeypatch.setattr(pictures, draw, lambda *_: None)
    fine = replace(task, recipe=replace(task.recipe, resolution_mm=1, pet_resolution_mm=0.0))
    assert not list(prepared.rglob(f"*{template.SPACE}_res-1_*"))
    preprocess_subject(fine, copy)
    maps = {path.name.split("_res-1_")[1]: nib.load(path) for path in copy.rglob(f"*{template.SPACE}_res-1_*.nii.gz")}
    assert set(maps) == {f"{n}.nii.gz" for n in (*t1.FINE_MAPS, "desc-suvrPons_pet")}
    for name, image in maps.items():
        coarse = nib.load(next(copy.rglob(f"*_res-2_{name}")))
        again = template.to_grid(
            nib.Nifti1Image(ndimage.uniform_filter(image.get_fdata(dtype=np.float32), 2), image.affine)
        )
        inside = template.brain_mask()
        assert np.corrcoef(again[inside], coarse.get_fdata()[inside])[0, 1] > 0.95, name
    gray = maps["label-GM_desc-modulated_probseg.nii.gz"].get_fdata().sum() / 1000
    at_2mm = nib.load(next(copy.rglob("*_res-2_label-GM_desc-modulated_probseg.nii.gz"))).get_fdata().sum()
    assert gray == pytest.approx(at_2mm * template.VOXEL_ML, rel=0.01)


def test_a_resolution_that_no_map_has_is_refused():
    with pytest.raises(ValueError, match="resolution_mm is 3"):
        Recipe(resolution_mm=3)
