"""The converter of pickles: what it keeps, and what it refuses before anything of it runs."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from adni_tcgm.datasets.convert_pickle import LENGTHS, convert, flatten, main, read_pickle

RNG = np.random.default_rng(0)
FEATURES = {
    "train": {
        "text": RNG.normal(size=(4, 5, 3)).astype(np.float32),
        "audio": np.asfortranarray(RNG.normal(size=(4, 6))),
        "labels": np.array([1, -2, 3, np.iinfo(np.int64).max]),
        "big_endian": np.arange(5, dtype=">f8"),
        "half": np.array([0.5, np.nan, -np.inf], dtype=np.float16),
        "flags": np.array([True, False]),
        "names": np.array(["a", "Grüße"]),
        "empty": np.zeros((0, 3)),
        "one": np.float64(0.1),
    },
    "scores": [0.1, 0.2],
    3: (1, 2, 3),
}


class Runs:
    """Pickles as a call."""

    def __init__(self, call, *arguments) -> None:
        self.how = call, arguments

    def __reduce__(self):
        return self.how


@pytest.mark.parametrize("protocol", range(6))
def test_every_number_survives_the_round_trip(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "in.pkl").write_bytes(pickle.dumps(FEATURES, protocol=protocol))
    convert(tmp_path / "in.pkl", tmp_path / "out.npz")
    expected = {f"train/{name}": np.asarray(value) for name, value in FEATURES["train"].items()}
    expected |= {"scores": np.array([0.1, 0.2]), "3": np.array([1, 2, 3])}
    expected["train/one"] = np.array([0.1])
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        assert set(found.files) == set(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)
            assert found[name].dtype == values.dtype, name


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("call", [os.mkdir, eval, exec, print, getattr, np.load, bytearray, pickle.loads])
def test_a_pickle_that_calls_anything_is_refused_and_nothing_runs(tmp_path: Path, protocol: int, call) -> None:
    target = tmp_path / "made"
    attack = Runs(call, str(target)) if call is os.mkdir else Runs(call, f"__import__('os').mkdir({str(target)!r})")
    (tmp_path / "in.pkl").write_bytes(pickle.dumps({"train": [np.zeros(2), attack]}, protocol=protocol))
    with pytest.raises(ValueError, match="in.pkl: the file asks for"):
        read_pickle(tmp_path / "in.pkl")
    assert not target.exists()
    assert main([str(tmp_path / "in.pkl"), str(tmp_path / "out.npz")]) == 2
    assert not (tmp_path / "out.npz").exists()


def test_a_module_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap_module.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "in.pkl").write_bytes(b"\x80\x02ctrap_module\nanything\n.")
    with pytest.raises(ValueError, match="asks for trap_module.anything"):
        read_pickle(tmp_path / "in.pkl")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93}\x8c\x05shapeK\x01s\x86b.",  # Sets attributes of what stands there.
        b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.",  # A codec other than latin-1.
        b"\x80\x02cnumpy\ndtype\n(X\x03\x00\x00\x00i4,K\x00K\x01tR.",  # A record.
        b"\x80\x04\x95",  # Cut off.
        b"hello",
        b"",
        b"\x80\x02X\x03\x00\x00\x00abcQ.",  # An object kept elsewhere.
        b"\x80\x02]q\x00h\x00a.",  # A list that holds itself.
    ],
)
def test_odd_and_broken_files_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.pkl").write_bytes(content)
    with pytest.raises(ValueError, match="in.pkl: "):
        convert(tmp_path / "in.pkl", tmp_path / "out.npz")


def test_an_array_whose_bytes_do_not_fill_its_shape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.pkl").write_bytes(pickle.dumps(np.zeros(3), 2).replace(b"K\x01K\x03\x85", b"K\x01K\x09\x85"))
    with pytest.raises(ValueError, match="in.pkl: "):
        read_pickle(tmp_path / "in.pkl")


def test_arrays_that_python_2_wrote_are_read(tmp_path: Path) -> None:
    numbers = struct.pack("<2d", 0.1, -200.5)
    content = b"\x80\x02}U\x05trainc" + b"numpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    content += (
        b"(K\x01K\x02\x85cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    content += b"\x89U\x10" + numbers + b"tbs."
    (tmp_path / "in.pkl").write_bytes(content)
    np.testing.assert_array_equal(read_pickle(tmp_path / "in.pkl")["train"], [0.1, -200.5])


def test_utterances_of_different_lengths_are_joined_with_their_lengths() -> None:
    parts = [np.ones((2, 3)), np.full((4, 3), 2.0)]
    found = dict(flatten({"text": parts}))
    np.testing.assert_array_equal(found["text"], np.concatenate(parts))
    np.testing.assert_array_equal(found["text" + LENGTHS], [2, 4])
    as_objects = np.empty(2, dtype=object)
    as_objects[:] = parts
    np.testing.assert_array_equal(dict(flatten({"text": as_objects}))["text"], np.concatenate(parts))


@pytest.mark.parametrize("lengths", [(2, 4), (3, 3)])
def test_an_array_of_arrays_is_read(tmp_path: Path, lengths: tuple[int, int]) -> None:
    parts = np.empty(2, dtype=object)
    for row, length in enumerate(lengths):
        parts[row] = np.full((length, 3), float(row))
    (tmp_path / "in.pkl").write_bytes(pickle.dumps({"text": parts}, protocol=2))
    found = dict(flatten(read_pickle(tmp_path / "in.pkl")))["text"]
    np.testing.assert_array_equal(found.reshape(-1, 3), np.concatenate(list(parts)))


def test_names_in_an_array_of_objects_become_text(tmp_path: Path) -> None:
    rows = np.array([[b"video", b"0.1"], [b"other", b"2"]], dtype=object)
    (tmp_path / "in.pkl").write_bytes(pickle.dumps({"id": rows}, protocol=2))
    assert dict(flatten(read_pickle(tmp_path / "in.pkl")))["id"].tolist() == [["video", "0.1"], ["other", "2"]]


def test_what_is_no_number_is_named_by_its_place() -> None:
    with pytest.raises(ValueError, match="train/extra: holds NoneType"):
        dict(flatten({"train": {"extra": [None, None]}}))
