"""Dynamic PETs of an ADNI download: all frames in one file, a file each, or a DICOM series; with and without times."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from preprocessing.intake import adni, pet_frames, source
from preprocessing.intake.dicom import convert
from preprocessing.intake.dicom_choice import rank_series
from preprocessing.steps.orient import ScanError

# A reader of DICOM that is spawned, as of every command: test_intake_dicom.py and test_isolation.py.
pytestmark = pytest.mark.usefixtures("forked")
PERSON, SCALED, DYNAMIC = "011_S_4105", "MPR; GradWarp; B1 Correction; N3; Scaled", "Co-registered Dynamic"
AVERAGED = "Co-registered, Averaged"
AFFINE = np.diag([2.0, 2, 2, 1])
STARTS = (1800, 2100, 2400, 2700, 3000, 3300)


@pytest.fixture
def files(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    import dicom_files

    return dicom_files


def frame(number: int) -> np.ndarray:
    return np.full((6, 7, 5), 10 + number, np.int16) + np.arange(5, dtype=np.int16)


def sidecar(path: Path, **about: object) -> None:
    path.with_suffix(".json").write_text(json.dumps(about))


def one_file(path: Path, times: bool) -> None:
    nib.save(nib.Nifti1Image(np.stack([frame(k) for k in range(6)], -1), AFFINE), path)
    if times:
        sidecar(path, FrameTimesStart=list(STARTS), FrameDuration=[300] * 6)


def a_file_each(path: Path, times: bool) -> None:
    path.unlink()
    for k, start in reversed(list(enumerate(STARTS))):  # names run against the times
        each = path.with_name(path.name.replace("_Br_", f"_frame{6 - k}_Br_"))
        nib.save(nib.Nifti1Image(frame(k), AFFINE), each)
        if times:
            sidecar(each, FrameTimesStart=[start], FrameDuration=[300], TracerName="FDG", Manufacturer="Dr. X's own")


def clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}.000000"


def dicom(files, folder: Path, times: bool, midnight: bool = False) -> Path:
    injected = 86400 - 600 if midnight else 36000

    def stamped(start: int):
        def change(k: int, elements: dict) -> dict:
            if not times:
                return {}
            tracer = files.element(0x00180031, "LO", "FDG") + files.element(0x00181072, "TM", clock(injected))
            taken = {0x00080032: ("TM", clock((injected + start) % 86400)), 0x00181242: ("IS", 300000)}
            return taken | {0x00540016: ("SQ", [tracer])}

        return change

    for k, start in enumerate(STARTS):
        name = f"f{6 - k}_"
        files.write_classic(folder, frame(k), AFFINE, "PT", DYNAMIC, uid=f"1.2.3.{k}", name=name, change=stamped(start))
    return folder


def read(download, tmp_path: Path):
    download.add_diagnoses(PERSON, bl=2)
    intake = adni.read_download(download.write())
    return source.with_nifti(intake, tmp_path / "prepared")


def check_frames(pet: Path) -> None:
    """Six frames in the order of their times, with these times."""
    image, about = nib.load(pet), json.loads(pet.with_name(pet.name.split(".nii")[0] + ".json").read_text())
    assert np.allclose(image.get_fdata()[0, 0, 0], 10 + np.arange(6), atol=1e-3)
    assert about["FrameTimesStart"] == list(STARTS) and about["FrameDuration"] == [300] * 6
    assert "Dr. X" not in json.dumps(about)


@pytest.mark.parametrize("write", [one_file, a_file_each])
def test_frames_of_known_times_are_taken_where_there_is_no_average(download, tmp_path, write):
    download.add_image(PERSON, SCALED)
    write(download.add_image(PERSON, DYNAMIC, modality="PET"), times=True)
    intake = read(download, tmp_path)
    assert intake.ledger == []
    check_frames(intake.people[0].pet.path)


def test_a_dicom_series_of_frames_becomes_one_file_with_their_times(download, files, tmp_path):
    download.add_image(PERSON, SCALED)
    image = download.add_image(PERSON, DYNAMIC, modality="PET")
    image.unlink()
    dicom(files, image.parent, times=True)
    intake = read(download, tmp_path)
    assert intake.ledger == []
    check_frames(intake.people[0].pet.path)


def test_an_injection_before_midnight_is_half_an_hour_before_frames_after_it(files, tmp_path):
    convert(dicom(files, tmp_path / "in", times=True, midnight=True), tmp_path / "pet.nii.gz", "pet")
    check_frames(tmp_path / "pet.nii.gz")


@pytest.mark.parametrize("kind", ["one file", "a file each", "DICOM"])
def test_frames_of_unknown_times_are_a_ledger_row_that_says_what_is_missing(download, files, tmp_path, kind):
    download.add_image(PERSON, SCALED)
    image = download.add_image(PERSON, DYNAMIC, modality="PET")
    if kind == "DICOM":
        image.unlink()
        dicom(files, image.parent, times=False)
    else:
        (one_file if kind == "one file" else a_file_each)(image, times=False)
    intake = read(download, tmp_path)
    assert intake.people[0].pet is None
    (row,) = intake.ledger
    assert (row.modality, row.status, row.reason_code) == ("pet", "excluded", "dynamic")
    assert ("injection" if kind == "DICOM" else "FrameTimesStart") in row.reason


def test_an_average_is_preferred_to_its_frames(download, tmp_path):
    download.add_image(PERSON, SCALED)
    one_file(download.add_image(PERSON, DYNAMIC, modality="PET"), times=True)
    download.add_image(PERSON, AVERAGED, modality="PET")
    assert read(download, tmp_path).people[0].pet.description == AVERAGED
    assert rank_series("FDG dynamic", "pet") > rank_series("FDG static AC", "pet")


def test_frames_on_several_grids_are_refused(tmp_path):
    for k, affine in enumerate((AFFINE, 1.5 * AFFINE)):
        path = tmp_path / "in" / f"frame{k}.nii"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(frame(k), affine), path)
        sidecar(path, FrameTimesStart=[STARTS[k]], FrameDuration=[300])
    with pytest.raises(ScanError, match="2 frames that do not lie in one place"):
        pet_frames.join(tmp_path / "in", tmp_path / "out.nii.gz")


def test_joined_frames_are_left_as_they_are_until_a_frame_changes(tmp_path):
    (tmp_path / "in").mkdir()
    image = tmp_path / "in" / "ADNI_PT_Br_1.nii"
    image.touch()
    a_file_each(image, times=True)
    target = tmp_path / "out.nii.gz"
    pet_frames.join(tmp_path / "in", target)
    before = target.stat().st_mtime_ns
    pet_frames.join(tmp_path / "in", target)
    assert target.stat().st_mtime_ns == before
    first = next((tmp_path / "in").glob("*.nii"))
    nib.save(nib.Nifti1Image(frame(9), AFFINE), first)
    pet_frames.join(tmp_path / "in", target)
    assert (nib.load(target).get_fdata()[0, 0, 0] == 19).sum() == 1
