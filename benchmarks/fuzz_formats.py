"""What `benchmarks.fuzz` mutates: a good file of each format, and the reader it is given to."""

from __future__ import annotations

import gzip
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np

from preprocessing.intake.isolation import Guard

GUARD_SECONDS = 3


@dataclass(frozen=True)
class Format:
    """`make` writes a good file; `read` reads a mutated one (its folder is its own) or raises what a reader may."""

    make: Callable[[Path], Path]
    read: Callable[[Path], None]


def make_nifti(folder: Path) -> Path:
    values = np.random.default_rng(0).uniform(1, 1000, (8, 9, 7)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([1.5, 1.5, 2, 1])), folder / "scan.nii")
    return folder / "scan.nii"


def read_nifti(path: Path) -> None:
    """As it is, and as what a .nii.gz would unfold to."""
    from preprocessing.steps.orient import ScanError, read_scan

    packed = path.with_suffix(".nii.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    for file in (packed, path):
        try:
            read_scan(file)
        except ScanError as error:
            refusal = error
        else:
            refusal = None
    if refusal:
        raise refusal


def make_nifti_gz(folder: Path) -> Path:
    return Path(shutil.move(_packed(make_nifti(folder)), folder / "scan.nii.gz"))


def _packed(path: Path) -> Path:
    path.write_bytes(gzip.compress(path.read_bytes(), 1))
    return path


def read_nifti_gz(path: Path) -> None:
    from preprocessing.steps.orient import read_scan

    read_scan(path)


def make_dicom(folder: Path) -> Path:
    """One slice of a CT-like series, written byte by byte as in PS3.5, explicit little endian."""

    def element(group: int, number: int, kind: str, value: bytes) -> bytes:
        value += (b"\0" if kind in ("UI", "OB", "OW") else b" ") * (len(value) % 2)
        length = struct.pack("<HI", 0, len(value)) if kind in ("OB", "OW") else struct.pack("<H", len(value))
        return struct.pack("<HH", group, number) + kind.encode() + length + value

    sop = b"1.2.840.10008.5.1.4.1.1.4"
    meta = element(2, 1, "OB", b"\0\1") + element(2, 2, "UI", sop) + element(2, 3, "UI", b"1.2.3")
    meta += element(2, 0x10, "UI", b"1.2.840.10008.1.2.1") + element(2, 0x12, "UI", b"1.2.3.4")
    body = element(8, 0x16, "UI", sop) + element(8, 0x18, "UI", b"1.2.3") + element(8, 0x60, "CS", b"MR")
    body += element(8, 0x103E, "LO", b"MPR; GradWarp; B1 Correction; N3; Scaled") + element(0x10, 0x10, "PN", b"A^B")
    body += element(0x18, 0x50, "DS", b"1.2") + element(0x20, 0xD, "UI", b"1.2.5") + element(0x20, 0xE, "UI", b"1.2.6")
    body += element(0x20, 0x32, "DS", rb"0\0\0") + element(0x20, 0x37, "DS", rb"1\0\0\0\1\0")
    body += element(0x28, 2, "US", b"\1\0") + element(0x28, 4, "CS", b"MONOCHROME2")
    body += element(0x28, 0x10, "US", b"\x08\0") + element(0x28, 0x11, "US", b"\x08\0")
    body += element(0x28, 0x30, "DS", rb"1\1") + element(0x28, 0x100, "US", b"\x10\0")
    body += element(0x28, 0x101, "US", b"\x10\0") + element(0x28, 0x102, "US", b"\x0f\0")
    body += element(0x28, 0x103, "US", b"\0\0") + element(0x7FE0, 0x10, "OW", bytes(range(128)))
    path = folder / "slice0.dcm"
    path.write_bytes(bytes(128) + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta + body)
    return path


@cache
def _guard() -> Guard:
    return Guard(GUARD_SECONDS)


def read_dicom(path: Path) -> None:
    """The broken slice between two good ones."""
    from benchmarks.fuzz_dicom import read_folder

    good = make_dicom(path.parent / "good") if (path.parent / "good").mkdir() is None else path
    content = good.read_bytes()
    good.unlink()
    for number in (1, 2):
        moved = content.replace(rb"0\0\0 ", rb"0\0\%d " % number).replace(b"1.2.3\0", b"1.2.%d\0" % (3 + number))
        (path.parent / f"slice{number}.dcm").write_bytes(moved)
    # In a process that may be ended, as in `convert_people`; GDCM loops on some broken files.
    _guard().run(read_folder, path.parent)


TABLES = {
    "list.csv": "subject,t1,pet,age,sex,history\nS1,a.nii,,71.5,F,0:MCI 12:MCI 24:AD\n"
    "S2,b.nii,p.nii,,M,0:MCI 40:MCI\nS3,,,80,,\n",
    "DXSUM_1.csv": "PHASE,RID,PTID,VISCODE,VISCODE2,EXAMDATE,DIAGNOSIS\nADNI1,1,001_S_0001,bl,bl,2006-01-02,2\n"
    "ADNI1,1,001_S_0001,m12,m12,2007-01-02,3\n",
    "MCI_1.csv": "Image Data ID,Subject,Group,Sex,Age,Visit,Modality,Description,Type,Acq Date,Format,Downloaded\n"
    "I1,001_S_0001,MCI,F,71,sc,MRI,MPR; Scaled,Processed,1/02/2006,NiFTI,\n",
}


def make_one_table(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(TABLES[name])
        return folder / name

    return make


def read_list_table(path: Path) -> None:
    from preprocessing.intake.listing import _read_table, read_list

    for name in ("a.nii", "b.nii", "p.nii"):
        (path.parent / name).touch()
    intake = read_list(path)
    named = {person.participant_id for person in intake.people} | {row.participant_id for row in intake.ledger}
    if lost := set(_read_table(path).participant) - named:
        raise RuntimeError(f"lost: {sorted(lost)}")


def read_download_tables(path: Path) -> None:
    """The broken table of a download beside its good ones; who is in the collection ends in it or in the ledger."""
    from preprocessing.intake.adni import participant_id, read_download
    from preprocessing.intake.catalog import read_tables
    from preprocessing.intake.tables import read_collection

    for name in ("DXSUM_1.csv", "MCI_1.csv"):
        if name != path.name:
            make_one_table(name)(path.parent)
    scan = path.parent / "ADNI" / "001_S_0001" / "MPR" / "2006-01-02_10_00_00.0" / "I1" / "ADNI_001_S_0001_MR_I1.nii"
    scan.parent.mkdir(parents=True)
    scan.touch()
    intake = read_download(path.parent)
    named = {person.participant_id for person in intake.people} | {row.participant_id for row in intake.ledger}
    expected = read_collection(read_tables(path.parent, order="mdy"))
    if lost := {participant_id(p) for p in expected.ptid[~expected.archive.astype(bool)]} - named:
        raise RuntimeError(f"lost: {sorted(lost)}")


SETTINGS = """dataset: arrays
data:
  path: digits.npz
  views: {left: left, right: right}
  labels: digit
  label_rate: 0.03
net: mlp
mlp: {hidden: [64]}
train: {steps: 600, batch_size_labeled: 32, lr_labeled: 3e-3, lr_unlabeled: 3e-3}
methods:
  tcgm: {train: {steps: 100}}
pretraining: none
"""


def make_yaml(folder: Path) -> Path:
    (folder / "run.yaml").write_text(SETTINGS)
    return folder / "run.yaml"


def read_yaml(path: Path) -> None:
    from pipelines.config import load_settings

    load_settings(str(path), {})


def make_checkpoint(folder: Path) -> Path:
    from adni_tcgm.estimators import MultimodalClassifier

    views, labels = {"a": np.eye(6), "b": np.eye(6)[:, :4]}, np.arange(6) % 2
    model = MultimodalClassifier("ce", steps=1, calibrate=False, device="cpu").fit(views, labels)
    return model.save(folder / "weights.safetensors")


def read_checkpoint(path: Path) -> None:
    from adni_tcgm.model import load

    load(path)


RUN_FILES = {
    "metrics.json": '{"dataset": "adni", "simulated": true, "test": {"all": {"auc": 0.8}}}\n',
    "config.yaml": "method: tcgm\nsettings: {train: {lr_unlabeled: 0.001}, name: adni}\n",
    "environment.json": '{"python": "3.11"}\n',
    "splits.tsv": "sample_id\tgroup_id\tsplit\tlabel\tlabel_visible\n001\t1\ttrain\tstable\tTrue\n"
    "002\t2\ttest\t\tFalse\n",
    "history.tsv": "round\tloss_labeled\tgain\n10\t0.5\t0.1\n",
    "predictions.tsv": "sample_id\tsplit\tmodality\tp_stable\tlabel\tpresent\n002\ttest\tall\t0.5\tstable\tTrue\n",
    "calibration.json": '{"log_prior": [-0.7, -0.7]}\n',
}


def make_run(folder: Path) -> Path:
    """All files of a run in one, so that any of them is hit."""
    (folder / "run.txt").write_text("\x1e".join(RUN_FILES.values()))
    return folder / "run.txt"


def read_run(path: Path) -> None:
    from adni_tcgm.storage import load_run

    for name, content in zip(RUN_FILES, path.read_bytes().split(b"\x1e"), strict=False):
        (path.parent / name).write_bytes(content)
    load_run(path.parent)


def make_npz(folder: Path) -> Path:
    np.savez(folder / "a.npz", x=np.arange(60.0).reshape(20, 3), labels=np.arange(20) % 2)
    return folder / "a.npz"


def read_npz(path: Path) -> None:
    from adni_tcgm.datasets.arrays import ArraysConfig, read

    read(ArraysConfig(path=str(path), views={"a": "x"}))


def make_pickle(folder: Path) -> Path:
    import pickle

    content = {"train": {"text": np.arange(12.0).reshape(3, 4), "labels": np.array(["a", "b", "c"])}, "n": [1, 2]}
    (folder / "a.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return folder / "a.pkl"


def read_pickle_file(path: Path) -> None:
    from adni_tcgm.datasets.convert_pickle import flatten, read_pickle

    list(flatten(read_pickle(path)))


FORMATS = {
    "nifti": Format(make_nifti, read_nifti),
    "nifti_gz": Format(make_nifti_gz, read_nifti_gz),
    "dicom": Format(make_dicom, read_dicom),
    "list": Format(make_one_table("list.csv"), read_list_table),
    "collection": Format(make_one_table("MCI_1.csv"), read_download_tables),
    "diagnoses": Format(make_one_table("DXSUM_1.csv"), read_download_tables),
    "yaml": Format(make_yaml, read_yaml),
    "checkpoint": Format(make_checkpoint, read_checkpoint),
    "run": Format(make_run, read_run),
    "npz": Format(make_npz, read_npz),
    "pickle": Format(make_pickle, read_pickle_file),
}
