"""DICOM series become the very volume they hold, and nothing else of them is kept."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from preprocessing.intake import dcm2niix, dicom, dicom_series, listing
from preprocessing.intake.dicom_choice import rank_series
from preprocessing.steps.orient import ScanError

VALUES = np.random.default_rng(0).integers(-50, 2000, (7, 9, 6)).astype(np.int16)
AFFINE = np.eye(4)
AFFINE[:3, :3] = Rotation.from_euler("xyz", [10, -5, 20], degrees=True).as_matrix() @ np.diag([1.2, 0.9, 2.0])
AFFINE[:3, 3] = [-30, 40, -20]


@pytest.fixture
def files(monkeypatch):
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    import dicom_files

    return dicom_files


def read(source, modality="mri") -> nib.Nifti1Image:
    return dicom.read_series(dicom.choose_series(dicom.find_series(source), modality))


def code_of(source, modality="mri") -> tuple[str, str]:
    with pytest.raises(ScanError) as caught:
        read(source, modality)
    return caught.value.reason_code, str(caught.value)


def same_in_the_world(one: nib.Nifti1Image, other: nib.Nifti1Image) -> bool:
    one, other = nib.as_closest_canonical(one), nib.as_closest_canonical(other)
    return np.allclose(one.affine, other.affine) and np.array_equal(one.get_fdata(), other.get_fdata())


def test_a_classic_series_keeps_every_value_and_its_oblique_place(files, tmp_path):
    image = read(files.write_classic(tmp_path, VALUES, AFFINE))
    assert np.array_equal(image.get_fdata(), VALUES)
    assert image.get_data_dtype() == np.int16
    assert np.allclose(image.affine, AFFINE, atol=1e-6)


def test_an_enhanced_multi_frame_file_keeps_every_value_and_its_oblique_place(files, tmp_path):
    image = read(files.write_enhanced(tmp_path / "one.dcm", VALUES, AFFINE))
    assert np.array_equal(image.get_fdata(), VALUES)
    assert np.allclose(image.affine, AFFINE, atol=1e-6)


def test_frames_stored_from_top_to_bottom_are_the_same_volume_in_the_world(files, tmp_path):
    image = read(files.write_enhanced(tmp_path / "one.dcm", VALUES, AFFINE, order=[5, 4, 3, 2, 1, 0]))
    assert same_in_the_world(image, nib.Nifti1Image(VALUES, AFFINE))


def test_frames_out_of_order_are_put_in_their_places(files, tmp_path):
    image = read(files.write_enhanced(tmp_path / "one.dcm", VALUES, AFFINE, order=[0, 2, 4, 1, 3, 5]))
    assert same_in_the_world(image, nib.Nifti1Image(VALUES, AFFINE))


@pytest.mark.parametrize("order", [None, [5, 3, 1, 0, 2, 4]], ids=["in order", "out of order"])
def test_frames_of_a_pet_are_scaled_each_by_its_own_slope(order, files, tmp_path):
    slopes = np.linspace(0.5, 1.7, 6)
    source = files.write_enhanced(tmp_path / "one.dcm", VALUES, AFFINE, "FDG", order, "PT", slopes)
    assert np.allclose(read(source, "pet").get_fdata(), VALUES * slopes, rtol=1e-6)


def test_an_enhanced_file_in_implicit_vr_is_read(files, tmp_path):
    image = read(files.write_enhanced(tmp_path / "one.dcm", VALUES, AFFINE, syntax=files.IMPLICIT))
    assert same_in_the_world(image, nib.Nifti1Image(VALUES, AFFINE))


KINDS = {
    "in implicit VR": lambda files: {"syntax": files.IMPLICIT},
    "packed by run length": lambda files: {"syntax": files.RLE},
    "as JPEG 2000": lambda files: {"syntax": files.JPEG2000},
    "named .IMA": lambda files: {"ending": ".IMA"},
    "without file ending": lambda files: {"ending": ""},
    "without slice numbers": lambda files: {"change": lambda k, _: {0x00200013: ("IS", "1")}},
    "with slice numbers in another order": lambda files: {"change": lambda k, _: {0x00200013: ("IS", 5 * k % 6 + 1)}},
    "of a study time that varies": lambda files: {
        "change": lambda k, _: {0x00080020: ("DA", "20200101"), 0x00080030: ("TM", f"10000{k}")}
    },
    "of several echo numbers": lambda files: {"change": lambda k, _: {0x00180086: ("IS", k // 3 + 1)}},
    "of one UID for all": lambda files: {"change": lambda k, _: {0x00080018: ("UI", "1.2.3")}},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_series_is_the_same_volume(kind, files, tmp_path):
    values = np.abs(VALUES)
    image = read(files.write_classic(tmp_path, values, AFFINE, **kind(files)))
    assert np.array_equal(image.get_fdata(), values)
    assert np.allclose(image.affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_dcm2niix_and_gdcm_read_the_same(kind, files, tmp_path):
    slopes = np.linspace(0.5, 1.7, 6)
    if kind == "classic":
        files.write_classic(tmp_path, VALUES, AFFINE, "PT", slopes=slopes)
    else:
        files.write_enhanced(tmp_path / "one.dcm", VALUES, AFFINE, modality="PT", slopes=slopes)
    slices = dicom_series.find_series(tmp_path)[0].slices
    grid, paths = dicom_series.grid_of(slices), [found.path for found in slices]
    one = dicom._on_grid(dcm2niix.run(paths, volume=True), grid)
    other = dicom._read_slices(paths, grid) if kind == "classic" else dicom._read_frames(paths[0], grid)
    assert np.allclose(one, other, rtol=1e-6)


def test_a_volume_of_dcm2niix_that_lies_elsewhere_is_not_taken(files, tmp_path, monkeypatch):
    files.write_classic(tmp_path, VALUES, AFFINE)
    right = np.where(VALUES > 1000, 0, VALUES).astype(np.float32)
    for change, taken in ((np.eye(4), True), (np.diag([1, 1, 1.1, 1]), False), (np.diag([1, 1, 0, 1]), False)):
        found = dcm2niix.Converted(right, AFFINE @ change)
        monkeypatch.setattr(dcm2niix, "run", lambda *_, found=found, **__: found)
        assert np.array_equal(read(tmp_path).get_fdata(), right if taken else VALUES)


def test_pet_slices_are_scaled_each_by_its_own_slope(files, tmp_path):
    slopes = np.linspace(0.5, 1.7, 6)
    image = read(files.write_classic(tmp_path, VALUES, AFFINE, "PT", slopes=slopes), "pet")
    assert np.allclose(image.get_fdata(), VALUES * slopes, rtol=1e-6)


def test_of_several_series_the_best_by_description_is_read(files, tmp_path):
    scaled = "MPR; GradWarp; B1 Correction; N3; Scaled"
    for number, description in enumerate(("Localizer", "MPRAGE", scaled, "Axial T2 FLAIR")):
        values = VALUES + np.int16(number)
        files.write_classic(tmp_path, values, AFFINE, "MR", description, f"1.2.3.{number}", name=f"series{number}_")
    files.write_classic(tmp_path, VALUES, AFFINE, "PT", "FDG averaged", "1.2.3.9", name="pet")
    assert read(tmp_path).get_fdata().min() == VALUES.min() + 2
    assert read(tmp_path, "pet").get_fdata().min() == VALUES.min()


def test_several_series_of_unknown_description_are_refused_by_their_names(files, tmp_path):
    for number in (1, 2):
        files.write_classic(tmp_path, VALUES, AFFINE, "MR", f"Localizer {number}", f"1.2.{number}", name=f"s{number}_")
    assert code_of(tmp_path) == ("unknown_series", "none of 2 series is an accepted one: 'Localizer 1', 'Localizer 2'")


def test_a_missing_slice_is_a_gap_and_is_refused(files, tmp_path):
    files.write_classic(tmp_path, VALUES, AFFINE)
    (tmp_path / "slice003.dcm").unlink()
    assert code_of(tmp_path) == ("dicom_gap", "slices are 2 to 4 mm apart; one is missing")


def test_several_images_at_one_place_are_dynamic_and_refused(files, tmp_path):
    for frame in range(3):
        files.write_classic(tmp_path, VALUES, AFFINE, "PT", name=f"frame{frame}_", uid=f"1.2.3.{frame}")
    code, message = code_of(tmp_path, "pet")
    assert code == "dynamic"
    assert "3 images at each place" in message


def beside(kind: str, files, folder):
    if kind == "a structured report":
        files.write_without_pixels(folder / "SR0001.dcm")
    elif kind == "a presentation state":
        files.write_without_pixels(folder / "PS0001", files.PRESENTATION_STATE, "PR")
    elif kind == "raw data":
        files.write_without_pixels(folder / "RAW.dcm", files.RAW_DATA, "MR")
    elif kind == "a DICOMDIR":
        files.write_without_pixels(folder / "DICOMDIR", files.DIRECTORY, "")


@pytest.mark.parametrize("kind", ["a structured report", "a presentation state", "raw data", "a DICOMDIR"])
def test_an_object_without_pixels_is_skipped_and_counted(kind, files, tmp_path):
    source = files.write_classic(tmp_path / "raw", VALUES, AFFINE)
    beside(kind, files, source)
    dicom.convert(source, tmp_path / "t1.nii.gz", "mri")
    assert np.array_equal(nib.load(tmp_path / "t1.nii.gz").get_fdata(), VALUES)
    about = json.loads((tmp_path / "t1.json").read_text())
    assert (about["SourceFiles"], about["FilesWithoutImage"]) == (6, 1)


@pytest.mark.parametrize("name", ["._slice001.dcm", ".DS_Store.dcm", "__MACOSX/slice001.dcm", ".trash/slice001.dcm"])
def test_hidden_files_are_no_inputs(name, files, tmp_path):
    source = files.write_classic(tmp_path / ".hidden_above" / "raw", VALUES, AFFINE)
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_bytes(b"\0\5\x16\7 no DICOM")
    assert np.array_equal(read(source).get_fdata(), VALUES)


def test_the_same_object_twice_counts_once(files, tmp_path):
    source = files.write_classic(tmp_path / "raw", VALUES, AFFINE)
    for path in sorted(source.iterdir())[:4]:
        (source / f"{path.stem} (1).dcm").write_bytes(path.read_bytes())
    dicom.convert(source, tmp_path / "t1.nii.gz", "mri")
    assert np.array_equal(nib.load(tmp_path / "t1.nii.gz").get_fdata(), VALUES)
    about = json.loads((tmp_path / "t1.json").read_text())
    assert (about["SourceFiles"], about["FilesTwice"]) == (6, 4)


def test_the_same_object_in_another_transfer_syntax_counts_once(files, tmp_path):
    values = np.arange(8 * 10 * 3, dtype=np.int16).reshape(8, 10, 3)  # GDCM unpacks no shorter rows
    files.write_classic(tmp_path, values, AFFINE)
    files.write_classic(tmp_path, values, AFFINE, name="packed", syntax=files.RLE)
    assert np.array_equal(read(tmp_path).get_fdata(), values)


def test_one_uid_with_different_pixels_is_refused_by_the_names_of_both(files, tmp_path):
    files.write_classic(tmp_path, VALUES, AFFINE)
    files.write_classic(tmp_path, VALUES + np.int16(1), AFFINE, name="edited")
    code, sentence = code_of(tmp_path)
    assert code == "dicom_contradiction"
    assert "edited001.dcm and slice001.dcm" in sentence and "different pixels" in sentence


def test_a_file_cut_short_is_named(files, tmp_path):
    files.write_classic(tmp_path, VALUES, AFFINE)
    content = (tmp_path / "slice004.dcm").read_bytes()
    (tmp_path / "slice004.dcm").write_bytes(content[:-40])
    code, sentence = code_of(tmp_path)
    assert code == "dicom_unreadable"
    assert "ends early" in sentence and "slice004.dcm" in sentence


@pytest.mark.parametrize("syntax", ["EXPLICIT", "IMPLICIT"])
def test_a_file_cut_short_costs_no_other_series(syntax, files, tmp_path):
    files.write_classic(tmp_path, VALUES, AFFINE)
    other = files.write_classic(
        tmp_path / "b", VALUES, AFFINE, description="Localizer", series="1.2.4", syntax=getattr(files, syntax)
    )
    (other / "slice006.dcm").write_bytes((other / "slice006.dcm").read_bytes()[:-40])
    assert np.array_equal(read(tmp_path).get_fdata(), VALUES)


T1S = (
    "Sag 3D BRAVO",
    "SAG FSPGR 3D",
    "IR-SPGR",
    "t1_mprage_sag_p2_iso",
    "MP-RAGE",
    "MPRAGE",
    "T1 3D TFE",
    "WIP T1W_3D_TFE",
)
OTHERS = ("3-pl loc", "Ax FLAIR", "Localizer", "AAHead_Scout", "Survey", "Axial T2 Star", "Sag T1 +C", "DTI", "B1 map")


@pytest.mark.parametrize("description", [*T1S, "tfl3d1_16ns", "T1_FLASH3D", "3D T1 FFE", "t1_mprage_ND", "SPGR"])
@pytest.mark.parametrize("other", OTHERS)
def test_the_t1_is_told_from_what_lies_beside_it(description, other):
    series = [dicom_series.Series(text, "MR", ()) for text in (other, description)]
    assert dicom.choose_series(series, "mri").description == description


def test_a_volume_comes_before_a_slice_wise_t1_and_the_first_before_a_repeat():
    ordered = ["MPR; GradWarp; B1 Correction; N3; Scaled", "Sag 3D BRAVO", "MPRAGE repeat", "AX T1 SE"]
    ranks = [rank_series(text, "mri") for text in ordered]
    assert ranks == sorted(ranks) and len(set(ranks)) == 4


def test_an_fdg_outside_adni_is_told_from_uncorrected_and_other_series():
    series = [dicom_series.Series(text, "PT", ()) for text in ("Brain NAC", "PET Brain AC", "FDG Brain static", "MIP")]
    assert dicom.choose_series(series, "pet").description == "FDG Brain static"
    assert rank_series("AV45 Brain AC", "pet") is None


def test_a_series_without_description_goes_by_its_protocol(files, tmp_path):
    named = {0x00181030: ("LO", "T1 3D TFE")}
    files.write_classic(tmp_path, VALUES, AFFINE, description="", change=lambda k, _: named)
    files.write_classic(tmp_path, VALUES + np.int16(1), AFFINE, description="survey", series="1.2.4", name="other")
    assert np.array_equal(read(tmp_path).get_fdata(), VALUES)


def test_no_name_of_a_patient_is_written_anywhere(files, tmp_path):
    source = files.write_classic(tmp_path / "raw", VALUES, AFFINE, description=f"MPRAGE {files.PATIENT}")
    target = tmp_path / "prepared" / "sub-1_T1w.nii.gz"
    dicom.convert(source, target, "mri")
    assert files.PATIENT.encode() in (source / "slice001.dcm").read_bytes()
    written = nib.load(target).to_bytes() + target.with_name("sub-1_T1w.json").read_bytes()
    assert b"Doe" not in written and b"Jane" not in written
    assert str(tmp_path).encode() not in written


def test_field_strength_and_tracer_are_kept_and_nothing_that_stands_beside_them(files, tmp_path):
    kept = {"mri": {"MagneticFieldStrength": 3.0}, "pet": {"TracerName": "18F-FDG"}}
    for modality, kind in (("mri", "MR"), ("pet", "PT")):
        source = files.write_classic(tmp_path / modality, VALUES, AFFINE, kind)
        dicom.convert(source, tmp_path / f"{modality}.nii.gz", modality)
        about = (tmp_path / f"{modality}.json").read_text()
        assert kept[modality].items() <= json.loads(about).items()
        assert "Doe" not in about


def test_a_conversion_is_skipped_while_the_series_is_unchanged_and_gives_the_same_bytes_when_done_again(
    files, tmp_path
):
    source = files.write_classic(tmp_path / "raw", VALUES, AFFINE)
    target = tmp_path / "t1.nii.gz"
    dicom.convert(source, target, "mri")
    before, content = target.stat().st_mtime_ns, target.read_bytes()
    dicom.convert(source, target, "mri")
    assert target.stat().st_mtime_ns == before
    target.unlink()
    dicom.convert(source, target, "mri")
    assert target.read_bytes() == content
    files.write_classic(tmp_path / "raw", VALUES + np.int16(1), AFFINE)
    dicom.convert(source, target, "mri")
    assert target.read_bytes() != content


def test_a_pet_of_uniform_resolution_is_known_after_its_description_is_gone(files, tmp_path):
    description = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"
    source = files.write_classic(tmp_path / "raw", VALUES, AFFINE, "PT", description)
    target = tmp_path / "pet.nii.gz"
    assert [dicom.convert(source, target, "pet") for _ in range(2)] == ["uniform 8 mm"] * 2
    assert json.loads((tmp_path / "pet.json").read_text())["UniformResolution_mm"] == 8


def test_a_series_that_cannot_be_converted_is_a_ledger_row_and_stops_nobody(files, tmp_path):
    files.write_classic(tmp_path / "good", VALUES, AFFINE)
    files.write_classic(tmp_path / "pet", VALUES, AFFINE, "PT")
    files.write_classic(tmp_path / "not_mr", VALUES, AFFINE, "PT")
    files.write_classic(tmp_path / "gap", VALUES, AFFINE)
    (tmp_path / "gap" / "slice003.dcm").unlink()
    rows = ["subject,t1,pet", "1,good,pet", "2,gap,", "3,not_mr,"]
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    intake = listing.read_list(tmp_path / "list.csv")
    people, ledger = dicom.convert_people(intake.people, tmp_path / "prepared")
    assert [person.participant_id for person in people] == ["sub-1"]
    assert people[0].t1.path.is_file() and people[0].pet.path.is_file()
    codes = {(row.participant_id, row.modality): (row.status, row.reason_code) for row in ledger}
    assert codes["sub-2", "mri"] == ("failed", "dicom_gap")
    assert codes["sub-3", "mri"] == ("failed", "wrong_modality")
    assert codes["sub-2", "pet"] == ("excluded", "no_t1")
