"""The pictures and the contact sheet: files, bytes, structure."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from preprocessing.cohort.run import MANIFEST_COLUMNS
from preprocessing.ledger import LEDGER_COLUMNS
from preprocessing.quality import pictures, sheet
from preprocessing.steps import template, tissue

PNG = b"\x89PNG\r\n"
BOO = "<script>alert('boo')</script> & so on"
PERSON, SESSION = "sub-ADNI001S0001", "ses-M000"


def read_png(content: bytes) -> np.ndarray:
    import io

    from matplotlib.image import imread

    return imread(io.BytesIO(content))


def test_a_slice_is_drawn_upright_with_right_on_the_left():
    values = np.zeros((40, 40, 40), np.float32)
    values[28:, :, 28:] = 1  # right, above
    picture = read_png(pictures.draw(values, [], [(1, 20)]))[..., :3].mean(2)
    size = picture.shape[0]
    quarters = [
        picture[: size // 4, : size // 4],
        picture[: size // 4, -size // 4 :],
        picture[-size // 4 :, -size // 4 :],
    ]
    assert [bool(q.mean() > 0.5) for q in quarters] == [True, False, False]


def test_an_outline_is_drawn_in_its_color_and_the_bytes_repeat():
    ball = (np.linalg.norm(np.indices((40, 40, 40)) - 20, axis=0) < 12).astype(np.float32)
    first = pictures.draw(ball, [(ball, "#ff0000")], [(0, 20), (2, 20)])
    assert first == pictures.draw(ball, [(ball, "#ff0000")], [(0, 20), (2, 20)])
    assert first != pictures.draw(ball, [], [(0, 20), (2, 20)])
    red = read_png(first)
    assert ((red[..., 0] > 0.8) & (red[..., 1] < 0.3)).sum() > 50


def test_a_subject_gets_one_small_picture_of_each_kind(tmp_path):
    prefix = tmp_path / "figures" / f"{PERSON}_{SESSION}"
    thin = nib.Nifti1Image(template.t1()[:, ::2], np.diag([2.0, 4.0, 2.0, 1.0]))  # anisotropic
    pictures.write_t1(template.t1(), thin, template.brain_mask()[:, ::2], prefix)
    pictures.write_pet(template.t1() / template.t1().max(), tissue.tissue_priors(), prefix)
    for name in pictures.CAPTIONS:
        content = pictures.path_of(prefix, name).read_bytes()
        assert content.startswith(PNG)
        assert len(content) < 250_000
        height, width = read_png(content).shape[:2]
        assert 4 < width / height < 8


class Page(HTMLParser):
    """Collects tags, and complains of any that is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "html", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "html":
            assert self.open.pop() == tag


@pytest.fixture
def cohort(tmp_path) -> Path:
    """One who passes with a picture, one who fails QC, one whose T1 is broken, one who came prepared."""
    people = [(PERSON, "raw", "pass"), ("sub-ADNI001S0002", "raw", "fail"), ("sub-ADNI009S0009", "prepared", "pass")]
    rows = [{"participant_id": name, "session_id": SESSION, "kind": kind, "qc": qc} for name, kind, qc in people]
    pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS)).to_csv(tmp_path / "manifest.tsv", sep="\t", index=False)
    ledger = [
        [PERSON, SESSION, "mri", "kept", "recipe", "", "", "a", "pass", ""],
        ["sub-ADNI001S0002", SESSION, "mri", "kept", "orient", "qc_fail", BOO, "a", "fail", ""],
        ["sub-ADNI001S0003", SESSION, "mri", "failed", "orient", "truncated", "the file ends early", "a", "", ""],
        ["sub-ADNI009S0009", SESSION, "mri", "kept", "given", "", "", "given.tsv", "", ""],
    ]
    pd.DataFrame(ledger, columns=list(LEDGER_COLUMNS)).to_csv(tmp_path / "ledger.tsv", sep="\t", index=False)
    folder = tmp_path / PERSON / SESSION
    picture = pictures.path_of(folder / "figures" / f"{PERSON}_{SESSION}", "t1")
    picture.parent.mkdir(parents=True)
    picture.write_bytes(PNG)
    check = {"step": "register", "name": "brain_dice", "value": 0.971, "threshold": {"warn": 0.93, "fail": 0.88}}
    (folder / f"{PERSON}_{SESSION}_qc.json").write_text(json.dumps({"Checks": [check | {"verdict": "pass"}]}))
    return tmp_path


def test_the_contact_sheet_has_a_row_for_everybody_with_scans_worst_first(cohort):
    page = Page()
    page.feed(sheet.write_contact_sheet(cohort).read_text(encoding="utf-8"))
    assert page.open == []
    rows = [(found["id"], found["class"]) for tag, found in page.tags if tag == "article"]
    assert rows == [("sub-ADNI001S0002", "fail"), ("sub-ADNI001S0003", "failed"), (PERSON, "pass")]
    buttons = [found["data-verdict"] for tag, found in page.tags if tag == "button" and "data-verdict" in found]
    assert buttons == ["all", "fail", "failed", "pass"]


def test_the_contact_sheet_runs_no_markup_that_a_table_holds(cohort):
    text = sheet.write_contact_sheet(cohort).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(&#x27;boo&#x27;)&lt;/script&gt; &amp; so on" in text
    assert "the file ends early" in text
    assert "≥ 0.93" in text


def test_the_contact_sheet_names_pictures_that_are_there_and_nothing_on_the_network(cohort):
    text = sheet.write_contact_sheet(cohort).read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    sources = [found["src"] for tag, found in page.tags if tag == "img"]
    assert len(sources) == 1
    assert all((cohort / source).is_file() for source in sources)
    assert "http" not in text
    assert str(cohort) not in text


def test_a_cohort_without_scans_has_an_empty_contact_sheet(cohort):
    for name in ("manifest", "ledger"):
        table = pd.read_csv(cohort / f"{name}.tsv", sep="\t")
        table[table.participant_id == "sub-ADNI009S0009"].to_csv(cohort / f"{name}.tsv", sep="\t", index=False)
    page = Page()
    page.feed(sheet.write_contact_sheet(cohort).read_text(encoding="utf-8"))
    assert [tag for tag, _ in page.tags if tag in ("article", "img")] == []
