"""What each bad input gets: a reason code where one scan is at fault, one sentence where a table or an option is.

A scan at fault is a line of the ledger and stops nobody; a table that is not understood stops the run before any work.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from preprocessing.intake import adni, bids, dicom, listing
from preprocessing.intake.formats import locate_image
from preprocessing.steps import orient
from preprocessing.steps.orient import ScanError

NOISE = np.random.default_rng(0).uniform(1, 1000, (12, 12, 12)).astype(np.float32)
SCALED = "MPR; GradWarp; B1 Correction; N3; Scaled"
FDG_8MM = "Coreg, Avg, Std Img and Vox Siz, Uniform Resolution"


def save(values: np.ndarray, path: Path, **header: object) -> Path:
    image = nib.Nifti1Image(values, np.eye(4))
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def with_bytes(path: Path, position: int, *values: object) -> Path:
    """A file with some bytes of its header replaced (positions: the NIfTI-1 header)."""
    content = bytearray(path.read_bytes())
    new = b"".join(np.asarray(value).tobytes() for value in values)
    content[position : position + len(new)] = new
    path.write_bytes(bytes(content))
    return path


def changed(voxel: float) -> np.ndarray:
    values = NOISE.copy()
    values[3, 4, 5] = voxel
    return values


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def folder_named(path: Path) -> Path:
    path.mkdir()
    return path


def singular(path: Path) -> Path:
    affine = np.eye(4)
    affine[:3, 1] = [1, 0, 0]  # two axes point the same way
    image = nib.Nifti1Image(NOISE, None)
    image.set_sform(affine, 1)
    nib.save(image, path)
    return path


def colored(path: Path) -> Path:
    values = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return path


SHORT, FLOAT = np.int16, np.float32
SCANS: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "cut off, compressed": ("truncated", lambda d: cut(save(NOISE, d / "a.nii.gz"), 0.5), "ends early"),
    "cut off, plain": ("truncated", lambda d: cut(save(NOISE, d / "a.nii"), 0.5), "ends early"),
    "cut off in the header": ("unreadable", lambda d: cut(save(NOISE, d / "a.nii"), 0.02), "not a readable"),
    "of no bytes": ("unreadable", lambda d: written(d / "a.nii", b""), "not a readable"),
    "of text": ("unreadable", lambda d: written(d / "a.nii", b"no image" * 100), "not a readable"),
    "gzip of text": ("unreadable", lambda d: written(d / "a.nii.gz", gzip.compress(b"no image")), "not a readable"),
    "plain but named .gz": (
        "unreadable",
        lambda d: save(NOISE, d / "a.nii").rename(d / "a.nii.gz"),
        "not a readable",
    ),
    "a folder named .nii": ("unreadable", lambda d: folder_named(d / "a.nii"), "a folder, not a file"),
    "not there": ("unreadable", lambda d: d / "a.nii", "no such file"),
    "with NaN": ("not_finite", lambda d: save(changed(np.nan), d / "a.nii"), "1 voxels are NaN"),
    "with infinity": ("not_finite", lambda d: save(changed(np.inf), d / "a.nii"), "1 voxels are NaN"),
    "of one value": ("empty", lambda d: save(0 * NOISE, d / "a.nii"), "every voxel is 0"),
    "of zero voxel size": (
        "voxel_size",
        lambda d: with_bytes(with_bytes(save(NOISE, d / "a.nii"), 80, FLOAT(0)), 280, FLOAT(0)),
        "every size must be > 0",
    ),
    "with axes in one plane": ("voxel_size", lambda d: singular(d / "a.nii"), "span a volume"),
    "with a NaN in the affine": (
        "voxel_size",
        lambda d: with_bytes(save(NOISE, d / "a.nii"), 280, FLOAT(np.nan)),
        "every size must be > 0",
    ),
    "in metres": ("units", lambda d: save(NOISE, d / "a.nii", xyzt_units=1), "unit 'meter'"),
    "in micrometres": ("units", lambda d: save(NOISE, d / "a.nii", xyzt_units=3), "unit 'micron'"),
    "with voxels of 1 um said to be mm": (
        "units",
        lambda d: nib.save(nib.Nifti1Image(NOISE, np.diag([1e-3, 1e-3, 1e-3, 1])), d / "a.nii") or d / "a.nii",
        "0.1 to 20 mm is read",
    ),
    "of several volumes": ("not_3d", lambda d: save(np.stack([NOISE, NOISE], -1), d / "a.nii"), "12, 12, 12, 2"),
    "of one slice": ("not_3d", lambda d: save(NOISE[:, :, :1], d / "a.nii"), "3 axes of 2 voxels or more"),
    "of two axes": ("not_3d", lambda d: save(NOISE[:, :, 0], d / "a.nii"), "3 axes"),
    "of absurd size": (
        "too_large",
        lambda d: with_bytes(save(NOISE, d / "a.nii"), 42, SHORT(30000), SHORT(30000), SHORT(30000)),
        "30000, 30000, 30000",
    ),
    "of absurd size in NIfTI-2": (
        "too_large",
        lambda d: with_bytes(
            nib.save(nib.Nifti2Image(NOISE, np.eye(4)), d / "a.nii") or d / "a.nii", 24, np.int64([10**5] * 3)
        ),
        "100000, 100000, 100000",
    ),
    "of a size of 0": ("too_large", lambda d: with_bytes(save(NOISE, d / "a.nii"), 42, SHORT(0)), "shape (0, 12, 12)"),
    "in color": ("data_type", lambda d: colored(d / "a.nii"), "one real number each"),
    "of complex numbers": ("data_type", lambda d: save(NOISE.astype(np.complex64), d / "a.nii"), "complex64"),
    "without orientation": (
        "no_orientation",
        lambda d: with_bytes(save(NOISE, d / "a.nii"), 252, SHORT(0), SHORT(0)),
        "left from right",
    ),
    "with negative PET": ("negative", lambda d: save(-NOISE, d / "a.nii"), "mostly positive"),
    "in Hounsfield units": ("negative", lambda d: save(2 * NOISE - 1500, d / "a.nii"), "mostly positive"),
}


@pytest.mark.parametrize(("code", "make", "part"), SCANS.values(), ids=SCANS)
def test_a_scan(code, make, part, tmp_path):
    path = make(tmp_path)
    with pytest.raises(ScanError) as caught:
        orient.read_scan(path)
    assert caught.value.reason_code == code
    assert part in str(caught.value) and str(path) in str(caught.value)


def test_a_scan_of_absurd_size_is_refused_before_its_voxels_are_read(tmp_path, monkeypatch):
    path = SCANS["of absurd size"][1](tmp_path)
    monkeypatch.setattr(orient, "read_values", lambda *_: pytest.fail("the voxels were read"))
    with pytest.raises(ScanError):
        orient.read_scan(path)


def test_a_good_scan_under_a_path_with_spaces_and_umlauts_is_read(tmp_path):
    folder = tmp_path / "a folder, with spaces & Ümläute"
    folder.mkdir()
    assert orient.read_scan(save(NOISE, folder / "a scan.nii.gz")).shape == (12, 12, 12)


FILES: dict[str, tuple[str, str, bytes]] = {
    "ECAT by name": ("ecat", "a.v", b"whatever"),
    "ECAT by content": ("ecat", "a.img", b"MATRIX72v"),
    "another format": ("unknown_format", "a.mgz", b"whatever"),
    "a text": ("missing_file", "a.txt", b"whatever"),
}


@pytest.mark.parametrize(("code", "name", "content"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("as_folder", [False, True], ids=["file", "folder"])
def test_a_file(code, name, content, as_folder, tmp_path):
    path = written(tmp_path / name, content)
    with pytest.raises(ScanError) as caught:
        locate_image(tmp_path if as_folder else path)
    assert caught.value.reason_code == code


@pytest.fixture
def scanner(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import dicom_files

    return dicom_files


def dicom_text(folder: Path, scanner) -> None:
    written(folder / "a.dcm", b"no DICOM at all")


def dicom_cut(folder: Path, scanner) -> None:
    scanner.write_classic(folder, NOISE.astype(np.int16), np.eye(4))
    cut(folder / "slice006.dcm", 0.8)


def dicom_cut_in_the_header(folder: Path, scanner) -> None:
    scanner.write_classic(folder, NOISE.astype(np.int16), np.eye(4))
    cut(folder / "slice006.dcm", 0.3)


def dicom_single_slice(folder: Path, scanner) -> None:
    scanner.write_classic(folder, NOISE[:, :, :1].astype(np.int16), np.eye(4))


def dicom_gap(folder: Path, scanner) -> None:
    scanner.write_classic(folder, NOISE.astype(np.int16), np.eye(4))
    (folder / "slice006.dcm").unlink()


def dicom_repeated(folder: Path, scanner) -> None:
    for name in "ab":
        scanner.write_classic(folder, NOISE.astype(np.int16), np.eye(4), name=name, uid=f"1.2.3.{ord(name)}")


def dicom_contradictory(folder: Path, scanner) -> None:
    for name in "ab":
        scanner.write_classic(folder, NOISE.astype(np.int16) + np.int16(ord(name)), np.eye(4), name=name)


def dicom_pet(folder: Path, scanner) -> None:
    scanner.write_classic(folder, NOISE.astype(np.int16), np.eye(4), "PT")


def frames(*order: int) -> Callable[[Path, object], None]:
    def make(folder: Path, scanner) -> None:
        scanner.write_enhanced(folder / "a.dcm", NOISE.astype(np.int16), np.eye(4), order=list(order))

    return make


def changed_slices(change: Callable[[int, dict], dict]) -> Callable[[Path, object], None]:
    def make(folder: Path, scanner) -> None:
        scanner.write_classic(folder, NOISE.astype(np.int16), np.eye(4), change=change)

    return make


def dicom_without_frame_positions(folder: Path, scanner) -> None:
    frames(*range(12))(folder, scanner)
    content = (folder / "a.dcm").read_bytes()
    (folder / "a.dcm").write_bytes(content.replace(b"\x30\x92", b"\x31\x92"))


TILTED = changed_slices(lambda k, _: {0x00200032: ("DS", f"{-k * 0.2}\\0\\{k}")})
TWO_PLANES = changed_slices(lambda k, _: {0x00200037: ("DS", "1\\0\\0\\0\\0\\-1")} if k > 8 else {})
TWO_SIZES = changed_slices(lambda k, _: {0x00280010: ("US", 6), 0x00280011: ("US", 24)} if k == 4 else {})
NO_SPACING = changed_slices(lambda k, _: {0x00280030: ("DS", "")})
SPACING_0 = changed_slices(lambda k, _: {0x00280030: ("DS", "0\\0")})
DICOM = {
    "of text": ("dicom_unreadable", dicom_text),
    "with a slice cut off": ("dicom_unreadable", dicom_cut),
    "with a slice cut off in the header": ("dicom_unreadable", dicom_cut_in_the_header),
    "of one slice": ("not_3d", dicom_single_slice),
    "without one slice": ("dicom_gap", dicom_gap),
    "with two images at each place": ("dynamic", dicom_repeated),
    "with two versions of each slice": ("dicom_contradiction", dicom_contradictory),
    "of a PET instead of the T1": ("wrong_modality", dicom_pet),
    "with two frames at each place": ("dynamic", frames(*range(6), *range(6))),
    "without one frame": ("dicom_gap", frames(0, 1, 2, 4, 5, 6, 7)),
    "with frames of unknown places": ("dicom_geometry", dicom_without_frame_positions),
    "of tilted slices": ("dicom_geometry", TILTED),
    "of slices in two planes": ("dicom_geometry", TWO_PLANES),
    "of slices of two sizes": ("dicom_geometry", TWO_SIZES),
    "without pixel spacing": ("dicom_unreadable", NO_SPACING),
    "with a pixel spacing of 0": ("dicom_geometry", SPACING_0),
    "of reports alone": ("missing_file", lambda folder, scanner: scanner.write_without_pixels(folder / "a.dcm")),
    "of no file": ("missing_file", lambda folder, scanner: None),
}


@pytest.mark.parametrize(("code", "make"), DICOM.values(), ids=DICOM)
def test_a_dicom_folder(code, make, tmp_path, scanner):
    make(tmp_path, scanner)
    with pytest.raises(ScanError) as caught:
        dicom.convert(tmp_path, tmp_path / "out" / "t1.nii.gz", "mri")
    assert caught.value.reason_code == code
    assert not (tmp_path / "out" / "t1.nii.gz").exists()


def edit(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def apply(raw: Path) -> None:
        (path,) = raw.glob(name)
        change(pd.read_csv(path, dtype=str)).to_csv(path, index=False)

    return apply


def renamed(name: str, **columns: str) -> Callable[[Path], None]:
    return edit(name, lambda table: table.rename(columns={old.replace("_", " "): c for old, c in columns.items()}))


def without(name: str) -> Callable[[Path], None]:
    return lambda raw: next(raw.glob(name)).unlink()


def emptied(name: str) -> Callable[[Path], None]:
    return lambda raw: next(raw.glob(name)).write_text("")


def ragged(raw: Path) -> None:
    with next(raw.glob("DXSUM*")).open("a") as file:
        file.write("1,2,3,4,5,6,7,8,9\n")


COLLECTION, DXSUM = "*collection*.csv", "DXSUM*.csv"
TABLES = {
    "collection missing": (without(COLLECTION), "no collection CSV; one with the columns Image Data ID, Subject"),
    "collection empty": (emptied(COLLECTION), "collection.*the table is empty; not even a header line"),
    "subject renamed": (
        renamed(COLLECTION, Subject="Who"),
        "no column 'Subject'; known spellings: Subject, subject_id",
    ),
    "visit missing": (edit(COLLECTION, lambda t: t.drop(columns="Visit")), "no column 'Visit'; known spellings: Visit"),
    "date renamed": (renamed(COLLECTION, Acq_Date="When"), "no column 'Acq Date'; known spellings: .*image_date"),
    "description renamed": (renamed(COLLECTION, Description="Text"), "no column 'Description'; known spellings"),
    "image id renamed": (renamed(COLLECTION, Image_Data_ID="Nr"), "no column 'Image Data ID'; known spellings"),
    "an image of two people": (
        edit(COLLECTION, lambda t: t.assign(**{"Image Data ID": "I7"})),
        "image id 7 belongs to 001_S_0001 and 001_S_0002; an image is of one person",
    ),
    "DXSUM missing": (without(DXSUM), "no diagnostic table; DXSUM .with DIAGNOSIS"),
    "diagnosis renamed": (renamed(DXSUM, DIAGNOSIS="DXX"), "no column 'DIAGNOSIS'; known spellings: .*DXCURREN"),
    "visit code renamed": (renamed(DXSUM, VISCODE2="WHEN"), "no column 'VISCODE2'; known spellings: VISCODE2, VISCODE"),
    "person renamed": (
        edit(DXSUM, lambda t: t.rename(columns={"PTID": "A", "RID": "B"})),
        "no column 'PTID'; known spellings: PTID, RID",
    ),
    "lines too long": (ragged, "DXSUM.*not a table; line 4 has 9 cells where the header has 4"),
}


@pytest.mark.parametrize(("break_it", "sentence"), TABLES.values(), ids=TABLES)
def test_an_adni_table(break_it, sentence, download):
    for ptid in ("001_S_0001", "001_S_0002"):
        download.add_image(ptid, SCALED)
        download.add_diagnoses(ptid, bl=2)
    raw = download.write()
    break_it(raw)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        adni.read_download(raw)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"visit": "v99", "date": ""}, "unknown_visit"),
        ({"file": False}, "missing_file"),
        ({"description": "Axial T2 FLAIR"}, "no_t1"),
        ({"description": FDG_8MM}, "no_t1"),  # modalities swapped in the table
    ],
    ids=["an unknown visit code", "no file", "another contrast", "a PET among the MRI"],
)
def test_an_adni_image(options, code, download):
    download.add_image("001_S_0001", **({"description": SCALED} | options))
    download.add_diagnoses("001_S_0001", bl=2)
    intake = adni.read_download(download.write())
    assert intake.people == []
    assert [row.reason_code for row in intake.ledger] == [code, "no_t1"]


LISTS = {
    "a column missing": ("subject\tt1\n1\ta.nii\n", "no column 'pet'; known spellings: pet, fdg"),
    "a subject twice": ("subject\tt1\tpet\n1\ta.nii\t\nsub-1\tb.nii\t\n", "subject sub-1 stands twice"),
    "a scan of two people": ("subject\tt1\tpet\n1\ta.nii\t\n2\ta.nii\t\n", "scan a.nii stands twice"),
    "a PET that is another's T1": ("subject\tt1\tpet\n1\ta.nii\t\n2\tb.nii\ta.nii\n", "scan a.nii stands twice"),
    "one file as both": ("subject\tt1\tpet\n1\ta.nii\ta.nii\n", "1 has the same file as t1 and pet: a.nii"),
    "a label that is none": ("subject\tt1\tpet\tlabel\n1\ta.nii\t\tMCI\n", "1 has label 'MCI'; known: stable"),
    "label and history": ("subject,t1,pet,label,history\n1,a.nii,,,\n", "columns 'label' and 'history'"),
    "no name": ("subject\tt1\tpet\n--\ta.nii\t\n", "subject '--'; a name with letters or digits"),
    "nothing": ("", "the table is empty"),
}


@pytest.mark.parametrize(("content", "sentence"), LISTS.values(), ids=LISTS)
def test_a_list(content, sentence, tmp_path):
    for name in "ab":
        save(NOISE, tmp_path / f"{name}.nii")
    (tmp_path / "list.tsv").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        listing.read_list(tmp_path / "list.tsv")


def test_a_history_in_a_list_that_is_none_costs_its_person_the_label(tmp_path):
    for name in "ab":
        save(NOISE, tmp_path / f"{name}.nii")
    (tmp_path / "list.csv").write_text("subject,t1,pet,history\n1,a.nii,NA,m12\n2,b.nii,,0:MCI 12:AD\n")
    with pytest.warns(UserWarning, match="column 'history': 1 histories .* line 2: .*'m12' is not like 12:MCI"):
        intake = listing.read_list(tmp_path / "list.csv")
    assert [person.label.reason for person in intake.people] == ["no_diagnosis", "converter"]


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such list; a table with the columns subject, t1, pet"):
        listing.read_list(tmp_path / "list.tsv")


def test_a_list_whose_files_are_missing_or_of_another_format_loses_only_those(tmp_path):
    save(NOISE, tmp_path / "a.nii")
    written(tmp_path / "p.v", b"")
    lines = ["subject,t1,pet", "1,a.nii,p.v", "2,gone.nii,", "3,,b.nii"]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    intake = listing.read_list(tmp_path / "list.csv")
    assert [person.participant_id for person in intake.people] == ["sub-1"]
    found = [(row.participant_id, row.modality, row.status, row.reason_code) for row in intake.ledger]
    assert found == [
        ("sub-1", "pet", "failed", "ecat"),
        ("sub-2", "mri", "failed", "missing_file"),
        ("sub-2", "pet", "excluded", "no_t1"),
        ("sub-3", "mri", "excluded", "no_t1"),
        ("sub-3", "pet", "excluded", "no_t1"),
    ]


def test_a_broken_sidecar_is_a_warning_and_the_scan_goes_on(tmp_path):
    folder = tmp_path / "sub-01" / "anat"
    folder.mkdir(parents=True)
    save(NOISE, folder / "sub-01_T1w.nii")
    (folder / "sub-01_T1w.json").write_text("{")
    with pytest.warns(UserWarning, match="sub-01_T1w.json: it is no JSON"):
        assert len(bids.read_dataset(tmp_path).people) == 1
