"""One cohort in three layouts: the same people, labels and scans come out; and a list has rules of its own."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from preprocessing.cohort.run import preprocess_cohort
from preprocessing.intake import listing
from preprocessing.intake.labels import LabelRule

# A reader of DICOM that is spawned, as of every command: test_intake_dicom.py and test_isolation.py.
pytestmark = pytest.mark.usefixtures("forked")
SEED_AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])
SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
FDG_8MM = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
# PTID -> diagnoses by month, has a PET
COHORT = {
    "941_S_0001": ({0: "MCI", 12: "MCI", 24: "AD"}, True),
    "941_S_0002": ({0: "MCI", 36: "MCI"}, True),
    "942_S_0003": ({0: "MCI", 12: "MCI"}, False),
    "942_S_0004": ({0: "MCI", 12: "CN", 36: "MCI"}, True),
    "943_S_0005": ({0: "CN", 12: "CN"}, True),
    "943_S_0006": ({}, False),
}
CODES = {"CN": 1, "MCI": 2, "AD": 3}


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    import dicom_files
    import stub_workers

    return stub_workers, dicom_files


def name_of(ptid: str) -> str:
    return f"sub-ADNI{ptid.replace('_', '')}"


def volume(ptid: str, modality: str) -> np.ndarray:
    rng = np.random.default_rng([int(ptid[-4:]), modality == "pet"])
    return rng.integers(0, 3000, (5, 6, 7)).astype(np.int16)


def save(path: Path, ptid: str, modality: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume(ptid, modality), SEED_AFFINE), path)


def write_adni(download) -> Path:
    for ptid, (history, has_pet) in COHORT.items():
        save(download.add_image(ptid, SCALED), ptid, "mri")
        if has_pet:
            save(download.add_image(ptid, FDG_8MM, modality="PET"), ptid, "pet")
        download.add_diagnoses(ptid, **{f"m{month}" if month else "bl": CODES[dx] for month, dx in history.items()})
    return download.write()


def write_bids(root: Path) -> Path:
    lines = ["participant_id\tage\tsex\tsite\tdiagnosis_history"]
    for ptid, (history, has_pet) in COHORT.items():
        name = name_of(ptid)
        save(root / name / "ses-M000" / "anat" / f"{name}_ses-M000_T1w.nii.gz", ptid, "mri")
        if has_pet:
            save(root / name / "ses-M000" / "pet" / f"{name}_ses-M000_trc-FDG_pet.nii.gz", ptid, "pet")
        lines.append(f"{name}\t74\tF\t{ptid[:3]}\t{text(history)}")
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")
    return root


def write_list(folder: Path, as_dicom=None) -> Path:
    lines = ["subject,t1,pet,age,sex,site,history"]
    for ptid, (history, has_pet) in COHORT.items():
        paths = []
        for modality, tag in (("mri", "MR"), ("pet", "PT")):
            if modality == "pet" and not has_pet:
                paths.append("")
            elif as_dicom:
                paths.append(f"{ptid} {modality}")
                as_dicom(folder / paths[-1], volume(ptid, modality), SEED_AFFINE, tag, SCALED)
            else:
                paths.append(f"scans of {ptid}/{modality}.nii.gz")
                save(folder / paths[-1], ptid, modality)
        lines.append(f"{name_of(ptid)},{','.join(paths)},74,F,{ptid[:3]},{text(history)}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def text(history: dict[int, str]) -> str:
    return " ".join(f"{month}:{dx}" for month, dx in history.items())


def prepare(worker, raw: Path, prepared: Path, layout: str, **options) -> tuple[pd.DataFrame, pd.DataFrame]:
    prepared.mkdir()
    preprocess_cohort(raw, prepared, jobs=0, progress=False, worker=worker, layout=layout, **options)
    tables = [pd.read_csv(prepared / f"{name}.tsv", sep="\t", dtype=str) for name in ("manifest", "ledger")]
    return tables[0], tables[1].drop(columns=["source"])


def test_an_adni_download_a_bids_data_set_and_a_list_give_the_same_manifest_and_ledger(stub, download, tmp_path):
    workers, dicom_files = stub
    for name in ("bids", "list", "dicom"):
        (tmp_path / name).mkdir()
    sources = {
        "adni": write_adni(download),
        "bids": write_bids(tmp_path / "bids"),
        "list": write_list(tmp_path / "list"),
    }
    found = {layout: prepare(workers.read, raw, tmp_path / f"out_{layout}", layout) for layout, raw in sources.items()}
    raw = write_list(tmp_path / "dicom", dicom_files.write_classic)
    found["dicom"] = prepare(workers.read, raw, tmp_path / "out_dicom", "list")
    manifest, ledger = found["adni"]
    # Only the headers of DICOM know the magnet here.
    assert set(found["dicom"][0].field_strength_t) == {"3.0"} and manifest.field_strength_t.isna().all()
    found["dicom"][0].field_strength_t = manifest.field_strength_t
    assert list(manifest.label_reason) == ["converter", "stable", "censored", "reverter", "not_mci", "no_diagnosis"]
    assert len(ledger) == 2 * len(COHORT)
    for layout in ("bids", "list", "dicom"):
        pd.testing.assert_frame_equal(found[layout][0], manifest, obj=layout)
        same = ["participant_id", "modality", "status", "reason_code"]
        pd.testing.assert_frame_equal(found[layout][1][same], ledger[same], obj=layout)


def test_every_layout_hands_the_steps_the_same_voxels(stub, download, tmp_path):
    workers, dicom_files = stub
    for name in ("bids", "dicom"):
        (tmp_path / name).mkdir()
    prepare(workers.read, write_adni(download), tmp_path / "a", "adni")
    prepare(workers.read, write_bids(tmp_path / "bids"), tmp_path / "b", "bids")
    prepare(workers.read, write_list(tmp_path / "dicom", dicom_files.write_classic), tmp_path / "d", "list")
    maps = [{p.name: p.read_bytes() for p in (tmp_path / out).rglob("*_voxels.npy")} for out in "abd"]
    assert len(maps[0]) == 10
    assert maps[0] == maps[1] == maps[2]


def test_a_second_run_on_dicom_does_nobody_again(stub, tmp_path):
    workers, dicom_files = stub
    (tmp_path / "dicom").mkdir()
    raw = write_list(tmp_path / "dicom", dicom_files.write_classic)
    prepare(workers.read, raw, tmp_path / "d", "list")
    summary = preprocess_cohort(raw, tmp_path / "d", jobs=0, progress=False, worker=workers.read, layout="list")
    assert (summary.processed, summary.reused) == (0, 6)


def test_extra_classes_are_labels_of_the_manifest_when_asked_for(stub, download, tmp_path):
    rule = LabelRule(classes=("cn", "stable", "converter", "ad"))
    manifest, _ = prepare(stub[0].read, write_adni(download), tmp_path / "a", "adni", rule=rule)
    labels = dict(zip(manifest.participant_id, manifest.label, strict=True))
    assert labels["sub-ADNI943S0005"] == "cn"
    assert labels["sub-ADNI941S0001"] == "converter"


def test_the_summary_counts_every_reason(stub, download, tmp_path):
    raw = write_adni(download)
    next(raw.rglob("ADNI_941_S_0002_MR_*")).rename(next(raw.rglob("ADNI_941_S_0002_MR_*")).with_suffix(".v"))
    (tmp_path / "a").mkdir()
    summary = preprocess_cohort(raw, tmp_path / "a", jobs=0, progress=False, worker=stub[0].read)
    assert summary.failed == 1
    lines = str(summary).splitlines()
    assert "mri       kept 5, failed (ecat) 1" in lines
    assert "pet       kept 3, excluded (no_pet) 2, excluded (no_t1) 1" in lines
    assert any(line.startswith("labels    1 converter") for line in lines)


@pytest.fixture
def one_scan(tmp_path, save_scan) -> Path:
    save_scan(np.arange(64, dtype=np.float32).reshape(4, 4, 4), name="a b.nii.gz")
    return tmp_path / "list.tsv"


def test_a_list_takes_labels_as_they_are_given(one_scan):
    one_scan.write_text("subject\tt1\tpet\tlabel\nJane-1\ta b.nii.gz\t\tStable\n")
    (person,) = listing.read_list(one_scan).people
    assert (person.participant_id, person.label.label, person.label.reason) == ("sub-Jane1", "stable", "stable")


def test_a_list_is_read_as_a_spreadsheet_writes_it(one_scan):
    lines = ("subject;t1;pet;age;sex;site;group_id;label", "001;a b.nii.gz;n/a;71,5;w;NA;unknown;N/A", ";;;;;;;")
    one_scan.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    (person,) = listing.read_list(one_scan).people
    assert (person.participant_id, person.age, person.sex, person.site) == ("sub-001", 71.5, "F", "")
    assert (person.group_id, person.label.reason, person.pet) == ("sub-001", "no_diagnosis", None)


def test_what_is_no_age_or_sex_in_a_list_is_counted_by_column(one_scan, save_scan):
    save_scan(np.arange(64, dtype=np.float32).reshape(4, 4, 4), name="b.nii.gz")
    one_scan.write_text("subject,t1,pet,age,sex\n1,a b.nii.gz,,seventy,2\n2,b.nii.gz,,-9,2\n")
    with pytest.warns(UserWarning) as caught:
        people = listing.read_list(one_scan).people
    assert [(math.isnan(person.age), person.sex) for person in people] == [(True, "")] * 2
    said = [str(warning.message).partition("list.tsv: ")[2] for warning in caught]
    assert said[0].endswith(
        "2 cells are no ages from 0 to 120 and count as empty, the first in line 2: 'seventy' (1), '-9' (1)"
    )
    assert said[1].startswith("column 'sex': 2 cells are no sexes") and said[1].endswith("'2' (2)")


def test_a_list_names_files_relative_to_itself_and_may_hold_spaces(one_scan):
    one_scan.write_text("subject\tt1\tpet\n1\ta b.nii.gz\t\n")
    assert listing.read_list(one_scan).people[0].t1.path == one_scan.parent / "a b.nii.gz"
