"""Small files that claim a lot are refused, and nothing is allocated for them."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from scipy import sparse

from adni_tcgm import limits
from adni_tcgm.datasets.arrays import ArraysConfig, read
from adni_tcgm.datasets.convert_pickle import read_pickle
from adni_tcgm.datasets.emotion_files import open_arrays
from adni_tcgm.datasets.newsgroup_text import read_posts
from adni_tcgm.transforms import transformed
from benchmarks.fuzz_formats import make_dicom
from pipelines.config import load_settings
from preprocessing.intake.columns import read_text_table
from preprocessing.intake.dicom import choose_series, find_series, read_series
from preprocessing.steps.orient import ScanError, read_scan

NOISE = np.random.default_rng(0).uniform(1, 1000, (12, 12, 12)).astype(np.float32)
MIB = 2**20


@pytest.fixture(autouse=True)
def _allocates_little():
    """Python and NumPy may take 100 MiB during a test of this file, whatever its file claims."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * MIB


def npy_header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def with_member(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    return path


def read_arrays(path: Path) -> object:
    return read(ArraysConfig(path=str(path), views={"a": "x"}))


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (2**62, 4)])
def test_an_array_that_claims_terabytes_is_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=r"x\.npy: an array of shape"):
        read_arrays(with_member(tmp_path / "a.npz", npy_header(shape)))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.npy").write_bytes(npy_header(shape))
    with pytest.raises(ValueError, match=r"x\.npy: cannot be read"):
        read_arrays(folder)


def test_an_archive_that_unfolds_to_more_than_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "memory_bytes", lambda: MIB)
    with pytest.raises(ValueError, match="GiB; this machine has"):
        read_arrays(with_member(tmp_path / "a.npz", npy_header((MIB,)) + bytes(8 * MIB)))


def test_an_archive_that_lies_about_its_size_is_refused(tmp_path):
    path = with_member(tmp_path / "a.npz", npy_header((8,)) + bytes(64))
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 2**31)  # the unfolded size in the central directory
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="claims more than its bytes can unfold to"):
        read_arrays(path)


def test_a_sparse_matrix_of_absurd_shape_is_refused_before_it_is_made_dense():
    wide = sparse.csr_matrix(([1.0], ([0], [0])), shape=(10, 10**12))
    with pytest.raises(ValueError, match="asks for"):
        transformed(wide, np.ones(10, bool), "raw", unit_norm=False)


def test_an_hdf5_array_of_terabytes_is_refused_although_it_takes_no_disk(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", shape=(10**7, 10**7), dtype="f8", chunks=(100, 100))
    with pytest.raises(ValueError, match="/x asks for"), open_arrays(tmp_path / "a.h5") as found:
        found["x"]


def test_an_hdf5_array_that_lies_in_another_file_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(80))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", shape=(10,), dtype="f8", external=[(str(tmp_path / "secret"), 0, 80)])
    with pytest.raises(ValueError, match="lie in another file"), open_arrays(tmp_path / "a.h5") as found:
        found["x"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 60 + "]" * 60, "more than 50 levels"),
        ("[" * 100_000, "more than 50 levels"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "aliases are not read"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: [", "no plain YAML"),
        ("a: \x00", "no plain YAML"),
    ],
)
def test_yaml_that_is_deep_multiplies_itself_or_makes_objects_is_refused(tmp_path, text, sentence):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        load_settings(str(file), {})


def test_settings_of_17_megabytes_are_refused(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"#" * 17 * MIB)
    with pytest.raises(ValueError, match="17 MiB; at most 16 MiB"):
        load_settings(str(file), {})


def test_json_that_is_too_deep_is_refused(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        limits.read_json(file)
    file.write_text(json.dumps({"a": 1}))
    assert limits.read_json(file) == {"a": 1}


def test_a_table_of_too_many_columns_or_bytes_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "a.csv"
    file.write_text("a," * 30_000 + "\n")
    with pytest.raises(ValueError, match="30001 columns; at most 20000"):
        read_text_table(file)
    monkeypatch.setattr("preprocessing.intake.columns.MAX_TABLE_BYTES", 1000)
    with pytest.raises(ValueError, match="at most 0 MiB are read"):
        read_text_table(file)


def scan(path: Path, **fields: object) -> Path:
    """A small scan whose header claims what `fields` say: name -> (position, bytes)."""
    image = nib.Nifti1Image(NOISE, np.eye(4)).to_bytes()
    for position, value in fields.values():
        image = image[:position] + value + image[position + len(value) :]
    path.write_bytes(gzip.compress(image) if path.suffix == ".gz" else image)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    "fields",
    [
        {"dim": (42, np.array([700, 700, 700], np.int16).tobytes())},  # below the limit of voxels, and not there
        {"dim": (40, np.array([7, 900, 900, 900, 900, 900, 900, 900], np.int16).tobytes())},
        {"vox_offset": (108, np.float32(2e9).tobytes())},
        {"vox_offset": (108, np.float32(np.inf).tobytes())},
        {"vox_offset": (108, np.float32(np.nan).tobytes())},
        {"vox_offset": (108, np.float32(-100).tobytes())},
    ],
)
def test_a_scan_whose_header_claims_more_than_the_file_can_hold_is_refused(tmp_path, name, fields):
    with pytest.raises(ScanError) as caught:
        read_scan(scan(tmp_path / name, **fields))
    assert caught.value.reason_code == "too_large"


def test_a_gzip_bomb_is_refused_before_it_unfolds(tmp_path):
    header = nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)).to_bytes()[:352]
    header = header[:42] + np.array([500, 500, 500], np.int16).tobytes() + header[48:]
    # Members of a gzip file follow one another; each of these unfolds to 1 MiB of zeros.
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header) + 500 * gzip.compress(bytes(MIB)))
    assert (tmp_path / "a.nii.gz").stat().st_size < MIB
    with pytest.raises(ScanError, match="no scan shrinks 200 times"):
        read_scan(tmp_path / "a.nii.gz")


def test_a_pickle_whose_memo_would_take_all_memory_is_refused(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".")
    with pytest.raises(ValueError, match="remembers something as number 4294967295"):
        read_pickle(tmp_path / "a.pkl")


def test_a_pickle_that_repeats_itself_to_a_billion_values_is_refused(tmp_path):
    nest: list = ["lol"]
    for _ in range(40):
        nest = [nest, nest]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(nest))
    with pytest.raises(ValueError, match="the same ones over and over"):
        read_pickle(tmp_path / "a.pkl")


def test_a_pickle_that_holds_itself_is_refused(tmp_path):
    nest: list = []
    nest.append(nest)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(nest))
    with pytest.raises(ValueError, match="over and over"):
        read_pickle(tmp_path / "a.pkl")


def test_a_post_that_claims_gigabytes_is_refused(tmp_path):
    member = tarfile.TarInfo("a/sci.space/1")
    member.size = 4 * 2**30
    (tmp_path / "a.tar").write_bytes(member.tobuf() + bytes(1024))
    with pytest.raises(ValueError, match="no post is that long"):
        read_posts(str(tmp_path / "a.tar"), ["sci.space"])


def test_a_dicom_slice_of_65535_by_65535_is_refused_before_its_pixels_are_read(tmp_path):
    path = make_dicom(tmp_path)
    content = path.read_bytes()
    for number in (b"\x10", b"\x11"):  # rows and columns
        size = b"\x28\0" + number + b"\0US\2\0"
        assert size in content
        content = content.replace(size + b"\x08\0", size + b"\xff\xff")
    path.write_bytes(content)
    with pytest.raises(ScanError, match="voxels; at most 5e\\+08 are read") as caught:
        read_series(choose_series(find_series(tmp_path), "mri"))
    assert caught.value.reason_code == "too_large"
