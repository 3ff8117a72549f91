"""An identifier planted in any format that is written is found, and what is written holds none."""

from __future__ import annotations

import base64
import getpass
import gzip
import io
import socket
import struct
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pypdf
import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file

from adni_tcgm.privacy import cap_age, find_without_days, pseudonym, without_days
from pipelines import privacy_check
from pipelines.privacy_check import check_folder, find, main
from preprocessing.ledger import LedgerRow, write_json
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.outcome import Outcome, read_done, write_done
from preprocessing.subject.plan import SubjectTask
from reports.writing import write_reports
from tests.reports.conftest import build_outputs, run_folders

NAME = "Musterfrau^Erika"
VALUES = np.random.default_rng(0).uniform(1, 2, (4, 4, 4)).astype(np.float32)


def nifti(**header: str) -> nib.Nifti1Image:
    image = nib.Nifti1Image(VALUES, np.eye(4))
    for name, value in header.items():
        image.header[name] = value
    return image


def with_extension() -> bytes:
    image = nifti()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NAME.encode()))
    return image.to_bytes()


def named_gzip() -> bytes:
    content = io.BytesIO()
    with gzip.GzipFile(f"{NAME}.nii", "wb", fileobj=content) as file:
        file.write(nifti().to_bytes())
    return content.getvalue()


def png(**chunks: tuple[str, bool]) -> bytes:
    info, content = PngImagePlugin.PngInfo(), io.BytesIO()
    for key, (text, packed) in chunks.items():
        info.add_itxt(key, text, zip=packed) if key == "itxt" else info.add_text(key, text, zip=packed)
    Image.new("L", (4, 4)).save(content, "png", pnginfo=info)
    return content.getvalue()


def png_with(name: bytes, body: bytes) -> bytes:
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    whole = png()
    return whole[:33] + chunk + whole[33:]


def pdf(metadata: bool = False, attachment: bool = False, text: str = "") -> bytes:
    document, content = pypdf.PdfWriter(), io.BytesIO()
    page = document.add_blank_page(200, 200)
    if metadata:
        document.add_metadata({"/Author": NAME})
    if attachment:
        document.add_attachment("note.txt", NAME.encode())
    if text:
        stream = pypdf.generic.DecodedStreamObject()
        stream.set_data(f"BT /F1 9 Tf 10 10 Td ({text}) Tj ET".encode())
        page[pypdf.generic.NameObject("/Contents")] = document._add_object(stream.flate_encode())
    document.write(content)
    return content.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def npz_with_comment() -> bytes:
    content = io.BytesIO(npz(x=np.zeros(2)))
    with zipfile.ZipFile(content, "a") as archive:
        archive.comment = NAME.encode()
    return content.getvalue()


def npy(values: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


def safetensors(folder: Path) -> bytes:
    save_file({"x": torch.zeros(2)}, folder / "made", metadata={"by": NAME})
    return (folder / "made").read_bytes()


def embedded(content: bytes) -> bytes:
    return f'<html><img src="data:image/png;base64,{base64.b64encode(content).decode()}"></html>'.encode()


PLANTED = {
    "header of a .nii": ("a.nii", lambda d: nifti(descrip=NAME).to_bytes()),
    "header of a .nii.gz": ("a.nii.gz", lambda d: gzip.compress(nifti(aux_file=NAME).to_bytes())),
    "another header field": ("a.nii.gz", lambda d: gzip.compress(nifti(db_name=NAME).to_bytes())),
    "extension of a .nii.gz": ("a.nii.gz", lambda d: gzip.compress(with_extension())),
    "name in a gzip header": ("a.nii.gz", lambda d: named_gzip()),
    "sidecar": ("a.json", lambda d: b'{"PatientName": "Erika Musterfrau"}'),
    "table, column of names": ("a.tsv", lambda d: b"participant_id\tpatient_name\nsub-1\tErika\n"),
    "table, a cell": ("a.csv", lambda d: f"site,reason\n1,{NAME}\n".encode()),
    "log": ("a.log", lambda d: b"read /home/erika/scans/T1.nii"),
    "text": ("a.txt", lambda d: NAME.encode()),
    "settings": ("a.yaml", lambda d: b"data: {path: /Users/erika/adni}"),
    "note without an ending": (".inputs", lambda d: NAME.encode()),
    "metadata of a .pdf": ("a.pdf", lambda d: pdf(metadata=True)),
    "page of a .pdf": ("a.pdf", lambda d: pdf(text=NAME)),
    "attachment of a .pdf": ("a.pdf", lambda d: pdf(attachment=True)),
    "page": ("a.html", lambda d: f"<html><!-- {NAME} --></html>".encode()),
    "picture in a page": ("a.html", lambda d: embedded(png(Author=(NAME, False), filler=("x" * 200, False)))),
    "map in a page": ("a.html", lambda d: embedded(gzip.compress(nifti(descrip=NAME).to_bytes()))),
    "text of a .png": ("a.png", lambda d: png(Author=(NAME, False))),
    "compressed text of a .png": ("a.png", lambda d: png(Author=(NAME, True))),
    "international text of a .png": ("a.png", lambda d: png(itxt=(NAME, True))),
    "exif of a .png": ("a.png", lambda d: png_with(b"eXIf", b"MM\0*" + NAME.encode())),
    "time of a .png": ("a.png", lambda d: png_with(b"tIME", struct.pack(">HBBBBB", 2006, 1, 12, 0, 0, 0))),
    "behind the end of a .png": ("a.png", lambda d: png() + NAME.encode()),
    "text array of an .npz": ("a.npz", lambda d: npz(names=np.array([NAME]))),
    "name of an array": ("a.npz", lambda d: npz(**{NAME: np.zeros(2)})),
    "comment of an .npz": ("a.npz", lambda d: npz_with_comment()),
    ".npy": ("a.npy", lambda d: npy(np.array([NAME.encode()]))),
    "metadata of .safetensors": ("a.safetensors", safetensors),
    ".mat of a transform": ("a.mat", lambda d: b"\x1e\0\0\0" + NAME.encode() + bytes(20)),
    "two-byte letters of another format": ("a.bin", lambda d: b"\xff\xfe" + NAME.encode("utf-16-le")),
    "another format, compressed": ("a.gz", lambda d: gzip.compress(NAME.encode())),
    "broken file": ("a.npz", lambda d: b"PK\x03\x04" + NAME.encode()),
}


@pytest.mark.parametrize(("name", "make"), PLANTED.values(), ids=PLANTED)
def test_an_identifier_is_found_in(name, make, tmp_path):
    root = tmp_path / "out"
    root.mkdir()
    (root / name).write_bytes(make(tmp_path))
    assert check_folder(root)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png", "a.npz", "a.npy", "a.safetensors", "a.pdf"])
def test_the_same_file_without_an_identifier_is_clean(name, tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "made", metadata={"format": "pt"})
    clean = {
        "a.nii": nifti(descrip="SIMULATED").to_bytes(),
        "a.nii.gz": gzip.compress(nifti().to_bytes()),
        "a.png": png(Software=("none", False)),
        "a.npz": npz(names=np.array(["hippocampus"])),
        "a.npy": npy(np.zeros(3)),
        "a.safetensors": (tmp_path / "made").read_bytes(),
        "a.pdf": pdf(text="Hippocampal volume 6.8 mL"),
    }
    root = tmp_path / "out"
    root.mkdir()
    (root / name).write_bytes(clean[name])
    assert check_folder(root) == []


SENTENCES = {
    "person's name": ("DOE^JANE", "O'Neil^Mary Ann"),
    "named field": (
        *("PatientBirthDate: 1941", '"DeviceSerialNumber": "35119"', "StationName=MRC25", "birth_date: 41"),
        *("hostname: scanner7", '"user": "erika"', "InstitutionName: Clinic"),
    ),
    "full date": (
        *("2006-01-12", "2006/01/12", "20060112", "ADNI_x_Br_20060112102233123_S1", "2006-01-12_10_22_33.0"),
        *("12.01.2006", "01/12/2006", "12 January 2006", "Jan 12, 2006", "12-Jan-2006"),
    ),
    "age": ('"age": 93', "age: 90.7", "aged 101", "Age (years) 95.2"),
    "absolute path": (
        *("/home/erika/x.nii", "see /mnt/disk/adni", r"C:\Users\erika", r"\\server7\scans", "file:///x/y"),
    ),
    "mail address": ("erika@clinic.example",),
}


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in SENTENCES.items() for text in texts])
def test_a_rule_knows(rule, text):
    assert rule in {found for found, _ in find(text)}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "MNI152NLin2009cSym",
            "0.20060112",
            "hash 8f20060112ab",
            "2006 people",
            "version 2026.8.0",
            "90+",
            "age: 90.0",
        ),
        *("ses-M012", "sub-P1f2e3d4c_ses-M000.pdf", "../prepared/manifest.tsv", "and/or", "1.5/2.0", "x^2", "age 71.4"),
        *(
            "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
            "/CreationDate (D:19700101000000Z)",
            "percentage 95",
            '"user": ""',
        ),
        *("serial: null", "ratio 1:100", "12-01 2006", "a@b", "mtime_ns: 1763745600000000000"),
    ],
)
def test_no_rule_minds(text):
    assert list(find(text)) == []


def test_other_words_and_this_machine_are_looked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(socket, "gethostname", lambda: "scanner7")
    monkeypatch.setattr(getpass, "getuser", lambda: "erika")
    (tmp_path / "a.txt").write_text("made by Erika on scanner7 for schmidt-x; Erikas is another word")
    (tmp_path / "words").write_text("Schmidt\n\n")
    assert privacy_check.machine_words() == ["erika", "scanner7"]
    assert main([str(tmp_path), "--words", str(tmp_path / "words"), "--skip"]) == 1
    found = [line.split("\t")[3] for line in capsys.readouterr().out.splitlines() if line.startswith("a.txt")]
    assert sorted(found) == ["Erika", "scanner7", "schmidt"]


def test_names_that_any_machine_has_are_not_looked_for(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "vm")
    monkeypatch.setattr(getpass, "getuser", lambda: "root")
    assert privacy_check.machine_words() == []


def test_ids_are_findings_in_reports_only_and_inputs_are_left_out(tmp_path, capsys):
    for folder in ("reports", "prepared", "raw"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sub-ADNI011S4105.txt").write_text("011_S_4105")
    assert main([str(tmp_path)]) == 1
    assert {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()} == {"reports/sub-ADNI011S4105.txt"}
    assert main([str(tmp_path), "--pseudonymous", "."]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main([str(tmp_path), "--pseudonymous"]) == 0


def test_what_cannot_be_looked_at_is_refused_and_not_taken_for_a_finding(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'nothing'}: no such folder\n"
    assert main([str(tmp_path), "--words", str(tmp_path / "words")]) == 2
    assert "words" in capsys.readouterr().err


def test_reports_hold_neither_ids_nor_anything_else(tmp_path):
    def rename(table):
        table["participant_id"] = [f"sub-ADNI011S{1000 + row}" for row in range(len(table))]

    root = build_outputs(tmp_path / "out", change=rename)
    written = write_reports(run_folders(root)[:1], root / "reports", subject_reports=1, kinds=("pdf", "html"))
    assert written.failures == {} and len(written.written) == 3
    assert check_folder(root, pseudonymous=["reports"], skip=["runs", "prepared"]) == []
    key_of = {path.name.partition("_ses-")[0] for path in written.written} - {"cohort.pdf"}
    again = write_reports(
        run_folders(root)[:1], root / "again", subjects=sorted(key_of), kinds=("html",), identifiers=True
    )
    assert len(again.written) == 1 and "ADNI011S" in again.written[0].name


def test_a_pseudonym_is_the_same_for_a_person_and_another_under_another_key():
    assert pseudonym("sub-1", b"a") == pseudonym("sub-1", b"a")
    assert len({pseudonym("sub-1", b"a"), pseudonym("sub-2", b"a"), pseudonym("sub-1", b"b")}) == 3
    assert pseudonym("sub-1", b"a").startswith("sub-P")


def test_ages_end_at_90():
    assert [cap_age(age) for age in (71.2, 90.0, 93.4)] == [71.2, 90.0, 90.0]
    assert cap_age(float("nan")) != cap_age(float("nan"))


def test_a_path_loses_its_days_and_its_file_is_still_found(tmp_path):
    path = "raw/011_S_1/MPR/2006-01-12_10_22_33.0/I33/ADNI_011_S_1_MR_MPR_Br_20060112102233123_S12_I33.nii"
    assert without_days(path) == "raw/011_S_1/MPR/DATE/I33/ADNI_011_S_1_MR_MPR_Br_DATE_S12_I33.nii"
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    (tmp_path / "prepared").mkdir()
    assert find_without_days(f"../{without_days(path)}", tmp_path / "prepared").samefile(tmp_path / path)
    assert find_without_days("../raw/nothing.nii", tmp_path / "prepared") is None


def test_a_ledger_tells_no_day():
    row = LedgerRow(
        "sub-1", "ses-M000", "mri", "failed", "orient", "x", "cut (file 2006-01-12/a.nii)", "2006-01-12/a.nii"
    )
    assert (row.reason, row.source) == ("cut (file DATE/a.nii)", "DATE/a.nii")


def test_a_sidecar_and_the_record_of_a_subject_tell_no_day(tmp_path):
    scan = tmp_path / "raw" / "2006-01-12_10_22_33.0" / "ADNI_MR_Br_20060112102233123_S12_I33.nii"
    task = SubjectTask("sub-1", "ses-M000", t1=scan)
    prepared = tmp_path / "prepared"
    write_json(SubjectFolder(task, prepared).about(scan), prepared / "T1w.json")
    write_done(task, prepared, Outcome("sub-1", "ses-M000"))
    assert check_folder(prepared) == []
    assert read_done(task, prepared) == Outcome("sub-1", "ses-M000")


def test_the_record_of_an_earlier_version_is_still_known(tmp_path):
    scan = tmp_path / "raw" / "2006-01-12_10_22_33.0" / "I33.nii"
    task, prepared = SubjectTask("sub-1", "ses-M000", t1=scan), tmp_path / "prepared"
    write_done(task, prepared, Outcome("sub-1", "ses-M000"))
    record = SubjectFolder(task, prepared).done
    record.write_text(record.read_text().replace("DATE", "2006-01-12_10_22_33.0"))
    assert read_done(task, prepared) is not None
