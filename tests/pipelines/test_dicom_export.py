"""Report and segmentation as DICOM: identifiers, places and codes, and another program's verdict on the objects."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from pipelines import dicom_export, privacy_check
from pipelines.dicom_export import check_source, export_dicom
from pipelines.restoring import Refused
from preprocessing.steps.hippocampus import Box
from reports.dicom import FOLDER, PDF_FILE, SEGMENTATION_FILE
from tests.preprocessing.dicom_files import write_classic, write_enhanced

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")
import pydicom  # noqa: E402 (comes with highdicom)

# A tilted sagittal series: rows run to the back, columns down, slices of 1.2 mm to the left.
TILT = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, -0.05, 0.08), [0, 0, 0])
AFFINE = TILT @ np.array([[0, 0, -1.2, 30], [-1.0, 0, 0, 20], [0, -1.0, 0, 25], [0, 0, 0, 1]])
SHAPE = (44, 48, 50)
STUDY, FRAME = "1.2.3.5", "1.2.3.77"
PAGE = b"%PDF-1.7 an odd number of bytes"
FACTS = {
    0x00080005: ("CS", "ISO_IR 100"),
    0x00080020: ("DA", "20100506"),
    0x00080030: ("TM", "101112"),
    0x00080050: ("SH", "ACC9"),
    0x00080090: ("PN", "Smith^John"),
    0x00100010: ("PN", "Müller^Jane".encode("latin-1")),
    0x00100030: ("DA", "19400203"),
    0x00100040: ("CS", "F"),
    0x00200010: ("SH", "7"),
    0x00200052: ("UI", FRAME),
}


def boxes() -> dict[str, Box]:
    """On each side a hippocampus of 1152 voxels of 1 mm, and nothing else."""
    found = {}
    for side, x in (("left", -20.0), ("right", 8.0)):
        affine = np.eye(4)
        affine[:3, 3] = (x, -15, -10)
        inside = np.zeros((14, 26, 16), np.float32)
        inside[3:11, 5:17, 2:14] = 1
        parts = {"hippocampus": inside, **dict.fromkeys(("amygdala", "inferior_lateral_ventricle"), 0 * inside)}
        found[side] = Box(parts, affine, np.zeros(3), inside > 0)
    return found


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Exports for a series; a stand-in for the network says where the hippocampi are."""
    monkeypatch.setattr(dicom_export, "segment_hippocampi", lambda scan, transforms: boxes())
    monkeypatch.setattr(dicom_export, "read_scan", lambda path, header: None)
    monkeypatch.setattr(dicom_export, "SubjectFolder", lambda task, prepared: SimpleNamespace(transforms=None))
    (tmp_path / "page.pdf").write_bytes(PAGE)
    task = SimpleNamespace(t1=None, recipe=SimpleNamespace(header=""), folder=lambda prepared: prepared)

    def run(t1: Path, failed: bool = False) -> dict[str, pydicom.Dataset]:
        written = export_dicom(
            t1, task, tmp_path, tmp_path / "page.pdf", tmp_path / "out", identifiers=False, failed=failed
        )
        assert all(path.parent == tmp_path / "out" / FOLDER for path in written)
        return {path.name: pydicom.dcmread(path) for path in written}

    return run


def classic(folder: Path, leave_out: tuple[int, ...] = ()) -> Path:
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
    facts = {tag: value for tag, value in FACTS.items() if tag not in leave_out}
    return write_classic(folder, values, AFFINE, change=lambda k, elements: facts)


def test_both_objects_are_of_the_scanned_patient_and_study(export, tmp_path: Path) -> None:
    found = export(classic(tmp_path / "series"))
    assert found.keys() == {PDF_FILE, SEGMENTATION_FILE}
    for content in found.values():
        assert (content.PatientName, content.PatientID, content.PatientBirthDate) == (
            "Müller^Jane",
            "011_S_4105",
            "19400203",
        )
        assert (content.StudyInstanceUID, content.AccessionNumber, content.StudyID) == (STUDY, "ACC9", "7")
    assert found[SEGMENTATION_FILE].FrameOfReferenceUID == FRAME
    assert found[PDF_FILE].SeriesInstanceUID != found[SEGMENTATION_FILE].SeriesInstanceUID


def test_the_page_comes_out_as_it_went_in(export, tmp_path: Path) -> None:
    document = export(classic(tmp_path / "series"))[PDF_FILE]
    assert document.EncapsulatedDocument[: document.EncapsulatedDocumentLength] == PAGE


def test_segments_lie_on_the_source_slices_where_they_were_found(export, tmp_path: Path) -> None:
    export(classic(tmp_path / "series"))
    found = highdicom.seg.segread(tmp_path / "out" / FOLDER / SEGMENTATION_FILE)
    uids = {item.ReferencedSOPInstanceUID for item in found.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert uids == {f"1.2.3.100.{k + 1}" for k in range(SHAPE[2])}
    check_places(found)


def test_segments_of_a_multi_frame_file_lie_on_its_frames_in_any_order(export, tmp_path: Path) -> None:
    values = np.zeros(SHAPE, np.int16)
    order = [int(k) for k in np.random.default_rng(0).permutation(SHAPE[2])]
    file = write_enhanced(tmp_path / "enhanced.dcm", values, AFFINE, order=order)
    header = pydicom.dcmread(file)
    header.FrameOfReferenceUID = FRAME
    header.save_as(file)
    export(file)
    check_places(highdicom.seg.segread(tmp_path / "out" / FOLDER / SEGMENTATION_FILE))


def check_places(found) -> None:
    volume = found.get_volume(combine_segments=False)
    for number, (side, box) in enumerate(boxes().items(), start=1):
        inside = np.argwhere(volume.array[..., number - 1])
        center = nib.affines.apply_affine(np.diag([-1, -1, 1, 1]) @ volume.affine, inside.mean(0))
        assert center == pytest.approx(box.center, abs=0.15), side
        assert len(inside) * 1.2 == pytest.approx(1152, rel=0.1)


def test_segments_are_named_by_structure_and_side_in_snomed_codes(export, tmp_path: Path) -> None:
    segments = export(classic(tmp_path / "series"))[SEGMENTATION_FILE].SegmentSequence
    assert len(segments) == 6
    kinds = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in segments]
    sides = [kind.SegmentedPropertyTypeModifierCodeSequence[0] for kind in kinds]
    assert [kind.CodeValue for kind in kinds] == ["5366008"] * 2 + ["4958002"] * 2 + ["53118009"] * 2
    assert [side.CodeMeaning for side in sides] == ["Left", "Right"] * 3
    assert {code.CodingSchemeDesignator for code in (*kinds, *sides)} == {"SCT"}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("name", [PDF_FILE, SEGMENTATION_FILE])
def test_dciodvfy_finds_no_error(export, tmp_path: Path, name: str) -> None:
    export(classic(tmp_path / "series"))
    said = subprocess.run(["dciodvfy", tmp_path / "out" / FOLDER / name], capture_output=True, text=True, check=False)
    assert [line for line in said.stderr.splitlines() if "Error" in line] == []
    assert said.returncode == 0


@pytest.mark.parametrize(("failed", "reason"), [(True, "failed quality control"), (False, "no frame of reference")])
def test_without_a_segmentation_to_rely_on_the_page_goes_alone_and_says_why(
    export, tmp_path: Path, capsys, failed: bool, reason: str
) -> None:
    found = export(classic(tmp_path / "series", leave_out=() if failed else (0x00200052,)), failed=failed)
    assert found.keys() == {PDF_FILE}
    assert reason in capsys.readouterr().err


def test_what_is_no_dicom_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"t1.nii.gz is no DICOM series.*patient, study and frame of reference"):
        check_source(tmp_path / "t1.nii.gz")
    with pytest.raises(Refused, match="a scan of a BIDS data set is no DICOM series"):
        check_source(None)
    check_source(classic(tmp_path / "series"))


def test_the_privacy_check_lets_no_dicom_object_pass(export, tmp_path: Path, capsys) -> None:
    export(classic(tmp_path / "series"))
    assert privacy_check.main([str(tmp_path / "out")]) == 1
    listed = capsys.readouterr().out.splitlines()
    for name in (PDF_FILE, SEGMENTATION_FILE):
        assert any(line.startswith(f"{FOLDER}/{name}\tfile\tDICOM object") for line in listed)
